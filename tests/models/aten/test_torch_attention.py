"""Attention against PyTorch."""

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.models.aten import attention
from tests.models.aten.cases import (
    Case,
    case,
    check,
    check_jit,
    draw,
    named,
    truth,
    without_case,
)

Q, K, V = draw(2, 4, 3, 8), draw(2, 4, 5, 8, seed=1), draw(2, 4, 5, 6, seed=2)
SAME = draw(2, 4, 5, 8, seed=3)
FEW = draw(2, 2, 5, 8, seed=4), draw(2, 2, 5, 8, seed=5)
BIAS, MASK = draw(2, 4, 3, 5), truth(3, 5)
BLIND = np.array([[False] * 5, [True] * 5, [True, False, True, False, True]])

CASES = [
    *(case("scaled_dot_product_attention", Q, K, V, mask)
      for mask in (None, BIAS, MASK, BIAS[0, 0], BIAS[:, :1].copy(), BLIND)),
    case("scaled_dot_product_attention", Q, K, V, scale=0.3),
    case("scaled_dot_product_attention", Q, K, V, None, 0.0, True),
    case("scaled_dot_product_attention", Q[0], K[0], V[0]),
    case("scaled_dot_product_attention", Q, *FEW, enable_gqa=True),
    *(case("_scaled_dot_product_flash_attention_for_cpu", SAME, K, K, *args, **options)
      for args in ((), (0.0, True)) for options in ({}, {"scale": 0.3})),
    case("_scaled_dot_product_flash_attention_for_cpu", SAME, K, K, attn_mask=draw(5, 5),
         slope=None),
]  # fmt: skip
FLASH = "aten._scaled_dot_product_{}.default"
# kernels that PyTorch has for accelerators only, and what they compute in its own words
KERNELS = [
    (FLASH.format("flash_attention"), (0.0, True), 9, {"is_causal": True}),
    (FLASH.format("efficient_attention"), (BIAS, False, 0.0, False), 4, {"attn_mask": BIAS}),
    (FLASH.format("efficient_attention"), (None, True), 4, {}),
    (FLASH.format("cudnn_attention"), (BIAS, False), 9, {"attn_mask": BIAS}),
    (FLASH.format("fused_attention_overrideable"), (BIAS,), 9, {"attn_mask": BIAS}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(attention.OPERATORS[case.name], case)


@pytest.mark.parametrize(("name", "args", "outputs", "options"), KERNELS)
def test_a_kernel_of_accelerators_is_attention_as_in_torch(name, args, outputs, options):
    def operator(query, key, value, **options):
        given = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in args]
        found = attention.OPERATORS[name](query, key, value, *given, scale=0.3)
        assert len(found) == outputs
        return found[0]

    options = {**options, "scale": 0.3}
    check(operator, case("scaled_dot_product_attention", Q, K, V, slope=None, **options))


@pytest.mark.parametrize("case", named(CASES, "scaled_dot_product_attention"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(attention.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    called = [*CASES, *(Case(name, (), {}, 0, None) for name, *_ in KERNELS)]
    assert without_case(attention, called) == set()


def test_dropout_is_refused():
    operator = attention.OPERATORS["aten.scaled_dot_product_attention.default"]
    with pytest.raises(ValueError, match=r"drops out 0\.1: call \.eval\(\)"):
        operator(*map(jnp.asarray, (Q, K, V)), None, 0.1)
