import numpy as np
import pytest

from bfjax.report.standard import load, rank
from tests.report.standard.conftest import edit, make_up


def names(folder):
    audits, _ = load(folder)
    groups, differ = rank(audits)
    return [[one.name for one in group.audits] for group in groups], differ


def test_the_one_that_takes_most_comes_first(audited):
    assert names(audited) == ([["strong", "middling", "weak"]], [])
    audits, _ = load(audited)
    takes = {one.name: one.audit["rows"]["fixed"]["takes"] for one in audits}
    assert takes == {"strong": None, "middling": 0.05, "weak": 0.02}


def test_equals_are_ranked_by_what_is_left_at_the_largest_range(tmp_path):
    make_up(tmp_path, "a", (0.05, 0.1, 0.3, 0.3))
    make_up(tmp_path, "b", (0.05, 0.1, 0.3, np.inf))
    assert names(tmp_path) == ([["b", "a"]], [])


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"encoding": "log"}, "encoding"),
        ({"ranges": [0.1, 0.4]}, "log-ranges"),
        ({"seed": 3}, "images"),
        ({"rows": ("free",)}, "exposures"),
    ],
)
def test_audits_that_are_not_alike_are_not_ranked_against_each_other(tmp_path, changed, word):
    make_up(tmp_path, "a")
    make_up(tmp_path, "b")
    make_up(tmp_path, "c", **changed)
    assert names(tmp_path) == ([["a", "b"], ["c"]], [word])


def test_a_gamma_matters_only_where_it_is_used(tmp_path):
    make_up(tmp_path, "a")
    make_up(tmp_path, "b", gamma=0.5)
    assert len(names(tmp_path)[0]) == 1
    make_up(tmp_path, "c", encoding="log")
    make_up(tmp_path, "d", encoding="log", gamma=0.5)
    assert len(names(tmp_path)[0]) == 3


def test_a_model_that_gets_nothing_right_comes_last(tmp_path):
    make_up(tmp_path, "a", np.zeros(4))
    make_up(tmp_path, "b", (0.01, 0.01, 0.01, 0.01))
    assert names(tmp_path) == ([["b", "a"]], [])
    edit(tmp_path / "a", model={"sha256": "no name"})
    assert names(tmp_path) == ([["b", "a"]], [])
