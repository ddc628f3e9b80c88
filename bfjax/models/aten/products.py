"""Products of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from bfjax.models.aten.promotion import with_rank


def _add_product(
    x: Array, first: Array, second: Array, *, beta: float = 1, alpha: float = 1
) -> Array:
    """Beta x + alpha first @ second; PyTorch does not look at x where beta is zero."""
    product = _matmul(first, second)
    product = product if alpha == 1 else alpha * product
    if beta == 0:
        return product
    return product + with_rank(x if beta == 1 else beta * x, product.ndim)


def _add_sum(x: Array, first: Array, second: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """The products of a batch, summed."""
    first = jnp.moveaxis(first, 0, 1)
    flat = first.reshape(first.shape[0], -1), second.reshape(-1, second.shape[-1])
    return _add_product(x, *flat, beta=beta, alpha=alpha)


def _trilinear(
    first: Array,
    second: Array,
    third: Array,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> Array:
    """A product of three tensors with these new axes, summed over some: `torch.nn.Bilinear`."""
    expanded = zip((first, second, third), (expand1, expand2, expand3), strict=True)
    first, second, third = (jnp.expand_dims(x, tuple(axes)) for x, axes in expanded)
    return jnp.sum(first * second * third, axis=tuple(sumdim))


def _matmul(first: Array, second: Array) -> Array:
    if min(first.ndim, second.ndim) < 3:  # no batch, or that of one of them alone
        return jnp.tensordot(first, second, 1) if second.ndim < 3 else jnp.matmul(first, second)
    rank = max(first.ndim, second.ndim)
    return jnp.matmul(with_rank(first, rank), with_rank(second, rank))


def _linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    out = _matmul(x, weight.T)
    return out if bias is None else out + with_rank(bias, out.ndim)


def _einsum(equation: str, tensors: Sequence[Array], *, path: Sequence[int] | None = None) -> Array:
    return jnp.einsum(equation.replace(" ", ""), *tensors)


_MATMULS = ("bmm", "dot", "matmul", "mm", "mv")
_ADDED = ("addmm", "addmv", "baddbmm")

OPERATORS: dict[str, Callable] = {
    **{f"aten.{name}.default": _matmul for name in _MATMULS},
    **{f"aten.{name}.default": _add_product for name in _ADDED},
    "aten._trilinear.default": _trilinear,
    "aten.addbmm.default": _add_sum,
    "aten.einsum.default": _einsum,
    "aten.linear.default": _linear,
    "aten.outer.default": jnp.outer,
}
