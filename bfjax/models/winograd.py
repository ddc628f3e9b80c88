r"""3×3 convolutions with a quarter of the multiplications: Winograd's F(4×4, 3×3).

The output is cut into tiles of 4×4 pixels, of which each depends on 6×6 of the input. With d a tile
of the input and g a kernel of one input and one output channel,

    Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A

takes 36 multiplications where the sum itself takes 144. Over channels, the elementwise product is
36 matrix products. The input gradient is such a convolution too, of the cotangent with the kernel
turned by 180°. Frozen networks keep U = G g Gᵀ of both, eight times the numbers of g: making them
anew for each image batch would take longer than the products.

Rounding errors are some ten times those of the plain sum: 1e-5 of the largest output in float32.

Reference:
    Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016,
    https://arxiv.org/abs/1509.09308.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from bfjax.models.convolution import Activation, Convolved

_TILE, _SEEN = 4, 6
_BT = np.array(
    [
        *([4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]),
        *([0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]),
    ]
)
_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_AT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def pays(shape: tuple[int, ...], *, stride: int, padding: str | int) -> bool:
    """Whether a convolution is one of those that this module makes faster on a CPU.

    Args:
      shape: of its kernel.
      stride: of both axes.
      padding: as of `conv2d`.

    Returns:
      True for 3×3 kernels with stride 1 that keep the image's size; with fewer than 64 channels
      the time goes into the tiles.
    """
    square = len(shape) == 4 and shape[:2] == (3, 3) and min(shape[2:]) >= 64
    return square and stride == 1 and padding in ("same", 1)


class Transformed(NamedTuple):
    """A kernel as this module takes it, a matrix for each of the 36 products.

    Attributes:
      forward: U = G g Gᵀ, (36, c_in, c_out).
      backward: the same of the kernel turned by 180°, for input gradients.
    """

    forward: Float[Array, "36 c_in c_out"]
    backward: Float[Array, "36 c_in c_out"]


def transform_kernel(kernel: Float[Array | np.ndarray, "3 3 c_in c_out"]) -> Transformed:
    """U = G g Gᵀ of a kernel, and of the one of its input gradient.

    Args:
      kernel: g; it is done on the host, where each other size would be a program to compile.

    Returns:
      Both.

    Example:
      >>> transform_kernel(jnp.ones((3, 3, 2, 5))).forward.shape
      (36, 2, 5)
    """
    kernel = np.asarray(kernel)
    table = np.kron(_G, _G).astype(kernel.dtype)

    def transform(kernel: np.ndarray) -> Array:
        return jax.device_put((table @ kernel.reshape(9, -1)).reshape(-1, *kernel.shape[2:]))

    return Transformed(transform(kernel), transform(kernel[::-1, ::-1]))


@jax.custom_vjp
def winograd_conv2d(x: Activation, kernel: Transformed) -> Convolved:
    """A 3×3 convolution with stride 1 whose output is of the size of its input.

    It computes in float32 at least, whatever the type of `x`, and differentiates in reverse mode,
    once, with respect to `x` alone: gradients of the kernel, which only frozen networks have in
    this form, are NaN.

    Args:
      x: (..., h, w, c_in).
      kernel: from `transform_kernel`.

    Returns:
      (..., h, w, c_out), in the type of `x`.

    Raises:
      ValueError: the kernel takes another number of channels than `x` has.

    Example:
      >>> ones = transform_kernel(jnp.ones((3, 3, 1, 1)))
      >>> winograd_conv2d(jnp.ones((3, 3, 1)), ones)[..., 0].round(4).tolist()
      [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    if x.shape[-1] != kernel.forward.shape[1]:
        raise ValueError(f"a kernel of {kernel.forward.shape} does not fit an input {x.shape}")
    return _convolve(x, kernel.forward, contract=1)


def _forward(x: Array, kernel: Transformed) -> tuple[Array, Transformed]:
    return winograd_conv2d(x, kernel), kernel


def _backward(kernel: Transformed, g: Array) -> tuple[Array, Transformed]:
    none = Transformed(*(jnp.full_like(u, jnp.nan) for u in kernel))
    return _convolve(g, kernel.backward, contract=2), none


winograd_conv2d.defvjp(_forward, _backward)


@functools.partial(jax.jit, static_argnames="contract")  # layers of one size are traced once
def _convolve(x: Array, transformed: Array, *, contract: int) -> Array:
    *batch, h, w, _ = x.shape
    wide = jnp.promote_types(x.dtype, jnp.float32)
    down, across = -(-h // _TILE), -(-w // _TILE)
    # (36, ..., down, across, c): Bᵀ d B, times U, then Aᵀ · A as one product with a 16 × 36 table
    seen = _seen(x.astype(wide), down, across).reshape(_SEEN**2, -1, x.shape[-1])
    numbers = (((2,), (contract,)), ((0,), (0,)))
    product = lax.dot_general(seen, transformed.astype(wide), numbers)
    y = jnp.asarray(np.kron(_AT, _AT), wide) @ product.reshape(_SEEN**2, -1)
    y = y.reshape(_TILE, _TILE, -1, down, across, product.shape[-1])
    y = y.transpose(2, 3, 0, 4, 1, 5)  # the pixels of tiles side by side
    y = y.reshape(*batch, _TILE * down, _TILE * across, -1)
    return y[..., :h, :w, :].astype(x.dtype)


def _seen(x: Array, down: int, across: int) -> Array:
    """Bᵀ d B of all tiles d, which start one pixel before the image and lie four apart."""
    *batch, h, w, _ = x.shape
    widths = [(1, _TILE * down + 1 - h, 0), (1, _TILE * across + 1 - w, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0)] * len(batch) + [*widths, (0, 0, 0)])
    # stacked after each axis: else XLA makes a program of its own for each of the 36 numbers
    return jnp.stack(_side(jnp.stack(_side(x, -2, across)), -3, down))


def _side(x: Array, axis: int, tiles: int) -> list[Array]:
    """Bᵀ d along one axis: six sums over the pixels 0 to 5 of every tile."""
    axis += x.ndim
    last = _TILE * (tiles - 1) + 1
    pixels = [lax.slice_in_dim(x, i, i + last, _TILE, axis) for i in range(_SEEN)]

    def weighted(row: np.ndarray) -> list[Array]:
        pairs = zip(row, pixels, strict=True)
        return [p if b == 1 else p * float(b) for b, p in pairs if b]

    return [functools.reduce(jnp.add, weighted(row)) for row in _BT]
