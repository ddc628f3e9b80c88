"""Sampling at coordinates against PyTorch."""

import numpy as np
import pytest

from bfjax.models.aten import sampling
from tests.models.aten.cases import (
    case,
    check,
    check_jit,
    draw,
    named,
    without_case,
)

IMAGE = draw(2, 3, 5, 4)
GRID = draw(2, 3, 6, 2, low=-1.8, high=1.8, seed=1)
CORNERS = np.array([[-1, -1], [1, 1], [0, 0], [1, -1], [-3, 5]], np.float32)[None, None].repeat(
    2, 0
)
THETA = draw(2, 2, 3, low=-1, high=1)

CASES = [
    *(case(n, IMAGE, GRID, mode, padding, align) for n in ("grid_sampler_2d", "grid_sampler")
      for mode in range(3) for padding in range(3) for align in (False, True)),
    *(case("grid_sampler_2d", IMAGE, CORNERS, 0, padding, align)
      for padding in range(3) for align in (False, True)),
    *(case("affine_grid_generator", THETA, size, align)
      for size in ([2, 3, 4, 5], [2, 1, 1, 3]) for align in (False, True)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(sampling.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "grid_sampler_2d"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(sampling.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(sampling, CASES) == set()
