"""Activations with their channels behind the pixels, as convolutions are fast on.

PyTorch counts axes (n, c, h, w), and so do the operators. Between convolutions, norms and pools the
array itself stays (n, h, w, c), and what stands in between takes it as it is: elementwise
operators, concatenations, means, views and permutations that leave the pixels' order alone. Any
other operator gets the array as it counts it, by a transposition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bfjax.models.aten import pixels


@dataclasses.dataclass(frozen=True)
class ChannelsLast:
    """An activation that operators count as (n, c, ...).

    Attributes:
      array: (n, ..., c).
    """

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """As the operators count it."""
        n, *pixels, c = self.array.shape
        return (n, c, *pixels)

    @property
    def ndim(self) -> int:
        """How many axes."""
        return self.array.ndim


def plain(value: Any) -> Any:
    """An array as operators count it, whatever form it has; anything else as it is."""
    return jnp.moveaxis(value.array, -1, 1) if isinstance(value, ChannelsLast) else value


def channels_last(value: Array | ChannelsLast) -> ChannelsLast:
    """The form with channels last, of an array of at least three axes."""
    return value if isinstance(value, ChannelsLast) else ChannelsLast(jnp.moveaxis(value, 1, -1))


def elementwise(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """A function of single elements, on arrays with channels last where one has them there.

    Args:
      function: of plain arrays, which looks at no axis.
      args: its positional arguments.
      kwargs: its keyword arguments.

    Returns:
      Its result, with channels last; `None` where that cannot be.
    """
    leaves = jax.tree.leaves((args, kwargs), is_leaf=_is_array)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    ranks = {a.ndim for a in arrays if isinstance(a, ChannelsLast)}
    if len(ranks) != 1 or max(a.ndim for a in arrays) > max(ranks):
        return None
    (rank,) = ranks

    def turned(leaf: Any) -> Any:
        if not _is_array(leaf) or leaf.ndim == 0:
            return leaf
        if leaf.ndim < rank:
            leaf = leaf.reshape((1,) * (rank - leaf.ndim) + leaf.shape)
        return channels_last(leaf).array

    args, kwargs = jax.tree.map(turned, (args, kwargs), is_leaf=_is_array)
    return ChannelsLast(function(*args, **kwargs))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | ChannelsLast)


def permute(x: Array | ChannelsLast, dims: Sequence[int]) -> Array | ChannelsLast:
    """``aten.permute``; moving channels to the end or back is only another name for the array."""
    rank = x.ndim
    dims = [d % rank for d in dims]
    last, first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    if isinstance(x, ChannelsLast):
        order = [last.index(d) for d in dims]  # axes of the array itself
        return x.array if order == list(range(rank)) else jnp.transpose(x.array, order)
    if rank > 2 and dims == first:
        return ChannelsLast(x)
    return jnp.transpose(x, dims)


def view(x: Array | ChannelsLast, size: Sequence[int]) -> Array | ChannelsLast:
    """``aten.view``; one that only cuts the pixels anew leaves channels last."""
    if isinstance(x, ChannelsLast) and len(size) > 2 and tuple(size[:2]) == x.shape[:2]:
        n, c, *pixels = size
        return ChannelsLast(x.array.reshape(n, *pixels, c))
    return plain(x).reshape(tuple(size))


CHANNEL_BY_CHANNEL = frozenset(
    f"aten.{name}"
    for name in (
        *("constant_pad_nd.default", "reflection_pad2d.default", "replication_pad2d.default"),
        *("upsample_nearest2d.vec", "upsample_bilinear2d.vec", "upsample_bicubic2d.vec"),
        *("upsample_nearest2d.default", "upsample_bilinear2d.default"),
        *("_upsample_nearest_exact2d.vec", "_upsample_bilinear2d_aa.vec"),
    )
)
"""Operators of images whose channels have nothing to do with each other."""


def channel_by_channel(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Such an operator, on channels that stay last; `None` where that cannot be."""
    x, *rest = args
    pads_channels = isinstance(rest[0], list) and len(rest[0]) > 4
    if not isinstance(x, ChannelsLast) or x.ndim != 4 or pads_channels:
        return None

    def of_one(channel: Array) -> Array:
        return function(channel[:, None], *rest, **kwargs)[:, 0]

    return ChannelsLast(jax.vmap(of_one, in_axes=-1, out_axes=-1)(x.array))


def mean_of_pixels(x: Any, dims: Any = None, keepdim: bool = False, *_: Any) -> Any:
    """``aten.mean.dim``, where it is over all pixels of a floating image; else `None`."""
    if not isinstance(x, ChannelsLast) or x.ndim != 4 or {d % 4 for d in dims or ()} != {2, 3}:
        return None
    if not jnp.issubdtype(x.array.dtype, jnp.floating):
        return None
    mean = pixels.pixel_mean(x.array)
    return ChannelsLast(mean) if keepdim else mean[:, 0, 0]


def product_with_gate(x: Any, y: Any) -> ChannelsLast | None:
    """``aten.mul``, where one factor is the same for all pixels; else `None`."""
    if isinstance(y, ChannelsLast) and _is_array(x) and x.ndim == 4 and x.shape[2:] == (1, 1):
        x, y = y, x
    if not isinstance(x, ChannelsLast) or not _is_array(y) or y.ndim != x.ndim:
        return None
    x, y = x.array, channels_last(y).array
    return ChannelsLast(pixels.gated(x, y)) if pixels.is_gate(x, y) else None


_FIRST = (
    *("cat.default", "mean.dim", "sum.dim_IntList", "amax.default", "amin.default"),
    *("var.correction", "slice.Tensor", "flip.default", "_softmax.default", "select.int"),
    *("_log_softmax.default", "index_select.default", "cumsum.default", "any.dim"),
    *("max.dim", "min.dim"),
)
_SECOND = ("split_with_sizes.default", "roll.default")
AXES = {f"aten.{name}": 1 for name in _FIRST} | {f"aten.{name}": 2 for name in _SECOND}
"""Operators of which one argument, at this position, is an axis or several."""


def along_axes(target: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """An operator along axes, on arrays with channels last.

    Args:
      target: its name, in `AXES`.
      function: the operator on plain arrays.
      args: its positional arguments, the first an activation or several.
      kwargs: its keyword arguments.

    Returns:
      Its result; `None` where that cannot be.
    """
    many = isinstance(args[0], list)
    first = args[0] if many else [args[0]]
    ranks = {x.ndim for x in first}
    at = AXES[target]
    if len(ranks) != 1 or not any(isinstance(x, ChannelsLast) for x in first):
        return None
    (rank,) = ranks
    arrays = [channels_last(x).array for x in first]
    rest = [plain(one) for one in args[1:]]
    dims = rest[at - 1] if at <= len(rest) else None
    if dims is None or dims == []:
        return None
    where = [0, rank - 1, *range(1, rank - 1)]  # of the axes that operators count
    turned = [where[d % rank] for d in (dims if isinstance(dims, list) else [dims])]
    rest[at - 1] = turned if isinstance(dims, list) else turned[0]
    reduced = set(turned)
    result = function(arrays if many else arrays[0], *rest, **kwargs)

    def named(y: Array) -> Array | ChannelsLast:
        if y.ndim == rank:
            return ChannelsLast(y)
        left = [d for d in range(rank) if d not in reduced]
        counted = [1 if d == rank - 1 else d and d + 1 for d in left]
        order = sorted(range(len(left)), key=counted.__getitem__)
        return y if order == list(range(len(left))) else jnp.transpose(y, order)

    return [named(y) for y in result] if isinstance(result, list | tuple) else named(result)
