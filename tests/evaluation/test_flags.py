"""A rate of zero that means that the attack failed is told apart from one that the model earned."""

import csv
import json
import re

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from bfjax import cli, report
from bfjax.evaluation import flags
from bfjax.evaluation.specification import parse_attack
from bfjax.evaluation.summary import summarize

SIDE = 32


def plain(image):
    """Which half is brighter."""
    z = 20 * (image[: SIDE // 2].mean() - image[SIDE // 2 :].mean())
    return jnp.stack([z, -z])


def sharp(image):
    """The same answers, a hundred thousand times as sure."""
    return 1e5 * plain(image)


def rounding(image):
    """The same of an image of ten grey values, through which no gradient passes."""
    return plain(jnp.round(9 * image) / 9)


def constant(image):
    """One that no change of an image reaches, with a gradient that does not vanish."""
    return jnp.stack([1.0, 0.0]) + 1e-6 * plain(image)


HERE = "tests.evaluation.test_flags"


def run(out, command, name, *more):
    option = "--model" if command == "attack" else "--sources"
    where = ["--data", "phantom", "--num-images", 8, "--batch-size", 4, "--image-size", SIDE]
    words = [command, option, f"{HERE}:{name}", *where, "--no-measure", "--out", out, *more]
    assert cli.main(list(map(str, words))) == 0
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def rows(folder):
    with (folder / "records.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def resisted(folder):
    return [
        row
        for row in rows(folder)
        if row["clean_prediction"] == row["label"] == row["adversarial_prediction"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flag"), [("sharp", "saturated"), ("rounding", "zero_gradient")])
def test_bim_fails_and_says_so(tmp_path, capsys, name, flag):
    run(tmp_path, "evaluate", name, "--attacks", "bim", "bim(epsilon=0.3)")
    cell = tmp_path / "bim" / name
    found = json.loads((cell / "summary.json").read_text(encoding="utf-8"))
    left = resisted(cell)
    assert found["targets"][name]["fooled"] == 0
    assert found["flags"]["resisted"] == len(left) > 0
    assert found["flags"][flag]["resisted"] == len(left)
    assert found["flags"]["zero_gradient"]["resisted"] == len(left)
    assert sum(row[flag] == "true" for row in rows(cell)) == found["flags"][flag]["all"]
    out = capsys.readouterr().out.splitlines()
    (line,) = [line for line in out if line.startswith(f"bim on {name}: ")]
    assert f"of {len(left)} images that were not fooled, on {len(left)} the gradient was" in line
    assert flags.ADVICE in out
    whole = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert whole["attacks"]["bim"]["flags"] == [found["flags"]]
    page = report.make_report(cell, max_cases=0).path.read_text(encoding="utf-8")
    assert f"of {len(left)} images that were not fooled" in page


@pytest.mark.slow
def test_the_same_network_is_fooled_where_nothing_hides_its_gradient(tmp_path, capsys):
    for name, attack in (
        ("plain", "bim(epsilon=0.3)"),
        ("sharp", "bim(epsilon=0.3, loss=margin)"),
        ("rounding", "restarts(bias_field(start_noise=0.3, num_steps=1, max_change=None), 100)"),
    ):
        run(tmp_path / name, "evaluate", name, "--attacks", "a", attack)
        found = json.loads((tmp_path / name / "a" / name / "summary.json").read_text())
        rate = found["targets"][name]
        assert rate["fooled"] > 0
        head = (tmp_path / name / "a" / name / "records.csv").read_text().splitlines()[0]
        assert ('"max_log_field"' in head) == (name == "rounding")  # from many starts, but a field
        left, told = rate["correct"] - rate["fooled"], flags.ADVICE in capsys.readouterr().out
        assert found["flags"]["resisted"] == left
        assert (left, told) == (0, False) or name == "rounding"
        # a penalty, which has a gradient of its own, does not hide that the network has none
        assert found["flags"]["zero_gradient"]["resisted"] == left


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--early-stop",)])
def test_the_command_attack_says_it_in_one_line(tmp_path, capsys, more):
    found = run(tmp_path, "attack", "rounding", "--gallery", 0, "--num-steps", 3, *more)
    left = resisted(tmp_path)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "the attack failed" in x]
    assert line.startswith(f"of {len(left)} images that were not fooled, on {len(left)} the grad")
    assert line.endswith(flags.ADVICE)
    assert found["flags"]["zero_gradient"]["resisted"] == len(left) > 0
    page = report.make_report(tmp_path, max_cases=0).path.read_text(encoding="utf-8")
    assert "There the attack failed" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:constant says the same of:UserWarning")  # it does
def test_a_network_that_resists_by_itself_is_not_suspected(tmp_path, capsys):
    run(tmp_path, "evaluate", "constant", "--attacks", "bim", "bim(epsilon=0.3, loss=margin)")
    found = json.loads((tmp_path / "bim" / "constant" / "summary.json").read_text())
    assert found["targets"]["constant"]["fooled"] == 0
    assert found["flags"]["resisted"] > 0
    assert all(found["flags"][name]["resisted"] == 0 for name in ("zero_gradient", "saturated"))
    assert flags.flags_in_words(found["flags"]) is None
    assert "the attack failed" not in capsys.readouterr().out


def test_what_is_advised_can_be_run():
    texts = re.findall(r"(?:bias_field|pgd|restarts)(?:\((?:[^()]|\([^()]*\))*\))?", flags.ADVICE)
    assert len(texts) == 4
    for text in texts:
        assert parse_attack(text, (16, 16, 1)) is not None


def test_flags_are_counted_where_the_attacked_model_was_right_and_stayed_right():
    columns = {name: np.array([True, False, True, True]) for name in flags.AttackFlags._fields}
    found = flags.count(columns, np.array([True, True, False, True]))
    assert found["resisted"] == 3
    assert found["saturated"] == {"all": 3, "resisted": 2}
    del columns["saturated"]
    assert flags.count(columns, np.ones(4, bool)) is None  # of a search, or an older result
    assert flags.flags_in_words(None) is None
    assert flags.advice(None) is None


def test_older_records_have_no_flags():
    names = ("clean_prediction", "adversarial_prediction", "label")
    changes = {name: [0.1, 0.1] for name in ("max_change", "mean_change")}
    table = pa.table({name: ["a", "b"] for name in names} | changes)
    assert "flags" not in summarize(table, ("a", "b"), ["m"])
