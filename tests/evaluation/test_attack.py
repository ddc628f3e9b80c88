import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

import bfjax
from bfjax import data, models, storage
from bfjax.evaluation import (
    AttackConfig,
    BiasFieldConfig,
    commands,
    load_run,
    of_cell,
    rebuilding,
    runner,
    targets,
)

SIZE, COUNT, BATCH = 32, 10, 4
CLASSES = ("NORMAL", "PNEUMONIA")
QUALITY = (
    *("log_range", "log_field_rms", "largest_slope", "clipped_share"),
    *("global_nonuniformity", "local_nonuniformity"),
)


def checkpoint(folder, *, seed=0, scale=30.0, **metadata):
    """A small network with random weights, sure enough of itself that attacks change its mind."""
    model = models.build("convnet", width=0.25, seed=seed)
    model.head.kernel[...] = model.head.kernel[...] * (1 if np.isnan(scale) else scale)
    known = {"class_names": CLASSES, "image_size": SIZE, "resize": "squash"}
    models.save(model, folder, metadata=known | metadata)
    if np.isnan(scale):  # which `save` refuses
        weights = folder / "model.safetensors"
        save_file({name: w * np.nan for name, w in load_file(weights).items()}, weights)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("models") / "one")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("models") / "two", seed=1)


def config(model, out, **options):
    defaults = {"data": "phantom", "num_images": COUNT, "batch_size": BATCH, "gallery": 2}
    field = {"degree": 3, "min_degree": 0, "grid_size": 3, "num_steps": 3}
    options |= {"targets": tuple(map(str, options.get("targets", ())))}
    return AttackConfig(model=str(model), out=out, **(defaults | field | options))


@pytest.fixture(scope="module")
def finished(model, other_model, tmp_path_factory):
    """A run that was not interrupted: its config, its summary, the rows of its records."""
    options = config(model, tmp_path_factory.mktemp("runs") / "whole", targets=(other_model,))
    summary = commands.attack_dataset(options)
    with (options.out / "records.csv").open(newline="", encoding="utf-8") as file:
        return options, summary, list(csv.DictReader(file))


def test_options_are_those_of_the_attack_with_the_same_defaults():
    import inspect

    theirs = inspect.signature(bfjax.attacks.bias_field).parameters
    for name, option in BiasFieldConfig.__dataclass_fields__.items():
        assert option.default == theirs[name].default, name
    left_out = set(theirs) - set(BiasFieldConfig.__dataclass_fields__)
    programs = {"loss", "transform", "num_draws", "optimizer", "targeted", "dtype"}
    assert left_out == programs | {"image_shape"}


@pytest.mark.slow
def test_summary_counts_what_the_records_say(finished):
    _, summary, rows = finished
    assert len(rows) == summary["images"] == COUNT
    assert set(summary["targets"]) == {"one", "two"}
    for name, prefix in (("one", ""), ("two", "two:")):
        judged = summary["targets"][name]
        correct = [r for r in rows if r[f"{prefix}clean_prediction"] == r["label"]]
        fooled = [r for r in correct if r[f"{prefix}adversarial_prediction"] != r["label"]]
        assert (judged["correct"], judged["fooled"]) == (len(correct), len(fooled))
        expected = len(fooled) / len(correct) if correct else None
        assert judged["rate"] == expected
        directions = judged["directions"]
        assert set(directions) == {"NORMAL→PNEUMONIA", "PNEUMONIA→NORMAL"}
        assert sum(d["correct"] for d in directions.values()) == len(correct)
        assert directions["NORMAL→PNEUMONIA"]["fooled"] == len(
            [r for r in fooled if r["label"] == "NORMAL"]
        )


def test_records_hold_the_quality_of_each_field_and_the_summary_the_means(finished):
    options, summary, rows = finished
    whole = load_run(options.out)
    for i in (0, COUNT - 1):
        made, row = whole.rebuild(i), {k: float(v) for k, v in rows[i].items() if k in QUALITY}
        field = made.log_field.astype(np.float64)
        product = made.image * np.exp(field)[..., None]
        assert row["log_range"] == pytest.approx(np.ptp(field), rel=1e-4)
        assert row["log_field_rms"] == pytest.approx(np.sqrt(np.mean(field**2)), rel=1e-4)
        np.testing.assert_allclose(made.adversarial, product.clip(0, 1), atol=1e-5)
        clipped = (abs(product - made.adversarial) > 1e-4).mean()
        assert row["clipped_share"] == pytest.approx(clipped, abs=2 / SIZE**2)
        uneven = bfjax.metrics.nonuniformity(jnp.asarray(made.log_field), pixel_mm=430 / SIZE)
        told = [row["global_nonuniformity"], row["local_nonuniformity"]]
        np.testing.assert_allclose(told, uneven, rtol=1e-4)
    for name in QUALITY:
        mean = np.mean([float(row[name]) for row in rows])
        assert summary[f"mean_{name}"] == pytest.approx(mean, rel=1e-6)
    sizes = {"image_width_mm": 430.0, "region_mm": 10.0, "border_mm": 10.0}
    assert summary["nonuniformity"] == {"in_the_manner_of": "AAPM TG-150"} | sizes


def test_a_run_that_began_when_less_was_measured_goes_on(finished, model, other_model, tmp_path):
    """What its first shards lack is in no record; the rest is as ever."""
    whole, expected, rows = finished
    out = tmp_path / "older"
    shutil.copytree(whole.out, out)
    first, *_, last = sorted((out / "shards").iterdir())
    pq.write_table(pq.read_table(first).drop_columns(list(QUALITY)), first)
    for path in (last, out / "summary.json", out / "records.csv"):
        path.unlink()
    summary = commands.attack_dataset(config(model, out, targets=(other_model,)))
    assert summary["run"]["images_in_this_run"] == COUNT % BATCH
    told = {f"mean_{name}" for name in QUALITY} | {"nonuniformity"}
    assert set(expected) - set(summary) == told
    for name in set(summary) - {"run"}:
        assert summary[name] == expected[name], name
    again = load_run(out)
    assert set(rows[0]) - set(again.rows[0]) == set()  # the last shard has them
    with (out / "records.csv").open(newline="", encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    assert kept == [{k: v for k, v in row.items() if k not in QUALITY} for row in rows]
    np.testing.assert_array_equal(again.rebuild(0).image, load_run(whole.out).rebuild(0).image)


def test_nothing_of_it_is_measured_unless_asked(model, tmp_path):
    summary = commands.attack_dataset(
        config(model, tmp_path, measure=False, num_images=2, num_steps=1, gallery=0)
    )
    with (tmp_path / "records.csv").open(newline="", encoding="utf-8") as file:
        assert not set(QUALITY) & set(csv.DictReader(file).fieldnames)
    assert "nonuniformity" not in summary


def test_summary_says_where_the_penalty_left_no_field(finished, model, tmp_path):
    _, summary, rows = finished
    largest = [float(row["max_log_field"]) for row in rows]
    assert summary["mean_max_log_field"] == pytest.approx(sum(largest) / COUNT, rel=1e-5)
    assert summary["zero_field_share"] == 0
    heavy = config(model, tmp_path, num_images=2, num_steps=2, l1_coefficients=1e6, gallery=0)
    assert commands.attack_dataset(heavy)["zero_field_share"] == 1  # there, and back


def test_summary_names_settings_versions_device_and_checkpoints(finished):
    options, summary, _ = finished
    stored = json.loads((options.out / "summary.json").read_text(encoding="utf-8"))
    assert stored == summary
    assert summary["settings"]["num_steps"] == 3
    assert summary["settings"]["seed"] == 0
    sha256 = models.load_config(options.model).sha256
    assert summary["settings"]["models"]["one"]["sha256"] == sha256
    assert {"bfjax", "jax", "jaxlib"} <= set(summary["run"]["versions"])
    assert "cpu" in summary["run"]["device"] or jax.default_backend() != "cpu"
    assert str(options.out) not in json.dumps(summary)


@pytest.mark.slow
def test_records_are_what_the_library_computes(finished):
    options, _, rows = finished
    source = data.load("phantom", "test", image_size=SIZE)
    predict = models.load(options.model)
    attack = bfjax.attacks.bias_field(
        (SIZE, SIZE), degree=3, min_degree=0, grid_size=3, num_steps=3
    )
    for i in (0, COUNT - 1):  # the first, and one of the smaller last batch
        image = jnp.asarray(data.to_float(source[i]["image"]))
        result = bfjax.run(attack, predict, image, source[i]["label"])
        change = abs(result.adversarial - image)
        assert rows[i]["file"] == source[i]["name"]
        assert rows[i]["label"] == CLASSES[source[i]["label"]]
        assert rows[i]["adversarial_prediction"] == CLASSES[int(result.logits.argmax())]
        score = jax.nn.softmax(result.logits)[source[i]["label"]]
        assert float(rows[i]["adversarial_score"]) == pytest.approx(float(score), abs=1e-3)
        assert float(rows[i]["max_change"]) == pytest.approx(float(change.max()), abs=1e-5)
        assert float(rows[i]["mean_change"]) == pytest.approx(float(change.mean()), abs=1e-5)
        largest = abs(attack.perturbation.log_field(result.params)).max()
        assert float(rows[i]["max_log_field"]) == pytest.approx(float(largest), abs=1e-5)


def test_stored_parameters_rebuild_every_image(finished):
    options, _, rows = finished
    source = data.load("phantom", "test", image_size=SIZE)
    table = storage.read_shards(options.out / "shards")
    attack = commands.attack_cell(options).attack
    predict = models.load(options.model)
    for i in range(COUNT):
        image, log_field, adversarial = rebuilding.rebuild(attack, source, table, i)
        largest, change = float(abs(log_field).max()), float(abs(adversarial - image).max())
        assert largest == pytest.approx(float(rows[i]["max_log_field"]), abs=1e-6)
        assert change == pytest.approx(float(rows[i]["max_change"]), abs=1e-6)
        score = jax.nn.softmax(predict(adversarial))[source[i]["label"]]
        assert float(score) == pytest.approx(float(rows[i]["adversarial_score"]), abs=1e-4)


def test_rebuilding_is_exact(model, tmp_path, monkeypatch):
    """Bit for bit the images that were judged, from the parameters as they are stored."""
    judged = []
    logits = targets.logits_of

    def listen(predict, images):
        judged.append(np.asarray(images))
        return logits(predict, images)

    monkeypatch.setattr(targets, "logits_of", listen)
    options = config(model, tmp_path, gallery=0, measure=False)
    commands.attack_dataset(options)
    adversarial = np.concatenate(judged[1::2])
    source = data.load("phantom", "test", image_size=SIZE)
    attack = commands.attack_cell(options).attack
    table = storage.read_shards(tmp_path / "shards")
    for i in range(COUNT):
        _, _, again = rebuilding.rebuild(attack, source, table, i)
        np.testing.assert_array_equal(again, adversarial[i])


def test_gallery_has_pictures_with_harmless_names(finished):
    from PIL import Image

    options, _, _ = finished
    pictures = sorted((options.out / "gallery").iterdir())
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.suffix == ".png"
        with Image.open(picture) as opened:
            assert opened.size[0] > 800


def test_interrupted_run_redoes_no_batch(finished, model, other_model, tmp_path, monkeypatch):
    options = config(model, tmp_path / "broken", targets=(other_model,))
    calls = []
    run_batch = runner.run_batch

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_batch(*args, **kwargs)

    monkeypatch.setattr(runner, "run_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commands.attack_dataset(options)
    assert not (options.out / "summary.json").exists()
    assert len(list((options.out / "shards").glob("*.parquet"))) == 1
    summary = commands.attack_dataset(options)
    assert len(calls) == 4  # one done, one interrupted, two left
    whole, expected, _ = finished
    assert summary["targets"] == expected["targets"]
    assert (options.out / "records.csv").read_text() == (whole.out / "records.csv").read_text()


@pytest.mark.slow
def test_killed_run_leaves_nothing_half_written_and_goes_on(finished, model, other_model, tmp_path):
    whole, expected, _ = finished
    out = tmp_path / "killed"
    options = [f"--{n}={v}" for n, v in
               {"degree": 3, "min-degree": 0, "grid-size": 3, "num-steps": 3, "gallery": 2,
                "data": "phantom", "num-images": COUNT, "batch-size": BATCH}.items()]  # fmt: skip
    command = [sys.executable, "-m", "bfjax.cli", "attack", "--model", str(model), "--targets",
               str(other_model), "--out", str(out), *options]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(out.glob("shards/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "summary.json").exists()  # it was killed before its end
    first = {p: p.stat().st_mtime_ns for p in out.glob("shards/*.parquet")}
    assert first
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert first == {p: p.stat().st_mtime_ns for p in first}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["targets"] == expected["targets"]
    assert (out / "records.csv").read_text() == (whole.out / "records.csv").read_text()


def test_other_settings_in_the_same_folder_are_refused(finished):
    options, _, _ = finished
    changed = config(options.model, options.out, targets=options.targets, min_degree=1)
    with pytest.raises(ValueError, match="min_degree was 0, now it is 1"):
        commands.attack_dataset(changed)


@pytest.mark.slow
def test_batch_size_changes_no_result(finished, model, other_model, tmp_path):
    options = config(model, tmp_path, targets=(other_model,), batch_size=COUNT, gallery=0)
    _, expected, _ = finished
    assert commands.attack_dataset(options)["targets"] == expected["targets"]


@pytest.mark.slow
def test_early_stop_attacks_each_image_as_alone_and_goes_on(model, tmp_path):
    """Images leave the batch once fooled; shards are written as they become whole."""
    changes = {"early_stop": True, "num_steps": 6, "start_noise": 0.05, "max_change": 0.3}
    out = tmp_path / "run"
    summary = commands.attack_dataset(config(model, out, gallery=0, **changes))
    shards = sorted((out / "shards").iterdir())
    assert len(shards) == -(-COUNT // BATCH)
    rows = storage.without_params(storage.read_shards(out / "shards")).to_pylist()
    plain = commands.attack_dataset(
        config(model, tmp_path / "one", batch_size=1, gallery=0, **changes)
    )
    assert summary["targets"] == plain["targets"]
    one = storage.without_params(storage.read_shards(tmp_path / "one" / "shards")).to_pylist()
    for a, b in zip(rows, one, strict=True):
        assert a["file"] == b["file"]
        assert a["mean_change"] == pytest.approx(b["mean_change"], abs=1e-4)
    attack = commands.attack_cell(config(model, out, **changes)).attack
    table = storage.read_shards(out / "shards")
    source = data.load("phantom", "test", image_size=SIZE, num_examples=COUNT)
    for i, row in enumerate(rows):
        image, _, adversarial = rebuilding.rebuild(attack, source, table, i)
        change = np.abs(np.asarray(adversarial, np.float64) - np.asarray(image))
        assert row["mean_change"] == pytest.approx(change.mean(), rel=1e-6)
    before = {path.name: path.stat().st_mtime_ns for path in shards[:2]}
    shards[2].unlink()
    (out / "summary.json").unlink()
    again = commands.attack_dataset(config(model, out, gallery=0, **changes))
    assert again["targets"] == summary["targets"]
    assert {path.name: path.stat().st_mtime_ns for path in shards[:2]} == before
    assert again["run"]["images_in_this_run"] == COUNT - 2 * BATCH


@pytest.mark.slow
def test_random_starts_do_not_depend_on_the_batches(model, tmp_path):
    tables = []
    for batch_size in (3, 5):
        options = config(model, tmp_path / str(batch_size), num_images=5, batch_size=batch_size,
                         start_noise=0.1, gallery=0)  # fmt: skip
        commands.attack_dataset(options)
        tables.append(storage.read_shards(options.out / "shards"))
    one, two = (np.array(t["params.coefficients"].to_pylist()) for t in tables)
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize(
    ("metadata", "options", "word"),
    [
        ({"class_names": ("COVID", "NORMAL")}, {}, "COVID, NORMAL"),
        ({}, {"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({}, {"num_images": 0}, "0"),
        ({}, {"degree": -1}, "degree=-1"),
        ({}, {"data": "no/such/folder"}, "no/such/folder"),
        ({"scale": float("nan")}, {}, "NaN"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, metadata, options, word):
    folder = checkpoint(tmp_path / "model", **metadata)
    with pytest.raises((ValueError, FileNotFoundError), match=word):
        commands.attack_dataset(config(folder, tmp_path / "out", **options))
    assert not (tmp_path / "out" / "summary.json").exists()


def test_two_models_of_one_name_and_targets_of_another_size_are_named(model, tmp_path):
    with pytest.raises(ValueError, match="two models are called one"):
        commands.attack_dataset(config(model, tmp_path / "out", targets=(model,)))
    larger = checkpoint(tmp_path / "larger", image_size=64)
    with pytest.raises(ValueError, match="image_size of one is 32, of larger 64"):
        commands.attack_dataset(config(model, tmp_path / "out", targets=(larger,)))


def test_images_of_different_sizes_are_named(tmp_path):
    from PIL import Image

    folder = checkpoint(tmp_path / "model", image_size=None)
    for name, size in (("NORMAL", 32), ("PNEUMONIA", 40)):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (size, size), 90).save(tmp_path / "images" / name / "a.png")
    images = {"data": str(tmp_path / "images"), "split": "all", "num_images": None}
    options = config(folder, tmp_path / "out", **images)
    with pytest.raises(ValueError, match=r"PNEUMONIA/a\.png is 40 x 40"):
        commands.attack_dataset(options)


def test_an_unreadable_shard_is_named(tmp_path):
    (tmp_path / "0000000.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ValueError, match=r"0000000\.parquet cannot be read"):
        storage.read_shards(tmp_path)


def test_an_estimate_writes_nothing_and_counts_what_is_left(finished, model, tmp_path):
    options, _, _ = finished
    cell = commands.attack_cell(config(model, tmp_path / "new"))
    found = of_cell(cell)
    assert (found.what, found.work) == (str(tmp_path / "new"), f"{COUNT} images")
    assert 0 < found.seconds < 60
    assert not (tmp_path / "new").exists()
    stored = sum(f.stat().st_size for f in (options.out / "shards").iterdir())
    assert stored / 10 < found.size < stored * 10
    assert of_cell(commands.attack_cell(options))[1:] == ("nothing", 0.0, 0)


@pytest.mark.slow
def test_a_full_disk_leaves_earlier_shards_readable(model, tmp_path):
    """A limit on the size of files stands in for the disk; the system's own error comes back."""
    out = tmp_path / "full"
    run = [sys.executable, "-B", "-c", _FULL, str(model), str(out)]  # half a .pyc would stay too
    own = os.environ.copy()
    own.pop("JAX_COMPILATION_CACHE_DIR", None)  # half an entry would stay in it
    ended = subprocess.run(run, capture_output=True, text=True, check=False, env=own)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "0000004.parquet (File too large)" in ended.stderr
    assert [p.name for p in (out / "shards").iterdir()] == ["0000000.parquet"]
    assert storage.read_shards(out / "shards").num_rows == BATCH


_FULL = """
import resource, signal, sys
from bfjax import cli
from bfjax.evaluation import cells
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
write = cells.storage.write_shard
def once_full(path, columns, params):
    write(path, columns, params)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
cells.storage.write_shard = once_full
sys.exit(cli.main(["attack", "--model", sys.argv[1], "--out", sys.argv[2], "--data", "phantom",
    "--num-images", "10", "--batch-size", "4", "--degree", "3", "--grid-size", "3",
    "--num-steps", "1", "--no-measure"]))
"""
