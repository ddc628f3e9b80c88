"""The fast formulations against XLA's own windows, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bfjax.models.pooling import average_pool, max_pool


def plain_max_pool(x, *, window=3, stride=2, padding=1):
    """What `max_pool` should compute, for a batch: its gradient is select-and-scatter."""
    pads = "VALID" if padding == "valid" else "SAME"
    if isinstance(padding, int):
        pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    shape, strides = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, shape, strides, pads)


def draw(*shape, levels=None, seed=0, dtype=jnp.float32):
    """Normal numbers; with `levels`, that many different ones, so that most windows have ties."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=shape) if levels is None else generator.integers(levels, size=shape)
    return jnp.asarray(x, dtype)


def value_and_gradient(function, x, cotangent):
    y, pull = jax.vjp(function, x)
    return y, pull(cotangent)[0]


CASES = [
    # (batch, h, w), window, stride, padding; odd and even sizes, strides that divide or do not
    ((2, 9, 12), 3, 2, 1),
    ((1, 8, 7), 3, 2, 1),
    ((2, 8, 7), 3, 2, "same"),
    ((2, 9, 9), 3, 2, "valid"),
    ((1, 1, 1), 3, 2, 1),
    ((2, 7, 8), 2, 2, 0),
    ((2, 7, 8), 3, 1, 1),
    ((2, 11, 10), 3, 3, 1),
    ((2, 11, 10), 2, 3, "valid"),
    ((2, 11, 10), 5, 2, 2),
]


@pytest.mark.parametrize(
    ("dtype", "levels"), [(jnp.float32, None), (jnp.float32, 2), (jnp.bfloat16, 3)]
)
@pytest.mark.parametrize(("size", "window", "stride", "padding"), CASES)
def test_max_pool_equals_xla(size, window, stride, padding, dtype, levels):
    how = {"window": window, "stride": stride, "padding": padding}
    x = draw(*size, 3, levels=levels, dtype=dtype)
    expected_shape = jax.eval_shape(lambda x: plain_max_pool(x, **how), x).shape
    # whole numbers: sums of a few are exact in bfloat16 too, whatever their order
    cotangent = draw(*expected_shape, levels=7, seed=1, dtype=dtype)
    expected = value_and_gradient(lambda x: plain_max_pool(x, **how), x, cotangent)
    found = jax.jit(lambda x, g: value_and_gradient(lambda x: max_pool(x, **how), x, g))(
        x, cotangent
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_one_image_vmap_and_scan_agree_with_a_batch():
    x = draw(3, 7, 8, 2, levels=3)

    def energy(pool):
        return lambda x: jnp.sum(jnp.sin(pool(x) + 1))

    reference = jax.grad(energy(plain_max_pool))(x)
    gradient = jax.grad(energy(max_pool))
    whole = jax.jit(gradient)(x)
    each = jax.jit(jax.vmap(gradient))(x)
    nested = jax.vmap(jax.vmap(gradient))(x[None])[0]
    _, scanned = jax.jit(lambda x: lax.scan(lambda _, x: (None, gradient(x)), None, x))(x)
    for found in (whole, each, nested, scanned):
        np.testing.assert_allclose(found, reference, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient(x[1]), reference[1], rtol=1e-6, atol=1e-6)


def test_no_gradient_of_an_image_needs_select_and_scatter():
    """The form that XLA's CPU backend runs window by window."""
    text = jax.jit(jax.grad(lambda x: max_pool(x).sum())).lower(draw(1, 8, 8, 2)).as_text()
    assert "select_and_scatter" not in text
    assert "stablehlo.scatter" not in text


def test_a_nan_is_not_swallowed():
    x = draw(4, 4, 1).at[1, 1].set(jnp.nan)
    assert np.isnan(max_pool(x)).all()  # every window holds it


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("size", [(2, 8, 6), (1, 7, 9)])
def test_average_pool_equals_xla(size, window):
    x = draw(*size, 3)

    def plain(x):
        shape = (1, window, window, 1)
        return lax.reduce_window(x, 0.0, lax.add, shape, shape, "VALID") / window**2

    cotangent = draw(*jax.eval_shape(plain, x).shape, seed=1)
    found = value_and_gradient(lambda x: average_pool(x, window=window), x, cotangent)
    for ours, theirs in zip(found, value_and_gradient(plain, x, cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_average_pool_of_bfloat16_is_bfloat16():
    x = draw(4, 4, 1, dtype=jnp.bfloat16)
    expected = average_pool(x.astype(jnp.float32))
    assert average_pool(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(average_pool(x).astype(jnp.float32), expected, rtol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 12, "padding": 2}, "at most 11 rows.*12"),
        ({"window": 2, "padding": 2}, "padding 2 leaves windows of 2"),
        ({"window": 5, "padding": "valid"}, "kernel of 5 does not fit 4 pixels"),
        ({"padding": "full"}, "'full'"),
    ],
)
def test_windows_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        max_pool(jnp.zeros((4, 4, 1)), **arguments)
    with pytest.raises(ValueError, match=r"window of 5 does not fit an image \(4, 4, 1\)"):
        average_pool(jnp.zeros((4, 4, 1)), window=5)
