"""The thin-plate spline folded along both mirror axes of the image: a quarter of the numbers.

Pixel centres and control points of the regular grid are their own mirror images, so the spline's
matrix M commutes with mirroring: M[σp, σk] = M[p, k]. It maps the part of a displacement that is
even (or odd) along an axis to the part of the warp that is even (or odd) there. So each of the four
parts needs M on one quarter of the pixels and of the control points: a quarter of the table and of
the multiplications.

Convention:
    Parts are ordered (even, even), (even, odd), (odd, even), (odd, odd), along (y, x). A middle row
    or column belongs to the first half, as ``v = even + odd`` with its odd part zero.
"""

from __future__ import annotations

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bfjax.field.tps import lattice, spline_matrix


@lru_cache(maxsize=8)
def folded_warp_matrix(shape: tuple[int, int], grid_size: int) -> np.ndarray:
    """M of `warp_matrix` for each of the four parts, on the upper left quarters.

    Args:
      shape: (h, w) of the image.
      grid_size: control points along each axis.

    Returns:
      (4, ⌈h/2⌉·⌈w/2⌉, ⌈grid_size/2⌉²) float64, read-only, computed once per shape.

    Raises:
      ValueError: for an empty image or `grid_size` below 2.

    Example:
      >>> folded_warp_matrix((8, 6), 4).shape
      (4, 12, 4)
    """
    rows, columns = halves(shape)
    points = lattice(*shape).reshape(*shape, 2)[:rows, :columns].reshape(-1, 2)
    matrix = spline_matrix(points, grid_size)
    matrix = matrix.reshape(-1, grid_size, grid_size)
    folded = np.stack([b for a in _folded(matrix, 1) for b in _folded(a, 2)])
    folded = folded.reshape(4, len(points), -1)
    folded.flags.writeable = False  # it is shared by everyone who asks for this shape
    return folded


def folded_warp(
    matrix: Float[Array, "4 q k"],
    shape: tuple[int, int],
    displacement: Float[Array, "grid grid 2"],
) -> Float[Array, "2 h w"]:
    """T_θ(p) − p = M (θ − θ0): how far the spline moves each pixel centre (Eq. 4).

    Args:
      matrix: from `folded_warp_matrix`.
      shape: (h, w) of the image.
      displacement: θ − θ0, on the control grid, (x, y) pairs.

    Returns:
      The displacements along x and along y, exactly zero at the identity.

    Example:
      >>> import jax.numpy as jnp
      >>> matrix = jnp.asarray(folded_warp_matrix((2, 2), 2), jnp.float32)
      >>> folded_warp(matrix, (2, 2), jnp.full((2, 2, 2), 0.5)).round(4)[0].tolist()
      [[0.5, 0.5], [0.5, 0.5]]

    Reference: Tian et al., ICME 2021, Eq. 4.
    """
    parts = jnp.stack([b.reshape(-1, 2) for a in _parts(displacement, 0) for b in _parts(a, 1)])
    moved = jnp.einsum("fqk,fkc->fcq", matrix, parts, precision="highest")
    even, odd = moved.reshape(2, 2, 2, *halves(shape))
    upper = [whole(*side, axis=2, size=shape[1]) for side in (even, odd)]
    return whole(*upper, axis=1, size=shape[0])


def halves(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the upper left quarter of an image, a middle one included.

    Args:
      shape: (h, w).

    Returns:
      (⌈h/2⌉, ⌈w/2⌉).
    """
    return -(-shape[0] // 2), -(-shape[1] // 2)


def whole(
    even: Float[Array, ...], odd: Float[Array, ...], *, axis: int, size: int
) -> Float[Array, ...]:
    """The array whose parts these are: ``even + odd``, then the mirrored ``even − odd``.

    Args:
      even: the even part, on the first half of the axis.
      odd: the odd part there.
      axis: along which they are mirrored.
      size: of the whole array along that axis.

    Returns:
      The whole array.
    """
    second = jnp.flip(even - odd, axis)
    kept = [slice(None)] * even.ndim
    kept[axis] = slice(size % 2, None)  # a middle one is there already
    return jnp.concatenate([even + odd, second[tuple(kept)]], axis)


def _parts(v: Array, axis: int) -> tuple[Array, Array]:
    """The even and the odd part along an axis, on its first half."""
    half = [slice(None)] * v.ndim
    half[axis] = slice(-(-v.shape[axis] // 2))
    mirrored = jnp.flip(v, axis)
    return (v + mirrored)[tuple(half)] / 2, (v - mirrored)[tuple(half)] / 2


def _folded(matrix: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns that act on the even and on the odd part of a vector, along one axis."""
    size = matrix.shape[axis]
    first = np.arange(-(-size // 2))
    here, there = np.take(matrix, first, axis), np.take(matrix, size - 1 - first, axis)
    once = np.where(first == size - 1 - first, 0.5, 1.0)  # a middle column meets itself
    once = np.expand_dims(once, tuple(i for i in range(matrix.ndim) if i != axis))
    return (here + there) * once, (here - there) * once
