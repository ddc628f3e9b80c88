"""The figures of the paper, drawn of small random networks and phantoms."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import bfjax
from bfjax import attacks, data
from bfjax.data.phantom import phantom
from bfjax.evaluation.maps import summary
from bfjax.models import load_config
from experiments import (
    cases,
    figure1,
    figure3,
    figure4,
    figure5,
    map_options,
    picture,
    recorded,
    tables,
)
from experiments.inputs import Inputs, Loaded, load
from experiments.lungs import lungs, relate
from tests.evaluation.test_attack import CLASSES, checkpoint
from tests.networks import answers, images, smooth_network


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("models") / "one")


def small(model, **changes):
    return {"model": model, "data": "phantom", "num_images": 16, "batch_size": 8} | changes


def written(folder, name):
    """The JSON of a figure whose files are all there."""
    with Image.open(folder / f"{name}.png") as picture:
        assert picture.width > 500
        assert picture.mode == "P"
    assert (folder / f"{name}.png").stat().st_size < 500_000
    assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    text = (folder / f"{name}.json").read_text(encoding="utf-8")
    assert str(folder) not in text
    found = json.loads(text)
    assert "10.17632/rscbjbr9sj.2" in found["data"]
    assert {"bfjax", "jax"} <= set(found["run"]["versions"])
    assert all(len(c["sha256"]) == 64 for c in found["checkpoints"])
    assert found["settings"]["seed"] == 0
    return found


def assert_turned(original, attacked):
    assert original["prediction"] == original["truth"] == attacked["truth"]
    assert attacked["prediction"] != attacked["truth"]
    assert min(original["score"], attacked["score"]) >= 0.5


@pytest.mark.slow
def test_cases_are_the_first_of_each_class_that_all_attacks_turn():
    """In batches of 8, the last of them smaller, as the oracle takes them in its own order."""
    shape, count = (12, 12, 1), 22
    predict, batch = smooth_network(2, scale=2.0), np.asarray(images(count, shape))
    right = np.arange(count) % 7 != 0
    labels = np.where(right, answers(predict, batch), 1 - answers(predict, batch))
    options = {"degree": 3, "grid_size": 3, "num_steps": 3, "max_change": None}
    pair = [attacks.bias_field(shape, min_degree=d, **options) for d in (0, 1)]
    logits = np.zeros((2, count, 2))
    for at in range(0, count, 8):
        part = np.resize(np.arange(count)[at : at + 8], 8)
        for number, attack in enumerate(pair):
            result = bfjax.run_batch(attack, predict, batch[part], labels[part])
            logits[number, part] = result.logits
    turned = right & (logits.argmax(-1) != labels).all(0)
    assert 2 < turned.sum() < right.sum()
    loaded = Loaded(None, predict, batch, labels, "ab")
    found, searched = cases.find(pair, loaded, per_class=2, batch_size=8)
    for label in (0, 1):
        expected = np.flatnonzero(turned & (labels == label))[:2].tolist()
        assert [case.index for case in found if case.label == label] == expected
    assert searched <= count
    for case in found:
        clean = predict(jnp.asarray(batch[case.index]))
        assert case.clean == pytest.approx(np.asarray(clean), abs=1e-4)
        for result, expected in zip(case.results, logits, strict=True):
            np.testing.assert_allclose(result.logits, expected[case.index], atol=1e-3)


@pytest.mark.slow
def test_figure1_shows_both_directions(model, tmp_path, monkeypatch):
    monkeypatch.setattr(figure1, "RESULTS", tmp_path)
    figure1.main(figure1.Config(**small(model)))
    shown = written(tmp_path, "figure1")["shown"]
    assert [case["original"]["truth"] for case in shown] == [CLASSES[0]] * 2 + [CLASSES[1]] * 2
    loaded = load(Inputs(model=model, data="phantom", num_images=16))
    for case in shown:
        assert_turned(case["original"], case["attacked"])
        clean = jax.nn.softmax(loaded.predict(jnp.asarray(loaded.images[case["image"]])))
        assert case["original"]["score"] == pytest.approx(float(clean.max()), abs=1e-4)


def test_the_picture_is_of_an_xray_that_is_turned_within_the_range(model, tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "RESULTS", tmp_path)
    options = small(model, num_images=8) | {"truth": CLASSES[1], "max_log_range": 1.4}
    picture.main(picture.Config(**options))
    found = json.loads((tmp_path / "attack.json").read_text(encoding="utf-8"))
    assert found["record"]["clean_prediction"] == found["record"]["label"] == CLASSES[1]
    assert found["record"]["adversarial_prediction"] == CLASSES[0]
    assert 0 < found["log_range"] <= 1.4 + 1e-5
    with Image.open(tmp_path / "attack.png") as drawn:
        assert drawn.width > 1000


@pytest.mark.slow
def test_figure3_has_a_block_for_each_classifier_and_a_row_for_each_attack(
    model, tmp_path, monkeypatch
):
    few = {"bim": attacks.bim(num_steps=2), "fgsm": attacks.fgsm()}
    monkeypatch.setattr(attacks, "fixed", lambda: few)
    monkeypatch.setattr(figure3, "RESULTS", tmp_path)
    other = shutil.copytree(model, tmp_path / "two")
    both = small(model, models=(model, other), columns=4)
    del both["model"]
    figure3.main(figure3.Config(**both))
    found = written(tmp_path, "figure3")
    assert found["settings"]["models"] == ["one", "two"]
    assert {name: len(columns) for name, columns in found["shown"].items()} == {"one": 2, "two": 2}
    for column in [c for columns in found["shown"].values() for c in columns]:
        assert list(column) == ["original", "ours", "BIM", "FGSM", "image"]
        assert_turned(column["original"], column["ours"])


@pytest.mark.slow
def test_figure4_maps_what_was_turned_and_resumes(model, tmp_path, monkeypatch):
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(recorded, "CELLS", tmp_path / "cells")
    monkeypatch.setattr(figure4, "RESULTS", tmp_path / "figure4")
    (tmp_path / "figure4").mkdir()
    config = figure4.Config(
        models=(model,), data="phantom", num_images=12, num_maps=3, num_steps=2, batch_size=4
    )
    figure4.main(config)
    found = written(tmp_path / "figure4", "figure4")["models"]["one"]
    assert found["images"] == found["lungs"]["images"] == 3 <= found["fooled"]
    assert sum(third["value"] for third in found["thirds"].values()) == pytest.approx(1)
    assert 0 < found["lungs"]["inside"]["value"] < 1
    assert all(row["adversarial_prediction"] != row["label"] for row in found["shown"])
    shards = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("shards/*.parquet")}
    assert len(shards) == 4  # three of the attack, one of maps
    figure4.main(config)
    assert shards == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("shards/*.parquet")}


@pytest.mark.slow
def test_figure5_shows_the_field_of_each_degree(model, tmp_path, monkeypatch):
    monkeypatch.setattr(figure5, "RESULTS", tmp_path)
    figure5.main(figure5.Config(**small(model, rows=2, min_degrees=(1, 3))))
    found = written(tmp_path, "figure5")
    assert len(found["shown"]) == 2
    for row in found["shown"]:
        for name in ("D0=1", "D0=3"):
            assert_turned(row["original"], row[name])
            low, high = row[name]["field"]
            assert 0 <= low < high


@pytest.mark.slow
def test_without_a_case_there_is_no_figure(model, tmp_path, monkeypatch, capsys):
    weak = attacks.bias_field((32, 32, 1), max_change=1e-6)
    monkeypatch.setattr(attacks, "paper", lambda *_, **__: weak)
    for module in (figure1, figure3, figure5):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
        options = small(model, num_images=8)
        if module is figure3:
            options["models"] = (options.pop("model"),)
        module.main(module.Config(**options))
        assert "no figure" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("positive", [False, True])
def test_lungs_are_where_the_phantom_has_them(positive):
    found = []
    for seed in range(12):
        chest = phantom((7, seed), size=96, positive=positive)
        mask = lungs(data.to_float(chest.image))
        found.append((mask & chest.lungs).sum() / (mask | chest.lungs).sum())
        assert not mask[:, 47:49].any()  # the spine
    assert np.mean(found) > (0.78 if positive else 0.84)
    assert min(found) > 0.55


def test_an_image_of_nothing_has_the_usual_lungs():
    mask = lungs(np.full((64, 48, 1), 0.5, np.float32))
    assert 0.2 < mask.mean() < 0.5
    np.testing.assert_array_equal(mask, mask[:, ::-1])


def test_maps_are_related_to_their_own_lungs():
    masks = np.zeros((2, 2, 2), bool)
    masks[0, 0], masks[1, :, 0] = True, True
    maps = np.array([[[0.3, 0.5], [0.2, 0.0]], [[0.6, 0.2], [0.1, 0.1]]])
    found = relate(maps, masks)
    assert found["area"]["value"] == 0.5
    assert found["inside"]["value"] == pytest.approx((0.8 + 0.7) / 2)
    assert found["inside_others"] == pytest.approx((0.5 + 0.8) / 2)
    flat = relate(np.full((2, 2, 2), 0.3), masks)
    assert flat["inside"]["value"] == pytest.approx(flat["area"]["value"])
    assert relate(maps[:1], masks[:1])["inside_others"] is None


@pytest.mark.slow
def test_map_options_are_tried_one_at_a_time_and_their_gap_is_that_of_the_areas(
    model, tmp_path, monkeypatch
):
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(recorded, "CELLS", tmp_path / "cells")
    monkeypatch.setattr(tables, "_ARCHITECTURES", {load_config(model).architecture: "ResNet50"})
    monkeypatch.setattr(map_options, "RESULTS", tmp_path)
    monkeypatch.setattr(map_options, "OPTIONS", ({}, {"mask_size": 3, "num_steps": 2}))
    config = map_options.Config(
        models=(model,), data="phantom", num_images=12, num_maps=3, batch_size=4
    )
    map_options.main(config)
    found = json.loads((tmp_path / "map_options.json").read_text(encoding="utf-8"))["cells"]
    assert list(found) == ["ResNet50, default", "ResNet50, mask_size=3, num_steps=2"]
    assert [one["settings"]["num_steps"] for one in found.values()] == [150, 2]
    for one in found.values():
        areas = one["areas"]
        for control, gap in one["gaps"].items():
            apart = [areas[curve][f"map_minus_{control}"]["value"] for curve in summary.CURVES]
            assert gap["value"] == pytest.approx(apart[1] - apart[0])
            assert gap["low"] <= gap["value"] <= gap["high"]
    table = (tmp_path / "map_options.md").read_text(encoding="utf-8")
    assert "| ResNet50 | mask_size=3, num_steps=2 |" in table
