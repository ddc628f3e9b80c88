"""Products of matrices against PyTorch."""

import numpy as np
import pytest

from bfjax.models.aten import products
from tests.models.aten.cases import (
    case,
    check,
    check_curvature,
    check_jit,
    draw,
    named,
    scalar,
    whole,
    without_case,
)

A, B, V, W = draw(3, 4), draw(4, 5, seed=1), draw(4, seed=2), draw(3, seed=3)
BATCH, OTHER = draw(2, 3, 4, seed=4), draw(2, 4, 5, seed=5)
ROW = draw(5, seed=6)

CASES = [
    case("mm", A, B),
    case("mm", whole(3, 4), whole(4, 5, seed=1)),
    case("bmm", BATCH, OTHER),
    *(case("addmm", x, A, B) for x in (draw(3, 5), ROW, scalar(2.0))),
    case("addmm", ROW, A, B, beta=0.5, alpha=2),
    case("addmm", np.full(5, np.nan, np.float32), A, B, beta=0, slope=None),
    case("addmv", W, A, V, beta=2),
    case("addbmm", ROW, BATCH, OTHER, beta=2, alpha=0.5),
    case("_trilinear", A, draw(5, 4, 6), draw(3, 6), [1, 3], [0], [1, 2], [2, 3]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(products.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "addbmm", "bmm"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(products.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "addmm", "mm"), ids=str)
def test_second_derivatives_are_as_in_torch(case):
    check_curvature(products.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(products, CASES) == set()
