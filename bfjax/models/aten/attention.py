"""Scaled dot-product attention, in the forms that PyTorch's kernels have.

softmax(q kᵀ / √d + mask) v: Vaswani et al., Attention Is All You Need (2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from bfjax.models.aten.promotion import with_rank
from bfjax.models.aten.reductions import safe_softmax


def _attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """Attention over the last but one axis; `enable_gqa` shares keys among groups of queries."""
    if dropout_p > 0:
        raise ValueError(f"attention drops out {dropout_p}: call .eval() on the module first")
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (jnp.repeat(x, groups, axis=-3) for x in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = jnp.einsum("...qd,...kd->...qk", query * scale, key)
    if is_causal:
        causal = jnp.tri(*scores.shape[-2:], dtype=bool)
        scores = jnp.where(with_rank(causal, scores.ndim), scores, -jnp.inf)
    if attn_mask is not None:
        mask = with_rank(attn_mask, scores.ndim)
        scores = jnp.where(mask, scores, -jnp.inf) if mask.dtype == bool else scores + mask
    # only a mask can hide everything from a query
    softmax = jax.nn.softmax if attn_mask is None else safe_softmax
    return jnp.einsum("...qk,...kd->...qd", softmax(scores, -1), value)


def _kernel(order: str, outputs: int) -> Callable:
    """A kernel that takes these arguments by place, and whose backward pass needs more outputs."""
    names = order.split()

    def kernel(
        query: Array, key: Array, value: Array, *args: Any, **named: Any
    ) -> tuple[Array | None, ...]:
        given = dict(zip(names, args, strict=False)) | named
        given["attn_mask"] = given.pop("attn_bias", given.get("attn_mask"))
        options = {name: given[name] for name in _OPTIONS if name in given}
        return (_attention(query, key, value, **options), *[None] * (outputs - 1))

    return kernel


_OPTIONS = ("attn_mask", "dropout_p", "is_causal", "scale")
_BIAS = "attn_bias compute_log_sumexp dropout_p is_causal return_debug_mask"
_OVERRIDEABLE = "attn_bias dropout_p is_causal return_debug_mask"
_FLASH = _kernel("dropout_p is_causal return_debug_mask", 9)

OPERATORS: dict[str, Callable] = {
    "aten.scaled_dot_product_attention.default": _attention,
    "aten._scaled_dot_product_cudnn_attention.default": _kernel(_BIAS, 9),
    "aten._scaled_dot_product_efficient_attention.default": _kernel(_BIAS, 4),
    "aten._scaled_dot_product_flash_attention.default": _FLASH,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": _kernel("dropout_p is_causal", 2),
    "aten._scaled_dot_product_fused_attention_overrideable.default": _kernel(_OVERRIDEABLE, 9),
}
