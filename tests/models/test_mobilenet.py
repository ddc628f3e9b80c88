import functools

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bfjax import models
from bfjax.models.mobilenet_v1 import MobileNetV1Config

# Keras' variables, handed to NumPy 2 by Keras itself
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@functools.cache
def keras_mobilenet():
    """Keras' own network, small, with random weights and random running averages."""
    import keras

    with jax.numpy_rank_promotion("allow"):
        network = keras.applications.MobileNet(
            weights=None, classes=7, alpha=0.25, input_shape=(64, 64, 3), classifier_activation=None
        )
    generator = np.random.default_rng(0)

    def redraw(path, w):
        if "variance" in path or "gamma" in path:
            return generator.uniform(0.5, 1.5, w.shape)
        if "kernel" in path:
            return generator.normal(0, np.sqrt(2 / np.prod(w.shape[:-1])), w.shape)
        return generator.normal(0, 0.3, w.shape)

    network.set_weights([redraw(w.path, w) for w in network.weights])
    return network


def write_slim(network, path):
    """The same weights under TF-slim's names, as Google publishes them."""
    slim = {"gamma": "gamma", "beta": "beta"}
    slim |= {name: name for name in ("moving_mean", "moving_variance")}
    arrays = {}
    for weight in network.weights:
        layer, name = weight.path.split("/")[-2:]
        norm = layer.endswith("_bn")
        layer = layer.removesuffix("_bn")
        if layer == "conv_preds":
            ours = "Logits/Conv2d_1c_1x1/" + {"kernel": "weights", "bias": "biases"}[name]
        else:
            scope = "Conv2d_0"
            if layer != "conv1":
                _, kind, number = layer.split("_")
                scope = f"Conv2d_{number}_{'depthwise' if kind == 'dw' else 'pointwise'}"
            kernel = "depthwise_weights" if "depthwise" in scope else "weights"
            ours = f"{scope}/BatchNorm/{slim[name]}" if norm else f"{scope}/{kernel}"
        arrays[ours] = np.asarray(weight)
    np.savez(path, **arrays)


def write(network, path):
    if path.suffix == ".npz":
        write_slim(network, path)
    elif path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        network.save(path)
    return path


@jax.jit
def answer(predict, images):
    return jax.vmap(predict)(images)


def logits(model, images):
    """The logits of a batch, compiled."""
    return answer(models.as_predict(model), jnp.asarray(images))


FILES = ["slim.npz", "numbered.weights.h5", "named.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_equals_keras_through_the_real_files(tmp_path, name):
    network = keras_mobilenet()
    path = write(network, tmp_path / name)
    model = models.build("mobilenet_v1", num_classes=7, channels=3, width=0.25)
    model = models.load_pretrained(model, path)
    images = np.random.default_rng(1).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    with jax.numpy_rank_promotion("allow"):
        expected = np.asarray(network(2 * images - 1))
    for one in (model, models.freeze(model)):
        assert np.abs(logits(one, images) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_a_grey_stem_is_the_rgb_stem_on_grey_images(tmp_path):
    path = write(keras_mobilenet(), tmp_path / "slim.npz")
    grey = models.build("mobilenet_v1", num_classes=7, width=0.25)
    rgb = models.build("mobilenet_v1", num_classes=7, channels=3, width=0.25)
    grey, rgb = (models.load_pretrained(model, path) for model in (grey, rgb))
    images = np.random.default_rng(2).uniform(size=(1, 40, 37, 1)).astype(np.float32)
    np.testing.assert_allclose(logits(grey, images), logits(rgb, images), atol=1e-4)
    with pytest.raises(ValueError, match="grey"):
        grey(jnp.zeros((40, 37, 3)))


def test_another_number_of_classes_keeps_its_own_head(tmp_path):
    path = write(keras_mobilenet(), tmp_path / "slim.npz")
    fresh = models.build("mobilenet_v1", num_classes=2, width=0.25, seed=3)
    with pytest.raises(ValueError, match=r"head/kernel is \(256, 7\), not \(256, 2\).*head/bias"):
        models.load_pretrained(fresh, path)
    model = models.load_pretrained(fresh, path, head=False)
    np.testing.assert_array_equal(model.head.kernel[...], fresh.head.kernel[...])
    assert not np.array_equal(model.stem.kernel[...], fresh.stem.kernel[...])


def test_all_mismatches_are_told_at_once(tmp_path):
    path = write(keras_mobilenet(), tmp_path / "slim.npz")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["Conv2d_0/weights"] = np.zeros((3, 3, 3, 9), np.float32)
    del arrays["Conv2d_7_pointwise/BatchNorm/beta"]
    arrays["AuxLogits/weights"] = np.zeros(3, np.float32)
    np.savez(path, **arrays)
    model = models.build("mobilenet_v1", num_classes=7, channels=3, width=0.25)
    with pytest.raises(ValueError, match="does not fit") as caught:
        models.load_pretrained(model, path)
    for part in (
        str(path),
        "missing blocks/6/pointwise/norm/bias",
        "unexpected AuxLogits/weights",
        "stem/kernel is (3, 3, 3, 9), not (3, 3, 3, 8)",
    ):
        assert part in str(caught.value)


def test_a_file_of_no_layer_is_named(tmp_path):
    model = models.build("mobilenet_v1", num_classes=7, channels=3, width=0.25)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kernel"] = np.ones(3)
    with pytest.raises(ValueError, match=r"cannot read weights from .*a\.h5"):
        models.load_pretrained(model, tmp_path / "a.h5")


@pytest.mark.parametrize("name", [*FILES, "ours.safetensors"])
def test_a_truncated_file_of_weights_is_named(tmp_path, name):
    model = models.build("mobilenet_v1", num_classes=7, channels=3, width=0.25)
    if name.endswith("safetensors"):
        path = models.save(model, tmp_path) / "model.safetensors"
    else:
        path = write(keras_mobilenet(), tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"cannot read weights from {path}"):
        models.load_pretrained(model, path)


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path):
    model = models.build("mobilenet_v1", width=0.25)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        models.load_pretrained(model, tmp_path / "nowhere.npz")
    (tmp_path / "model.pth").write_bytes(b"pickled")
    with pytest.raises(ValueError, match=r"model\.pth"):
        models.load_pretrained(model, tmp_path / "model.pth")


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "evil.npz", **{"Conv2d_0/weights": np.array([print], dtype=object)})
    with pytest.raises(ValueError, match=r"evil\.npz.*allow_pickle"):
        models.load_pretrained(models.build("mobilenet_v1", width=0.25), tmp_path / "evil.npz")


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_even_sizes_halve_whatever_the_padding(padding):
    one = models.build("mobilenet_v1", width=0.25, padding=padding)
    other = models.build("mobilenet_v1", width=0.25)
    image = np.random.default_rng(2).uniform(size=(1, 64, 64, 1)).astype(np.float32)
    found, expected = logits(one, image), logits(other, image)
    assert found.shape == (1, 2)
    assert np.isfinite(found).all()
    assert np.array_equal(found, expected) == (padding == "same")


def test_bfloat16_is_close_to_float32():
    model = models.freeze(models.build("mobilenet_v1", width=0.25))
    image = jnp.asarray(np.random.default_rng(2).uniform(size=(64, 64, 1)), jnp.float32)
    low, high = jax.jit(lambda image: (model(image.astype(jnp.bfloat16)), model(image)))(image)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.05 * abs(high).max())


@pytest.mark.slow
def test_dropout_needs_its_key_and_drops_in_training_only():
    model = models.build("mobilenet_v1", width=0.25, dropout=0.5)
    images = jnp.asarray(np.random.default_rng(2).uniform(size=(2, 32, 32, 1)), jnp.float32)
    with pytest.raises(ValueError, match="key"):
        model(images, training=True)

    @nnx.jit
    def train(model, images, key):
        return model(images, training=True, key=key)

    first, second, again = (train(model, images, jax.random.key(i)) for i in (0, 1, 0))
    assert not np.allclose(first, second)
    np.testing.assert_allclose(first, again, rtol=1e-5)
    assert np.isfinite(logits(model, images)).all()  # without a key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 0),
        ("channels", 2),
        ("width", 0.01),
        ("dropout", 1.0),
        ("padding", "reflect"),
    ],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field}.*{value}"):
        MobileNetV1Config(**{field: value})


@pytest.mark.slow
@pytest.mark.real_data
def test_the_imagenet_weights_know_a_cat_and_an_espresso(data_root):
    from skimage.data import chelsea, coffee
    from skimage.transform import resize

    model = models.build("mobilenet_v1", num_classes=1001, channels=3)
    file = data_root / "weights" / "mobilenet_v1_imagenet.npz"
    model = models.freeze(models.load_pretrained(model, file))

    def best(photo):
        image = jnp.asarray(resize(photo, (224, 224), anti_aliasing=True), jnp.float32)
        p = jax.nn.softmax(logits(model, image[None])[0])
        return int(p.argmax()), float(p.max())

    background = 1
    assert best(chelsea())[0] - background in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
    label, p = best(coffee())
    assert label - background == 967  # espresso
    assert p > 0.9
