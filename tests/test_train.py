import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from bfjax import data, models, train
from bfjax.config import TrainConfig
from bfjax.models import registry
from bfjax.models.layers import ConvNorm, Dense
from bfjax.optimization import augment, make_optimizer, make_step


class Stripes(data.Source):
    """Grey noise with horizontal (0) or vertical (1) stripes, two images of each patient."""

    class_names = ("horizontal", "vertical")

    def __init__(self, count, *, size=32, seed=0, bits=8):
        self.count, self.size, self.seed, self.bits = count, size, seed, bits

    labels = property(lambda self: np.arange(self.count) // 2 % 2)
    groups = property(lambda self: [f"p{i // 2}" for i in range(self.count)])
    names = property(lambda self: [f"{i}.png" for i in range(self.count)])

    def __len__(self):
        return self.count

    def _record(self, index):
        generator = np.random.default_rng([self.seed, index])
        wave = np.sin(np.arange(self.size) * generator.uniform(0.8, 1.2) + generator.uniform(0, 6))
        label = int(self.labels[index])
        image = 0.5 + 0.2 * (wave[None, :] if label else wave[:, None])
        image = np.clip(image + generator.normal(0, 0.1, (self.size, self.size)), 0, 1)
        full = 2**self.bits - 1
        return {
            "image": np.round(full * image).astype(f"uint{self.bits}")[..., None],
            "label": label,
            "name": self.names[index],
            "cause": "",
            "group": self.groups[index],
        }


@dataclasses.dataclass(frozen=True)
class TinyConfig:
    num_classes: int = 2
    channels: int = 1


class Tiny(nnx.Module):
    def __init__(self, config):
        self.config = config
        norm = {"epsilon": 1e-3, "momentum": 0.8}
        self.first = ConvNorm((3, 3, config.channels, 8), stride=2, **norm)
        self.second = ConvNorm((3, 3, 8), stride=2, **norm)
        self.head = Dense(8, config.num_classes)

    def __call__(self, x, *, training=False, key=None):
        x = jax.nn.relu(self.first(x, training=training))
        x = jax.nn.relu(self.second(x, training=training))
        return self.head(x.mean((-3, -2)))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", (TinyConfig, Tiny))


def config(out, **changes):
    settings = {
        "model": "tiny",
        "image_size": 32,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.03,
        "validation": 0.2,
        "shift": 0.1,
        "rotation": 0.0,
        "scale": 0.0,
    }
    return TrainConfig(data="stripes", out=out, **(settings | changes))


SOURCE, TEST = Stripes(96), Stripes(30, seed=1)


def weights(folder):
    return registry.weights_of(models.load_model(folder))


def history(folder):
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_it_learns_and_writes_a_whole_checkpoint(tmp_path, capsys):
    metrics = train.fit(config(tmp_path, epochs=4, verbose=True), SOURCE, TEST)
    assert metrics.accuracy >= 0.9
    assert metrics.count == 30
    assert {f.name for f in tmp_path.iterdir()} == {"config.json", "log.csv", "model.safetensors"}
    record = models.load_config(tmp_path)
    assert record.class_names == SOURCE.class_names
    assert (record.image_size, record.resize) == (32, "squash")
    assert record.metrics["test"]["accuracy"] == metrics.accuracy
    assert record.extra["training"]["learning_rate"] == 0.03
    # the epoch with the lowest validation loss is the one that was kept
    rows = history(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert record.metrics["validation"]["epoch"] == int(best["epoch"])
    predict = jax.jit(models.load(tmp_path))
    right = [
        int(predict(data.to_float(r["image"])).argmax()) == r["label"]
        for r in (TEST[i] for i in range(30))
    ]
    assert np.mean(right) == pytest.approx(metrics.accuracy)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("epoch") == 4


def test_the_kept_epoch_is_the_best_and_not_the_last(tmp_path, monkeypatch):
    """With the ranking turned round, the weights kept are the worst epoch's."""
    train.fit(config(tmp_path / "best"), SOURCE, TEST)
    monkeypatch.setattr(train, "_rank", lambda row: -row["epoch"])
    train.fit(config(tmp_path / "first"), SOURCE, TEST)
    assert models.load_config(tmp_path / "first").metrics["validation"]["epoch"] == 1
    one, other = weights(tmp_path / "best"), weights(tmp_path / "first")
    assert any(not np.array_equal(one[name], other[name]) for name in one)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill_at", ["in an epoch", "after an epoch", "at the end"])
def test_a_killed_run_ends_as_the_uninterrupted_one(tmp_path, monkeypatch, kill_at):
    whole = train.fit(config(tmp_path / "whole"), SOURCE, TEST)
    with monkeypatch.context() as patch:

        def kill_after(name, calls):
            function, count = getattr(train, name), 0

            def counted(*args, **kwargs):
                nonlocal count
                count += 1
                if count > calls:
                    raise Killed
                return function(*args, **kwargs)

            patch.setattr(train, name, counted)

        if kill_at == "in an epoch":
            make = train.make_step

            def short(*args):
                step, calls = make(*args), 0

                def counted(*args):
                    nonlocal calls
                    calls += 1
                    if calls == 14:  # of nine steps each: in the second epoch
                        raise Killed
                    return step(*args)

                return counted

            patch.setattr(train, "make_step", short)
        elif kill_at == "after an epoch":
            kill_after("_write_log", 0)
        else:
            kill_after("evaluate_classifier", 3)
        with pytest.raises(Killed):
            train.fit(config(tmp_path / "killed"), SOURCE, TEST)
    assert not (tmp_path / "killed" / "config.json").exists()
    resumed = train.fit(config(tmp_path / "killed", verbose=True), SOURCE, TEST)
    assert resumed == whole
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def interrupted(out, monkeypatch):
    def stop(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train, "_write_log", stop)
        with pytest.raises(Killed):
            train.fit(config(out, epochs=1), SOURCE, TEST)
    return out / train.TRAINING


def test_other_settings_do_not_go_on_with_an_interrupted_run(tmp_path, monkeypatch):
    file = interrupted(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"other \['epochs', 'seed'\].*delete .*training"):
        train.fit(config(tmp_path, seed=5), SOURCE, TEST)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"training\.safetensors cannot be read.*delete"):
        train.fit(config(tmp_path, epochs=1), SOURCE, TEST)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "nothing to do: 0 epochs"),
        ({"batch_size": 500}, "images in batches of 500"),
        ({"validation": 0.0}, "validation fraction"),
        ({"model": "vgg"}, "'vgg'"),
        ({"width": 0.5}, "width"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train.fit(config(tmp_path / "out", **changes), SOURCE, TEST)
    assert not (tmp_path / "out").exists()


def test_it_starts_from_given_weights(tmp_path):
    train.fit(config(tmp_path / "first", epochs=1), SOURCE, TEST)
    start = tmp_path / "first" / "model.safetensors"
    train.fit(config(tmp_path / "next", epochs=1, init=start, learning_rate=0.0), SOURCE, TEST)
    one, other = weights(tmp_path / "first"), weights(tmp_path / "next")
    for name in one:  # a rate of zero: only the running averages move
        assert np.array_equal(one[name], other[name]) != (name.split("/")[-1] in ("mean", "var"))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        train.fit(config(tmp_path / "none", init=tmp_path / "nowhere.npz"), SOURCE, TEST)


def test_sixteen_bit_images_are_the_same_images(tmp_path):
    eight, sixteen = Stripes(2), Stripes(2, bits=16)
    np.testing.assert_allclose(
        data.to_float(eight[1]["image"]), data.to_float(sixteen[1]["image"]), atol=1 / 255
    )
    train.fit(config(tmp_path, epochs=1), Stripes(48, bits=16), Stripes(8, bits=16))
    assert models.load_config(tmp_path).metrics["test"]["count"] == 8


def test_mobilenet_takes_a_training_step(tmp_path):
    """A few steps on one batch lower the loss: gradients and running averages of the real one."""
    settings = config(tmp_path, learning_rate=3e-3, warmup=0.0, shift=0.0, brightness=0.0)
    graph, params, statistics = nnx.split(
        models.build("mobilenet_v1", width=0.25), nnx.Param, nnx.BatchStat
    )
    optimizer = make_optimizer(settings, 40)
    step = make_step(graph, optimizer, settings)
    state = train.TrainState(params, statistics, optimizer.init(params), jnp.zeros((), jnp.int32))
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(16)])
    losses = []
    for _ in range(12):
        state, loss = step(state, images, SOURCE.labels[:16], jnp.ones(2))
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    before, after = statistics["stem"]["norm"]["mean"], state.statistics["stem"]["norm"]["mean"]
    assert not np.array_equal(before[...], after[...])
    assert int(state.step) == 12


def test_class_weights_balance_the_loss():
    settings = TrainConfig()
    labels = np.array([0] * 3 + [1] * 9)
    found = train._class_weights(settings, labels, 2)
    np.testing.assert_allclose(found, [2, 2 / 3])
    assert found[labels].mean() == pytest.approx(1)
    even = train._class_weights(TrainConfig(class_weights=False), labels, 2)
    np.testing.assert_array_equal(even, [1, 1])


def test_label_smoothing_and_weights_enter_the_loss(tmp_path):
    settings = config(
        tmp_path, label_smoothing=0.2, flip=False, shift=0.0, brightness=0.0, contrast=0.0
    )
    graph, params, statistics = nnx.split(models.build("tiny"), nnx.Param, nnx.BatchStat)
    state = train.TrainState(params, statistics, optax.EmptyState(), jnp.zeros((), jnp.int32))
    step = make_step(graph, optax.identity(), settings)
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(4)])
    labels, weights = SOURCE.labels[:4], jnp.asarray([0.5, 2.0])
    _, loss = step(state, images, labels, weights)
    logits = models.build("tiny")(jnp.asarray(images), training=True)
    targets = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    each = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum(1)
    assert float(loss) == pytest.approx((each * [0.5, 0.5, 2, 2]).mean(), rel=1e-4)


def test_the_rate_rises_falls_and_only_kernels_decay():
    settings = TrainConfig(learning_rate=1e-2, warmup=0.25, weight_decay=0.1)
    optimizer = make_optimizer(settings, 100)
    params = {"kernel": jnp.ones((1, 2)), "bias": jnp.ones((2,))}
    state, moved = optimizer.init(params), []
    for _ in range(100):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        assert not updates["bias"].any()
        moved.append(-float(updates["kernel"][0, 0]))
    assert int(np.argmax(moved)) == 25
    assert max(moved) == pytest.approx(1e-3, rel=1e-4)
    assert moved[0] == pytest.approx(1e-3 / 25, rel=1e-4)
    assert moved[-1] < 1e-5


def test_augmentation_stays_in_range_and_differs_by_key():
    image = jnp.asarray(data.to_float(SOURCE[0]["image"]))
    settings = TrainConfig(shift=0.2, brightness=0.3, contrast=0.3)
    keys = jax.random.split(jax.random.key(0), 16)
    several = jax.vmap(lambda key: augment(key, image, config=settings))(keys)
    assert several.shape == (16, 32, 32, 1)
    assert several.min() >= 0
    assert several.max() <= 1
    assert len({float(x.sum()) for x in several}) == 16
    again = augment(keys[3], image, config=settings)
    np.testing.assert_allclose(again, several[3], atol=1e-6)


def test_each_augmentation_does_what_it_says():
    image = jnp.asarray(data.to_float(SOURCE[0]["image"])) / 2 + 0.25
    none = {"flip": False, **dict.fromkeys(("shift", "rotation", "scale"), 0.0)}
    none |= {"brightness": 0.0, "contrast": 0.0}
    keys = jax.random.split(jax.random.key(0), 24)

    def variants(**change):
        settings = TrainConfig(**(none | change))
        return jax.vmap(lambda key: augment(key, image, config=settings))(keys)

    np.testing.assert_allclose(variants()[0], image, atol=1e-6)
    flipped = {bool(jnp.allclose(v, image[:, ::-1], atol=1e-6)) for v in variants(flip=True)}
    assert flipped == {True, False}
    bright = variants(brightness=0.2) - image[None]
    assert float(jnp.ptp(bright[0])) < 1e-5
    assert 0.1 < float(jnp.abs(bright).max()) <= 0.2
    spread = variants(contrast=0.2).std((1, 2, 3)) / image.std()
    assert 0.8 <= float(spread.min()) < 0.9
    assert 1.1 < float(spread.max()) <= 1.2
    shifts = set()
    for variant in variants(shift=0.1):  # up to three pixels
        inner = [
            (y, x)
            for y in range(-3, 4)
            for x in range(-3, 4)
            if jnp.allclose(variant[3:-3, 3:-3], image[3 + y : 29 + y, 3 + x : 29 + x], atol=1e-6)
        ]
        assert len(inner) == 1
        shifts.add(inner[0])
    assert len(shifts) > 10


def test_rotation_and_scale_move_a_dot_as_they_should():
    """A dot right of the centre of 33 x 33 pixels: where it goes tells angle and stretch."""
    image = jnp.zeros((33, 33, 1)).at[16, 26].set(1.0)
    keys = jax.random.split(jax.random.key(0), 64)
    none = {"flip": False, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}

    def places(**change):
        settings = TrainConfig(**(none | change))
        found = jax.vmap(lambda key: augment(key, image, config=settings)[..., 0])(keys)
        grid = jnp.arange(33.0) - 16
        mass = found.sum((1, 2))
        y = (found.sum(2) * grid[None]).sum(1) / mass
        x = (found.sum(1) * grid[None]).sum(1) / mass
        return np.asarray(y), np.asarray(x)

    y, x = places(rotation=30.0, scale=0.0)
    np.testing.assert_allclose(np.hypot(y, x), 10, atol=0.3)
    angles = np.rad2deg(np.arctan2(y, x))
    assert -32 < angles.min() < -20
    assert 20 < angles.max() < 32
    y, x = places(rotation=0.0, scale=0.2)
    np.testing.assert_allclose(y, 0, atol=1e-3)
    assert 7.7 < x.min() < 8.6
    assert 11.4 < x.max() < 12.3
    # height and width are drawn apart
    image = image.at[26, 16].set(1.0)
    settings = TrainConfig(**(none | {"rotation": 0.0, "scale": 0.2}))
    found = jax.vmap(lambda key: augment(key, image, config=settings)[..., 0])(keys)
    down, right = found[:, 20:, 16].argmax(1), found[:, 16, 20:].argmax(1)
    assert bool((down != right).any())


def test_the_test_split_is_read_after_the_last_epoch(tmp_path):
    class Watched(Stripes):
        def _record(self, index):
            assert len(history(tmp_path)) == 3
            return super()._record(index)

    assert train.fit(config(tmp_path), SOURCE, Watched(8, seed=1)).count == 8


def test_main_prints_metrics_and_confusion(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        data, "load", lambda name, split, **_: {"train": SOURCE, "test": TEST}[split]
    )
    train.main(config(tmp_path, epochs=1))
    printed = capsys.readouterr().out
    confusion = models.load_config(tmp_path).metrics["test"]["confusion"]
    assert "accuracy" in printed
    assert "AUC" in printed
    assert str(tuple(map(tuple, confusion))) in printed
    assert "horizontal, vertical" in printed


def test_settings_are_recorded_as_json(tmp_path):
    train.fit(config(tmp_path, epochs=1), SOURCE, TEST)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["extra"]["training"]["seed"] == 0
    assert "out" not in written["extra"]["training"]
