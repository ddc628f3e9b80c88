"""Small runs on phantoms, and results that no attack has made."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tyro

from bfjax.evaluation import AttackConfig, EvaluateConfig, commands
from bfjax.report import loading, pictures
from tests.evaluation.test_attack import checkpoint
from tests.report.browser import chromium, reader  # noqa: F401

SIZE, COUNT = 32, 12
EVIL = "<img src=x onerror=alert(1)>\"'&.png"
BREAK = "</script><script>alert(2)</script><!--"
FIELD = "bias_field(degree=3, min_degree=0, grid_size=3, num_steps=3, max_change=0.25)"
WEAK, WEAKER = "fgsm(epsilon=0.01)", "fgsm(epsilon=0.005)"
RUN = {"data": "phantom", "num_images": COUNT, "batch_size": 6, "measure": False}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [checkpoint(folder / "one"), checkpoint(folder / "two", seed=4)]


@pytest.fixture(scope="session")
def single(models, tmp_path_factory):
    """A folder of `bfjax attack`, with everything measured."""
    out = tmp_path_factory.mktemp("single") / "run"
    field = {"degree": 3, "min_degree": 0, "grid_size": 3, "num_steps": 3, "max_change": 0.25}
    options = {"model": models[0], "targets": models[1], "out": out, "gallery": 0} | field | RUN
    arguments = [f"--{n.replace('_', '-')}={v}" for n, v in options.items() if n != "measure"]
    commands.attack_dataset(tyro.cli(AttackConfig, args=[*arguments, "--measure"]))
    return out


@pytest.fixture(scope="session")
def several(models, tmp_path_factory):
    """A folder of `bfjax evaluate`, with curves, and a map for one image.

    The pixels of FGSM are not stored, so that there are no pictures of its runs.
    """
    out = tmp_path_factory.mktemp("several") / "runs"
    sources, attacks = tuple(map(str, models)), {"ours": FIELD, "weak": WEAK, "weaker": WEAKER}
    commands.evaluate_models(EvaluateConfig(sources=sources, attacks=attacks, out=out, **RUN))
    write_map(out / "ours" / "one", 2, np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE))
    return out


def write_map(folder, row, values):
    shards = folder / "explain" / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    columns = {"index": [row], "map": [values.ravel()], "height": [height], "width": [width]}
    pa.parquet.write_table(pa.table(columns), shards / f"{row:07d}.parquet")


def rows_of(folder):
    with (folder / "records.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def outcome(row, prefix=""):
    if row[f"{prefix}clean_prediction"] != row["label"]:
        return "wrong"
    fooled = row[f"{prefix}adversarial_prediction"] != row["label"]
    return "fooled" if fooled else "resisted"


def facts(number, **others):
    """Of a made-up case."""
    known = {"run": 0, "file": f"a/{number}.png", "label": "a", "change": 0.1, "mean": 0.05}
    judged = {"judged": [["a", 0.9, "b", number / 1000]], "field": [0.5, 2.0], "reach": 2.0}
    return known | judged | {"span": 0.1, "size": [8, 8], "panels": "cafd"} | others


def picture():
    return pictures.join([np.full((8, 8, 3), 40 * k, np.uint8) for k in range(4)])


def made_up(name="model", classes=("a", "b"), **settings):
    """Results that no attack has made."""
    counts = {"fooled": 1, "correct": 4}
    directions = {"→".join(classes): counts, "→".join(classes[::-1]): counts}
    plain = {"data": "phantom", "split": "test", "image_size": 8, "models": {}}
    summary = {"images": 8, "targets": {name: counts | {"directions": directions}}}
    run = loading.Run(Path(), "ours", plain | settings, summary)
    return loading.Results([loading.Matrix("ours", [run], [name])], {})


def hostile():
    """Results, and the facts of a case, in which every string attacks the page."""
    name, classes = f"{EVIL}{BREAK}", (f"{EVIL}a", f"{BREAK}b")
    results = made_up(name, classes, data=f"./{EVIL}", split=BREAK, terms=BREAK)
    run = results.runs[0]
    run.settings[BREAK] = EVIL
    run.models[name] = {"sha256": EVIL, "architecture": BREAK}
    described = [{}, {"attack": "fgsm(epsilon=1)"}, {"attack": "fgsm(epsilon=2)"}]
    runs = [
        dataclasses.replace(run, attack=name, settings=run.settings | more) for more in described
    ]
    matrices = [loading.Matrix(name, [one], [name]) for one in runs]
    judged = [[classes[0], 0.9, classes[1], 0.2]]
    case = facts(1, file=f"{BREAK}/{EVIL}", label=classes[0], judged=judged)
    return loading.Results(matrices, {BREAK: EVIL, "versions": {EVIL: BREAK}}), case
