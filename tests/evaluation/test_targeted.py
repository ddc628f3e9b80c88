"""Targeted attacks of a whole evaluation aim at a class that is not the image's own."""

import hashlib
import json

import numpy as np
import pyarrow.csv
import pytest
from PIL import Image

from bfjax import cli

MODULE = """
import jax.numpy as jnp

def thirds(image):
    rows = [image[10 * i : 10 * i + 10].mean() for i in range(3)]
    return 40 * jnp.stack(rows)
"""
CLASSES = ("bottom", "middle", "top")
SMALL = ("--image-size", "30", "--no-measure", "--seed", "3", "--batch-size", "2")
ATTACK = "bim(targeted=True, epsilon=0.3, step_size=0.05, num_steps=12)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("thirds")
    for i, name in enumerate(CLASSES):
        (root / name).mkdir()
        for j in range(3):
            pixels = np.full((30, 30), 100, np.uint8)
            pixels[10 * i : 10 * i + 10] += 10 + 5 * j
            Image.fromarray(pixels).save(root / name / f"{j}.png")
    return root


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"aims_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def run(folder, module, out, *arguments, attack=ATTACK):
    words = ["evaluate", "--data", folder, "--split", "all", "--out", out, *SMALL]
    words += ["--sources", f"{module}:thirds", "--attacks", "aimed", attack, *arguments]
    return cli.main(list(map(str, words)))


def records(out):
    return pyarrow.csv.read_csv(out / "aimed" / "thirds" / "records.csv").to_pylist()


@pytest.mark.slow
@pytest.mark.parametrize("attack", [ATTACK, ATTACK.replace(")", ", early_stop=True)")])
def test_another_class_is_drawn_for_each_image_and_reached(folder, module, tmp_path, attack):
    assert run(folder, module, tmp_path / "a", attack=attack) == 0
    rows = records(tmp_path / "a")
    assert len(rows) == 9
    assert all(row["target"] != row["label"] for row in rows)
    assert {row["target"] for row in rows} == set(CLASSES)
    assert all(row["adversarial_prediction"] == row["target"] for row in rows)
    found = json.loads((tmp_path / "a" / "aimed" / "thirds" / "summary.json").read_text())
    judged = found["targets"]["thirds"]
    assert (judged["reached"], judged["reached_rate"]) == (9, 1.0)
    # neither the batches nor what else is attacked changes what is drawn
    assert run(folder, module, tmp_path / "b", "--batch-size", 5, attack=attack) == 0
    assert [r["target"] for r in records(tmp_path / "b")] == [r["target"] for r in rows]


@pytest.mark.slow
def test_a_class_is_aimed_at_by_all_others(folder, module, tmp_path, capsys):
    assert run(folder, module, tmp_path / "a", "--target-class", "middle") == 0
    rows = records(tmp_path / "a")
    assert {row["label"] for row in rows} == {"bottom", "top"}
    assert {row["target"] for row in rows} == {"middle"}
    assert all(row["adversarial_prediction"] == "middle" for row in rows)
    assert "reached the class" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "attack", "word"),
    [
        (("--target-class", "left"), ATTACK, "--target-class left is none of the classes"),
        (("--target-class", "top"), "bim", "--target-class top: not all attacks are targeted"),
    ],
)
def test_a_target_that_cannot_be_is_refused(
    folder, module, tmp_path, capsys, arguments, attack, word
):
    assert run(folder, module, tmp_path / "a", *arguments, attack=attack) == 1
    assert word in capsys.readouterr().err
