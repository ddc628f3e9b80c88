"""PyTorch's convolutions, on activations (n, ..., c).

Where `bfjax.models.convolution` has a fast formulation it is taken; the rest is XLA's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from bfjax.models.convolution import conv2d, depthwise_conv2d, per_channel
from bfjax.models.winograd import Transformed, winograd_conv2d

_TOGETHER = 32  # channels: fewer leave a core's vector units idle, more are mostly zeros
Kernel = Float[Array, "*taps c_in_of_a_group c_out"]


def as_kernel(weight: Any, *, transposed: bool, groups: int) -> Any:
    """PyTorch's weight as the kernel of a correlation.

    A transposed convolution is a correlation with the kernel turned by 180°.

    Args:
      weight: (c_out, c_in / groups, *taps), or (c_in, c_out / groups, *taps) where transposed;
        of NumPy or JAX.
      transposed: whether it is a transposed convolution's.
      groups: of channels.

    Returns:
      (*taps, c_in / groups, c_out).
    """
    taps = range(2, weight.ndim)
    if not transposed:
        return weight.transpose(*taps, 1, 0)
    c_in, c_out, *size = weight.shape
    weight = weight[(slice(None), slice(None), *(slice(None, None, -1) for _ in taps))]
    weight = weight.reshape(groups, c_in // groups, c_out, *size)
    order = (*(t + 1 for t in taps), 1, 0, 2)
    return weight.transpose(order).reshape(*size, c_in // groups, groups * c_out)


def convolution(
    x: Float[Array, "n *pixels c"],
    weight: Float[Array, ...],
    bias: Float[Array, " c_out"] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    """``aten.convolution``, its weight as PyTorch has it."""
    kernel = as_kernel(weight, transposed=transposed, groups=groups)
    return convolve(x, kernel, bias, stride, padding, dilation, transposed, output_padding, groups)


def convolve(
    x: Float[Array, "n *pixels c"],
    kernel: Kernel | Transformed,
    bias: Float[Array, " c_out"] | None,
    stride: Sequence[int],
    padding: Sequence[int | Sequence[int]],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    """``aten.convolution`` with a kernel from `as_kernel`, or in Winograd's form.

    Its padding may also be pairs, of what is before and after.
    """
    if isinstance(kernel, Transformed):
        y = winograd_conv2d(x, kernel)
    else:
        n = x.ndim - 2
        strides, pads, steps, extra = (
            tuple(one) * (n if len(one) == 1 else 1)
            for one in (stride, padding, dilation, output_padding)
        )
        if transposed:
            y = _transposed(x, kernel, strides, pads, steps, extra, groups)
        else:
            pairs = [(p, p) if isinstance(p, int) else tuple(p) for p in pads]
            y = _correlated(x, kernel, strides, tuple(pairs), steps, groups)
    return y if bias is None else y + per_channel(bias, y)


def _correlated(x: Array, kernel: Array, strides: Any, pads: Any, steps: Any, groups: int) -> Array:
    plain = x.ndim == 4 and set(steps) == {1} and len(set(strides)) == 1
    if plain and groups == 1:
        return conv2d(x, kernel, stride=strides[0], padding=pads)
    if plain and groups == x.shape[-1]:
        x = jnp.repeat(x, kernel.shape[-1] // groups, axis=-1) if kernel.shape[-1] > groups else x
        return depthwise_conv2d(x, kernel[..., 0, :], stride=strides[0], padding=pads)
    if plain:
        return _grouped(x, kernel, strides[0], pads, groups)
    return lax.conv_general_dilated(
        x, kernel, strides, pads,
        rhs_dilation=steps, feature_group_count=groups, dimension_numbers=_numbers(x.ndim),
    )  # fmt: skip


def _grouped(x: Array, kernel: Array, stride: int, pads: Any, groups: int) -> Array:
    """Several groups at a time as one convolution, zeros between them: twice as fast as XLA's."""
    *taps, c_in, c_out = kernel.shape
    c_out = c_out // groups
    fitting = [n for n in range(1, groups + 1) if groups % n == 0 and n * c_in <= _TOGETHER]
    together = max(fitting, default=1)
    kernel = kernel.reshape(*taps, c_in, groups // together, together, c_out)
    parts = []
    for i, piece in enumerate(jnp.split(x, groups // together, axis=-1)):
        blocks = jnp.einsum("...ipo,pq->...qipo", kernel[..., i, :, :], jnp.eye(together))
        dense = blocks.reshape(*taps, together * c_in, together * c_out)
        parts.append(conv2d(piece, dense.astype(x.dtype), stride=stride, padding=pads))
    return jnp.concatenate(parts, axis=-1)


def _transposed(
    x: Array, kernel: Array, strides: Any, pads: Any, steps: Any, extra: Any, groups: int
) -> Array:
    reach = [d * (k - 1) for d, k in zip(steps, kernel.shape, strict=False)]
    around = [(r - p, r - p + e) for r, p, e in zip(reach, pads, extra, strict=True)]
    return lax.conv_general_dilated(
        x, kernel, (1,) * len(strides), around, lhs_dilation=strides,
        rhs_dilation=steps, feature_group_count=groups, dimension_numbers=_numbers(x.ndim),
    )  # fmt: skip


def _numbers(rank: int) -> lax.ConvDimensionNumbers:
    last = (0, rank - 1, *range(1, rank - 1))
    return lax.ConvDimensionNumbers(last, (rank - 1, rank - 2, *range(rank - 2)), last)


WITH_CHANNELS_LAST = {
    "aten.convolution.default": convolution,
    "bfjax.convolve": convolve,
}
