"""New tensors against PyTorch."""

import numpy as np
import pytest

from bfjax.models.aten import creation
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

X, COUNTS = draw(2, 3), whole(2, 3)
F16, F32, F64, I32, I64, BOOL = map(np.dtype, ("f2", "f4", "f8", "i4", "i8", "?"))

CASES = [
    *(case("arange.start_step", *args)
      for args in ((1, 9, 3), (0, 1, 0.1), (5, 0, -2), (0.0, 7, 1), (0.5, 3), (3, 3))),
    case("arange.start_step", 0, 4, 1, dtype=F64),
    *(case("full", [2, 2], v) for v in (1, 1.5, True, -np.inf)),
    *(case("full", [2], 1, dtype=d) for d in (F32, I64, BOOL, F16, F64)),
    case("full", [], np.pi),
    *(case("full_like", x, v) for x in (X, COUNTS, truth(2)) for v in (2, True)),
    case("full_like", X, 3, dtype=I32),
    *(case("scalar_tensor", v) for v in (1, 1.5, True)),
    case("scalar_tensor", -np.inf, dtype=F32),
    case("scalar_tensor", 1, dtype=I64),
    *(case(n, 3, 4, *o) for n in ("tril_indices", "triu_indices") for o in ((), (1,), (-1,))),
]  # fmt: skip
# their values are not defined: PyTorch's are what lay in memory
UNDEFINED = [
    case("empty.memory_format", [2, 3]),
    case("empty.memory_format", [2], dtype=I64),
    case("empty_permuted", [2, 3], [1, 0]),
    case("empty_strided", [2, 3], [3, 1]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(creation.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", UNDEFINED, ids=str)
def test_shape_and_type_are_as_in_torch(case):
    check(creation.OPERATORS[case.name], case, values=False)


@pytest.mark.parametrize("case", named(CASES, "arange.start_step", "tril_indices"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(creation.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(creation, [*CASES, *UNDEFINED]) == set()


def test_an_integer_that_has_no_room_becomes_the_largest():
    found = creation.OPERATORS["aten.full.default"]([1], 2**63 - 1, dtype=I64)
    assert found.tolist() == [2**31 - 1]
