"""Networks of other libraries with random weights and running averages, as oracles of ours."""

import functools
import importlib
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import models

CLASSES = 5


@functools.cache
def keras_network(name):
    """One of `keras.applications`, with random weights."""
    import keras

    with jax.numpy_rank_promotion("allow"):
        network = getattr(keras.applications, name)(
            weights=None, classes=CLASSES, input_shape=(64, 64, 3), classifier_activation=None
        )
    return randomize_keras(network)


def redraw(name, shape, generator, *, fan_in):
    """One array: a kernel by He's rule, a scale or variance about 1, anything else about 0."""
    last = name.replace("/", ".").split(".")[-1]
    if len(shape) > 1:
        return generator.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    if last in ("gamma", "moving_variance", "running_var", "weight"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    return generator.normal(0, 0.3, shape).astype(np.float32)


def randomize_keras(network, seed=0):
    """A Keras network with every weight drawn anew, running averages too."""
    generator = np.random.default_rng(seed)

    def fan_in(w):
        return np.prod(w.shape[:2] if "depthwise" in w.path else w.shape[:-1])

    weights = network.weights
    network.set_weights([redraw(w.path, w.shape, generator, fan_in=fan_in(w)) for w in weights])
    return network


def import_torch():
    """PyTorch, an oracle that [test] does not bring: it is gigabytes, and bfjax never needs it.

    So a newcomer's tests may go without it. CI installs it and says BFJAX_REQUIRE_TORCH.
    """
    if os.environ.get("BFJAX_REQUIRE_TORCH"):
        return importlib.import_module("torch")
    # Right, for it hides nothing: where CI runs these tests torch is demanded (the line above), and
    # without torch there is no second implementation with which ours could agree or disagree.
    return pytest.importorskip("torch", reason="an oracle that .ci/run installs and then demands")


@functools.cache
def torch_network(name):
    """One of the networks in PyTorch, with random weights and running averages."""
    torch = import_torch()
    from experiments.benchmark.torch_networks import NETWORKS

    network = NETWORKS[name](CLASSES)
    generator = np.random.default_rng(0)

    def new(name, tensor):
        if name.endswith("num_batches_tracked"):
            return tensor
        array = redraw(name, tensor.shape, generator, fan_in=np.prod(tensor.shape[1:]))
        return torch.from_numpy(array)

    network.load_state_dict({name: new(name, t) for name, t in network.state_dict().items()})
    return network.eval()


def torch_logits(network, images, settings):
    """The logits of images in [0, 1], normalised outside, as PyTorch's users do it."""
    import torch

    x = (images - np.float32(settings.mean)) / np.float32(settings.std)
    with torch.no_grad():
        return network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def keras_logits(network, images):
    """The logits of images as the network takes them."""
    with jax.numpy_rank_promotion("allow"):
        return np.asarray(jax.jit(lambda x: network(x, training=False))(images))


def write_torch(network, path):
    """A state dict as a file that needs no pickle."""
    if path.suffix == ".npz":
        np.savez(path, **{name: t.numpy() for name, t in network.state_dict().items()})
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), path)
    return path


def write_keras(network, path):
    """``.weights.h5``, whose layers are numbered, or ``.h5``, whose layers are named."""
    network.save_weights(path) if ".weights" in path.name else network.save(path)
    return path


def draw_images(*shape, seed=1):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@jax.jit
def answer(predict, images):
    """A batch's logits; its cache tells what was compiled."""
    return jax.vmap(predict)(images)


def logits(model, images):
    """The logits of a batch, compiled once for an architecture and a shape."""
    return np.asarray(answer(models.as_predict(model), jnp.asarray(images)))


def difference(found, expected):
    """The largest difference of logits, as a share of the largest |logit|."""
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    return np.abs(found - expected).max() / np.abs(expected).max()


def assert_equals_keras(path, name, network, settings, preprocess):
    """Written by Keras, read by us: the same logits, in training form and frozen."""
    model = models.build(name, num_classes=CLASSES, channels=3, **settings)
    model = models.load_pretrained(model, write_keras(network, path))
    images = draw_images(2, 64, 64, 3)
    expected = keras_logits(network, preprocess(255 * images))
    assert difference(logits(model, images), expected) <= 1e-4
    assert difference(logits(models.freeze(model), images), expected) <= 1e-4


def assert_equals_torch(path, name):
    """A PyTorch state dict, read by us: the same logits, in training form and frozen."""
    network = torch_network(name)
    model = models.build(name, num_classes=CLASSES, channels=3)
    model = models.load_pretrained(model, write_torch(network, path))
    images = draw_images(2, 64, 64, 3)
    expected = torch_logits(network, images, model.config)
    assert difference(logits(model, images), expected) <= 1e-4
    assert difference(logits(models.freeze(model), images), expected) <= 1e-4
