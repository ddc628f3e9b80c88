"""The dense block in one buffer, beside concatenations and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bfjax import models
from bfjax.models.dense_block import FrozenLayer, dense_block
from bfjax.models.densenet import DenseLayer, DenseNet121Config
from tests.models.test_networks import randomize

C, GROWTH, BOTTLENECK = 5, 3, 7


def draw(*shape, seed=0, dtype=float):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def draw_layers(count, dtype=float):
    def one(i):
        c, seed = C + GROWTH * i, 10 * i
        return FrozenLayer(
            gain=draw(c, seed=seed + 1, dtype=dtype),
            shift=draw(c, seed=seed + 2, dtype=dtype),
            reduce=draw(1, 1, c, BOTTLENECK, seed=seed + 3, dtype=dtype),
            bias=draw(BOTTLENECK, seed=seed + 4, dtype=dtype),
            grow=draw(3, 3, BOTTLENECK, GROWTH, seed=seed + 5, dtype=dtype) / 8,
        )

    return [one(i) for i in range(count)]


def concatenated(x, layers):
    """The block as the paper writes it, with the convolutions of JAX, on a batch."""

    def convolved(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    with jax.numpy_rank_promotion("allow"):
        for one in layers:
            y = convolved(jax.nn.relu(one.gain * x + one.shift), one.reduce) + one.bias
            x = jnp.concatenate([x, convolved(jax.nn.relu(y), one.grow)], -1)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 3, 3), (1, 1, 1)])
@pytest.mark.parametrize("count", [1, 3])
def test_values_and_gradients_are_those_of_concatenations(shape, count, x64):
    x, layers = draw(*shape, C), draw_layers(count)
    g = draw(*shape, C + GROWTH * count, seed=9)
    y, pullback = jax.vjp(lambda x: dense_block(x, layers), x)
    expected, plain_pullback = jax.vjp(lambda x: concatenated(x, layers), x)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    np.testing.assert_allclose(pullback(g)[0], plain_pullback(g)[0], atol=1e-12)


@pytest.mark.slow
def test_jit_is_eager_and_vmap_is_a_loop(x64):
    x, layers = draw(3, 4, 5, C), draw_layers(2)

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(dense_block(x, layers))))(x)

    for function in (lambda x: dense_block(x, layers), gradient):
        loop = jnp.stack([function(one) for one in x])
        np.testing.assert_allclose(jax.jit(jax.vmap(function))(x), loop, atol=1e-12)


def test_a_black_input_has_the_gradient_of_relu_at_zero(x64):
    """relu'(0) = 0, also where a whole image lies there."""
    layers = [one._replace(shift=0 * one.shift) for one in draw_layers(2)]
    x = jnp.zeros((1, 3, 3, C))
    found, expected = (
        jax.grad(lambda x, f=f: f(x, layers).sum())(x) for f in (dense_block, concatenated)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_bfloat16_stays_bfloat16():
    x, layers = draw(1, 4, 4, C, dtype=jnp.bfloat16), draw_layers(2, jnp.float32)
    y, pullback = jax.vjp(lambda x: dense_block(x, layers), x)
    expected = concatenated(x.astype(jnp.float32), layers)
    assert y.dtype == pullback(y)[0].dtype == jnp.bfloat16
    scale = float(abs(expected).max())
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=2e-2 * scale)


@pytest.mark.slow
def test_gradients_of_its_weights_are_no_numbers():
    """They are not implemented: wrong ones would be worse than none."""
    x, layers = draw(1, 3, 3, C, dtype=jnp.float32), draw_layers(1, jnp.float32)
    found = jax.grad(lambda layers: dense_block(x, layers).sum())(layers)
    assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.slow
def test_a_frozen_network_has_the_input_gradient_of_the_trainable_one():
    model = randomize(models.build("densenet121", width=0.125))
    image = draw(32, 32, 1, dtype=jnp.float32)
    found, expected = (
        jax.jit(jax.grad(lambda x, p: p(x)[0]))(image, models.as_predict(m))
        for m in (models.freeze(model), model)
    )
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(abs(expected).max()))


def test_a_layer_that_is_not_frozen_says_so():
    layer = DenseLayer(8, 4, config=DenseNet121Config())
    with pytest.raises(ValueError, match="freeze the model first"):
        layer.frozen()
