"""Activations computed once more are those that were kept, and take less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bfjax import models
from bfjax.models.remat import rematerialized

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "resnet50", "densenet121")


def gradient(name, *, remat, side):
    """The compiled gradient of a training loss in parameters and images, and its arguments."""
    model = models.build(name, channels=1, width=0.125)
    model.remat = remat
    graph, *weights = nnx.split(model, nnx.Param, nnx.BatchStat)

    def loss(params, images, statistics):
        model = nnx.merge(graph, params, statistics, copy=True)
        logits = model(images, training=True)
        return jnp.sin(logits).sum(), nnx.state(model, nnx.BatchStat)

    images = jax.random.uniform(jax.random.key(1), (8, side, side, 1))
    arguments = weights[0], images, weights[1]
    both = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    return both.lower(*arguments).compile(), arguments


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_the_same_to_rounding_in_less_memory(name):
    (kept, given), (again, _) = (gradient(name, remat=r, side=64) for r in (False, True))
    expected, found = kept(*given), again(*given)
    for one, two in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        scale = max(np.abs(one).max(), 1e-2)
        np.testing.assert_allclose(two / scale, one / scale, atol=2e-3)
    sizes = [p.memory_analysis().temp_size_in_bytes for p in (kept, again)]
    assert sizes[1] < 0.9 * sizes[0]


def test_a_block_updates_its_averages_once():
    class Block(nnx.Module):
        def __init__(self):
            self.gain = nnx.Param(jnp.asarray([[[2.0, 3.0]]]))
            self.mean = nnx.BatchStat(jnp.zeros(2))

        def __call__(self, x, *, training):
            self.mean[...] = self.mean[...] + x.mean((0, 1)) + training
            return jnp.sin(self.gain[...] * x)

    x = jnp.arange(8.0).reshape(2, 2, 2)
    block, other = Block(), Block()
    np.testing.assert_array_equal(rematerialized(block, x), other(x, training=True))
    np.testing.assert_array_equal(block.mean[...], other.mean[...])
    graph, params, rest = nnx.split(block, nnx.Param, ...)

    def total(params, x):
        return rematerialized(nnx.merge(graph, params, rest, copy=True), x).sum()

    found = jax.grad(total, (0, 1))(params, x)
    gain = jnp.asarray([[[2.0, 3.0]]])
    np.testing.assert_allclose(found[1], gain * jnp.cos(gain * x), rtol=1e-5)
    np.testing.assert_allclose(
        found[0]["gain"][...], (x * jnp.cos(gain * x)).sum((0, 1), keepdims=True), rtol=1e-5
    )
