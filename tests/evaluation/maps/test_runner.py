"""`bfjax explain`: maps of a finished attack, which survive interruption."""

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
import pytest
import tyro
from PIL import Image

from bfjax import explain, models, storage
from bfjax.evaluation import EvaluateConfig, commands, load_run, maps
from bfjax.evaluation.maps import ExplainConfig, explain_attack, runner
from tests.evaluation.test_attack import CLASSES, SIZE, checkpoint, config

BATCH, STEPS, MASK = 3, 4, 8


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("models") / "one")


@pytest.fixture(scope="module")
def attacked(model, tmp_path_factory):
    """A finished attack that fools several phantoms."""
    out = tmp_path_factory.mktemp("attacked") / "run"
    commands.attack_dataset(
        config(model, out, max_change=0.3, num_images=12, gallery=0, measure=False)
    )
    return out


def options(model, folder, out, **changes):
    few = {"num_steps": STEPS, "mask_size": MASK, "batch_size": BATCH, "num_points": 3}
    return ExplainConfig(
        **{"dir": folder, "model": str(model), "out": out, "gallery": 2} | few | changes
    )


@pytest.fixture(scope="module")
def whole(model, attacked, tmp_path_factory):
    """The folder of all maps, made without interruption, and the summary."""
    out = tmp_path_factory.mktemp("explained") / "maps"
    return out, explain_attack(options(model, attacked, out))


@pytest.mark.slow
def test_maps_are_those_of_the_library_image_by_image(model, attacked, whole):
    out, _ = whole
    table = storage.read_shards(out / "shards").to_pylist()
    run, predict = load_run(attacked), models.load(model)
    assert [row["index"] for row in table] == run.fooled()
    assert len(table) > BATCH
    assert len(table) % BATCH  # the last batch is smaller
    one = jax.jit(
        lambda x, a, y: explain.sensitivity_map(predict, x, a, y, num_steps=STEPS, mask_size=MASK)
    )
    curves = {"deletion": explain.deletion_curve, "insertion": explain.insertion_curve}
    curves = {name: jax.jit(curve, static_argnames="num_points") for name, curve in curves.items()}
    for row in table:
        clean, _, adversarial = map(jnp.asarray, run.rebuild(row["index"]))
        label = CLASSES.index(row["label"])
        found = one(clean, adversarial, label)
        values = np.reshape(row["map"], (row["height"], row["width"]))
        # Adam magnifies rounding where the slope is almost zero
        np.testing.assert_allclose(values, found.map, atol=0.02)
        assert np.abs(values - found.map).mean() < 1e-3
        assert 0 <= values.min() <= values.max() <= 1
        assert row["flips"] == found.flips
        masked = clean + found.map[..., None] * (adversarial - clean)
        pictures = {"clean": clean, "adversarial": adversarial, "masked": masked}
        for kind, picture in pictures.items():
            expected = float(jax.nn.softmax(predict(picture))[label])
            assert row[f"score_{kind}"] == pytest.approx(expected, abs=1e-3)
        assert row["score_clean"] > 0.5 > row["score_adversarial"]
        change = explain.shares(abs(adversarial - clean)[..., 0])
        parts = np.array([row[f"change_{third}"] for third in change._fields])
        np.testing.assert_allclose(parts / parts.sum(), change, atol=1e-5)
        key = jax.random.fold_in(jax.random.key(0), row["index"])  # whatever the batch
        controls = {
            "map": jnp.asarray(values),
            "random": explain.random_map(key, (SIZE, SIZE), mask_size=(MASK, MASK)),
            "centre": explain.centre_map((SIZE, SIZE)),
        }
        for name, control in controls.items():
            for kind, curve in curves.items():
                area = curve(predict, clean, adversarial, label, control, num_points=3).area
                assert row[f"{kind}_{name}"] == pytest.approx(float(area), abs=1e-3)


def test_summary_says_what_the_shards_hold(attacked, whole):
    out, found = whole
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == found
    table = storage.read_shards(out / "shards").to_pylist()
    mean = np.mean([np.reshape(row["map"], (SIZE, SIZE)) for row in table], axis=0)
    assert found["images"] == found["fooled"] == len(table)
    assert found["flips"]["count"] == sum(row["flips"] for row in table)
    assert found["mean_map"] == pytest.approx(mean.mean(), rel=1e-5)
    expected = explain.shares(jnp.asarray(mean, jnp.float32))
    for name, share in expected._asdict().items():
        third = found["thirds"][name]
        assert third["value"] == pytest.approx(float(share), abs=1e-5)
        assert third["low"] <= third["value"] <= third["high"]
    for name in ("map", "random", "centre"):
        area = np.mean([row[f"deletion_{name}"] for row in table])
        assert found["areas"]["deletion"][name]["value"] == pytest.approx(area, rel=1e-5)
    settings = json.loads((attacked / "settings.json").read_text(encoding="utf-8"))
    assert found["settings"]["attacked"] == settings
    assert {"bfjax", "jax"} <= set(found["run"]["versions"])
    assert str(out) not in json.dumps(found)


@pytest.mark.slow
def test_a_judge_that_joined_later_changes_no_map(model, attacked, whole, tmp_path):
    out, expected = whole
    shutil.copytree(attacked, tmp_path / "run")
    shutil.copytree(out, tmp_path / "maps")
    (tmp_path / "maps" / "summary.json").unlink()
    told = json.loads((attacked / "summary.json").read_text(encoding="utf-8"))
    told["settings"]["models"]["another"] = {"sha256": "0" * 64, "architecture": "resnet50"}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(told), encoding="utf-8")
    found = explain_attack(options(model, tmp_path / "run", tmp_path / "maps"))
    assert found["settings"] == expected["settings"]
    assert found["thirds"] == expected["thirds"]


def test_pictures_are_there(whole):
    out, _ = whole
    pictures = [out / "mean_map.png", *(out / "gallery").iterdir()]
    assert len(pictures) == 3
    for picture in pictures:
        with Image.open(picture) as opened:
            assert opened.format == "PNG"
            assert opened.size[0] > 600


def test_a_part_is_drawn_by_the_seed(model, attacked, whole, tmp_path):
    _, expected = whole
    found = explain_attack(options(model, attacked, tmp_path, num_images=2, gallery=0))
    assert (found["images"], found["fooled"]) == (2, expected["fooled"])
    rows = storage.read_shards(tmp_path / "shards")["index"].to_pylist()
    assert set(rows) <= set(load_run(attacked).fooled())
    assert rows == sorted(rows)


@pytest.mark.slow
def test_interrupted_run_redoes_no_batch(model, attacked, whole, tmp_path, monkeypatch):
    calls = []
    batch = runner.sensitivity_map_batch

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return batch(*args, **kwargs)

    monkeypatch.setattr(runner, "sensitivity_map_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explain_attack(options(model, attacked, tmp_path))
    assert len(list((tmp_path / "shards").iterdir())) == 1
    assert not (tmp_path / "summary.json").exists()
    found = explain_attack(options(model, attacked, tmp_path))
    out, expected = whole
    count = len(list((out / "shards").iterdir()))
    assert len(calls) == count + 1
    assert without_run(found) == without_run(expected)
    assert_same(tmp_path, out)
    assert without_run(explain_attack(options(model, attacked, tmp_path))) == without_run(found)
    assert len(calls) == count + 1  # a finished one only reads


def without_run(summary):
    return {name: value for name, value in summary.items() if name != "run"}


def assert_same(one, other):
    tables = [storage.read_shards(folder / "shards") for folder in (one, other)]
    assert tables[0].equals(tables[1])


PROGRAM = """
import sys, tyro
from bfjax.evaluation.maps import ExplainConfig, explain
explain(tyro.cli(ExplainConfig, args=sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_run_leaves_nothing_half_written_and_goes_on(model, attacked, whole, tmp_path):
    out = tmp_path / "maps"
    command = [sys.executable, "-c", PROGRAM, str(attacked), "--model", str(model), "--out",
               str(out), "--num-steps", str(STEPS), "--mask-size", str(MASK), "--batch-size",
               str(BATCH), "--num-points", "3", "--gallery", "2"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(out.glob("shards/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    first = {p: p.stat().st_mtime_ns for p in out.glob("shards/*.parquet")}
    assert first
    assert not (out / "summary.json").exists()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "still fooled through the map" in done.stdout
    assert first == {p: p.stat().st_mtime_ns for p in first}
    assert_same(out, whole[0])


@pytest.mark.slow
def test_the_maps_lie_beside_the_results_by_default(model, attacked, tmp_path, capsys):
    folder = shutil.copytree(attacked, tmp_path / "run")
    maps.explain(options(model, folder, None, num_images=1, num_steps=1))
    assert "maps of 1 of" in capsys.readouterr().out
    names = {path.name for path in (folder / "explain").iterdir()}
    assert names == {"settings.json", "shards", "summary.json", "mean_map.png", "gallery"}


@pytest.mark.slow
def test_a_cell_of_an_evaluation_is_explained_too(model, tmp_path):
    bim = {"bim": "bim(domain='log', epsilon=0.3, num_steps=3)"}
    cells = EvaluateConfig(
        sources=(str(model),), attacks=bim, data="phantom", num_images=6, batch_size=6,
        measure=False, store_all=True, out=tmp_path,
    )  # fmt: skip
    commands.evaluate_models(cells)
    wanted = options(model, tmp_path / "bim" / "one", None, num_steps=1, num_images=1, gallery=0)
    assert explain_attack(wanted)["images"] == 1
    with pytest.raises(ValueError, match=r"name .*/ATTACK/MODEL"):
        explain_attack(options(model, tmp_path, None))


@pytest.mark.slow
def test_images_that_were_not_stored_are_named(model, tmp_path):
    found = {"bim": "bim(num_steps=1)", "search": "smallest_step(fgsm(), num_steps=2, num_finer=1)"}
    cells = EvaluateConfig(
        sources=(str(model),), attacks=found, data="phantom", num_images=2, batch_size=2,
        measure=False, out=tmp_path,
    )  # fmt: skip
    commands.evaluate_models(cells)
    for name in found:
        with pytest.raises(ValueError, match="with --store-all"):
            explain_attack(options(model, tmp_path / name / "one", None))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"num_images": 0}, "--num-images must be 1 to . here, got 0"),
        ({"num_images": 99}, "--num-images must be 1 to . here, got 99"),
        ({"num_points": 1}, "--num-points must be at least 2, got 1"),
        ({"mask_size": 64}, r"mask \(64, 64\) is larger than the image \(32, 32\)"),
        ({"l1": -1.0}, "l1 must not be negative, got -1.0"),
        ({"data": "no/such/folder"}, "--data says where the images lie now"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_written(
    model, attacked, tmp_path, changes, word
):
    with pytest.raises((ValueError, FileNotFoundError), match=word):
        explain_attack(options(model, attacked, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_another_checkpoint_is_refused(attacked, tmp_path):
    other = checkpoint(tmp_path / "one", seed=3)
    with pytest.raises(ValueError, match=f"now it is {models.load_config(other).sha256[:12]}; "):
        explain_attack(options(other, attacked, tmp_path / "out"))


def test_other_options_in_the_same_folder_are_refused(model, attacked, whole):
    with pytest.raises(ValueError, match=r"l1 was 0\.05, now it is 0\.1"):
        explain_attack(options(model, attacked, whole[0], l1=0.1))


def test_an_unfinished_folder_is_named(model, attacked, tmp_path):
    folder = shutil.copytree(attacked, tmp_path / "run")
    shutil.rmtree(folder / "shards")
    with pytest.raises(ValueError, match="shards holds no shards"):
        explain_attack(options(model, folder, None))
    (folder / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json is not valid JSON"):
        explain_attack(options(model, folder, None))
    (folder / "summary.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        explain_attack(options(model, folder, None))


@pytest.mark.slow
def test_an_attack_that_fooled_nothing_has_no_maps(model, tmp_path):
    commands.attack_dataset(
        config(model, tmp_path, max_change=1e-6, num_images=4, gallery=0, measure=False)
    )
    with pytest.raises(ValueError, match="fooled no image"):
        explain_attack(options(model, tmp_path, None))
    assert not (tmp_path / "explain").exists()


def test_other_images_are_refused(model, attacked, tmp_path):
    """Other names, and other pictures of the same names."""
    for i in range(12):
        path = tmp_path / "data" / "test" / CLASSES[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (SIZE, SIZE), 90).save(path)
    with pytest.raises(ValueError, match="does not hold the images of"):
        load_run(attacked, where=str(tmp_path / "data"))
    run = load_run(attacked)
    rows = [row | {"mean_change": row["mean_change"] + 0.01} for row in run.rows]
    with pytest.raises(ValueError, match=r"phantom0-test-00000\.png .* is not the image that was"):
        run._replace(rows=rows).rebuild(0)


def test_help_names_the_options_and_their_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        tyro.cli(ExplainConfig, args=["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("PATH", "--model", "--l1", "default: 150", "--out"))
    assert "(unset)" not in out


@pytest.mark.slow
def test_a_dry_run_says_what_is_left_and_writes_nothing(model, attacked, whole, tmp_path, capsys):
    out, found = whole
    maps.explain(options(model, attacked, tmp_path / "new", dry_run=True))
    assert f"{found['images']} maps" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
    maps.explain(options(model, attacked, out, dry_run=True))
    assert "nothing" in capsys.readouterr().out
