"""Padding against PyTorch."""

import numpy as np
import pytest

from bfjax.models.aten import padding
from tests.models.aten.cases import (
    case,
    check,
    check_jit,
    draw,
    named,
    truth,
    whole,
    without_case,
)

ROWS, IMAGE = draw(2, 3, 5), draw(2, 3, 4, 5)
EDGES, FOUR = [2, 1], [2, 1, 0, 3]

CASES = [
    *(case("constant_pad_nd", x, FOUR, 1) for x in (IMAGE, whole(3, 4), truth(3, 4))),
    *(case("constant_pad_nd", IMAGE, pad)
      for pad in ([1, -2], [-1, 0, 2, -1], [0, 0, 0, 0, 1, 0], [])),
    case("constant_pad_nd", IMAGE, EDGES, -np.inf),
    *(case(f"{n}_pad1d", x, pad) for n in ("reflection", "replication") for x in (ROWS, ROWS[0])
      for pad in (EDGES, [-1, 2])),
    *(case(f"{n}_pad2d", x, pad) for n in ("reflection", "replication") for x in (IMAGE, IMAGE[0])
      for pad in (FOUR, [0, 0, 1, 1], [-1, 2, 1, -2])),
    case("replication_pad2d", IMAGE, [6, 7, 8, 9]),
    *(case("_pad_circular", x, pad)
      for x, pad in ((ROWS, EDGES), (IMAGE, FOUR), (IMAGE, [1, -1, 0, 2]))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(padding.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "reflection_pad2d", "constant_pad_nd"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(padding.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(padding, CASES) == set()
