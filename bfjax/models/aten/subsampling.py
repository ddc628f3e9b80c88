"""PyTorch's pools, on activations (n, h, w, c).

An average over windows is two products, of a band matrix with the rows and of one with the columns:
adaptive windows, padding, `ceil_mode` and divisors only change the matrices. A maximum over windows
is a gather of the pixels that won; where `bfjax.models.pooling` has a fast formulation, that one.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from bfjax.models.aten.pixels import pixel_mean
from bfjax.models.pooling import average_pool, max_pool

Activation = Float[Array, "n h w c"]
Pooled = Float[Array, "n new_h new_w c"]
Window = tuple[int, int]  # its first pixel, and the one after its last


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    value = [value] if isinstance(value, int) else list(value)
    return (value[0], value[-1])


def _outputs(n: int, k: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows; in `ceil_mode` none starts in the padding behind the image."""
    room = n + 2 * padding - dilation * (k - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    return count - (ceil_mode and (count - 1) * stride >= n + padding)


def _adaptive(n: int, outputs: int) -> list[Window]:
    return [(i * n // outputs, -(-(i + 1) * n // outputs)) for i in range(outputs)]


def avg_pool(
    x: Activation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Pooled:
    """``aten.avg_pool2d``."""
    size, pads = _pair(kernel_size), _pair(padding)
    strides = _pair(stride or kernel_size)
    plain = size == strides and size[0] == size[1] and pads == (0, 0) and divisor_override is None
    if plain and (not ceil_mode or all(n % size[0] == 0 for n in x.shape[1:3])):
        return average_pool(x, window=size[0])
    tables = []
    for n, k, s, p in zip(x.shape[1:3], size, strides, pads, strict=True):
        outputs = _outputs(n, k, s, p, 1, ceil_mode)
        whole = [(i * s - p, min(i * s - p + k, n + p)) for i in range(outputs)]
        inside = [(max(a, 0), min(b, n)) for a, b in whole]
        counts = [b - a for a, b in (whole if count_include_pad else inside)]
        tables.append(_band(n, inside, [1] * outputs if divisor_override else counts))
    y = _averaged(x, *tables)
    return y / divisor_override if divisor_override else y


def adaptive_avg_pool(x: Activation, output_size: Sequence[int]) -> Pooled:
    """``aten._adaptive_avg_pool2d``."""
    outputs = _pair(output_size)
    if outputs == (1, 1):
        return pixel_mean(x)
    windows = [_adaptive(n, m) for n, m in zip(x.shape[1:3], outputs, strict=True)]
    return _averaged(
        x, *(_band(n, w, [b - a for a, b in w]) for n, w in zip(x.shape[1:3], windows, strict=True))
    )


def _band(n: int, windows: list[Window], divisors: list[int]) -> np.ndarray:
    """(windows, n): in each row 1 / divisor at the pixels of a window."""
    table = np.zeros((len(windows), n), np.float32)
    for row, (first, end), divisor in zip(table, windows, divisors, strict=True):
        row[first:end] = 1 / divisor
    return table


def _averaged(x: Activation, rows: np.ndarray, columns: np.ndarray) -> Pooled:
    tables = [jnp.asarray(table, x.dtype) for table in (rows, columns)]
    x = jnp.einsum("oh,nhwc->nowc", tables[0], x, precision=lax.Precision.HIGHEST)
    return jnp.einsum("pw,nowc->nopc", tables[1], x, precision=lax.Precision.HIGHEST)


def max_pool_with_indices(
    x: Activation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[Pooled, Int[Array, "n new_h new_w c"]]:
    """``aten.max_pool2d_with_indices``; where two are largest the gradient goes to the first."""
    tables = []
    for n, k, s, p, d in zip(
        x.shape[1:3],
        *map(_pair, (kernel_size, stride or kernel_size, padding, dilation)),
        strict=True,
    ):
        outputs = _outputs(n, k, s, p, d, ceil_mode)
        tables.append(np.arange(outputs)[:, None] * s - p + d * np.arange(k))
    return _largest(x, *tables)


def largest(
    x: Activation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Pooled:
    """The first result of `max_pool_with_indices`, by the fast formulation where there is one."""
    size, pads, steps = _pair(kernel_size), _pair(padding), _pair(dilation)
    strides = _pair(stride or kernel_size)
    around = []
    for n, k, s, p, d in zip(x.shape[1:3], size, strides, pads, steps, strict=True):
        outputs = _outputs(n, k, s, p, d, ceil_mode)
        around.append((p, max((outputs - 1) * s + k - n - p, 0)))
    square = size[0] == size[1] and strides[0] == strides[1] and steps == (1, 1)
    if square and size[0] <= 11 and max(map(max, around)) < size[0]:
        return max_pool(x, window=size[0], stride=strides[0], padding=(around[0], around[1]))
    return max_pool_with_indices(x, kernel_size, stride, padding, dilation, ceil_mode)[0]


def adaptive_max_pool(
    x: Activation, output_size: Sequence[int]
) -> tuple[Pooled, Int[Array, "n new_h new_w c"]]:
    """``aten.adaptive_max_pool2d``."""
    tables = []
    for n, m in zip(x.shape[1:3], _pair(output_size), strict=True):
        windows = _adaptive(n, m)
        longest = max(b - a for a, b in windows)
        pixels = [[a + t if a + t < b else -1 for t in range(longest)] for a, b in windows]
        tables.append(np.array(pixels))
    return _largest(x, *tables)


def _largest(
    x: Activation, rows: np.ndarray, columns: np.ndarray
) -> tuple[Pooled, Int[Array, "n new_h new_w c"]]:
    """The largest value of each window, and its number among the pixels.

    Args:
      x: (n, h, w, c).
      rows: (windows, taps), the row that each tap sees, outside of the image where it is padding.
      columns: the same of the columns.

    Returns:
      Both (n, windows, windows', c).
    """
    n, h, w, c = x.shape
    at = rows[:, None, :, None] * w + columns[:, None, :]
    within = _inside(rows, h)[:, None, :, None] & _inside(columns, w)[:, None, :]
    shape = at.shape[:2]
    at, within = at.reshape(*shape, -1), within.reshape(*shape, -1)
    # padding stands for the first pixel of its window, which wins where none is more than -inf
    first = np.take_along_axis(at, within.argmax(-1)[..., None], -1)
    at = np.where(within, at, first)
    flat = x.reshape(n, h * w, c)
    seen = flat[:, at]
    seen = jnp.where(within[None, ..., None], lax.stop_gradient(seen), -jnp.inf)
    winner = jnp.argmax(seen, axis=3)
    table = jnp.asarray(at, jnp.int32)[None, ..., None]
    indices = jnp.take_along_axis(table, winner[:, :, :, None], axis=3)[:, :, :, 0]
    values = jnp.take_along_axis(flat, indices.reshape(n, -1, c), axis=1)
    return values.reshape(n, *shape, c), indices


def avg_pool_of_rows(
    x: Float[Array, "n l c"],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Float[Array, "n new_l c"]:
    """``aten.avg_pool1d``."""
    strides = [1, *stride] if stride else ()
    size, pads = [1, *kernel_size], [0, *padding]
    return avg_pool(x[:, None], size, strides, pads, ceil_mode, count_include_pad)[:, 0]


def adaptive_avg_pool_of_rows(
    x: Float[Array, "n l c"], output_size: Sequence[int]
) -> Float[Array, "n new_l c"]:
    """``aten.adaptive_avg_pool1d``."""
    return adaptive_avg_pool(x[:, None], [1, *output_size])[:, 0]


def adaptive_max_pool_of_rows(
    x: Float[Array, "n l c"], output_size: Sequence[int]
) -> tuple[Float[Array, "n new_l c"], Int[Array, "n new_l c"]]:
    """``aten.adaptive_max_pool1d``."""
    values, indices = adaptive_max_pool(x[:, None], [1, *output_size])
    return values[:, 0], indices[:, 0]


def _inside(pixels: np.ndarray, n: int) -> np.ndarray:
    return (pixels >= 0) & (pixels < n)


WITH_CHANNELS_LAST = {
    "aten.avg_pool2d.default": avg_pool,
    "aten._adaptive_avg_pool2d.default": adaptive_avg_pool,
    "aten.adaptive_avg_pool2d.default": adaptive_avg_pool,
    "aten.max_pool2d_with_indices.default": max_pool_with_indices,
    "aten.adaptive_max_pool2d.default": adaptive_max_pool,
    "aten.avg_pool1d.default": avg_pool_of_rows,
    "aten.adaptive_avg_pool1d.default": adaptive_avg_pool_of_rows,
    "aten.adaptive_max_pool1d.default": adaptive_max_pool_of_rows,
    "bfjax.max_pool2d": largest,
    "bfjax.adaptive_max_pool2d": lambda x, output_size: adaptive_max_pool(x, output_size)[0],
}
