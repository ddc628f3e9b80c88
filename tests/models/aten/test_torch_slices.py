"""Slices, diagonals and windows against PyTorch."""

import pytest

from bfjax.models.aten import slices
from tests.models.aten.cases import (
    case,
    check,
    check_jit,
    draw,
    named,
    whole,
    without_case,
)

X, COUNTS, IMAGE = draw(2, 3, 4), whole(2, 3, 4), draw(2, 3, 6, 7)
LAST = 2**63 - 1

CASES = [
    *(case("select.int", x, *args) for x in (X, COUNTS) for args in ((0, 1), (-1, -2), (1, 0))),
    *(case("slice.Tensor", X, *args) for args in (
        (), (1, 1), (-1, 1, 3), (-1, -3, -1), (2, 0, LAST), (2, 0, LAST, 2), (2, 1, 4, 2),
        (1, None, -1),
        (2, -100, 100), (1, 2, 1), (1, 5, 9),
    )),
    case("slice_scatter", X, draw(2, 1, 4, seed=1), 1, 1, 2),
    case("slice_scatter", X, draw(2, 3, 2, seed=1), -1, 0, LAST, 2),
    case("slice_scatter", COUNTS, whole(2, 3, 2, seed=1), -1, -2),
    *(case("select_scatter", X, draw(2, 3, seed=1), 2, index) for index in (0, -1)),
    *(case("diagonal", X, *args) for args in ((), (1,), (-1, 1, 2), (0, -1, 0))),
    *(case("diagonal_scatter", X, draw(*shape, seed=1), *args)
      for shape, args in (((4, 2), ()), ((2, 3), (1, 1, 2)), ((3, 2), (-1, 2, 0)))),
    *(case("as_strided", X, *args) for args in (
        ([2, 2], [12, 1]), ([3, 2], [2, 2], 1), ([], []), ([3, 8], [8, 1]),
        ([2, 3, 2, 2], [12, 4, 2, 1]),
    )),
    *(case("unfold", X, *args)
      for args in ((2, 2, 1), (-1, 2, 2), (1, 3, 1), (0, 1, 1), (2, 3, 2))),
    *(case("im2col", x, *args) for x in (IMAGE, IMAGE[0]) for args in (
        ([2, 3], [1, 1], [0, 0], [1, 1]), ([3, 2], [2, 1], [1, 2], [2, 3]),
        ([2, 2], [1, 1], [0, 0], [2, 2]),
    )),
    case("col2im", draw(2, 18, 16), [5, 6], [2, 3], [1, 1], [0, 0], [1, 1]),
    case("col2im", draw(2, 18, 8), [6, 7], [3, 2], [2, 1], [1, 2], [2, 3]),
    case("col2im", draw(12, 9), [6, 6], [2, 2], [1, 1], [0, 0], [2, 2]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(slices.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "im2col", "col2im", "slice_scatter"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(slices.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(slices, CASES) == set()
