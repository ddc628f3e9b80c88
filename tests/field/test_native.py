"""The field on large grids: SciPy's spline and NumPy's polynomial, and the attack's own field."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.polynomial import polyval2d
from scipy.interpolate import RBFInterpolator

import bfjax
from bfjax.field import chunked_polynomial_tps, control_grid, exponents, native
from tests.oracles import check_gradients, jittered, sizes

DEGREE, GRID = 5, 4
OPTIONS = {"degree": DEGREE, "grid_size": GRID}


def found(seed=0, dtype=np.float64, **options):
    """Random parameters, of no size."""
    start = chunked_polynomial_tps((1, 1), dtype=dtype, **OPTIONS | options).init()
    return jittered(start, seed=seed)


def expected(params, shape, *, min_degree=1, terms="literal", border="clamp", extent=(-1.0, 1.0)):
    """Pixel centres sent through SciPy's thin-plate spline, then NumPy's polynomial."""
    low, high = extent
    controls = control_grid(GRID, low=low, high=high)
    axes = [np.linspace(low, high, n) if n > 1 else np.array([(low + high) / 2]) for n in shape]
    pixels = np.array([[x, y] for y in axes[0] for x in axes[1]])
    spline = RBFInterpolator(controls, params.control_points, kernel="thin_plate_spline", degree=1)
    table = np.zeros((DEGREE + 1, DEGREE + 1))
    pairs = exponents(DEGREE, min_degree, terms=terms)
    table[tuple(np.array(pairs).T)] = params.coefficients
    warped = spline(pixels)
    if border == "clamp":
        warped = np.clip(warped, low, high)
    return polyval2d(*warped.T, table).reshape(shape)


@pytest.mark.parametrize("shape", [(40, 56), (7, 9), (12, 5), (1, 6), (5, 1), (1, 1)])
def test_any_grid_is_scipys_spline_then_numpys_polynomial(shape, x64):
    field = chunked_polynomial_tps(shape, dtype=np.float64, chunk_size=64, **OPTIONS)
    params = found()
    np.testing.assert_allclose(field.log_field(params), expected(params, shape), atol=1e-10)


@pytest.mark.parametrize("terms", ["literal", "count", "total"])
@pytest.mark.parametrize("extent", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("border", ["clamp", "free"])
def test_every_reading_of_the_paper(terms, extent, border, x64):
    options = {"terms": terms, "extent": extent, "border": border, "min_degree": 2}
    field = chunked_polynomial_tps((9, 12), dtype=np.float64, **OPTIONS | options)
    params = found(1, **options)
    np.testing.assert_allclose(
        field.log_field(params), expected(params, (9, 12), **options), atol=1e-10
    )


@pytest.mark.parametrize("border", ["clamp", "free"])
def test_on_the_attacks_own_grid_it_is_the_attacks_own_field(border, x64):
    """With the paper's 16 x 16 control points, bent so far that the warp leaves the image."""
    options = {"degree": 10, "grid_size": 16, "border": border}
    params = found(2, **options)
    ours = chunked_polynomial_tps((24, 31), dtype=np.float64, **options).log_field(params)
    theirs = bfjax.polynomial_tps((24, 31), dtype=np.float64, **options).log_field(params)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_float32_agrees_with_the_attacks_own_field_as_attacks_find_it():
    options = {"degree": 10, "grid_size": 16, "min_degree": 0}
    start = chunked_polynomial_tps((1, 1), **options).init()
    rng = np.random.default_rng(3)
    params = jax.tree.map(  # ten sign steps of 0.06
        lambda p: p + jnp.asarray(0.06 * rng.integers(-5, 6, p.shape), p.dtype), start
    )
    ours = chunked_polynomial_tps((24, 31), **options).log_field(params)
    theirs = bfjax.polynomial_tps((24, 31), **options).log_field(params)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * float(abs(theirs).max()))


@pytest.mark.parametrize("shape", [(13, 10), (8, 7)])
def test_the_size_of_the_chunks_changes_nothing(shape):
    params = found(dtype=np.float32)
    fields = [
        chunked_polynomial_tps(shape, chunk_size=size, **OPTIONS).log_field(params)
        for size in (5, 64, 2**10)
    ]
    for other in fields[1:]:
        np.testing.assert_allclose(other, fields[0], rtol=1e-4, atol=1e-5)


def test_one_compilation_serves_all_sizes():
    params = found(dtype=np.float32)
    chunked_polynomial_tps((9, 9), chunk_size=32, **OPTIONS).log_field(params)
    before = native._mirrored._cache_size()
    for shape in [(30, 20), (11, 64)]:
        chunked_polynomial_tps(shape, chunk_size=32, **OPTIONS).log_field(params)
    assert native._mirrored._cache_size() == before


def test_the_warp_matrix_is_never_held():
    height, width, chunk_size = 70, 90, 50
    field = chunked_polynomial_tps((height, width), chunk_size=chunk_size, **OPTIONS)
    assert set(jax.tree.leaves(field)) == {-1.0, 1.0}  # the extent
    held = list(sizes(jax.make_jaxpr(field.log_field)(found(dtype=np.float32)).jaxpr))
    assert chunk_size * GRID**2 in held  # a chunk's kernels
    assert max(held) <= height * width + 8 * chunk_size


def test_identity_is_no_field():
    field = chunked_polynomial_tps((30, 41), **OPTIONS)
    assert (field.log_field(field.init()) == 0).all()


def test_jit_is_eager_and_vmap_is_a_loop():
    field = chunked_polynomial_tps((6, 9), chunk_size=16, **OPTIONS)
    several = [found(seed, np.float32) for seed in range(3)]
    batch = jax.tree.map(lambda *p: jnp.stack(p), *several)
    loop = jnp.stack([field.log_field(params) for params in several])
    for function in (jax.vmap(field.log_field), jax.jit(jax.vmap(field.log_field))):
        np.testing.assert_allclose(function(batch), loop, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_gradients_are_finite_differences_at_the_identity_and_elsewhere(x64):
    field = chunked_polynomial_tps((5, 6), dtype=np.float64, chunk_size=8, **OPTIONS)
    for at in (field.init(), found()):
        check_gradients(field.log_field, (at,), order=1, modes=["rev"], eps=1e-6)


def test_a_perturbation_made_of_it_changes_an_image():
    field = chunked_polynomial_tps((20, 30), **OPTIONS)
    params, image = found(dtype=np.float32), jnp.full((20, 30, 1), 0.5)
    made = bfjax.bias_field(field, max_change=0.1).apply(params, image)
    want = np.clip(0.5 * np.exp(field.log_field(params)), 0.4, 0.6)
    np.testing.assert_allclose(made[..., 0], want, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "options", "word"),
    [
        ((3,), {}, "shape"),
        ((0, 3), {}, "shape"),
        ((3, 3), {"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ((3, 3), {"grid_size": 1}, "grid_size"),
        ((3, 3), {"degree": 1, "min_degree": 3}, "no monomial"),
        ((3, 3), {"extent": (1.0, 0.0)}, "below"),
        ((3, 3), {"terms": "some"}, "terms"),
    ],
)
def test_bad_options_are_named(shape, options, word, unchecked):
    with pytest.raises(ValueError, match=word):
        chunked_polynomial_tps(shape, **options)


def test_parameters_of_another_field_are_refused(unchecked):
    params = found(dtype=np.float32, min_degree=2)
    with pytest.raises(ValueError, match="coefficients"):
        chunked_polynomial_tps((3, 3), **OPTIONS).log_field(params)
