"""Elementwise operators against PyTorch."""

import numpy as np
import pytest

from bfjax.models.aten import arithmetic
from tests.models.aten.cases import (
    array,
    case,
    check,
    check_curvature,
    check_jit,
    draw,
    named,
    scalar,
    truth,
    whole,
    without_case,
)  # fmt: skip

X, Y, ROW = draw(2, 3), draw(2, 3, seed=1), draw(3, seed=2)
UNIT, ABOVE = draw(2, 3, low=-0.9, high=0.9), draw(2, 3, low=1.1, high=3)
COUNTS, MORE, MASK = whole(2, 3), whole(2, 3, low=1, seed=1), truth(2, 3)
ODD = array(0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan)
HALF = X.astype(np.float16)
F16, F32, I32, I64, F64, BOOL = map(np.dtype, ("f2", "f4", "i4", "i8", "f8", "?"))

CASES = [
    *(case(n, UNIT) for n in ("acos", "asin", "atanh", "erfinv")),
    *(case(n, ABOVE) for n in ("acosh", "lgamma", "digamma")),
    *(case(n, X) for n in ("asinh", "atan", "cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1")),
    *(case(n, abs(X)) for n in ("log", "log10", "log1p", "log2", "rsqrt", "sqrt")),
    *(case(n, X) for n in ("reciprocal", "sin", "sinh", "tan", "tanh", "sigmoid")),
    *(case(n, COUNTS) for n in ("exp", "cos", "sigmoid", "atan", "reciprocal")),
    *(case(n, MORE.astype(np.uint8)) for n in ("sqrt", "log", "rsqrt", "tanh")),
    *(case(n, MASK) for n in ("exp", "sigmoid")),
    case("exp", HALF),
    *(case(n, x) for n in ("abs", "neg", "sign") for x in (X, COUNTS)),
    *(case(n, array(3 + 4j, -2j, 0, dtype=np.complex64)) for n in ("abs", "neg")),
    *(case(n, x) for n in ("ceil", "floor", "round", "trunc") for x in (X, COUNTS)),
    case("round", array(0.5, 1.5, 2.5, -0.5)),
    case("round.decimals", draw(5), decimals=2),
    *(case(n, ODD, slope=None)
      for n in ("isinf", "isnan", "sign", "abs", "exp")),
    case("isinf", COUNTS),
    case("abs", array(0.0, 1.0)),
    case("sqrt", array(0.0, 4.0)),
    *(case("bitwise_not", x) for x in (COUNTS, MASK)),
    *(case("logical_not", x) for x in (COUNTS, MASK, ODD)),
    *(case(f"logical_{n}", MASK, x) for n in ("and", "or", "xor") for x in (COUNTS, ROW)),
    case("atan2", X, ROW),
    case("atan2", COUNTS, MORE),
    case("atan2", array(0.0, 0.0, 1.0), array(0.0, 2.0, 0.0)),
    *(case(n, array(0.0, 1.0, -1.0), array(0.0, 0.0, -1.0)) for n in ("fmax", "fmin")),
    case("div.Tensor_mode", array(1.0, -1.0, 0.0, 3.0), array(0.0, 0.0, 0.0, 2.0),
         rounding_mode="floor", slope=None),
    case("hypot", X, ROW),
    *(case(n, X, y) for n in ("maximum", "minimum") for y in (Y, X)),
    *(case(n, X, ROW) for n in ("maximum", "fmax", "fmin")),
    case("maximum", COUNTS, X),
    *(case(n, array(np.nan, 1.0), array(0.0, np.nan), slope=None)
      for n in ("maximum", "fmax", "fmin")),
    # one type from two: tensors before numbers, and those with axes before those without
    *(case(f"{n}.Tensor", X, y) for n in ("add", "sub", "mul", "div") for y in (Y, ROW, COUNTS)),
    *(case("mul.Tensor", *xy) for xy in [
        (COUNTS, scalar(2.0)), (HALF, scalar(2.0)), (COUNTS, MASK), (MASK, MASK), (ROW, X),
        (COUNTS.astype(np.int8), COUNTS.astype(np.uint8)), (scalar(2.0), scalar(3, np.int64)),
        (scalar(1.5), HALF), (MASK, scalar(3, np.int64)),
    ]),
    *(case(f"{n}.Scalar", x, y) for n in ("add", "sub", "mul")
      for x in (X, COUNTS) for y in (2, 0.5)),
    *(case("div.Scalar", x, y) for x in (X, COUNTS, MASK) for y in (2, 0.5)),
    case("mul.Scalar", MASK, 3),
    case("mul.Scalar", MASK, 3.0),
    case("mul.Scalar", HALF, 3.0),
    case("add.Tensor", MASK, MASK),
    case("div.Tensor", COUNTS, MORE),
    case("add.Tensor", X, ROW, alpha=2),
    case("add.Scalar", X, 1.5, 2),
    case("sub.Tensor", X, Y, alpha=0.5),
    case("sub.Scalar", X, 1.5, 2),
    case("div.Tensor", ODD, array(*[0.0] * 7), slope=None),
    *(case("div.Tensor_mode", x, y, rounding_mode=mode)
      for x, y in ((X, Y), (COUNTS, MORE), (-COUNTS, -MORE), (X, MORE))
      for mode in ("floor", "trunc", None)),
    *(case("div.Scalar_mode", x, y, rounding_mode=mode)
      for x in (X, COUNTS) for y in (-2, 0.7) for mode in ("floor", "trunc", None)),
    *(case(f"{n}.Tensor", *xy) for n in ("remainder", "fmod")
      for xy in [(X, Y), (COUNTS, MORE), (COUNTS, -MORE), (X, ROW)]),
    *(case(f"{n}.Scalar", x, y) for n in ("remainder", "fmod") for x in (X, COUNTS)
      for y in (3, -3, 0.7)),
    case("remainder.Scalar_Tensor", 5, Y, slope=None),
    *(case("pow.Tensor_Scalar", X, y) for y in (2, 2.0, 3, 0, 1, -1, -2.0)),
    *(case("pow.Tensor_Scalar", abs(X), y) for y in (0.5, -0.5, 1.7)),
    *(case("pow.Tensor_Scalar", array(0.0, 1.0), y) for y in (0, 1, 2, 2.0, 3.0, 1.5)),
    case("pow.Tensor_Scalar", COUNTS, 2),
    case("pow.Tensor_Scalar", COUNTS, 2.0),
    case("pow.Tensor_Tensor", abs(X), ROW),
    case("pow.Tensor_Tensor", COUNTS, MORE),
    case("pow.Tensor_Tensor", array(0.0, 0.0), array(1.0, 2.0)),
    case("pow.Scalar", 2, X),
    case("pow.Scalar", 2.5, COUNTS),
    case("pow.Scalar", 2, MORE),
    *(case(f"{n}.Scalar", x, y) for n in ("eq", "ne", "ge", "gt", "le", "lt")
      for x in (COUNTS, X, ODD) for y in (1, 0.5)),
    *(case(f"{n}.Tensor", COUNTS, y) for n in ("eq", "ne", "ge", "gt", "le", "lt")
      for y in (MORE, ROW, MASK)),
    *(case(f"bitwise_{n}.Tensor", *xy) for n in ("and", "or", "xor")
      for xy in [(COUNTS, MORE), (MASK, ~MASK), (COUNTS, MASK)]),
    *(case(f"bitwise_{n}.Scalar", COUNTS, 5) for n in ("and", "or", "xor")),
    case("bitwise_and.Scalar", MASK, True),
    *(case(f"__{n}__.{form}", COUNTS, y) for n in ("lshift", "rshift")
      for form, y in (("Tensor", MORE), ("Scalar", 3))),
    *(case(f"bitwise_{n}_shift.{form}", COUNTS, y) for n in ("left", "right")
      for form, y in (("Tensor", MORE), ("Tensor_Scalar", 3))),
    *(case("where.self", MASK, *xy) for xy in [(X, Y), (X, ROW), (COUNTS, X), (HALF, scalar(1.0))]),
    case("where.self", truth(3), X, scalar(0.0)),
    *(case("clamp", x, *bounds) for x in (X, array(-1.0, 0.0, 1.0), COUNTS)
      for bounds in ((-1, 1), (None, 1), (0, None), (1, -1))),
    case("clamp", ODD, -1, 1, slope=None),
    case("clamp", COUNTS, 0.5),
    case("clamp", MASK, 0, 1),
    case("clamp.Tensor", X, ROW, None),
    case("clamp.Tensor", X, None, Y),
    case("clamp.Tensor", X, Y, Y + 0.5),
    case("clamp.Tensor", X, Y + 0.5, Y),
    case("fill.Scalar", X, 3),
    case("copy", X, ROW, slope=None),
    case("copy", COUNTS, X, slope=None),
    *(case(n, X) for n in ("alias", "clone", "lift_fresh_copy")),
    *(case("_to_copy", x, dtype=dtype) for x in (X, COUNTS, MASK)
      for dtype in (F16, F32, I32, I64, BOOL)),
    case("_to_copy", COUNTS, dtype=F64),
    case("_to_copy", X),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(arithmetic.OPERATORS[case.name], case)


SOME = named(CASES, "add.Tensor", "pow.Tensor_Scalar", "clamp", "div.Tensor_mode", "where.self")
SMOOTH = named(CASES, "sigmoid", "pow.Tensor_Tensor", "atan2", "div.Tensor", "sqrt", "mul.Tensor")


@pytest.mark.parametrize("case", SOME, ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(arithmetic.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_second_derivatives_are_as_in_torch(case):
    check_curvature(arithmetic.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(arithmetic, CASES) == set()
