"""What bfjax 0.1.0 wrote before its modules moved into packages (commit 1a159a8) still serves.

`written_before/` holds a checkpoint of `bfjax train`, the folder of `bfjax attack` on it and that
of `bfjax evaluate`, all on phantoms, as they came, without their pictures.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from bfjax import models, report, training
from bfjax.evaluation import AttackConfig, EvaluateConfig, attack_dataset, evaluate_models, load_run
from bfjax.evaluation.maps import ExplainConfig, explain_attack
from bfjax.training import TrainConfig

BEFORE = Path(__file__).parent / "written_before"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of all of it, from whose folder the commands were run."""
    shutil.copytree(BEFORE, tmp_path / "all")
    monkeypatch.chdir(tmp_path / "all")
    return tmp_path / "all"


def attack_options(**changes):
    options = {"data": "phantom", "num_images": 6, "batch_size": 4, "num_steps": 5, "gallery": 2}
    options |= {"max_change": None, "max_log_field": 0.7, "l1_coefficients": 0.0}
    options |= {"border": "free", "max_warp_gradient": None, "log_field_bound": "clip"}  # of then
    options |= {"step_size": 0.06, "iterate": "last"}  # which a bound has come to change
    return AttackConfig(
        model="model", out=Path("attack"), grid_size=3, degree=3, **options | changes
    )


def test_a_checkpoint_loads_and_its_training_is_finished(folder):
    told = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    assert models.load_config("model").sha256 == told["sha256"]
    assert models.load("model") is not None
    options = {"data": "phantom", "model": "convnet", "image_size": 32, "num_examples": 160}
    options |= {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "width": 0.5}
    metrics = training.train_classifier(TrainConfig(out=Path("model"), **options))
    assert metrics.accuracy == told["metrics"]["test"]["accuracy"]
    assert not (folder / "model" / "curves.png").exists()  # nothing was run again


@pytest.mark.parametrize("name", ["attack", "evaluated/ours/model"])
def test_attacked_images_are_made_again(folder, name):
    run = load_run(folder / name)
    assert len(run.rows) == 6
    for i in range(6):  # raises where the change is another one than was recorded
        made = run.rebuild(i)
        assert made.adversarial.shape == (32, 32, 1)
        change = abs(made.adversarial - made.image).max()
        assert change == pytest.approx(run.rows[i]["max_change"], abs=1e-6)


def test_a_run_that_names_no_border_is_not_gone_on_with_under_another(folder):
    for changes in ({"border": "clamp"}, {"max_warp_gradient": 0.9}):
        (name,) = changes
        with pytest.raises(ValueError, match=rf"other settings \({name} was"):
            attack_dataset(attack_options(**changes))


def test_a_finished_attack_is_finished_and_an_unfinished_one_is_not_gone_on_with(folder):
    """Nothing says which images it was of: it is read, no more."""
    told = json.loads((folder / "attack" / "summary.json").read_text(encoding="utf-8"))
    before = set(folder.rglob("*"))
    assert attack_dataset(attack_options()) == told
    assert set(folder.rglob("*")) == before
    for more in ({"native": True}, {"targets": ("evaluated/other",)}):
        shutil.copytree(folder / "model", folder / "evaluated/other", dirs_exist_ok=True)
        with pytest.raises(ValueError, match="attack was begun by a bfjax that did not note which"):
            attack_dataset(attack_options(**more))
    (folder / "attack" / "summary.json").unlink()
    with pytest.raises(ValueError, match="attack was begun by a bfjax that did not note which"):
        attack_dataset(attack_options())


def test_an_evaluation_may_have_further_attacks(folder):
    text = "bias_field(degree=3, grid_size=3, num_steps=5, l1_coefficients=0)"
    options = {"data": "phantom", "num_images": 6, "batch_size": 4}
    with pytest.raises(ValueError, match="meant another attack, which today is") as refused:
        evaluate_models(
            EvaluateConfig(
                sources=("model",), attacks={"ours": text}, out=Path("evaluated"), **options
            )
        )
    words = re.search(r"today is (bias_field.*\)): say so", str(refused.value))[1]
    attacks = {"ours": words, "fgsm": "fgsm"}
    told = json.loads((folder / "evaluated" / "summary.json").read_text(encoding="utf-8"))
    found = evaluate_models(
        EvaluateConfig(sources=("model",), attacks=attacks, out=Path("evaluated"), **options)
    )
    assert found["attacks"]["ours"] == told["attacks"]["ours"]
    assert found["attacks"]["fgsm"]["targets"] == ["model"]


@pytest.mark.slow
def test_maps_and_a_page_are_made_of_it(folder):
    options = {"num_steps": 2, "mask_size": 4, "num_points": 3, "gallery": 0}
    found = explain_attack(ExplainConfig(dir=Path("attack"), model="model", **options))
    assert found["images"] == 1
    made = report.make_report(folder / "attack")
    assert made.cases == 6
    assert made.path.read_text(encoding="utf-8").count("data:image/webp;base64,") == 6
