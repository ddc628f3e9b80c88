"""Whole networks, read from PyTorch, against PyTorch."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.models import from_torch
from tests.models.parity import difference, draw_images, import_torch

torch = import_torch()
from tests.models.aten.small_networks import CLASSES, NETWORKS, SMOOTH, network  # noqa: E402

SIDE = 32


def read(name, **options):
    return from_torch(network(name), channels=NETWORKS[name][1], image_size=SIDE, **options)


def images(name, count=2):
    return draw_images(count, SIDE, SIDE, NETWORKS[name][1])


def reference(name, x):
    """Logits, the gradient of a weighted sum of them, and the Hessian's product with a vector."""
    module = copy.deepcopy(network(name)).double()
    x = torch.from_numpy(x.transpose(0, 3, 1, 2)).double().requires_grad_()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # twice differentiable
        logits = module(x)
    weight, direction = torch.linspace(-1, 2, CLASSES).double(), torch.cos(torch.arange(x.numel()))
    (gradient,) = torch.autograd.grad((logits * weight).sum(), x, create_graph=True)
    (product,) = torch.autograd.grad((gradient * direction.double().view_as(x)).sum(), x)
    nhwc = [t.detach().numpy().transpose(0, 2, 3, 1) for t in (gradient, product)]
    return logits.detach().numpy(), *nhwc


def loss(predict, image):
    return jnp.linspace(-1, 2, CLASSES) @ predict(image)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_gradients_and_second_derivatives_are_those_of_torch(name):
    x = images(name)
    predict = read(name)
    logits, gradient, product = reference(name, x)
    found = jax.jit(jax.vmap(predict))(jnp.asarray(x))
    assert difference(np.asarray(found), logits) <= 1e-4
    tolerance = 1e-4 if name in SMOOTH else 1e-2
    slope = jax.grad(lambda image: loss(predict, image))
    assert relative(jax.jit(jax.vmap(slope))(jnp.asarray(x)), gradient) <= tolerance

    direction = np.cos(np.arange(x.size)).reshape(np.moveaxis(x, -1, 1).shape)
    direction = jnp.asarray(np.moveaxis(direction, 1, -1), jnp.float32)
    turn = jax.grad(lambda image, v: jnp.vdot(slope(image), v))
    found = jax.jit(jax.vmap(turn))(jnp.asarray(x), direction)
    if name in SMOOTH:
        assert relative(found, product) <= 1e-3
    else:  # linear between kinks
        assert np.abs(found).max() <= 1e-4 * np.abs(gradient).max()
        np.testing.assert_array_equal(product, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_vmap_is_a_loop_in_torch_networks(name):
    x = jnp.asarray(images(name))
    predict = read(name)
    value = jax.value_and_grad(lambda image: loss(predict, image))
    one, together = jax.jit(value), jax.jit(jax.vmap(value))(x)
    for i, image in enumerate(x):
        for found, expected in zip(together, one(image), strict=True):
            np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet", "transformer"])
def test_jit_is_eager_in_torch_networks(name):
    image = jnp.asarray(images(name)[0])
    predict = read(name)
    np.testing.assert_allclose(jax.jit(predict)(image), predict(image), rtol=1e-4, atol=1e-5)


def test_two_checkpoints_of_a_torch_network_compile_once():
    compiled = []

    @jax.jit
    def answer(predict, x):
        compiled.append(x.shape)
        return predict(x)

    first, second = (
        from_torch(network("resnet", seed), channels=3, image_size=SIDE) for seed in (0, 1)
    )
    x = jnp.asarray(images("resnet")[0])
    assert not np.allclose(answer(first, x), answer(second, x))
    assert len(compiled) == 1
    assert jax.tree.structure(first) == jax.tree.structure(second)


def test_a_grey_image_is_repeated_for_a_torch_network_that_takes_rgb():
    predict = jax.jit(read("resnet"))
    grey = jnp.asarray(draw_images(SIDE, SIDE, 1))
    np.testing.assert_array_equal(predict(grey), predict(jnp.tile(grey, 3)))


def test_the_torch_module_stays_as_it_is():
    module = copy.deepcopy(network("mobilenet"))
    before = {name: t.clone() for name, t in module.state_dict().items()}
    from_torch(module, channels=3, image_size=SIDE)
    after = module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert not any(part.training for part in module.modules())
