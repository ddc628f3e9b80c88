"""Activations against PyTorch, at their kinks too."""

import numpy as np
import pytest

from bfjax.models.aten import activations
from tests.models.aten.cases import (
    array,
    case,
    check,
    check_curvature,
    check_jit,
    draw,
    named,
    without_case,
)

X = draw(2, 4, 3, low=-5, high=5)
KINKS = array(-30, -3, -1, -0.5, 0, 0.5, 1, 3, 6, 30)
PLAIN = [
    "celu",
    "elu",
    "gelu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "silu",
    "softplus",
    "softshrink",
]
CASES = [
    *(case(name, x) for name in PLAIN for x in (X, KINKS)),
    *(case(name, array(np.nan, np.inf, -np.inf), slope=None)
      for name in ("relu", "hardtanh", "leaky_relu", "softplus", "elu")),
    case("relu", array(-2, 0, 3, dtype=np.int64)),
    case("celu", X, 0.7),
    case("elu", X, 0.7, 1.2, 0.5),
    case("gelu", X, approximate="tanh"),
    case("hardshrink", X, 1),
    case("hardtanh", KINKS, 0, 6),
    case("leaky_relu", X, 0.2),
    case("softplus", KINKS, 2, 5),
    case("softshrink", X, 1),
    case("threshold", KINKS, 0.5, 20),
    case("logit", draw(2, 3, low=0.1, high=0.9)),
    case("logit", array(0, 0.1, 0.5, 0.9, 1), 0.1),
    *(case("glu", X.reshape(4, 6), dim) for dim in (0, 1, -1)),
    *(case("prelu", x, w) for x in (X, X[0]) for w in (draw(1), draw(4)[:x.shape[1]])),
    case("prelu", KINKS, draw(1)),
    case("_prelu_kernel", X, draw(1, 4, 1)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(activations.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "gelu", "elu"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(activations.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "gelu", "silu", "elu", "softplus", "mish"), ids=str)
def test_second_derivatives_are_as_in_torch(case):
    check_curvature(activations.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(activations, CASES) == set()
