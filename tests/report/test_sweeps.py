import math
from pathlib import Path

import pytest

from bfjax.metrics import wilson_interval
from bfjax.report import loading
from bfjax.report.sweeps import sweeps


def made(text, fooled, *, source="net", correct=100):
    """A run of which only its attack and its counts matter."""
    targets = {source: {"correct": correct, "fooled": fooled, "directions": {}}}
    settings = {} if text is None else {"attack": text}
    return loading.Run(Path(), "x", settings, {"images": 120, "targets": targets})


def test_attacks_that_differ_in_one_number_are_a_curve():
    runs = [
        made("bias_field(max_change=0.2)", 60),
        made("bias_field", 40),  # with the default of 0.1
        made("bias_field(max_change=0.05, degree=4)", 1),  # differs in two
        made("fgsm(epsilon=0.3)", 5),
        made(None, 7),  # of bfjax attack
    ]
    (name,) = found = sweeps(runs)
    assert name == "max_change"
    assert found[name]["x"] == [0.1, 0.2]
    assert found[name]["series"].keys() == {"net"}
    series = found[name]["series"]["net"]
    assert series["rate"] == [0.4, 0.6]
    for i, fooled in enumerate((40, 60)):
        assert (series["low"][i], series["high"][i]) == wilson_interval(fooled, 100)


def test_each_model_and_each_kind_of_attack_has_its_own():
    runs = [
        made(f"bias_field(min_degree={low}, terms={terms!r})", low, source=source)
        for low in (0, 1, 2)
        for terms in ("total", "literal")
        for source in ("a", "b")
    ]
    curve = sweeps(runs)["min_degree"]
    assert curve["xlabel"].startswith("min_degree, D0")
    assert len(curve["series"]) == 4
    for name, series in curve["series"].items():
        assert name[0] in "ab"
        assert series["rate"] == [0, 0.01, 0.02]
    assert set(sweeps(runs)) == {"min_degree"}  # terms is no number


def test_what_is_missing_is_a_gap_and_what_is_no_number_no_point():
    runs = [
        made("bim(epsilon=0.1)", 1),
        made("bim(epsilon=0.2)", 0, correct=0),
        made("bim(epsilon=0.3, domain='log')", 3),
        made("bim(epsilon=0.4, domain='log')", 3),
        made("bias_field(max_change=None)", 9),
        made("bias_field(max_change=0.3)", 9),
        made("minimal(lambda epsilon: fgsm(epsilon=epsilon))", 2),
    ]
    found = sweeps(runs)
    assert set(found) == {"epsilon"}
    first, second = found["epsilon"]["series"].values()
    assert first["rate"] == [0.01, None, None, None]
    assert second["rate"] == [None, None, 0.03, 0.03]
    assert not any(r is not None and math.isnan(r) for r in first["rate"])


@pytest.mark.parametrize("text", ["fixed()['bim']", "foolbox2()['fgsm']", "no_such_attack(a=1)"])
def test_other_descriptions_are_left_out(text):
    assert sweeps([made(text, 1), made(text, 2, source="b")]) == {}
