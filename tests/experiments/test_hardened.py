import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bfjax import cli, data
from bfjax.evaluation.standard import testing
from bfjax.training import split_source
from experiments import hardened, recorded
from tests.evaluation.standard.test_standard import found_at


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* is right about:UserWarning")  # it has hardly learnt
def test_hardened_models_become_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(hardened, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(recorded, "CELLS", tmp_path / "cells")
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path / "home"))
    quick = {"ranges": (0.7,), "universal_steps": 0}
    usual = hardened.AuditConfig
    monkeypatch.setattr(hardened, "AuditConfig", lambda **options: usual(**options | quick))
    monkeypatch.setattr(
        testing, "audit", lambda _, images, labels, **options: found_at(0.5 + labels, labels)
    )
    monkeypatch.setattr(hardened, "ATTACKS", {"bim-2": hardened.ATTACKS["bim-2"]})
    model = tmp_path / "soft"
    options = "--data phantom --model convnet --num-examples 40 --epochs 1 --image-size 32"
    assert cli.main(["train", *options.split(), "--batch-size", "8", "--out", str(model)]) == 0
    config = hardened.Config(few=(model,), few_images=4, data="phantom", batch_size=4)
    hardened.main(config)
    lines = (tmp_path / "results" / "hardened.md").read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith("| soft, few | 4 |"))
    assert (tmp_path / "results" / "hardened.png").exists()
    text = (tmp_path / "results" / "hardened.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    (found,) = json.loads(text).values()
    left = found["attacks"]["bim-2"]
    right = found["audit"]["clean"]["accuracy"]
    assert right == 1 > found["audit"]["rows"]["fixed"]["tiers"][0]["accuracy"]
    assert 0 <= left["accuracy"] <= 1
    assert f"{100 * left['accuracy']:.1f}" in row
    shutil.rmtree(tmp_path / "home")
    monkeypatch.setattr(hardened.standard, "audit_models", pytest.fail)  # nothing is made again
    monkeypatch.setattr(hardened.tables, "evaluate_models", pytest.fail)
    hardened.main(config)

    folder = hardened.held_out("phantom", model)
    trained = pq.read_table(model / "images_train.parquet")["names"].to_pylist()
    source = data.load("phantom", "train", image_size=32, num_examples=40, seed=0)
    _, held = split_source(source, fraction=0.1, seed=0)
    kept = sorted(path.stem.split("-", 1)[1] for path in folder.rglob("*.png"))
    assert kept == sorted(name.split("/")[-1].split(".")[0] for name in held.names)
    assert len(kept) < len(trained) == 40
    (first,) = folder.rglob("00000-*.png")
    assert first.stem == f"00000-{held.names[0].split('/')[-1].split('.')[0]}"
    assert first.parent.name == source.class_names[held.labels[0]]
    with Image.open(first) as image:
        np.testing.assert_array_equal(image, held[0]["image"][..., 0])


def test_models_that_held_out_other_patients_are_not_compared(tmp_path, monkeypatch):
    records = {name: {"seed": i, "validation": 0.1} for i, name in enumerate("ab")}
    monkeypatch.setattr(
        hardened.models,
        "load_config",
        lambda path: SimpleNamespace(extra={"training": records[path.name] | {"data": "x"}}),
    )
    with pytest.raises(ValueError, match=r"/a and .*/b were trained with another seed"):
        hardened.main(hardened.Config(models=(tmp_path / "a", tmp_path / "b"), held_out=True))
    records["a"]["labels"] = "list.csv"
    with pytest.raises(ValueError, match="a was trained with --labels"):
        hardened.held_out("phantom", tmp_path / "a")


def test_the_figure_ends_where_nothing_was_searched_any_more():
    curve = {"log_range": [0.0, 0.1, 0.3, 1.2], "accuracy": [0.9, 0.6, 0.4, 0.1]}
    audit = {"settings": {"ranges": [0.1, 0.7]}, "rows": {"fixed": {"curve": curve}}}
    (line,) = hardened.draw({"a": audit}).axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), [0, 0.1, 0.3, 0.7])
    np.testing.assert_allclose(line.get_ydata(), [90, 60, 40, 40])
