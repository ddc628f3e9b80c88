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
    product = jnp.matmul(first, second)
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


OPERATORS: dict[str, Callable] = {
    "aten._trilinear.default": _trilinear,
    "aten.addbmm.default": _add_sum,
    "aten.addmm.default": _add_product,
    "aten.addmv.default": _add_product,
    "aten.bmm.default": jnp.matmul,
    "aten.mm.default": jnp.matmul,
}
