"""Linear fields: NumPy's polynomials, SciPy's cosine transform, and the Gram matrix as oracles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from numpy.polynomial import polynomial

import bfjax
from bfjax.field import cosine, exponents, legendre
from tests.networks import images, smooth_network
from tests.oracles import check_gradients, sizes

SHAPE = (13, 10)
MAKERS = {
    "legendre": lambda shape, highest, **options: legendre(shape, degree=highest, **options),
    "cosine": lambda shape, highest, **options: cosine(shape, frequencies=highest, **options),
}


def centres(size):
    return np.linspace(-1, 1, size) if size > 1 else np.zeros(1)


def monomials(size, highest):
    return polynomial.polyvander(centres(size), highest)


def waves(size, highest):
    """The columns of SciPy's first cosine transform."""
    transform = scipy.fft.dct(np.eye(size), type=1, axis=1)
    transform[1:-1] /= 2  # it counts what lies between the borders twice
    return transform[:, : highest + 1]


RAW = {"legendre": monomials, "cosine": waves}


def orthonormal(raw):
    """By Cholesky of the Gram matrix, where bfjax has QR of other functions of the same span."""
    return np.linalg.solve(np.linalg.cholesky(raw.T @ raw / len(raw)), raw.T)


def found(field, seed=0):
    start = field.init()
    return jnp.asarray(np.random.default_rng(seed).normal(size=start.shape), start.dtype)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("highest", [1, 2, 5])
def test_the_basis_is_the_products_of_orthonormal_functions_in_order(kind, constant, highest, x64):
    field = MAKERS[kind](SHAPE, highest, constant=constant, dtype=jnp.float64)
    y, x = (orthonormal(RAW[kind](size, highest)) for size in SHAPE)
    pairs = exponents(highest)[not constant :]
    expected = [np.outer(y[j], x[i]) for i, j in pairs]
    np.testing.assert_allclose(field.basis(), expected, atol=1e-10)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_basis_is_orthonormal_over_the_pixels(kind):
    """In single precision, at the size of an X-ray."""
    basis = np.asarray(MAKERS[kind]((64, 50), 6, constant=True).basis(), np.float64)
    basis = basis.reshape(28, -1)
    np.testing.assert_allclose(basis @ basis.T / basis.shape[1], np.eye(28), atol=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_field_spans_what_its_name_says(kind):
    highest, shape = 4, (9, 12)
    field = MAKERS[kind](shape, highest)
    basis = np.asarray(field.basis(), np.float64).reshape(14, -1)
    y, x = (RAW[kind](size, highest) for size in shape)
    raw = np.stack([np.outer(y[:, j], x[:, i]).ravel() for i, j in exponents(highest)], axis=1)
    weights, *_ = np.linalg.lstsq(raw, basis.T, rcond=None)
    np.testing.assert_allclose(raw @ weights, basis.T, atol=1e-5)
    np.testing.assert_allclose(basis.mean(axis=1), 0, atol=1e-6)  # the constant alone is missing


@pytest.mark.parametrize("kind", MAKERS)
def test_the_root_mean_square_is_the_norm_of_the_coefficients(kind):
    field = MAKERS[kind](SHAPE, 3)
    for seed in range(3):
        c = found(field, seed)
        size = np.sqrt(np.mean(np.asarray(field.log_field(c), np.float64) ** 2))
        assert size == pytest.approx(np.linalg.norm(c), rel=1e-6)
    assert (field.log_field(field.init()) == 0).all()


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_functions_at_another_size(kind):
    """Of (17, 21) pixels every second row and column are the centres of (9, 11)."""
    small = MAKERS[kind]((9, 11), 4)
    large = MAKERS[kind]((17, 21), 4, orthonormal_on=(9, 11))
    c = found(small)
    np.testing.assert_allclose(large.log_field(c)[::2, ::2], small.log_field(c), atol=1e-5)
    other = MAKERS[kind]((17, 21), 4)
    assert not np.allclose(other.log_field(c)[::2, ::2], small.log_field(c), atol=1e-2)


def test_between_the_pixels_lies_the_same_polynomial(x64):
    small = legendre((9, 11), degree=4, dtype=jnp.float64)
    c = found(small)
    y, x = np.meshgrid(centres(9), centres(11), indexing="ij")
    table, *_ = np.linalg.lstsq(
        polynomial.polyvander2d(x.ravel(), y.ravel(), [4, 4]),
        np.asarray(small.log_field(c)).ravel(),
        rcond=None,
    )
    for shape in [(30, 7), (1, 1), (200, 3)]:
        native = legendre(shape, degree=4, orthonormal_on=(9, 11), dtype=jnp.float64)
        y, x = np.meshgrid(*map(centres, shape), indexing="ij")
        expected = polynomial.polyval2d(x, y, table.reshape(5, 5))
        np.testing.assert_allclose(native.log_field(c), expected, atol=1e-9)


@pytest.mark.parametrize("kind", MAKERS)
def test_nothing_as_large_as_the_image_is_held_beside_the_field(kind):
    height, width, highest = 70, 90, 4
    field = MAKERS[kind]((height, width), highest)
    tables = [leaf.shape for leaf in jax.tree.leaves(field)]
    assert tables == [(height, highest + 1), (width, highest + 1)]
    program = jax.make_jaxpr(lambda field, c: field.log_field(c))(field, found(field))
    held = sorted(sizes(program.jaxpr))
    assert held[-1] == height * width
    assert held[-2] <= max(height, width) * (highest + 1)


@pytest.mark.parametrize("kind", MAKERS)
def test_one_field_is_another_of_the_same_kind_to_jit(kind):
    one, other = (MAKERS[kind](SHAPE, 3) for _ in range(2))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert type(bfjax.as_pytree(one)) is bfjax.LinearField
    doubled = jax.jit(lambda field: jax.tree.map(lambda table: 2 * table, field))(one)
    assert type(doubled) is bfjax.LinearField
    c = found(one)
    np.testing.assert_allclose(doubled.log_field(c), 4 * one.log_field(c), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
def test_jit_is_eager_and_vmap_is_a_loop(kind):
    field = MAKERS[kind](SHAPE, 3)
    batch = jnp.stack([found(field, seed) for seed in range(3)])
    loop = jnp.stack([field.log_field(c) for c in batch])
    for function in (jax.vmap(field.log_field), jax.jit(jax.vmap(field.log_field))):
        np.testing.assert_allclose(function(batch), loop, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(lambda field: field.basis())(field), field.basis(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", MAKERS)
def test_gradients_are_finite_differences(kind, x64):
    field = MAKERS[kind]((5, 6), 3, dtype=jnp.float64)
    for c in (field.init(), found(field)):
        check_gradients(field.log_field, (c,), order=2, eps=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_coefficients_and_field_have_the_type_asked_for(kind, dtype, x64):
    field = MAKERS[kind](SHAPE, 2, dtype=dtype)
    assert field.init().dtype == field.log_field(field.init()).dtype == field.basis().dtype == dtype


@pytest.mark.parametrize("kind", MAKERS)
def test_attacks_of_a_whole_batch_move_along_it(kind):
    shape = (12, 12)
    field = MAKERS[kind](shape, 2)
    attack = bfjax.Attack(
        perturbation=bfjax.bias_field(field),
        loss=bfjax.attack.cross_entropy,
        optimizer=bfjax.attack.steepest("l2", 0.05),
        num_steps=4,
    )
    batch = images(3, (*shape, 1), low=0.2, high=0.5)
    predict = smooth_network(shape=(*shape, 1))
    result = bfjax.run_batch(attack, predict, batch, jax.vmap(predict)(batch).argmax(-1))
    assert (result.trace.loss[:, -1] > result.trace.loss[:, 0]).all()
    steps = np.linalg.norm(result.params, axis=1)
    assert (steps <= 4 * 0.05 + 1e-6).all()
    log_change = np.log(np.asarray(result.adversarial[..., 0]) / np.asarray(batch[..., 0]))
    np.testing.assert_allclose(log_change, jax.vmap(field.log_field)(result.params), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (functools.partial(legendre, (3,), degree=1), "shape"),
        (functools.partial(legendre, (0, 3), degree=1), "shape"),
        (functools.partial(cosine, (8, 8), frequencies=1, orthonormal_on=(8,)), "shape"),
        (functools.partial(legendre, (8, 8), degree=-1), "degree must be at least 1.* got -1"),
        (functools.partial(legendre, (8, 8), degree=0), "constant=True, got 0"),
        (functools.partial(cosine, (8, 8), frequencies=0), "frequencies must be at least 1"),
        (
            functools.partial(cosine, (8, 8), frequencies=-1, constant=True),
            "frequencies must be at least 0, got -1",
        ),
        (functools.partial(legendre, (5, 8), degree=5), r"degree 5 needs 6 pixels.* \(5, 8\)"),
        (functools.partial(cosine, (8, 5), frequencies=5), "frequencies=5 needs 6 pixels"),
        (
            functools.partial(legendre, (90, 90), degree=5, orthonormal_on=(5, 90)),
            "degree 5 needs 6 pixels",
        ),
        (functools.partial(legendre, (90, 90), degree=89), "degree 89 is too high"),
    ],
)
def test_bad_options_are_named(make, word, unchecked):
    with pytest.raises(ValueError, match=word):
        make()


def test_the_highest_that_fits_is_orthonormal():
    for field in (legendre((8, 12), degree=7), cosine((8, 12), frequencies=7)):
        basis = np.asarray(field.basis(), np.float64).reshape(35, -1)
        np.testing.assert_allclose(basis @ basis.T / basis.shape[1], np.eye(35), atol=1e-5)
    flat = legendre((1, 1), degree=0, constant=True)
    assert flat.log_field(jnp.asarray([0.5])).tolist() == [[0.5]]


def test_coefficients_of_another_field_are_refused():
    with pytest.raises(ValueError, match=r"5 functions but coefficients of \(9,\)"):
        legendre(SHAPE, degree=2).log_field(legendre(SHAPE, degree=3).init())


@pytest.mark.parametrize("start", [lambda: jnp.zeros((2, 2)), lambda: {"gain": jnp.zeros(())}])
def test_a_linear_field_of_no_vector_has_no_basis(start, unchecked):
    with pytest.raises(ValueError, match=r"are one \(n,\), got"):
        bfjax.LinearField(start, lambda params: params).basis()
