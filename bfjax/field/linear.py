"""Smooth log fields that are linear in a vector of coefficients: products of functions of x and y.

B̂ = Y C Xᵀ, with a table of one-dimensional functions for each axis and the coefficients between
them: a field costs two small products, and nothing as large as the image is held beside it.

Convention:
    Coordinates run from the first to the last pixel centre on every grid, whatever its size, so the
    coefficients that were found on a small grid mean the same field on a large one, where both are
    `orthonormal_on` the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from bfjax.field.polynomial import Exponents, exponents
from bfjax.field.polynomial_tps import check_dtype, check_shape
from bfjax.field.tps import lattice
from bfjax.types import LinearField, LogField

# functions that float64 cannot tell apart beyond this are not orthonormal to single precision
_WORST_CONDITION = 1e8


def legendre(
    shape: tuple[int, int],
    *,
    degree: int,
    constant: bool = False,
    orthonormal_on: tuple[int, int] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> LinearField:
    """Polynomials of x and y, orthonormal on the pixels: a smooth log field, without a warp.

    B̂(x, y) = Σ c_ij p_i(x) q_j(y) over i + j ≤ D. The p_i are the Legendre polynomials P_i(x), each
    made orthogonal to the lower ones on the columns of the image (by QR, in float64) and scaled to
    a mean square of 1, with a positive leading coefficient; the q_j are the same on its rows. So
    the root mean square of B̂ over the pixels is ‖c‖₂, and without the constant its mean is 0.

    On another `shape`, such as an X-ray's native size, with `orthonormal_on` the size of the
    attack, the same functions are evaluated. It needs no chunks: beside the field itself it holds
    D + 1 numbers for each row and column.

    Args:
      shape: (h, w) of the image.
      degree: D, the largest total degree i + j.
      constant: whether c_00 is there, which makes the whole image brighter or darker.
      orthonormal_on: (h, w) of the pixels on which the functions are orthonormal; `None` means
        `shape`.
      dtype: of coefficients and field, float32 or float64.

    Returns:
      A `LinearField` whose params are c, (n,), ordered by i, then j, as `bfjax.field.exponents`.

    Raises:
      ValueError: for a shape that is none, and for a degree that leaves no function or is too high
        for the pixels.

    Example:
      >>> field = legendre((32, 48), degree=4)
      >>> c = field.init().at[3].set(0.3).at[5].set(0.4)
      >>> c.shape, round(float(jnp.sqrt(jnp.mean(field.log_field(c) ** 2))), 4)
      ((14,), 0.5)

    Reference: NIST Digital Library of Mathematical Functions, 18.3 (the P_i); as a bias field,
    Styner et al., *Parametric Estimate of Intensity Inhomogeneities Applied to MRI*, TMI 2000.
    """
    functions = np.polynomial.legendre.legvander
    pairs = _pairs(degree, "degree", constant)
    return _products(functions, pairs, f"degree {degree}", shape, orthonormal_on, dtype)


def cosine(
    shape: tuple[int, int],
    *,
    frequencies: int,
    constant: bool = False,
    orthonormal_on: tuple[int, int] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> LinearField:
    """Slow waves along x and y, orthonormal on the pixels: a smooth log field, flat at its borders.

    B̂(x, y) = Σ c_kl p_k(x) q_l(y) over k + l ≤ F. The p_k are cos(πk(x + 1)/2), which is k half
    waves from the first to the last column, made orthonormal on the columns as those of `legendre`
    are; the q_l are the same on the rows. It is k + l that is bounded, not each of them, since
    products of two short waves would be the roughest; there are as many functions as `legendre` has
    of degree F. On another `shape` the same functions are evaluated, as there.

    Args:
      shape: (h, w) of the image.
      frequencies: F, the largest number of half waves along x and y together, k + l.
      constant: whether c_00 is there, which makes the whole image brighter or darker.
      orthonormal_on: (h, w) of the pixels on which the functions are orthonormal; `None` means
        `shape`.
      dtype: of coefficients and field, float32 or float64.

    Returns:
      A `LinearField` whose params are c, (n,), ordered by k, then l.

    Raises:
      ValueError: for a shape that is none, and for a number of frequencies that leaves no function
        or is too high for the pixels.

    Example:
      >>> field = cosine((32, 48), frequencies=2)
      >>> B = field.log_field(field.init().at[0].set(1.0))  # half a wave along y
      >>> B.shape, bool(B[0, 0] > 1), bool(B[31, 0] < -1)
      ((32, 48), True, True)

    Reference: Ashburner and Friston, *Unified Segmentation*, NeuroImage 2005, whose bias field is
    the exponential of such a sum.
    """
    pairs = _pairs(frequencies, "frequencies", constant)
    what = f"frequencies={frequencies}"
    return _products(_cosines, pairs, what, shape, orthonormal_on, dtype)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Terms:
    """What is static of such a field: which products there are, (of x, of y)."""

    pairs: Exponents
    dtype: str

    def zeros(self) -> Float[Array, " n"]:
        return jnp.zeros(len(self.pairs), self.dtype)


def _products(
    functions: Callable[[np.ndarray, int], np.ndarray],
    pairs: Exponents,
    what: str,
    shape: tuple[int, ...],
    orthonormal_on: tuple[int, ...] | None,
    dtype: DTypeLike,
) -> LinearField:
    shape, name = check_shape(shape), check_dtype(dtype)
    measured = shape if orthonormal_on is None else check_shape(orthonormal_on)
    highest = max(i for i, _ in pairs)
    if highest >= min(measured):
        raise ValueError(
            f"{what} needs {highest + 1} pixels along each axis, the field is made on {measured}"
        )
    rows, columns = (
        jax.device_put(_table(functions, highest, what, size, on).astype(name))
        for size, on in zip(shape, measured, strict=True)
    )
    terms = _Terms(pairs, name)
    return LinearField(
        init=Partial(_Terms.zeros, terms), log_field=Partial(_log_field, terms, rows, columns)
    )


def _table(
    functions: Callable[[np.ndarray, int], np.ndarray], highest: int, what: str, size: int, on: int
) -> np.ndarray:
    """(size, highest + 1): functions that are orthonormal on `on` pixels, at `size` pixels."""
    _, triangle = np.linalg.qr(functions(_centres(on), highest))
    if np.linalg.cond(triangle) > _WORST_CONDITION:
        raise ValueError(f"{what} is too high: its functions are not independent on {on} pixels")
    triangle *= np.sign(np.diag(triangle))[:, None]
    return np.sqrt(on) * np.linalg.solve(triangle.T, functions(_centres(size), highest).T).T


def _centres(size: int) -> np.ndarray:
    return lattice(1, size)[:, 0]


def _cosines(x: np.ndarray, highest: int) -> np.ndarray:
    return np.cos(np.pi / 2 * np.outer(x + 1, np.arange(highest + 1)))


def _pairs(highest: int, name: str, constant: bool) -> Exponents:
    if highest < (0 if constant else 1):
        least = "0" if constant else "1, or 0 with constant=True"
        raise ValueError(f"{name} must be at least {least}, got {highest}")
    return exponents(highest, 0 if constant else 1, terms="total")


def _log_field(
    terms: _Terms,
    rows: Float[Array, "h k"],
    columns: Float[Array, "w k"],
    coefficients: Float[Array, " n"],
) -> LogField:
    if coefficients.shape != (len(terms.pairs),):
        raise ValueError(f"{len(terms.pairs)} functions but coefficients of {coefficients.shape}")
    of_x, of_y = np.array(terms.pairs).T
    between = jnp.zeros((rows.shape[1], columns.shape[1]), coefficients.dtype)
    between = between.at[of_y, of_x].set(coefficients, unique_indices=True)
    return jnp.matmul(
        jnp.matmul(rows, between, precision="highest"), columns.T, precision="highest"
    )
