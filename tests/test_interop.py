"""The attack runs on whatever maps one image to logits: each framework's usual module."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

import bfjax

SHAPE = (16, 16, 1)


def _plain():
    weights = jax.random.normal(jax.random.key(0), (2, 256)) / 4
    return lambda image: weights @ image.ravel()


def _partial():
    weights = jax.random.normal(jax.random.key(0), (2, 256)) / 4
    return Partial(lambda weights, image: weights @ image.ravel(), weights)


def _nnx():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, image):
            return 9 * self.head(nnx.relu(self.conv(image)).mean((0, 1)))

    return Model(nnx.Rngs(0))


def _linen():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, image):
            return 9 * nn.Dense(2)(nn.relu(nn.Conv(4, (3, 3))(image)).mean((0, 1)))

    model = Model()
    return Partial(model.apply, model.init(jax.random.key(0), jnp.zeros(SHAPE)))


def _equinox():
    class Model(eqx.Module):
        conv: eqx.nn.Conv2d
        head: eqx.nn.MLP

        def __init__(self, key):
            one, two = jax.random.split(key)
            self.conv = eqx.nn.Conv2d(1, 4, 3, key=one)
            self.head = eqx.nn.MLP(4, 2, 8, 1, key=two)  # holds a function, its activation

        def __call__(self, image):
            features = jax.nn.relu(self.conv(image.transpose(2, 0, 1)))
            return 9 * self.head(features.mean((1, 2)))

    return Model(jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("make", [_plain, _partial, _nnx, _linen, _equinox])
def test_attack_raises_the_loss_of(make):
    predict = make()
    images = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (2, *SHAPE)), jnp.float32)
    labels = jnp.asarray([0, 1])
    attack = bfjax.attacks.bias_field(SHAPE, degree=4, min_degree=0, grid_size=4)
    one = jax.jit(jax.vmap(lambda x, y: bfjax.run(attack, predict, x, y)))(images, labels)
    two = bfjax.run_batch(attack, predict, images, labels)
    assert (one.trace.loss[:, -1] > one.trace.loss[:, 0]).all()
    np.testing.assert_allclose(one.adversarial, two.adversarial, atol=1e-5)
    direct = jnp.stack([predict(x) for x in one.adversarial])
    np.testing.assert_allclose(one.logits, direct, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [_partial, _nnx, _linen, _equinox])
def test_weights_travel_as_arguments(make):
    """The arrays of a module are leaves of its pytree; its functions are static."""
    function = bfjax.as_pytree(make())
    leaves = jax.tree.leaves(function)
    assert len(leaves) >= 1
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert jax.tree.structure(function) == jax.tree.structure(bfjax.as_pytree(function))
    jaxpr = jax.make_jaxpr(lambda f, x: f(x))(function, jnp.zeros(SHAPE))
    assert not any(const.size > 1 for const in jaxpr.consts)
