import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.field import exponents, polynomial
from tests.oracles import check_gradients

READINGS = ["literal", "count", "total"]


@pytest.mark.parametrize(
    ("terms", "counts"),
    [("literal", (66, 45, 28, 15)), ("count", (66, 55, 45, 36)), ("total", (66, 65, 63, 60))],
)
def test_number_of_terms_is_that_of_each_reading(terms, counts):
    assert tuple(len(exponents(10, d, terms=terms)) for d in range(4)) == counts


@pytest.mark.parametrize("terms", READINGS)
def test_terms_are_ordered_by_t_then_l_and_within_the_degree(terms):
    pairs = exponents(7, 2, terms=terms)
    assert list(pairs) == sorted(set(pairs))
    assert all(t + l <= 7 for t, l in pairs)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"degree": -1}, "degree=-1"),
        ({"degree": 3, "min_degree": -2}, "min_degree=-2"),
        ({"degree": 3, "min_degree": 2}, "no monomial"),
        ({"degree": 3, "terms": "all"}, "'all'"),
    ],
)
def test_bad_degrees_are_named(arguments, word, unchecked):
    with pytest.raises(ValueError, match=word):
        exponents(**arguments)


def _case(degree, min_degree, terms, shape=(5, 7), seed=0):
    pairs = exponents(degree, min_degree, terms=terms)
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1.6, 1.6, (2, *shape))
    x.flat[0] = y.flat[1] = 0.0  # where a power rule with x**(t-1) would divide by zero
    return pairs, rng.normal(size=len(pairs)), x, y


def _dense(pairs, coefficients):
    table = np.zeros((max(t for t, _ in pairs) + 1, max(l for _, l in pairs) + 1))
    for (t, l), a in zip(pairs, coefficients, strict=True):
        table[t, l] = a
    return table


@pytest.mark.parametrize("terms", READINGS)
@pytest.mark.parametrize(("degree", "min_degree"), [(0, 0), (1, 0), (10, 0), (10, 1), (10, 3)])
def test_value_is_numpys(terms, degree, min_degree, x64):
    pairs, a, x, y = _case(degree, min_degree, terms)
    ours = polynomial(jnp.asarray(a), jnp.asarray(x), jnp.asarray(y), exponents=pairs)
    numpys = np.polynomial.polynomial.polyval2d(x, y, _dense(pairs, a))
    np.testing.assert_allclose(ours, numpys, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("terms", READINGS)
@pytest.mark.parametrize(("degree", "min_degree"), [(0, 0), (1, 0), (6, 1)])
def test_derivatives_are_finite_differences(terms, degree, min_degree, x64):
    pairs, a, x, y = _case(degree, min_degree, terms, shape=(4,))
    arguments = tuple(map(jnp.asarray, (a, x, y)))
    check_gradients(
        lambda a, x, y: polynomial(a, x, y, exponents=pairs), arguments, order=2, eps=1e-5
    )


def test_jit_is_eager_and_vmap_is_a_loop():
    pairs, _, x, y = _case(10, 1, "literal")
    a = np.random.default_rng(1).normal(size=(3, len(pairs)))
    a, x, y = (jnp.asarray(v, jnp.float32) for v in (a, x, y))

    def evaluate(a):
        return polynomial(a, x, y, exponents=pairs)

    loop = jnp.stack([evaluate(one) for one in a])
    np.testing.assert_allclose(jax.jit(jax.vmap(evaluate))(a), loop, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1,), (50, 41), (2048,), (4097,)])
def test_gradients_of_many_pixels_are_sums_of_monomials(shape, x64):
    """Around the size of the chunks in which they are summed; NumPy's monomials are the oracle."""
    pairs, a, x, y = _case(10, 1, "literal", shape=(5000,))
    x, y = (v[: np.prod(shape)].reshape(shape) for v in (x, y))
    g = np.random.default_rng(2).normal(size=shape)
    pixels = jnp.asarray(x), jnp.asarray(y)
    _, pullback = jax.vjp(lambda a: polynomial(a, *pixels, exponents=pairs), a)
    expected = [np.sum(g * x**t * y**l) for t, l in pairs]
    np.testing.assert_allclose(pullback(jnp.asarray(g))[0], expected, rtol=1e-9, atol=1e-9)
    ones = np.ones_like(a)
    _, forward = jax.jvp(lambda a: polynomial(a, *pixels, exponents=pairs), (a,), (ones,))
    np.testing.assert_allclose(forward, sum(x**t * y**l for t, l in pairs), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e3, 1e30])
def test_huge_coefficients_never_make_nan(size):
    pairs, a, x, y = _case(10, 0, "literal")
    a, x, y = (jnp.asarray(v, jnp.float32) for v in (np.sign(a) * size, 2 * x, 2 * y))
    value, pullback = jax.vjp(lambda *v: polynomial(*v, exponents=pairs), a, x, y)
    assert not jnp.isnan(value).any()
    for cotangent in (jnp.zeros_like(value), jnp.ones_like(value)):
        assert all(jnp.isfinite(g).all() for g in pullback(cotangent))


def test_wrong_number_of_coefficients_is_named():
    with pytest.raises(ValueError, match="3 exponents"):
        polynomial(jnp.zeros(2), jnp.zeros(1), jnp.zeros(1), exponents=exponents(1))
