r"""Convolutions under ordinary names, in formulations that are fast on a CPU too.

Convention:
    Activations are (..., h, w, c), kernels (kh, kw, c_in, c_out): one image and a batch alike.
    ``padding`` is ``"same"`` (TensorFlow's: the output has ceil(size / stride) rows, an odd row of
    padding goes below and to the right), ``"valid"``, the number of zeros on each side (as PyTorch
    counts), one for the rows and one for the columns, or the zeros above and below, left and right.

Each function gives the numbers of `jax.lax.conv_general_dilated` to rounding; what differs is how
gradients are written. Autodiff's input gradient of a convolution is a convolution with window
reversal, for which XLA's CPU backend has only a naive loop inside a `while` (an attack's
`lax.scan`); its grouped convolution is naive everywhere. Here:

- With padded input rows R = s·M + φ, stride s and phase φ, the transpose of
  ``y[i] = Σ_k x[s·i + k] w[k]`` is ``x̄[s·M + φ] = Σ_d ȳ[M − d] w[s·d + φ]``: for all phases at
  once, a plain stride-1 convolution of the cotangent with ⌈k/s⌉ taps, and an interleaving.
- A 1×1 convolution is a dot; a strided one reads only what it needs.
- A depthwise convolution is a sum of shifted products, and so is its transpose.
- Sums over all pixels add a few rows elementwise first: LLVM vectorises that, while it leaves the
  reduction of a product scalar (up to seven times slower).

They differentiate in reverse mode, once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal as Primal
from jaxtyping import Array, Float

Activation = Float[Array, "*batch h w c"]
Convolved = Float[Array, "*batch new_h new_w new_c"]
Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = str | int | tuple[int, int] | Pads

_NHWC = ("NHWC", "HWIO", "NHWC")


def resolve_padding(
    padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: int
) -> Pads:
    """The zeros above, below, left and right of an image.

    Args:
      padding: see the module's convention.
      size: (h, w) of the input.
      kernel: (kh, kw).
      stride: the stride of both axes.

    Returns:
      ((top, bottom), (left, right)).

    Raises:
      ValueError: `padding` is none of these, or the kernel does not fit the padded image.

    Example:
      >>> resolve_padding("same", (224, 224), (3, 3), 2)
      ((0, 1), (0, 1))
    """
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")

    def one(given: Any, n: int, k: int) -> tuple[int, int]:
        if given == "same":
            total = max((math.ceil(n / stride) - 1) * stride + k - n, 0)
            return total // 2, total - total // 2
        before, behind = (0, 0) if given == "valid" else _both(given)
        if not (isinstance(before, int) and isinstance(behind, int) and min(before, behind) >= 0):
            raise ValueError(
                "padding must be 'same', 'valid', an int ≥ 0, (rows, columns) of them or "
                f"((top, bottom), (left, right)), got {padding!r}"
            )
        if n + before + behind < k:
            raise ValueError(f"a kernel of {k} does not fit {n} pixels with padding {padding!r}")
        return before, behind

    rows, columns = _both(padding)
    return one(rows, size[0], kernel[0]), one(columns, size[1], kernel[1])


def _both(given: Any) -> tuple[Any, Any]:
    return given if isinstance(given, tuple) and len(given) == 2 else (given, given)


def conv2d(
    x: Activation,
    kernel: Float[Array, "kh kw c_in c_out"],
    *,
    stride: int = 1,
    padding: Padding = "same",
) -> Convolved:
    """A convolution whose input gradient is a plain forward convolution.

    Args:
      x: (..., h, w, c_in).
      kernel: (kh, kw, c_in, c_out).
      stride: of both axes.
      padding: see the module's convention.

    Returns:
      (..., h', w', c_out), in the type of `x`.

    Raises:
      ValueError: the kernel takes another number of channels than `x` has, or does not fit.

    Example:
      >>> conv2d(jnp.ones((5, 5, 1)), jnp.ones((3, 3, 1, 2)), stride=2)[..., 0].tolist()
      [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    _check_channels(x, kernel)
    *batch, h, w, c = x.shape
    pads = resolve_padding(padding, (h, w), (kernel.shape[0], kernel.shape[1]), stride)
    if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        x = x[..., ::stride, ::stride, :]
        # as one matrix: the kernel's gradient then reads both factors as they lie in memory
        return (x.reshape(-1, c) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
    y = _conv(stride, pads, x.reshape(-1, h, w, c), kernel)
    return y.reshape(*batch, *y.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv(stride: int, pads: Pads, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_NHWC)


def _conv_fwd(stride: int, pads: Pads, x: Primal, kernel: Primal) -> tuple[Array, Any]:
    return _conv(stride, pads, x.value, kernel.value), _saved(x, kernel)


def _conv_bwd(stride: int, pads: Pads, saved: Any, g: Array) -> tuple[Array, Array | None]:
    x, kernel, (h, w, _) = *saved[:2], saved[2].shape
    kh, kw, c_in, c_out = kernel.shape
    s, dy, dx = stride, -(-kh // stride), -(-kw // stride)  # taps of each phase
    # w[s·d + φ] as (d, e, c_out, φ, ψ, c_in), the taps reversed: the convolution correlates
    phases = jnp.pad(kernel, ((0, s * dy - kh), (0, s * dx - kw), (0, 0), (0, 0)))
    phases = phases.reshape(dy, s, dx, s, c_in, c_out)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    (top, _), (left, _) = pads
    my, mx = -(-(h + top) // s), -(-(w + left) // s)  # rows M that reach into the image
    full = lax.conv_general_dilated(
        g,
        phases.reshape(dy, dx, c_out, s * s * c_in),
        (1, 1),
        ((dy - 1, my - g.shape[1]), (dx - 1, mx - g.shape[2])),
        dimension_numbers=_NHWC,
    )
    full = full.reshape(-1, my, mx, s, s, c_in).transpose(0, 1, 3, 2, 4, 5)
    full = full.reshape(-1, my * s, mx * s, c_in)
    x_bar = full[:, top : top + h, left : left + w]
    if x is None:
        return x_bar, None
    plain = functools.partial(
        lax.conv_general_dilated, x, window_strides=(s, s), padding=pads, dimension_numbers=_NHWC
    )
    (kernel_bar,) = jax.vjp(plain, kernel)[1](g)
    return x_bar, kernel_bar


def _saved(x: Primal, kernel: Primal) -> tuple[Array | None, Array, Array]:
    """The image, where the kernel's gradient is asked for; the kernel; the image's size."""
    empty = jnp.zeros((*x.value.shape[-3:-1], 0))
    return x.value if kernel.perturbed else None, kernel.value, empty


_conv.defvjp(_conv_fwd, _conv_bwd, symbolic_zeros=True)


def depthwise_conv2d(
    x: Activation,
    kernel: Float[Array, "kh kw c"],
    *,
    stride: int = 1,
    padding: Padding = "same",
) -> Convolved:
    """A depthwise convolution as a sum of shifted products, ``Σ_k x[s·i + k] w[k]``.

    Args:
      x: (..., h, w, c).
      kernel: (kh, kw, c), one filter a channel.
      stride: of both axes.
      padding: see the module's convention.

    Returns:
      (..., h', w', c), in the type of `x`.

    Raises:
      ValueError: the kernel has another number of channels than `x`, or does not fit.

    Example:
      >>> depthwise_conv2d(jnp.ones((4, 4, 1)), jnp.ones((3, 3, 1)), stride=2)[..., 0].tolist()
      [[9.0, 6.0], [6.0, 4.0]]
    """
    _check_channels(x, kernel)
    size, window = (x.shape[-3], x.shape[-2]), (kernel.shape[0], kernel.shape[1])
    return _depthwise(stride, resolve_padding(padding, size, window, stride), x, kernel)


def _pad_rows(x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, [(0, 0, 0)] * (x.ndim - 3) + [(*rows, 0), (*columns, 0), (0, 0, 0)])


def _window(x: Array, k: int, m: int, size: tuple[int, int], stride: int = 1) -> Array:
    """``x[..., k : k + h : stride, m : m + w : stride, :]``, traced in a fifth of the time."""
    none = (0,) * (x.ndim - 3)
    ends = (*x.shape[:-3], k + size[0], m + size[1], x.shape[-1])
    return lax.slice(x, (*none, k, m, 0), ends, (*(1 for _ in none), stride, stride, 1))


def _taps(x: Array, kernel: Array, stride: int, pads: Pads) -> Iterator[Array]:
    """What each tap (k, l) of a kernel sees of the padded image, x[s·i + k, s·j + l]."""
    x = _pad_rows(x, *pads)
    kh, kw = kernel.shape[:2]
    seen = x.shape[-3] - kh + 1, x.shape[-2] - kw + 1
    return (_window(x, k, m, seen, stride) for k in range(kh) for m in range(kw))


def _weights(kernel: Array, like: Array) -> list[Array]:
    """The numbers of each tap, row by row, shaped to be combined with activations."""
    shape = (-1, *(1,) * (like.ndim - 1), kernel.shape[2])
    taps = kernel.astype(like.dtype).reshape(shape)
    return [lax.squeeze(one, (0,)) for one in lax.split(taps, (1,) * len(taps))]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise(stride: int, pads: Pads, x: Array, kernel: Array) -> Array:
    return _shifted_products(stride, pads, x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))  # layers of one size are traced once
def _shifted_products(stride: int, pads: Pads, x: Array, kernel: Array) -> Array:
    pairs = zip(_taps(x, kernel, stride, pads), _weights(kernel, x), strict=True)
    return functools.reduce(jnp.add, (seen * weight for seen, weight in pairs))


def _depthwise_fwd(stride: int, pads: Pads, x: Primal, kernel: Primal) -> tuple[Array, Any]:
    return _shifted_products(stride, pads, x.value, kernel.value), _saved(x, kernel)


def _depthwise_bwd(stride: int, pads: Pads, saved: Any, g: Array) -> tuple[Array, Array | None]:
    x, kernel, (h, w, _) = *saved[:2], saved[2].shape
    x_bar = _spread_products(stride, pads, (h, w), kernel, g)
    if x is None:
        return x_bar, None
    taps = [channel_sum(seen * g) for seen in _taps(x, kernel, stride, pads)]
    return x_bar, jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


_depthwise.defvjp(_depthwise_fwd, _depthwise_bwd, symbolic_zeros=True)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _spread_products(
    stride: int, pads: Pads, size: tuple[int, int], kernel: Array, g: Array
) -> Array:
    """The transpose of `_shifted_products`."""
    (h, w), (kh, kw, c) = size, kernel.shape
    batch = g.shape[:-3]
    s, dy, dx = stride, -(-kh // stride), -(-kw // stride)
    (top, _), (left, _) = pads
    my, mx = -(-(h + top) // s), -(-(w + left) // s)
    padded = _pad_rows(g, (dy - 1, my - g.shape[-3]), (dx - 1, mx - g.shape[-2]))
    weights = _weights(kernel, g)

    def phase(p: int, q: int) -> Array:
        total = jnp.zeros((*batch, my, mx, c), g.dtype)
        for d in range(-(-(kh - p) // s)):
            for e in range(-(-(kw - q) // s)):
                seen = _window(padded, dy - 1 - d, dx - 1 - e, (my, mx))
                total = total + seen * weights[(s * d + p) * kw + s * e + q]
        return total

    rows = [jnp.stack([phase(p, q) for q in range(s)], axis=-2) for p in range(s)]
    full = jnp.stack(rows, axis=-4).reshape(*batch, my * s, mx * s, c)
    return full[..., top : top + h, left : left + w, :]


def channel_sum(x: Activation) -> Float[Array, " c"]:
    """The sum over everything but the channels, in float32.

    Args:
      x: (..., h, w, c).

    Returns:
      (c,).

    Example:
      >>> channel_sum(jnp.ones((2, 6, 5, 3))).tolist()
      [60.0, 60.0, 60.0]
    """
    h, w, c = x.shape[-3:]
    x = x.astype(jnp.float32).reshape(-1, h, w, c)
    rows = max(n for n in range(1, 9) if h % n == 0)
    x = x.reshape(-1, rows, h // rows, w, c)
    return functools.reduce(jnp.add, (x[:, r] for r in range(rows))).sum((0, 1, 2))


def per_channel(v: Float[Array, " c"], like: Float[Array, ...]) -> Float[Array, ...]:
    """A vector of one number a channel, shaped to be combined with activations.

    Args:
      v: (c,).
      like: (..., c), whose rank and type it takes.

    Returns:
      (1, ..., 1, c).
    """
    return v.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


def _check_channels(x: Array, kernel: Array) -> None:
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"a kernel {kernel.shape} does not fit an input {x.shape}")
