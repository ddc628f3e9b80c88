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

X, POINT, COUNTS, MATRIX = draw(2, 3, 4), scalar(1.5), whole(2, 3, 4), draw(3, 4)
IMAGE = draw(2, 8, 4, 6)
ONES = draw(1, 3, 1, 4)

CASES = [
    *(case(n, X, [4, -1]) for n in ("view", "reshape", "_unsafe_view")),
    case("view", POINT, [1, 1]),
    case("_reshape_alias", X, [6, 4], [4, 1]),
    case("view_as", X, MATRIX.reshape(2, 6)[:, :6].repeat(2, 0)),
    *(case("permute", x, dims) for x in (X, COUNTS) for dims in ([2, 0, 1], [-1, 0, -2])),
    *(case(n, X, 0, -1) for n in ("transpose.int", "swapaxes")),
    case("transpose.int", POINT, 0, -1),
    *(case("t", x) for x in (MATRIX, X[0, 0], POINT)),
    case("numpy_T", MATRIX),
    case("mT", X),
    case("movedim.int", X, 0, -1),
    case("movedim.intlist", X, [0, -1], [1, 0]),
    *(case("squeeze", x) for x in (ONES, X, POINT)),
    *(case("squeeze.dim", ONES, dim) for dim in (0, -2, 1)),
    case("squeeze.dim", POINT, 0),
    *(case("squeeze.dims", ONES, dims) for dims in ([0, -2], [0, 1], [])),
    *(case("unsqueeze", X, dim) for dim in (0, 2, -1, -4)),
    case("unsqueeze", POINT, 0),
    *(case(n, ONES, [5, 2, -1, 6, 4]) for n in ("expand", "broadcast_to")),
    case("expand", POINT, [2, 3]),
    case("expand_as", MATRIX, X),
    *(case("repeat", X, r) for r in ([1, 2, 1], [2, 1, 2, 3], [2, 0, 1])),
    case("repeat", POINT, [2]),
    *(case("tile", X, r) for r in ([2], [1, 2, 2], [2, 1, 1, 1])),
    *(case("repeat_interleave.self_int", X, 2, dim) for dim in (None, 0, -1)),
    case("repeat_interleave.self_int", X, 2, 1, output_size=6),
    *(case("flatten.using_ints", X, *dims) for dims in ((), (1,), (0, 1), (-2, -1), (1, 1))),
    case("flatten.using_ints", POINT),
    *(case("unflatten.int", X, dim, [2, -1]) for dim in (2, -1)),
    *(case("flip", x, dims) for x in (X, truth(2, 3, 4)) for dims in ([0], [-1, 1], [])),
    *(case("roll", X, *args) for args in (([1], [0]), ([1, -2], [-1, 1]), ([5],), ([0], [1]))),
    *(case("rot90", X, k, dims) for k, dims in ((1, [0, 1]), (2, [1, 2]), (-1, [-1, 0]))),
    *(case("split.Tensor", X, *args) for args in ((1,), (2, 1), (3, -1), (9, 1))),
    *(case(n, X, [1, 3], -1) for n in ("split.sizes", "split_with_sizes")),
    *(case("chunk", X, *args) for args in ((2,), (2, 1), (3, -1), (7, -1))),
    *(case("tensor_split.sections", X, n, 2) for n in (2, 3)),
    case("tensor_split.indices", X, [1, 3], -1),
    *(case("unbind.int", X, dim) for dim in (0, -1)),
    *(case(n, [X, draw(2, 3, 4, seed=1)], dim)
      for n in ("cat", "stack", "concat") for dim in (0, -1)),
    case("cat", [X, COUNTS], 1),
    case("cat", [COUNTS, truth(2, 3, 4)], 1),
    case("cat", [X.astype(np.float16), X]),
    case("cat", [np.zeros(0, np.float32), X], 1),
    case("stack", [POINT, POINT]),
    *(case(n, [X, X]) for n in ("hstack", "vstack")),
    *(case(n, [X[0, 0], X[0, 1]]) for n in ("hstack", "vstack")),
    *(case(f"pixel_{n}", x, 2) for n in ("shuffle", "unshuffle") for x in (IMAGE, IMAGE[0])),
    case("channel_shuffle", IMAGE, 4),
    case("native_channel_shuffle", IMAGE, 4, slope=None),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(shapes.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "pixel_shuffle", "split.Tensor"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(shapes.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(shapes, CASES) == set()
