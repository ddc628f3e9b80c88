"""The thin-plate spline T_θ of Eq. 4, which is linear in its control points: T_θ(p) = M θ.

Convention:
    Points are (x, y) pairs, x to the right, y down. Pixel centres and control points both span
    [-1, 1] on each axis, corners included, whatever the aspect ratio; control points are in
    row-major order, y outer and x inner.
"""

from __future__ import annotations

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def lattice(rows: int, columns: int, *, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """A regular lattice of points over the image, row-major, corners included.

    Args:
      rows: number along y; a single row lies in the middle.
      columns: number along x; a single column lies in the middle.
      low: coordinate of the first row and column.
      high: coordinate of the last row and column.

    Returns:
      (rows · columns, 2) float64, (x, y) pairs.

    Raises:
      ValueError: when a number is below 1, or `low` is not below `high`.

    Example:
      >>> lattice(2, 2).tolist()
      [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """
    if rows < 1 or columns < 1:
        raise ValueError(f"a lattice needs at least one row and one column, got {rows} x {columns}")
    if not low < high:
        raise ValueError(f"the first coordinate must be below the last, got {low} and {high}")
    axes = [
        np.linspace(low, high, n) if n > 1 else np.array([(low + high) / 2])
        for n in (rows, columns)
    ]
    y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def control_grid(grid_size: int, *, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """θ0: the control points of the identity, a grid_size × grid_size lattice over the image.

    Args:
      grid_size: control points along each axis, at least 2.
      low: coordinate of the first row and column.
      high: coordinate of the last row and column.

    Returns:
      (grid_size², 2) float64, (x, y) pairs, row-major.

    Raises:
      ValueError: when `grid_size` is below 2, too few points for a spline.

    Example:
      >>> control_grid(16).shape
      (256, 2)
    """
    if grid_size < 2:
        raise ValueError(f"a thin-plate spline needs grid_size >= 2, got {grid_size}")
    return lattice(grid_size, grid_size, low=low, high=high)


@lru_cache(maxsize=8)
def warp_matrix(shape: tuple[int, int], grid_size: int) -> np.ndarray:
    """M, with T_θ(p) = M θ at every pixel centre p (Eq. 4).

    T minimises the bending energy among all maps that send control point k of the regular grid to
    θ_k: T(p) = Σ_k w_k U(|p − c_k|) + A p + b with U(r) = r² log r², U(0) = 0. The weights solve a
    linear system with right-hand side θ, so T is linear in θ. Each row of M sums to one, and
    M θ0 gives the pixel centres back.

    Args:
      shape: (h, w) of the image.
      grid_size: control points along each axis.

    Returns:
      (h · w, grid_size²) float64, read-only, computed once per shape.

    Raises:
      ValueError: for an empty image or `grid_size` below 2.

    Example:
      >>> warp_matrix((8, 6), 4).shape
      (48, 16)

    Reference: Duchon 1977; Bookstein, *Principal Warps*, TPAMI 1989.
    """
    matrix = spline_matrix(lattice(*shape), grid_size)
    matrix.flags.writeable = False  # it is shared by everyone who asks for this shape
    return matrix


def spline_matrix(points: np.ndarray, grid_size: int) -> np.ndarray:
    """The rows of `warp_matrix` for any points.

    Args:
      points: (n, 2), (x, y) pairs.
      grid_size: control points along each axis, at least 2.

    Returns:
      (n, grid_size²) float64.

    Raises:
      ValueError: for `grid_size` below 2.
    """
    basis = np.column_stack(
        [_kernel(points, control_grid(grid_size)), np.ones(len(points)), points]
    )
    return basis @ spline_weights(grid_size)


def spline_gradient(points: np.ndarray, grid_size: int) -> np.ndarray:
    """The slope of `spline_matrix` at any points: ∂M/∂x and ∂M/∂y.

    ∇U = 2 (log r² + 1) (p − c), which is 0 at r = 0, and ∇(A p + b) = A.

    Args:
      points: (n, 2), (x, y) pairs.
      grid_size: control points along each axis, at least 2.

    Returns:
      (2, n, grid_size²) float64: times θ − θ0 it gives the slopes of the displacement.

    Raises:
      ValueError: for `grid_size` below 2.

    Example:
      >>> spline_gradient(np.zeros((1, 2)), 2).round(6).tolist()  # as of bilinear interpolation
      [[[-0.25, 0.25, -0.25, 0.25]], [[-0.25, -0.25, 0.25, 0.25]]]
    """
    away = points[:, None] - control_grid(grid_size)[None]
    squared = np.sum(away**2, axis=-1)
    slopes = 2 * (np.log(np.where(squared > 0, squared, 1.0)) + 1)[..., None] * away
    affine = np.zeros((2, len(points), 3))
    affine[[0, 1], :, [1, 2]] = 1
    basis = np.concatenate([np.moveaxis(slopes, -1, 0), affine], axis=-1)
    return basis @ spline_weights(grid_size)


@lru_cache(maxsize=8)
def spline_weights(grid_size: int) -> np.ndarray:
    """The weights of the spline of `warp_matrix` for each θ_k: w, b and A are linear in θ.

    Args:
      grid_size: control points along each axis.

    Returns:
      (grid_size² + 3, grid_size²) float64, read-only: times θ it gives w_k, then b, then the
      columns of A.

    Raises:
      ValueError: for `grid_size` below 2.

    Example:
      >>> spline_weights(4).shape
      (19, 16)
    """
    controls = control_grid(grid_size)
    affine = np.column_stack([np.ones(len(controls)), controls])
    system = np.block([[_kernel(controls, controls), affine], [affine.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.eye(len(system), len(controls)))
    weights.flags.writeable = False
    return weights


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = np.sum((a[:, None] - b[None]) ** 2, axis=-1)
    return squared * np.log(np.where(squared > 0, squared, 1.0))


def warp(
    matrix: Float[Array, "pixels k"],
    points: Float[Array, "pixels 2"],
    displacement: Float[Array, "k 2"],
) -> Float[Array, "pixels 2"]:
    """T_θ(p) = p + M (θ − θ0): where the spline sends each pixel centre (Eq. 4).

    Written with the displacement of the control points, it is exact at the identity.

    Args:
      matrix: M, from `warp_matrix`.
      points: p, the pixel centres.
      displacement: θ − θ0.

    Returns:
      The warped (x, y) of every pixel; they may leave [-1, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> matrix, points = jnp.asarray(warp_matrix((2, 2), 2)), jnp.asarray(lattice(2, 2))
      >>> warp(matrix, points, jnp.full((4, 2), 0.5))[0].round(4) + 0.0
      Array([-0.5, -0.5], dtype=float32)
    """
    return points + jnp.matmul(matrix, displacement, precision="highest")
