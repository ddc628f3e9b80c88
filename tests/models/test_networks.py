"""What holds for every network with ImageNet weights in circulation, on small ones."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from bfjax import models
from bfjax.models import densenet, mobilenet_v2, resnet
from bfjax.models.densenet import DenseNet121Config
from bfjax.models.layers import BatchNorm
from bfjax.models.mobilenet_v2 import MobileNetV2Config
from bfjax.models.registry import weights_of, with_weights
from bfjax.models.resnet import ResNet50Config
from bfjax.models.tables import TABLES
from tests.models.parity import answer, difference, draw_images, logits, redraw

WIDTHS = {"resnet50": 0.125, "densenet121": 0.125, "mobilenet_v2": 0.35}


def randomize(model, seed=0):
    """A model with every weight drawn anew, running averages too."""
    generator = np.random.default_rng(seed)

    def new(name, shape):
        if name.endswith(("scale", "var")):
            return generator.uniform(0.5, 1.5, shape)
        fan_in = np.prod(shape[:2] if len(shape) == 3 else shape[:-1])
        return redraw(name, shape, generator, fan_in=fan_in)

    weights = {name: new(name, w.shape) for name, w in weights_of(model).items()}
    return with_weights(model, weights, source="the test")


@functools.cache
def small(name, **config):
    return randomize(models.build(name, num_classes=3, width=WIDTHS[name], **config))


@pytest.mark.parametrize(
    "name", ["resnet50", pytest.param("densenet121", marks=pytest.mark.slow), "mobilenet_v2"]
)
def test_a_checkpoint_comes_back_and_its_frozen_form_agrees(tmp_path, name):
    model = small(name)
    models.save(model, tmp_path)
    images = draw_images(2, 33, 40, 1)  # odd sizes too
    expected = logits(model, images)
    back = models.load_model(tmp_path)
    assert back.config == model.config
    assert hash(back.config) == hash(model.config)  # static under jit
    np.testing.assert_array_equal(logits(back, images), expected)
    frozen = models.freeze(back)
    assert not any(isinstance(m, BatchNorm) for _, m in nnx.iter_modules(frozen))
    assert difference(logits(frozen, images), expected) <= 1e-4
    compiled = answer._cache_size()
    other = models.freeze(randomize(model, seed=1))  # another checkpoint: no other compilation
    assert difference(logits(other, images), expected) > 0.01
    assert answer._cache_size() == compiled
    with pytest.raises(ValueError, match="frozen"):
        frozen(jnp.asarray(images), training=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "planes"),
    [("resnet50", {}, 3), ("mobilenet_v2", {"mean": (0.45,), "std": (0.25,)}, 1)],
)
def test_a_grey_model_takes_rgb_weights_exactly(tmp_path, name, settings, planes):
    """Three means and one: the normalised channels of a grey image differ, or they do not."""
    rgb = small(name, channels=3, **settings)
    file = models.save(rgb, tmp_path) / "model.safetensors"
    grey = models.load_pretrained(small(name, **settings), file)
    assert grey.stem.kernel.shape[2] == planes
    images = draw_images(1, 32, 37, 1, seed=2)
    expected = logits(rgb, np.repeat(images, 3, axis=-1))
    assert difference(logits(grey, images), expected) <= 1e-5
    with pytest.raises(ValueError, match="grey"):
        grey(jnp.zeros((32, 32, 3)))


# fewer layers of each kind: compiling the training step of all 121 takes most of a minute
FEWER = {
    "densenet121": (densenet, "_BLOCKS", (2, 2, 2, 2)),
    "mobilenet_v2": (mobilenet_v2, "_STAGES", ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2))),
    "resnet50": (resnet, "_STAGES", ((2, 64, 1), (1, 128, 2), (1, 256, 2))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDTHS)
def test_a_training_step_reaches_every_weight(name, monkeypatch):
    monkeypatch.setattr(*FEWER[name])
    model = small.__wrapped__(name)
    images = jnp.asarray(draw_images(4, 64, 64, 1))  # at 32 the last stages have single pixels
    graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    def step(params, statistics, images):
        def loss(params):
            model = nnx.merge(graph, params, statistics, copy=True)
            log_p = jax.nn.log_softmax(model(images, training=True))
            return -log_p[:, 0].mean(), nnx.state(model, nnx.BatchStat)

        return jax.grad(loss, has_aux=True)(params)

    gradients, updated = step(params, statistics, images)
    for path, gradient in nnx.to_flat_state(gradients):
        assert np.isfinite(gradient[...]).all(), path
        assert np.any(gradient[...] != 0), path
    before = dict(nnx.to_flat_state(statistics))
    for path, after in nnx.to_flat_state(updated):
        assert np.isfinite(after[...]).all(), path
        assert np.any(after[...] != before[path][...]), path


@pytest.mark.parametrize("name", WIDTHS)
def test_bfloat16_stays_bfloat16(name):
    for model in (small(name), models.freeze(small(name))):
        image = jax.ShapeDtypeStruct((32, 32, 1), jnp.bfloat16)
        assert jax.eval_shape(model, image).dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_bfloat16_is_close_to_float32(name):
    model = models.freeze(models.build(name, width=WIDTHS[name]))
    image = jnp.asarray(draw_images(32, 32, 1))
    low, high = jax.jit(lambda image: (model(image.astype(jnp.bfloat16)), model(image)))(image)
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.1 * abs(high).max())


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (ResNet50Config, "num_classes", 0),
        (ResNet50Config, "channels", 2),
        (DenseNet121Config, "width", 0.01),
        (DenseNet121Config, "mean", (0.5, 0.5)),
        (DenseNet121Config, "mean", (0.5,)),  # with three std
        (ResNet50Config, "std", (0.2, 0.0, 0.2)),
        (ResNet50Config, "strided", "5x5"),
        (MobileNetV2Config, "dropout", 1.0),
        (MobileNetV2Config, "padding", "reflect"),
    ],
)
def test_settings_out_of_range_are_named(config, field, value):
    with pytest.raises(ValueError, match=f"{field}.*{re.escape(str(value).strip('()'))}"):
        config(**{field: value})


def test_dropout_needs_its_key():
    model = models.build("mobilenet_v2", width=0.35, dropout=0.5)
    train = nnx.jit(lambda model, images: model(images, training=True))
    with pytest.raises(ValueError, match="key"):
        train(model, jnp.zeros((2, 32, 32, 1)))


def state_dict(name):
    """The weights of a small network under torchvision's names, by its own table.

    What the names are is the parity tests' business.
    """
    model = small(name, channels=3)
    own = {name: np.asarray(array) for name, array in weights_of(model).items()}

    def theirs(array):
        if array.ndim == 3:  # depthwise
            return array.transpose(2, 0, 1)[:, None]
        return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T

    entries = TABLES[name]["torch"](model, {})
    return {e.theirs: np.ascontiguousarray(theirs(own[e.ours])) for e in entries}


def test_all_mismatches_are_told_at_once(tmp_path):
    arrays = state_dict("resnet50")
    arrays["conv1.weight"] = np.zeros((9, 3, 7, 7), np.float32)
    arrays["fc.bias"] = np.zeros(1000, np.float32)
    arrays["layer4.2.bn3.num_batches_tracked"] = np.array(7)  # of no layer: ignored
    arrays["layer5.0.conv1.weight"] = np.zeros(3, np.float32)
    del arrays["layer2.0.downsample.1.running_mean"]
    save_file(arrays, tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match="does not fit") as caught:
        models.load_pretrained(small("resnet50", channels=3), tmp_path / "state.safetensors")
    parts = str(caught.value).split("does not fit the model: ")[1].split("; ")
    assert sorted(parts) == [
        "head/bias is (1000,), not (3,)",
        "missing stages/1/0/shortcut/norm/mean",
        "stem/kernel is (7, 7, 3, 9), not (7, 7, 3, 8)",
        "unexpected layer5.0.conv1.weight",
    ]


def test_another_number_of_classes_keeps_its_own_head(tmp_path):
    save_file(state_dict("mobilenet_v2"), tmp_path / "state.safetensors")
    fresh = models.build("mobilenet_v2", num_classes=2, width=0.35)
    with pytest.raises(ValueError, match=r"head/kernel is \(1280, 3\), not \(1280, 2\)"):
        models.load_pretrained(fresh, tmp_path / "state.safetensors")
    model = models.load_pretrained(fresh, tmp_path / "state.safetensors", head=False)
    found, own = weights_of(model), weights_of(fresh)
    expected = weights_of(small("mobilenet_v2", channels=3))
    for name, array in found.items():
        source = own if name.startswith("head/") else expected
        np.testing.assert_array_equal(array, source[name], err_msg=name)


def test_densenets_of_before_2018_have_a_dot_more(tmp_path):
    arrays = state_dict("densenet121")
    old = {}
    for name, array in arrays.items():
        layer, dot, rest = name.partition(".denselayer")
        for part in ("norm1", "conv1", "norm2", "conv2"):
            rest = rest.replace(part, f"{part[:-1]}.{part[-1]}")
        old[layer + dot + rest] = array
    assert "features.denseblock2.denselayer7.norm.1.running_var" in old
    save_file(old, tmp_path / "old.safetensors")
    model = models.load_pretrained(small("densenet121", channels=3), tmp_path / "old.safetensors")
    expected = weights_of(small("densenet121", channels=3))
    for name, array in weights_of(model).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".tar"])
def test_a_pickle_is_refused_unread(tmp_path, suffix):
    path = tmp_path / f"resnet50{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ValueError, match=f"resnet50{suffix} is a pickle.*safetensors"):
        models.load_pretrained(small("resnet50"), path)


def test_weights_of_another_architecture_are_named(tmp_path):
    save_file(state_dict("mobilenet_v2"), tmp_path / "state.safetensors")
    model = models.build("mobilenet_v1", width=0.25)
    with pytest.raises(ValueError, match="mobilenet_v1 cannot take the torch weights"):
        models.load_pretrained(model, tmp_path / "state.safetensors")
