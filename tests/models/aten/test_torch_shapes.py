"""Views, permutations, splits and joins against PyTorch."""

import numpy as np
import pytest

from bfjax.models.aten import shapes
from tests.models.aten.cases import (
    case,
    check,
    check_jit,
    draw,
    named,
    scalar,
    truth,
    whole,
    without_case,
)

X, POINT, COUNTS = draw(2, 3, 4), scalar(1.5), whole(2, 3, 4)
IMAGE = draw(2, 8, 4, 6)
ONES = draw(1, 3, 1, 4)

CASES = [
    case("view", X, [4, -1]),
    case("view", POINT, [1, 1]),
    *(case("permute", x, dims) for x in (X, COUNTS) for dims in ([2, 0, 1], [-1, 0, -2])),
    *(case("squeeze.dim", ONES, dim) for dim in (0, -2, 1)),
    case("squeeze.dim", POINT, 0),
    *(case("squeeze.dims", ONES, dims) for dims in ([0, -2], [0, 1], [])),
    *(case("unsqueeze", X, dim) for dim in (0, 2, -1, -4)),
    case("unsqueeze", POINT, 0),
    case("expand", ONES, [5, 2, -1, 6, 4]),
    case("expand", POINT, [2, 3]),
    *(case("repeat", X, r) for r in ([1, 2, 1], [2, 1, 2, 3], [2, 0, 1])),
    case("repeat", POINT, [2]),
    *(case("flip", x, dims) for x in (X, truth(2, 3, 4)) for dims in ([0], [-1, 1], [])),
    *(case("roll", X, *args) for args in (([1], [0]), ([1, -2], [-1, 1]), ([5],), ([0], [1]))),
    case("split_with_sizes", X, [1, 3], -1),
    *(case("cat", [X, draw(2, 3, 4, seed=1)], dim) for dim in (0, -1)),
    case("cat", [X, COUNTS], 1),
    case("cat", [COUNTS, truth(2, 3, 4)], 1),
    case("cat", [X.astype(np.float16), X]),
    case("cat", [np.zeros(0, np.float32), X], 1),
    *(case("pixel_shuffle", x, 2) for x in (IMAGE, IMAGE[0])),
    case("native_channel_shuffle", IMAGE, 4, slope=None),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(shapes.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "pixel_shuffle", "split_with_sizes"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(shapes.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(shapes, CASES) == set()
