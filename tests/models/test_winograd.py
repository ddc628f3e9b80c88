"""Winograd's convolution, beside the plain one of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bfjax.models.winograd import pays, transform_kernel, winograd_conv2d


def draw(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def plain(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


SHAPES = [(1, 4, 4), (2, 7, 7), (1, 5, 9), (3, 14, 6), (1, 1, 1), (2, 2, 3), (1, 8, 13)]


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_plain_sum(shape, x64):
    x, kernel = draw(*shape, 3, dtype=float), draw(3, 3, 3, 5, seed=1, dtype=float)
    g = draw(*shape, 5, seed=2, dtype=float)
    y, pullback = jax.vjp(lambda x: winograd_conv2d(x, transform_kernel(kernel)), x)
    expected, plain_pullback = jax.vjp(lambda x: plain(x, kernel), x)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    np.testing.assert_allclose(pullback(g)[0], plain_pullback(g)[0], atol=1e-12)


def test_a_gradient_of_its_weights_is_no_number():
    """It is not implemented: a wrong number would be worse than none."""
    x, transformed = draw(4, 4, 2), transform_kernel(draw(3, 3, 2, 5, seed=1))
    found = jax.grad(lambda u: winograd_conv2d(x, u).sum())(transformed)
    assert all(jnp.isnan(leaf).all() for leaf in found)


def test_float32_keeps_five_digits():
    x, kernel = draw(2, 14, 14, 64), draw(3, 3, 64, 64, seed=1)
    y, pullback = jax.vjp(lambda x: winograd_conv2d(x, transform_kernel(kernel)), x)
    expected, plain_pullback = jax.vjp(lambda x: plain(x, kernel), x)
    np.testing.assert_allclose(y, expected, atol=3e-5 * float(abs(expected).max()))
    (right,) = plain_pullback(expected)
    np.testing.assert_allclose(pullback(expected)[0], right, atol=3e-5 * float(abs(right).max()))


def test_bfloat16_is_float32_inside():
    x, kernel = draw(1, 9, 8, 8, dtype=jnp.bfloat16), draw(3, 3, 8, 8, seed=1, dtype=jnp.bfloat16)
    y = winograd_conv2d(x, transform_kernel(kernel.astype(jnp.float32)))
    expected = plain(x.astype(jnp.float32), kernel.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    scale = float(abs(expected).max())
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=5e-3 * scale)


@pytest.mark.slow
def test_jit_is_eager_and_vmap_is_a_loop(x64):
    x = draw(3, 6, 7, 4, dtype=float)
    transformed = transform_kernel(draw(3, 3, 4, 6, seed=1, dtype=float))

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(winograd_conv2d(x, transformed))))(x)

    for function in (lambda x: winograd_conv2d(x, transformed), gradient):
        loop = jnp.stack([function(one) for one in x])
        np.testing.assert_allclose(jax.jit(jax.vmap(function))(x), loop, atol=1e-11)


@pytest.mark.parametrize(
    ("shape", "stride", "padding", "right"),
    [
        ((3, 3, 64, 128), 1, 1, True),
        ((3, 3, 64, 64), 1, "same", True),
        ((3, 3, 64, 64), 2, 1, False),
        ((3, 3, 128, 32), 1, 1, False),
        ((1, 1, 64, 64), 1, 0, False),
        ((3, 3, 64, 64), 1, "valid", False),
        ((3, 3, 64), 1, 1, False),
    ],
)
def test_where_it_is_used(shape, stride, padding, right):
    assert pays(shape, stride=stride, padding=padding) is right


def test_channels_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="does not fit"):
        winograd_conv2d(jnp.ones((4, 4, 3)), transform_kernel(jnp.ones((3, 3, 2, 5))))
