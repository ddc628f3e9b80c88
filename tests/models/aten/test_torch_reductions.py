"""Reductions, softmax and running sums against PyTorch."""

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.models import aten
from bfjax.models.aten import reductions
from bfjax.models.aten.channels_last import ChannelsLast, plain
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
)

X, POINT, COUNTS, MASK = draw(2, 3, 4), scalar(1.5), whole(2, 3, 4), truth(2, 3, 4)
HALF = X.astype(np.float16)
TIES = array(1, 2, 2, 0, 2)
SPECTRUM = array([3 + 4j, 2j, 0], [-1, 1j, 1 - 1j], dtype=np.complex64)
ZEROS = array([0, 0, 0], [3, 4, 0])
F32, F64 = map(np.dtype, ("f4", "f8"))
DIMS = ([0], [-1], [0, 2], [-1, 0], [])
SPREADS = ("var", "std", "var_mean", "std_mean")

CASES = [
    *(case("prod", x) for x in (X, POINT, COUNTS, MASK)),
    *(case("sum.dim_IntList", x, *dim) for x in (X, COUNTS, MASK)
      for dim in [*([d] for d in DIMS), ([1], True), (None,)]),
    case("sum.dim_IntList", POINT, [0]),
    case("sum.dim_IntList", COUNTS, [1], dtype=F32),
    case("sum.dim_IntList", HALF, [1]),
    case("sum.dim_IntList", X, [1], dtype=F64),
    case("prod.dim_int", X, 1),
    case("prod.dim_int", COUNTS, -1, True),
    case("prod", array(0, 2, 3)),
    case("prod", array(0, 0, 3)),
    case("mean", X),
    case("mean", COUNTS, dtype=F32),
    *(case("mean.dim", X, dim) for dim in (*DIMS, None)),
    case("mean.dim", X, [-1, -2], True),
    case("mean.dim", HALF, [1]),
    *(case(n, x) for n in ("any", "max", "min") for x in (COUNTS, MASK, scalar(True, bool))),
    *(case("any.dim", x, 1, keep) for x in (COUNTS, MASK) for keep in (False, True)),
    *(case("any.dims", MASK, dim) for dim in ([0], [0, -1], [], None)),
    *(case(n, x) for n in ("max", "min") for x in (X, TIES, POINT)),
    *(case(n, x, dim) for n in ("amax", "amin") for x in (X, COUNTS) for dim in DIMS),
    *(case(n, TIES, [0], True) for n in ("amax", "amin")),
    *(case(n, array(1, np.nan), slope=None) for n in ("amax", "amin", "max", "min")),
    *(case(n, X, *args) for n in SPREADS for args in ((), (False,))),
    *(case(f"{n}.dim", X, *args) for n in SPREADS
      for args in (([1],), ([0, -1], False), ([1], True, True), (None,))),
    *(case(f"{n}.correction", X, dim, **options) for n in SPREADS
      for dim, options in (([1], {}), (None, {"correction": 0}), ([0, 2], {"correction": 2}),
                           ([-1], {"correction": 0.5, "keepdim": True}))),
    *(case(f"{n}.correction", array([1], [2]), [1], slope=None) for n in SPREADS),
    *(case(f"{n}.correction", array([1, 1], [2, 3]), [1]) for n in ("std", "std_mean")),
    *(case("linalg_vector_norm", x, p) for x in (X, ZEROS)
      for p in (2, 1, 0, np.inf, -np.inf)),
    *(case("linalg_vector_norm", X, p) for p in (3, 2.5, 0.5, -1)),
    *(case("linalg_vector_norm", array(0.0, 1.0, 2.0), p, slope=None) for p in (-1, -2.5)),
    *(case("linalg_vector_norm", ZEROS, p, [1]) for p in (2, 3, 1)),
    *(case("linalg_vector_norm", X, 2, dim, True) for dim in ([1], [-1, 0], None)),
    case("linalg_vector_norm", HALF, 2, [1], dtype=F32),
    *(case("linalg_vector_norm", SPECTRUM, p, [1]) for p in (2, 1, 0, 3, np.inf)),
    *(case(f"{n}.correction", SPECTRUM, [1], correction=c) for n in SPREADS for c in (0, 1)),
    *(case(n, SPECTRUM) for n in ("mean", "prod")),
    case("sum.dim_IntList", SPECTRUM, [1]),
    case("linalg_vector_norm", array(1, -2, 2), np.inf),
    *(case(n, X, dim, False) for n in ("_softmax", "_log_softmax") for dim in (0, 1, -1)),
    *(case(n, POINT, 0, False) for n in ("_softmax", "_log_softmax")),
    *(case(n, array(1000, 0, -np.inf), 0, False, slope=None) for n in ("_softmax", "_log_softmax")),
    *(case(n, x, dim) for n in ("cumsum", "cumprod") for x in (X, COUNTS, MASK) for dim in (0, -1)),
    *(case(n, POINT, 0) for n in ("cumsum", "cumprod")),
    case("cumprod", array(2, 0, 3), 0),
    case("cumsum", COUNTS, 1, dtype=F32),
    case("logcumsumexp", X, 1),
    *(case("_cdist_forward", X, draw(2, 5, 4, seed=1), p, None, slope=None)
      for p in (2.0, 1.0, np.inf)),
    *(case("_pdist_forward", X[0], p, slope=None) for p in (2.0, 1.0)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(reductions.OPERATORS[case.name], case)


OF_PIXELS = [
    *(case("mean.dim", x, [2, 3], dtype=F32)
      for x in (truth(1, 2, 8, 8), whole(1, 2, 8, 8), draw(1, 2, 8, 8))),
    *(case("mean.dim", draw(1, 2, 8, 8), [-1, -2], keep) for keep in (False, True)),
]  # fmt: skip


@pytest.mark.parametrize("case", OF_PIXELS, ids=str)
def test_a_mean_of_pixels_with_channels_last_is_as_in_torch(case):
    def mean(x, *args, **kwargs):
        x = ChannelsLast(jnp.moveaxis(x, 1, -1))
        return plain(aten.call(case.name, x, *args, **kwargs))

    check(mean, case)


SOME = named(CASES, "sum.dim_IntList", "var.correction", "linalg_vector_norm", "_softmax")
SMOOTH = named(CASES, "var.correction", "linalg_vector_norm", "_softmax", "_log_softmax")


@pytest.mark.parametrize("case", SOME, ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(reductions.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", [*SMOOTH, *named(CASES, "prod", "std.dim", "cumprod")], ids=str)
def test_second_derivatives_are_as_in_torch(case):
    check_curvature(reductions.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(reductions, CASES) == set()
