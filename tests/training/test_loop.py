import csv
import dataclasses
import hashlib
import json
import re

import jax
import numpy as np
import pytest

from bfjax import data, models, training
from bfjax.models import registry
from bfjax.training import estimate, loop, plan, resume, validation
from tests.training.small import SOURCE, TEST, Stripes, Tiny, TinyConfig, config


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", (TinyConfig, Tiny))


def weights(folder):
    return registry.weights_of(models.load_model(folder))


def history(folder):
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.slow
def test_it_learns_and_writes_a_whole_checkpoint(tmp_path, capsys):
    metrics = training.fit(config(tmp_path, epochs=4, verbose=True), SOURCE, TEST)
    assert metrics.accuracy >= 0.9
    assert metrics.count == 30
    names = {"config.json", "curves.png", "log.csv", "model.safetensors"}
    names |= {"images_train.parquet", "images_test.parquet"}
    assert {f.name for f in tmp_path.iterdir()} == names
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


@pytest.mark.slow
def test_the_kept_epoch_is_the_best_and_not_the_last(tmp_path, monkeypatch):
    """With a ranking that prefers the first epoch, its weights are kept."""
    training.fit(config(tmp_path / "best"), SOURCE, TEST)
    monkeypatch.setattr(loop, "_rank", lambda row, select: (-row["epoch"],))
    training.fit(config(tmp_path / "first"), SOURCE, TEST)
    assert models.load_config(tmp_path / "first").metrics["validation"]["epoch"] == 1
    one, other = weights(tmp_path / "best"), weights(tmp_path / "first")
    assert any(not np.array_equal(one[name], other[name]) for name in one)


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill_at", "saving", "saved"),
    [
        ("in an epoch", {}, 9),
        ("in an epoch", {"save_minutes": 0.0}, 13),
        ("after an epoch", {}, 9),
        ("at the end", {}, 27),
    ],
)
def test_a_killed_run_ends_as_the_uninterrupted_one(tmp_path, monkeypatch, kill_at, saving, saved):
    whole = training.fit(config(tmp_path / "whole"), SOURCE, TEST)
    with monkeypatch.context() as patch:

        def kill_after(name, calls):
            function, count = getattr(loop, name), 0

            def counted(*args, **kwargs):
                nonlocal count
                count += 1
                if count > calls:
                    raise Killed
                return function(*args, **kwargs)

            patch.setattr(loop, name, counted)

        if kill_at == "in an epoch":
            compiled = loop.compiled

            def short(*args):
                step, calls = compiled(*args), 0

                def counted(*args):
                    nonlocal calls
                    calls += 1
                    if calls == 14:  # of nine steps each: in the second epoch
                        raise Killed
                    return step(*args)

                return counted

            patch.setattr(loop, "compiled", short)
        elif kill_at == "after an epoch":
            kill_after("write_log", 1)
        else:
            kill_after("evaluate_classifier", 0)
        with pytest.raises(Killed):
            training.fit(config(tmp_path / "killed", **saving), SOURCE, TEST)
    assert not (tmp_path / "killed" / "config.json").exists()
    assert max(int(f.name) for f in (tmp_path / "killed" / "training").iterdir()) == saved
    resumed = training.fit(config(tmp_path / "killed", verbose=True), SOURCE, TEST)
    assert resumed == whole
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def interrupted(out, monkeypatch):
    def stop(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", stop)
        with pytest.raises(Killed):
            training.fit(config(out, epochs=1, save_steps=4), SOURCE, TEST)
    return out / "training"


def test_other_settings_do_not_go_on_with_an_interrupted_run(tmp_path, monkeypatch):
    folder = interrupted(tmp_path, monkeypatch)
    assert {f.name for f in folder.iterdir()} == {"4", "8"}
    with pytest.raises(ValueError, match=r"epochs was 1, now it is 3.*delete .*training"):
        training.fit(config(tmp_path, seed=5), SOURCE, TEST)
    with pytest.raises(
        ValueError, match=r"other images \(train\): 96\.png is new, 97\.png is new;"
    ):
        training.fit(config(tmp_path, epochs=1, save_steps=4), Stripes(98), TEST)
    with pytest.raises(ValueError, match=r"0\.png has other contents, .* and 93 more so"):
        training.fit(config(tmp_path, epochs=1, save_steps=4), Stripes(96, seed=7), TEST)
    metadata = folder / "8" / "arrays" / "_METADATA"
    metadata.write_bytes(metadata.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"8 cannot be read .*: delete it to go on from an earl"):
        training.fit(config(tmp_path, epochs=1), SOURCE, TEST)


@pytest.mark.slow
def test_a_finished_run_is_not_run_again(tmp_path, monkeypatch, capsys):
    metrics = training.fit(config(tmp_path, epochs=1), SOURCE, TEST)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    sources = {"train": SOURCE, "test": TEST}
    monkeypatch.setattr(data, "load", lambda name, split, **options: sources[split])
    monkeypatch.setattr(loop, "follow", None)
    again = config(tmp_path, epochs=1, verbose=True, save_steps=3)
    assert training.train_classifier(again) == metrics
    training.train(config(tmp_path, epochs=1))
    assert f"{tmp_path}: finished before, nothing was run" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"batch_size was 8, now it is 4\): choose another --out"):
        training.train_classifier(config(tmp_path, epochs=1, batch_size=4, seed=3))
    with pytest.raises(ValueError, match="seed was 0, now it is 3"):
        training.fit(config(tmp_path, epochs=1, seed=3), SOURCE, TEST)
    for split, name in (("train", "9.png has other contents"), ("test", "is gone")):
        others = sources | {split: Changed(96, 9) if split == "train" else Stripes(28, seed=1)}
        with pytest.raises(ValueError, match=rf"other images \({split}\): .*{name}"):
            training.fit(config(tmp_path, epochs=1), others["train"], others["test"])
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated or altered"):
        training.train_classifier(config(tmp_path, epochs=1))


class Changed(Stripes):
    """Stripes, of which one was turned round."""

    def __init__(self, count, which):
        super().__init__(count)
        self.which = which

    def _record(self, index):
        record = super()._record(index)
        return record | {"image": record["image"][::-1]} if index == self.which else record


class Moved(Stripes):
    """Stripes whose first image is of the other class, or of another patient."""

    def __init__(self, count, what):
        super().__init__(count)
        self.what = what

    @property
    def labels(self):
        return np.r_[int(self.what == "label"), super().labels[1:]]

    @property
    def groups(self):
        return ["p9" if self.what == "patient" else "p0", *super().groups[1:]]

    def _record(self, index):  # the same pictures
        return Stripes(self.count)[index]


@pytest.mark.parametrize(
    ("what", "told"), [
        ("label", "0.png was horizontal of the patient of 0.png, now it is vertical of the"),
        ("patient", "1.png was horizontal of the patient of 0.png, now it is horizontal of the "
                    "patient of 1.png"),
    ]
)  # fmt: skip
def test_labels_and_patients_are_part_of_the_images(tmp_path, monkeypatch, what, told):
    interrupted(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=rf"{re.escape(told)}.*; bring those back"):
        training.fit(config(tmp_path, epochs=1, save_steps=4), Moved(96, what), TEST)


def scripted(monkeypatch, losses, aucs):
    """Validation scores as given, epoch by epoch."""
    true = validation.evaluate_classifier
    scores = iter(zip(losses, aucs, strict=True))

    def evaluate(predict, source, **options):
        loss, area = next(scores)
        return dataclasses.replace(true(predict, source, **options), loss=loss, auc=area)

    monkeypatch.setattr(validation, "evaluate_classifier", evaluate)


def test_the_shifted_validation_chooses(tmp_path):
    training.fit(config(tmp_path, select="shifted"), SOURCE, TEST)
    rows = history(tmp_path)
    best = min(rows, key=lambda row: float(row["shifted_loss"]))
    assert models.load_config(tmp_path).metrics["validation"]["epoch"] == int(best["epoch"])
    assert all(row["shifted_loss"] != row["val_loss"] for row in rows)
    assert {row["shifted_count"] for row in rows} == {row["val_count"] for row in rows}


@pytest.mark.parametrize(
    ("changes", "stopped", "kept"),
    [({"patience": 2}, 4, 2), ({"select": "auc"}, 6, 5)],
)
def test_patience_and_the_chosen_score(tmp_path, monkeypatch, changes, stopped, kept):
    """Of the epochs of equal AUC, 3 and 5, the one of lower loss."""
    scripted(monkeypatch, [0.5, 0.1, 0.6, 0.4, 0.3, 0.2], [0.7, 0.8, 0.99, 0.9, 0.99, 0.9])
    training.fit(config(tmp_path, epochs=6, **changes), Stripes(48), TEST)
    assert len(history(tmp_path)) == stopped
    assert models.load_config(tmp_path).metrics["validation"]["epoch"] == kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "nothing to do: 0 epochs"),
        ({"batch_size": 500}, "images in batches of 500"),
        ({"validation": 0.0}, "validation fraction"),
        ({"model": "vgg"}, "'vgg'"),
        ({"width": 0.5}, "width"),
        ({"warmup": 1.0}, "warmup"),
        ({"patience": 0}, "patience"),
        ({"average": 1.0}, "average"),
        ({"progressive": (16,)}, r"\(16,\)"),
        ({"progressive": (32, 64)}, "from 32 to 32"),
        ({"progressive": (32,), "epochs": 1}, r"fewer than all 1 epochs.*got \(32,\)"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"clip_norm": -1.0}, "clip_norm must be positive, got -1"),
        ({"learning_rate": float("nan")}, "learning_rate must not be negative, got nan"),
        ({"label_smoothing": 2.0}, r"label_smoothing must be in \[0, 1\), got 2"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        training.fit(config(tmp_path / "out", **changes), SOURCE, TEST)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_training_that_diverges_says_so_and_leaves_no_checkpoint(tmp_path):
    settings = config(tmp_path / "out", learning_rate=1e30, clip_norm=1e30, warmup=0.0)
    with pytest.raises(ValueError, match=r"the training loss is .*smaller --learning-rate"):
        training.fit(settings, SOURCE, TEST)
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.slow
def test_it_starts_from_given_weights(tmp_path):
    training.fit(config(tmp_path / "first", epochs=1), SOURCE, TEST)
    start = tmp_path / "first"
    settings = config(tmp_path / "next", epochs=1, init=str(start), learning_rate=0.0)
    settings = dataclasses.replace(settings, data=str(tmp_path / "mine"))
    training.fit(settings, SOURCE, TEST)
    one, other = weights(start), weights(tmp_path / "next")
    for name in one:  # a rate of zero: only the running averages move
        assert np.array_equal(one[name], other[name]) != (name.split("/")[-1] in ("mean", "var"))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        training.fit(config(tmp_path / "none", init=str(tmp_path / "nowhere.npz")), SOURCE, TEST)
    with pytest.raises(ValueError, match="first is a tiny, not a convnet"):
        training.fit(config(tmp_path / "none", init=str(start), model="convnet"), SOURCE, TEST)
    # what was given is told by name and contents, and by no path of this machine
    assert str(tmp_path) not in (tmp_path / "next" / "config.json").read_text()
    recorded = models.load_config(tmp_path / "next").extra["training"]
    assert (recorded["data"], recorded["init"]) == ("mine", "first")
    assert recorded["init_sha256"] == models.load_config(start).sha256
    with pytest.warns(UserWarning, match="first was trained with another --seed: it may have le"):
        training.make_plan(config(tmp_path / "other", init=str(start), seed=1), SOURCE)
    asked, state = training.make_plan(config(start, epochs=1), SOURCE)
    done = resume.epochs_done(start)
    assert estimate.of_training(asked, state, done=done).work == "nothing"
    (start / "config.json").unlink()  # as if it were not finished
    asked, state = training.make_plan(config(start), SOURCE)
    found = estimate.of_training(asked, state, done=resume.epochs_done(start))
    assert found.work == f"2 epochs of {asked.steps} steps"


@pytest.mark.slow
def test_a_file_gives_everything_but_the_head(tmp_path):
    training.fit(config(tmp_path / "first", epochs=1), SOURCE, TEST)
    start = tmp_path / "first" / "model.safetensors"
    settings = config(tmp_path / "next", epochs=1, init=str(start), learning_rate=0.0, seed=1)
    training.fit(settings, SOURCE, TEST)
    one, other = weights(tmp_path / "first"), weights(tmp_path / "next")
    same = {name for name in one if np.array_equal(one[name], other[name])}
    assert same == {n for n in one if n.split("/")[-1] in ("kernel", "scale", "bias")} - {
        "head/kernel",
        "head/bias",
    }
    recorded = models.load_config(tmp_path / "next").extra["training"]
    assert recorded["init_sha256"] == hashlib.sha256(start.read_bytes()).hexdigest()


@pytest.mark.slow
def test_sizes_grow_and_only_the_full_one_is_kept(tmp_path, monkeypatch):
    source = Stripes(96, size=48)
    scripted(monkeypatch, [0.1, 0.2, 0.5, 0.4, 0.6], [1.0, 1.0, 0.8, 0.8, 0.8])
    settings = config(tmp_path, image_size=48, progressive=(32, 40), epochs=5)
    training.fit(settings, source, TEST)
    assert [row["image_size"] for row in history(tmp_path)] == ["32", "40", "48", "48", "48"]
    assert models.load_config(tmp_path).metrics["validation"]["epoch"] == 4


def test_sixteen_bit_images_are_the_same_images(tmp_path):
    eight, sixteen = Stripes(2), Stripes(2, bits=16)
    np.testing.assert_allclose(
        data.to_float(eight[1]["image"]), data.to_float(sixteen[1]["image"]), atol=1 / 255
    )
    training.fit(config(tmp_path, epochs=1), Stripes(48, bits=16), Stripes(8, bits=16))
    assert models.load_config(tmp_path).metrics["test"]["count"] == 8


def test_class_weights_are_inverse_frequencies(tmp_path):
    labels = np.array([0] * 3 + [1] * 9)
    found = plan.balanced_weights(labels, 2)
    np.testing.assert_allclose(found, [2, 2 / 3])
    assert found[labels].mean() == pytest.approx(1)
    even, _ = training.make_plan(config(tmp_path, class_weights=False), Stripes(96))
    np.testing.assert_array_equal(even.class_weights, [1, 1])


def test_the_test_split_is_read_after_the_last_epoch(tmp_path):
    class Watched(Stripes):
        def _record(self, index):
            assert len(history(tmp_path)) == 3
            return super()._record(index)

    assert training.fit(config(tmp_path), SOURCE, Watched(8, seed=1)).count == 8


def test_main_prints_metrics_and_confusion(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        data, "load", lambda name, split, **_: {"train": SOURCE, "test": TEST}[split]
    )
    training.train(config(tmp_path, epochs=1))
    printed = capsys.readouterr().out
    confusion = models.load_config(tmp_path).metrics["test"]["confusion"]
    metrics = models.load_config(tmp_path).metrics["test"]
    assert "test, 30 images" in printed
    assert "95 % interval" in printed
    low, high = metrics["intervals"]["auc"]
    assert re.search(rf"AUC +{metrics['auc']:.4f} +{low:.4f} to {high:.4f}\n", printed)
    low, high = metrics["intervals"]["sensitivity"]
    pattern = rf"sensitivity +{metrics['sensitivity']:.2%} +{low:.2%} to {high:.2%}\n"
    assert re.search(pattern, printed)
    assert re.search(r"calibration error +0\.\d{4} ", printed)
    assert str(tuple(map(tuple, confusion))) in printed
    assert "horizontal, vertical" in printed


def test_settings_are_recorded_as_json(tmp_path):
    training.fit(config(tmp_path, epochs=1), SOURCE, TEST)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["extra"]["training"]["seed"] == 0
    assert "out" not in written["extra"]["training"]
