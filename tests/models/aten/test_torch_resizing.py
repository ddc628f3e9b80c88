"""Interpolation against PyTorch."""

import pytest

from bfjax.models.aten import resizing
from tests.models.aten.cases import (
    case,
    check,
    check_jit,
    draw,
    named,
    without_case,
)

ROWS, IMAGE = draw(2, 3, 7), draw(2, 3, 5, 7)
NEAREST = ("upsample_nearest{}d", "_upsample_nearest_exact{}d")
SMOOTH = ("upsample_bilinear2d", "upsample_bicubic2d")
ANTIALIASED = ("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
SIZES = ([10, 14], [3, 4], [8, 5], [1, 1], [5, 7], [11, 3])
FACTORS = ([2.0, 2.0], [0.5, 0.6], [1.7, 2.3], [1.0, 1.3], [3.0, 1.0])

CASES = [
    *(case(n.format(1), ROWS, [size]) for n in NEAREST for size in (14, 4, 10, 1)),
    *(case(n.format(1), ROWS, [12], 1.8) for n in NEAREST),
    *(case(n.format(1) + ".vec", ROWS, *args)
      for n in NEAREST for args in (([9], None), (None, [2.3]))),
    *(case(n.format(2), IMAGE, size) for n in NEAREST for size in SIZES),
    *(case(n.format(2), IMAGE, [8, 15], 1.7, 2.2) for n in NEAREST),
    *(case(n.format(2) + ".vec", IMAGE, None, f) for n in NEAREST for f in FACTORS),
    *(case(n.format(2) + ".vec", IMAGE, [4, 9], None) for n in NEAREST),
    *(case("upsample_linear1d", ROWS, [size], a) for size in (14, 4, 1) for a in (False, True)),
    case("upsample_linear1d", ROWS, [12], False, 1.8),
    *(case("upsample_linear1d.vec", ROWS, *args)
      for args in (([9], True, None), (None, False, [2.3]))),
    *(case(n, IMAGE, size, a) for n in SMOOTH for size in SIZES for a in (False, True)),
    *(case(f"{n}.vec", IMAGE, None, a, f) for n in SMOOTH for f in FACTORS for a in (False, True)),
    *(case(f"{n}.vec", IMAGE, [4, 9], False, None) for n in SMOOTH),
    # what keeps its size; PyTorch's gradient of what it copies is that of the resampled image
    *(case(f"{n}.vec", IMAGE, None, False, f, slope=None)
      for n in (*SMOOTH, *ANTIALIASED) for f in ([1.02, 1.05], [1.02, 2.0])),
    *(case(n.format(2) + ".vec", IMAGE, None, [1.02, 1.05]) for n in NEAREST),
    *(case(n, IMAGE, size, a) for n in ANTIALIASED for size in SIZES for a in (False, True)),
    *(case(f"{n}.vec", IMAGE, None, False, f) for n in ANTIALIASED for f in FACTORS),
    # as large as real ones: the coordinates are computed as exactly as in PyTorch
    *(case(n, draw(1, 1, 37, 223), [64, 97], False, within=1e-5, slope=None)
      for n in (*SMOOTH, *ANTIALIASED)),
    *(case(n.format(2), draw(1, 1, 37, 223), [64, 97]) for n in NEAREST),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(resizing.OPERATORS[case.name], case)


SOME = named(CASES, "upsample_nearest2d.vec", "upsample_bilinear2d", "_upsample_bicubic2d_aa")


@pytest.mark.parametrize("case", SOME, ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(resizing.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(resizing, CASES) == set()
