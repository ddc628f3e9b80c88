import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from bfjax import models
from bfjax.models import registry


@pytest.fixture(scope="module")
def model():
    """Small, with running averages that are not those of a fresh network."""
    model = models.build("mobilenet_v1", num_classes=3, width=0.25, seed=1)
    generator = np.random.default_rng(0)
    for layer in [model.stem, *(half for b in model.blocks for half in (b.depthwise, b.pointwise))]:
        shape = layer.norm.mean[...].shape
        layer.norm.mean[...] = jnp.asarray(generator.normal(0, 0.3, shape), jnp.float32)
        layer.norm.var[...] = jnp.asarray(generator.uniform(0.5, 1.5, shape), jnp.float32)
    return model


@pytest.fixture
def folder(tmp_path, model):
    metadata = {
        "class_names": ["a", "b", "c"],
        "image_size": 32,
        "metrics": {"accuracy": 0.9},
        "seed": 7,
    }
    return models.save(model, tmp_path / "deep" / "checkpoint", metadata=metadata)


@jax.jit
def answer(predict, image):
    return predict(image)


def logits(model, image=None):
    """The answer of a module or a `Predict`, compiled once for each form."""
    predict = model if isinstance(model, jax.tree_util.Partial) else models.as_predict(model)
    return answer(predict, IMAGE if image is None else image)


IMAGE = jnp.asarray(np.random.default_rng(1).uniform(size=(32, 40, 1)), jnp.float32)


@pytest.mark.slow
def test_what_is_saved_is_what_is_loaded(model, folder):
    expected = logits(model)
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}
    np.testing.assert_array_equal(logits(models.load_model(folder)), expected)
    np.testing.assert_array_equal(logits(models.load(folder, fold=False)), expected)
    frozen = models.load(folder)
    assert abs(logits(frozen) - expected).max() <= 1e-4 * abs(expected).max()
    assert logits(frozen, IMAGE.astype(jnp.bfloat16)).dtype == jnp.float32
    record = models.load_config(folder)
    assert record.architecture == "mobilenet_v1"
    assert record.config["width"] == 0.25
    assert record.class_names == ("a", "b", "c")
    assert (record.image_size, record.resize) == (32, "squash")
    assert record.metrics == {"accuracy": 0.9}
    assert record.extra == {"seed": 7}
    assert set(record.versions) >= {"bfjax", "jax", "flax"}


def test_two_checkpoints_of_one_architecture_share_one_compilation(tmp_path, folder):
    other = models.build("mobilenet_v1", num_classes=3, width=0.25, seed=2)
    models.save(other, tmp_path / "other")
    traces = 0

    @jax.jit
    def counted(predict, image):
        nonlocal traces
        traces += 1
        return predict(image)

    first = counted(models.load(folder), IMAGE)
    second = counted(models.load(tmp_path / "other"), IMAGE)
    assert not np.allclose(first, second)
    assert traces == 1


@pytest.mark.slow
def test_a_second_save_replaces_the_first(folder):
    other = models.build("mobilenet_v1", num_classes=2, width=0.25, seed=2)
    models.save(other, folder)
    np.testing.assert_array_equal(logits(models.load(folder, fold=False)), logits(other))
    assert models.load_config(folder).class_names == ()


def test_a_folded_model_is_not_saved(model, tmp_path):
    with pytest.raises(ValueError, match="a folded model does not fit"):
        models.save(models.freeze(model), tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_saved(model, tmp_path):
    broken = models.registry.weights_of(model)
    name = next(iter(broken))
    weights = broken | {name: np.full(broken[name].shape, np.nan)}
    with pytest.raises(ValueError, match=f"the model holds NaN or infinity in {name}"):
        models.save(models.registry.with_weights(model, weights, source="the test"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_metadata_cannot_overwrite_what_save_writes(model, tmp_path):
    with pytest.raises(ValueError, match="sha256"):
        models.save(model, tmp_path, metadata={"sha256": "0"})


def test_freezing_leaves_the_model_as_it_is(model):
    before = logits(model)
    models.freeze(model)
    np.testing.assert_array_equal(logits(model), before)


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(folder):
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(bytes(data))


DAMAGE = {
    "truncated": (truncate, ValueError, r"model\.safetensors is not the file.*copy"),
    "altered": (flip_a_bit, ValueError, r"model\.safetensors is not the file.*copy"),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        FileNotFoundError,
        r"model\.safetensors is missing.*copy",
    ),
    "no config": (
        lambda f: (f / "config.json").unlink(),
        FileNotFoundError,
        "no checkpoint at .*bfjax train",
    ),
    "broken JSON": (
        lambda f: (f / "config.json").write_text('{"architecture": '),
        ValueError,
        r"config\.json is not a checkpoint's JSON",
    ),
    "a list": (
        lambda f: (f / "config.json").write_text("[]"),
        ValueError,
        r"config\.json is not a checkpoint's JSON",
    ),
    "other JSON": (
        lambda f: (f / "config.json").write_text('{"class_names": [], "name": "x"}'),
        ValueError,
        r"config\.json is not a checkpoint's JSON.*architecture",
    ),
    "unknown architecture": (
        lambda f: edit(f / "config.json", architecture="vgg"),
        ValueError,
        r"cannot load .*'vgg'.*mobilenet_v1",
    ),
    "unknown setting": (
        lambda f: edit(f / "config.json", config={"depth": 3}),
        ValueError,
        r"cannot load .*depth.*width",
    ),
    "a setting of the wrong type": (
        lambda f: edit(f / "config.json", config={"num_classes": "two"}),
        ValueError,
        "cannot load .*mobilenet_v1",
    ),
    "another width": (
        lambda f: edit(f / "config.json", config={"num_classes": 3, "width": 0.5}),
        ValueError,
        r"model\.safetensors does not fit the model.*stem/kernel is \(3, 3, 1, 8\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_name(folder, damage):
    break_it, error, message = DAMAGE[damage]
    break_it(folder)
    with pytest.raises(error, match=message):
        models.load(folder)


def test_the_registry_names_what_it_has():
    with pytest.raises(ValueError, match=r"'vgg'.*'mobilenet_v1'"):
        models.build("vgg")
    with pytest.raises(ValueError, match=r"no setting \['depth'\].*'width'"):
        models.build("mobilenet_v1", depth=3)


def test_weights_follow_from_the_seed():
    first, again, other = (
        models.build("mobilenet_v1", width=0.25, seed=seed).blocks[3].pointwise.kernel[...]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert float(first.std()) == pytest.approx(np.sqrt(2 / first.shape[2]), rel=0.05)


SHARD = 20_000


@pytest.fixture
def sharded(tmp_path, model):
    metadata = {"class_names": ["a", "b", "c"], "image_size": 32}
    return models.save(model, tmp_path / "parts", metadata=metadata, shard_size=SHARD)


def test_shards_are_read_back_as_one(model, sharded):
    record = models.load_config(sharded)
    count = len(record.shards)
    assert count > 3
    names = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    assert list(record.shards) == names
    assert {f.name for f in sharded.iterdir()} == {"config.json", *names}
    sizes = [(sharded / name).stat().st_size for name in names]
    assert sorted(sizes)[0] < SHARD
    for name, size in zip(names, sizes, strict=True):
        with safetensors.safe_open(sharded / name, "numpy") as file:
            assert size <= SHARD or len(list(file.keys())) == 1  # one array is never cut
    np.testing.assert_array_equal(logits(models.load(sharded, fold=False)), logits(model))


def test_half_precision_is_near_and_half_as_large(tmp_path, model, folder):
    half = models.save(model, tmp_path / "half", dtype="float16")
    expected = logits(model)
    found = logits(models.load(half, fold=False))
    assert 0 < abs(found - expected).max() <= 5e-3 * abs(expected).max()
    one, other = ((f / "model.safetensors").stat().st_size for f in (folder, half))
    assert other < 0.6 * one
    with pytest.raises(ValueError, match="not as 'int8'"):
        models.save(model, tmp_path / "none", dtype="int8")
    wide = models.build("convnet", width=0.25)
    wide.layers[0].norm.var[...] = jnp.full_like(wide.layers[0].norm.var[...], 1e5)
    with pytest.raises(
        ValueError, match=r"layers/0/norm/var reaches 1e\+05, too large for float16"
    ):
        models.save(wide, tmp_path / "none", dtype="float16")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "swapped", "left out"])
def test_a_damaged_shard_is_refused_by_name(sharded, damage):
    record = models.load_config(sharded)
    first, second = list(record.shards)[:2]
    error, message = ValueError, rf"{second} is not the file.*copy"
    data = (sharded / second).read_bytes()
    if damage == "truncated":
        (sharded / second).write_bytes(data[:-1])
    elif damage == "altered":
        (sharded / second).write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif damage == "missing":
        (sharded / second).unlink()
        error, message = FileNotFoundError, f"{second} is missing"
    elif damage == "swapped":
        (sharded / second).write_bytes((sharded / first).read_bytes())
    else:
        left = {name: digest for name, digest in record.shards.items() if name != second}
        edit(sharded / "config.json", shards=left)
        message = r"config\.json was altered"
    with pytest.raises(error, match=message):
        models.load(sharded)


def test_one_file_replaces_shards_and_shards_one_file(model, sharded):
    models.save(model, sharded)
    assert {f.name for f in sharded.iterdir()} == {"config.json", "model.safetensors"}
    models.save(model, sharded, shard_size=10**9)
    names = {"config.json", "model-00001-of-00001.safetensors"}
    assert {f.name for f in sharded.iterdir()} == names
    np.testing.assert_array_equal(logits(models.load(sharded, fold=False)), logits(model))


@pytest.mark.slow
def test_the_settings_of_weights_come_with_them(tmp_path):
    model = models.build("resnet50", width=0.125, mean=(0.5,), std=(0.25,), num_classes=4)
    models.save(model, tmp_path / "mine")
    found = models.settings_for("resnet50", tmp_path / "mine")
    assert (found["width"], tuple(found["mean"]), tuple(found["std"])) == (0.125, (0.5,), (0.25,))
    assert "num_classes" not in found
    assert models.settings_for("resnet50", "w.h5")["strided"] == "1x1"
    assert models.settings_for("resnet50", "hf:timm/resnet50.tv_in1k") == {}
    assert models.settings_for("mobilenet_v1", "w.h5") == {}
    with pytest.raises(ValueError, match="is a resnet50, not a densenet121"):
        models.settings_for("densenet121", tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        models.settings_for("resnet50", tmp_path)
    again = models.load_pretrained(
        models.build("resnet50", num_classes=4, **found), tmp_path / "mine"
    )
    for name, weight in registry.weights_of(model).items():
        assert np.array_equal(weight, registry.weights_of(again)[name]), name
