"""Extremes with their places, and sorting, against PyTorch."""

import numpy as np
import pytest

from bfjax.models.aten import sorting
from tests.models.aten.cases import (
    array,
    case,
    check,
    check_jit,
    draw,
    named,
    scalar,
    whole,
    without_case,
)

X, POINT, COUNTS = draw(2, 3, 4), scalar(1.5), whole(2, 3, 4)
TIES = array(1, 2, 2, 0, 2)
ODD = array(1, np.nan, -np.inf, 3, np.nan)

CASES = [
    *(case(f"{n}.dim", x, dim, keep) for n in ("max", "min") for x in (X, COUNTS)
      for dim in (0, -1) for keep in (False, True)),
    *(case(f"{n}.dim", x, 0) for n in ("max", "min") for x in (TIES, POINT)),
    *(case(f"{n}.dim", ODD, 0, slope=None) for n in ("max", "min")),
    *(case(n, x, *args) for n in ("argmax", "argmin") for x in (X, COUNTS)
      for args in ((), (1,), (-1, True), (None, True))),
    *(case(n, x) for n in ("argmax", "argmin") for x in (TIES, POINT, ODD)),
    *(case(n, POINT, 0) for n in ("argmax", "argmin")),
    *(case(n, x, dim) for n in ("cummax", "cummin") for x in (X, COUNTS) for dim in (1, -1)),
    *(case(n, x, 0) for n in ("cummax", "cummin") for x in (TIES, POINT)),
    *(case("kthvalue", X, *args) for args in ((2,), (1, 0), (3, 1, True))),
    *(case("median.dim", X, *args) for args in ((0,), (1, True), (-1,))),
    case("median.dim", COUNTS, 0),
    case("median.dim", ODD, 0, slope=None),
    *(case("median", x) for x in (X, draw(5), POINT, array(1, 1, 2), TIES, COUNTS,
      np.full(5000, 100 / 255, np.float32))),
    case("median", ODD, slope=None),
    *(case(n, array(1.0, np.nan, 3.0, np.nan, 0.0), 0, slope=None) for n in ("cummax", "cummin")),
    *(case("sort", X, *args) for args in ((), (0,), (1, True))),
    *(case("sort.stable", x, stable=True, dim=0, descending=down)
      for x in (TIES, POINT, COUNTS) for down in (False, True)),
    *(case("sort.stable", ODD, stable=True, descending=down, slope=None) for down in (False, True)),
    *(case("topk", x, 2, dim, largest) for x in (X, COUNTS[0] + np.arange(4) / 7)
      for dim in (-1, 0) for largest in (True, False)),
    case("topk", POINT, 1),
    case("topk", np.arange(5, dtype=np.uint8), 2, 0, False),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(sorting.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "max.dim", "topk"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(sorting.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(sorting, CASES) == set()
