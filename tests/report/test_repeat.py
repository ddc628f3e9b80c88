import dataclasses
import subprocess
from pathlib import Path

import tyro

from bfjax.evaluation import AttackConfig, EvaluateConfig
from bfjax.report import loading
from bfjax.report.repeat import command_lines
from tests.report.conftest import FIELD, SIZE, WEAK, WEAKER, made_up

HARD = "a b$(touch stolen)'\"\\\n`*;--"


def words(line):
    """The arguments as a shell hands them on."""
    script = line.replace("bfjax", "printf '%s\\0'", 1)
    run = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return run.stdout.split("\0")[:-1]


def test_the_command_of_a_run_gives_its_settings_again(single):
    run = loading.load(single).runs[0]
    ((name, line),) = command_lines([run])
    assert name == "bias_field on one"
    command, *arguments = words(line)
    assert command == "attack"
    found = tyro.cli(AttackConfig, args=arguments)
    given = dataclasses.asdict(found) | {"extent": list(found.extent)}
    options = set(given) & set(run.settings) - {"class_names"}  # these are known without a word
    assert found.class_names == ()
    assert {"degree", "max_change", "num_images", "seed", "data", "extent"} <= options
    assert {name: given[name] for name in options} == {n: run.settings[n] for n in options}
    derived = {"class_names", "image_size", "resize", "models", "images"}
    assert set(run.settings) - options <= derived
    sha256 = {name: model["sha256"] for name, model in run.models.items()}
    assert str(found.model) == f"<model one, sha256 {sha256['one']}>"
    assert [str(target) for target in found.targets] == [f"<model two, sha256 {sha256['two']}>"]
    assert run.settings["image_size"] == SIZE


def test_what_the_user_said_of_classes_is_said_again():
    run = made_up(class_names=["b", "a"], labels="t.csv", skip_bad=True).runs[0]
    run.settings["classes"] = ["b", "a"]
    found = tyro.cli(AttackConfig, args=words(command_lines([run])[0][1])[1:])
    assert (found.class_names, found.labels) == (("b", "a"), Path("t.csv"))
    assert found.skip_bad


def test_hard_values_survive_the_shell(tmp_path):
    settings = {"data": HARD, "split": "-x", "extent": [-1.0, 0.5], "max_change": None}
    settings |= {"border": "clamp"}  # else the options of before there was one are said too
    run = made_up(HARD, **settings).runs[0]
    line = command_lines([run])[0][1]
    strange = made_up(**{"x; touch stolen": 1}).runs[0]
    assert "touch" not in command_lines([strange])[0][1]  # no option of ours
    found = tyro.cli(AttackConfig, args=words(line)[1:])
    assert (found.data, found.split, found.extent) == (HARD, "-x", (-1.0, 0.5))
    assert found.max_change is None
    assert str(found.model) == f"<model {HARD}, sha256 unknown>"
    assert not Path("stolen").exists()
    assert len(line.splitlines()) < 12 + 2 * HARD.count("\n")  # an option a line


def test_runs_of_an_evaluation_share_one_command(several):
    results = loading.load(several)
    ((name, line),) = command_lines(results.runs)
    assert name == "all runs"
    command, *arguments = words(line)
    assert command == "evaluate"
    found = tyro.cli(EvaluateConfig, args=arguments)
    models = results.runs[0].models
    places = [f"<model {name}, sha256 {models[name]['sha256']}>" for name in ("one", "two")]
    assert found.sources == tuple(places)
    assert found.targets == ()
    assert found.attacks == {"ours": FIELD, "weak": WEAK, "weaker": WEAKER}
    settings = results.runs[0].settings
    for option in ("data", "split", "batch_size", "num_images", "seed", "measure", "store_all"):
        assert getattr(found, option) == settings[option], option


def test_models_that_only_judge_are_targets():
    runs = made_up("one", attack="bim", store_all=True, measure=False).runs
    runs[0].summary["targets"]["judge"] = runs[0].summary["targets"]["one"]
    found = tyro.cli(EvaluateConfig, args=words(command_lines(runs)[0][1])[1:])
    assert [str(target) for target in found.targets] == ["<model judge, sha256 unknown>"]
    assert (found.store_all, found.measure) == (True, False)
