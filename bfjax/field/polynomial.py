"""The bivariate polynomial of Eq. 4: which monomials it keeps, and its value at every pixel."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Terms = Literal["literal", "count", "total"]
"""Which monomials Eq. 4 keeps: t ≥ D0 and l ≥ D0; t ≥ D0; or t + l ≥ D0."""
Exponents = tuple[tuple[int, int], ...]

# Cotangents of zero (a black pixel, a clipped one) meet these derivatives, and 0 · inf is NaN; cut
# here, a sum over 10⁵ pixels still fits float32.
_LARGEST_DERIVATIVE = 1e30
_CHUNK = 2048


def exponents(degree: int, min_degree: int = 0, *, terms: Terms = "literal") -> Exponents:
    """The exponent pairs (t, l) of the monomials x^t · y^l of Eq. 4, ordered by t, then l.

    The paper's sum and its count of parameters disagree for D0 > 0; each reading has a name:

    - `"literal"`: the sum as printed, t ≥ D0 and l ≥ D0; 66, 45, 28, 15 terms for D = 10 and
      D0 = 0, 1, 2, 3.
    - `"count"`: t ≥ D0 and l ≥ 0, which fits the printed count (D−D0+1)(D−D0+2)/2; 66, 55, 45, 36.
    - `"total"`: t + l ≥ D0; 66, 65, 63, 60.

    Args:
      degree: D, the largest total degree t + l.
      min_degree: D0, 0 ≤ D0.
      terms: the reading of the sum.

    Returns:
      The pairs (t, l).

    Raises:
      ValueError: for an unknown reading, negative degrees, or when no monomial is left.

    Example:
      >>> exponents(3, 1)
      ((1, 1), (1, 2), (2, 1))

    Reference: Tian et al., ICME 2021, Eq. 4.
    """
    if terms not in get_args(Terms):
        raise ValueError(f"terms must be one of {get_args(Terms)}, got {terms!r}")
    if degree < 0 or min_degree < 0:
        raise ValueError(f"degrees must not be negative, got {degree=}, {min_degree=}")
    keep = {
        "literal": lambda t, l: min(t, l) >= min_degree,
        "count": lambda t, l: t >= min_degree,
        "total": lambda t, l: t + l >= min_degree,
    }[terms]
    pairs = ((t, l) for t in range(degree + 1) for l in range(degree + 1 - t))
    kept = tuple(pair for pair in pairs if keep(*pair))
    if not kept:
        raise ValueError(f"no monomial is left: {degree=}, {min_degree=}, {terms=}")
    return kept


def polynomial(
    coefficients: Float[Array, " n"],
    x: Float[Array, "*pixels"],
    y: Float[Array, "*pixels"],
    *,
    exponents: Exponents,
) -> Float[Array, "*pixels"]:
    """Σ a_{t,l} · x^t · y^l (Eq. 4), by Horner's rule in both variables.

    Its derivative is given in closed form (forward and reverse mode, of any order) so that neither
    direction stores the monomials. Coefficients of any size up to 1e30 give a value that is
    finite or ±inf, never NaN, and finite derivatives (cut at ±1e30).

    Args:
      coefficients: (n,), a, one for each pair of `exponents`.
      x: coordinates, to the right.
      y: coordinates, down, of the same shape.
      exponents: the pairs (t, l), as from `exponents`.

    Returns:
      The value at each pixel, of the shape of `x`.

    Raises:
      ValueError: when the numbers of coefficients and exponents differ.

    Example:
      >>> import jax.numpy as jnp
      >>> x, y = jnp.asarray([2.0]), jnp.asarray([3.0])
      >>> polynomial(jnp.asarray([1.0, 10.0]), x, y, exponents=((0, 1), (2, 0)))  # y + 10 x²
      Array([43.], dtype=float32)

    Reference: Tian et al., ICME 2021, Eq. 4.
    """
    if coefficients.shape != (len(exponents),):
        raise ValueError(f"{len(exponents)} exponents but coefficients of {coefficients.shape}")
    return _polynomial(exponents, coefficients, x, y)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _polynomial(pairs, coefficients, x, y):
    # Scaled, so that huge coefficients of both signs cancel before they can overflow.
    scale = jnp.maximum(1.0, jnp.max(jnp.abs(coefficients)))
    return scale * _horner(dict(zip(pairs, coefficients / scale, strict=True)), x, y)


def _horner(table, x, y):
    """Σ_t x^t (Σ_l table[t, l] y^l), innermost first; absent entries cost no addition."""
    outer: Any = None
    for t in range(max(t for t, _ in table), -1, -1):
        inner = None
        for l in range(max((l for u, l in table if u == t), default=-1), -1, -1):
            inner = _multiply_add(inner, y, table.get((t, l)))
        outer = _multiply_add(outer, x, inner)
    return jnp.broadcast_to(outer, jnp.shape(x))


def _multiply_add(value, by, plus):
    if value is None:
        return plus
    return value * by if plus is None else value * by + plus


@_polynomial.defjvp
def _polynomial_jvp(pairs, primals, tangents):
    coefficients, x, y = primals
    d_coefficients, dx, dy = tangents
    scale = jnp.maximum(1.0, jnp.max(jnp.abs(coefficients)))
    table = dict(zip(pairs, coefficients / scale, strict=True))
    by_x = {(t - 1, l): t * a for (t, l), a in table.items() if t} or {(0, 0): 0 * coefficients[0]}
    by_y = {(t, l - 1): l * a for (t, l), a in table.items() if l} or {(0, 0): 0 * coefficients[0]}
    slope_x, slope_y = (
        jnp.clip(scale * _horner(part, x, y), -_LARGEST_DERIVATIVE, _LARGEST_DERIVATIVE)
        for part in (by_x, by_y)
    )
    t, l = np.array(pairs).T
    d_table = jnp.zeros((t.max() + 1, l.max() + 1), coefficients.dtype)
    d_table = d_table.at[t, l].set(d_coefficients, unique_indices=True)
    along_a = _linear(d_table, x.ravel(), y.ravel()).reshape(x.shape)
    return _polynomial(pairs, coefficients, x, y), along_a + slope_x * dx + slope_y * dy


@jax.checkpoint  # neither direction stores the powers
def _linear(table, x, y):
    """The polynomial as a product with its table, which transposes to one: Xᵀ (g · Y)."""
    return jax.lax.platform_dependent(table, x, y, cpu=_linear_in_chunks, default=_product)


def _linear_in_chunks(table, x, y):
    """The powers of a chunk stay in a core's cache, those of an image would not."""
    # without a rest where that goes: XLA would pad inside the loop that makes x, pixel by pixel
    whole = (size for size in range(_CHUNK, _CHUNK // 2, -1) if x.size % size == 0)
    chunk = next(whole, _CHUNK)
    chunks = (jnp.pad(v, (0, -x.size % chunk)).reshape(-1, chunk) for v in (x, y))
    product = jax.checkpoint(lambda xy: _product(table, *xy))
    return jax.lax.map(product, tuple(chunks)).reshape(-1)[: x.size]


def _product(table, x, y):
    """Σ_t x^t (Y A)_t."""
    rows, columns = table.shape
    inner = jnp.matmul(table, _powers(y, columns - 1), precision="highest")
    return jnp.sum(_powers(x, rows - 1) * inner, axis=0)


def _powers(x, highest):
    """(highest + 1, *x.shape): x⁰, x¹, … by repeated products, finite derivatives at zero."""
    powers = [jnp.ones_like(x)]
    for _ in range(highest):
        powers.append(powers[-1] * x)
    return jnp.stack(powers)
