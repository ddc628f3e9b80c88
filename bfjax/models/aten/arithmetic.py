"""Arithmetic, comparisons, logic and casts: what acts on one element at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from bfjax.models.aten import activations
from bfjax.models.aten.promotion import align, cast, floating, result_type, with_rank


def _pointwise(function: Callable, *, inexact: bool = False) -> Callable:
    """A function of tensors and numbers that are first brought to one type and rank."""
    return lambda *values: function(*align(*values, inexact=inexact))


def absolute(x: Array) -> Array:
    """|x|, with no slope at zero; `jnp.abs` has one there."""
    size = jnp.abs(x)
    return jnp.where(x == 0, jnp.zeros_like(size), size)


def _sign(x: Array) -> Array:
    """-1, 0 or 1; 0 for NaN."""
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


def _rounding(function: Callable) -> Callable:
    return lambda x: function(x) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _round(x: Array, *, decimals: int) -> Array:
    return jnp.round(x * 10.0**decimals) / 10.0**decimals


def _add(x: Array, y: Array | float, alpha: float = 1) -> Array:
    x, y = align(x, y)
    return x + (y if alpha == 1 else alpha * y)


def _subtract(x: Array, y: Array | float, alpha: float = 1) -> Array:
    x, y = align(x, y)
    return x - (y if alpha == 1 else alpha * y)


def _divide(x: Array, y: Array | float, *, rounding_mode: str | None = None) -> Array:
    if rounding_mode is None:
        return jnp.divide(*align(x, y, inexact=True))
    x, y = align(x, y)
    real = jnp.issubdtype(x.dtype, jnp.floating)
    if rounding_mode == "floor" and real:  # by zero it is ±∞, or NaN
        by_zero = lax.stop_gradient(x / y)
        return jnp.where(y == 0, by_zero, jnp.floor_divide(x, jnp.where(y == 0, 1, y)))
    if rounding_mode == "floor":
        return jnp.floor_divide(x, y)
    if real:
        return jnp.trunc(x / y)
    return lax.div(*jnp.broadcast_arrays(x, y))


def _angle(y: Array, x: Array) -> Array:
    """The angle of (x, y), with no slope at the origin; `jnp.arctan2` has NaN there."""
    origin = (x == 0) & (y == 0)
    safe = jnp.arctan2(jnp.where(origin, 1, y), jnp.where(origin, 1, x))
    return jnp.where(origin, lax.stop_gradient(jnp.arctan2(y, x)), safe)


def _known(better: Callable) -> Callable:
    """The better of two, the first where they are equal, and the one that is not NaN."""
    return lambda x, y: jnp.where(better(x, y) | jnp.isnan(y), x, y)


def _power(x: Array | float, y: Array | float) -> Array:
    """X ^ y; a number that is whole as a multiplication, whose gradient is right at zero."""
    x, y = align(x, y)
    if isinstance(y, float) and y.is_integer():
        y = int(y)
    return jnp.power(x, y)


def _clamp(x: Array, low: Any = None, high: Any = None) -> Array:
    """Within bounds. PyTorch's gradient passes at the bounds, unlike that of `jnp.clip`."""
    bounds = [bound for bound in (low, high) if bound is not None]
    x, *bounds = align(x, *bounds)
    if low is not None:
        x = jnp.where(x < bounds[0], bounds[0], x)
    return x if high is None else jnp.where(x > bounds[-1], bounds[-1], x)


def _where(condition: Array, x: Any, y: Any) -> Array:
    x, y = (jnp.asarray(value, result_type(x, y)) for value in (x, y))
    rank = max(condition.ndim, x.ndim, y.ndim)
    return jnp.where(with_rank(condition, rank), with_rank(x, rank), with_rank(y, rank))


def _copy(x: Array, source: Array, non_blocking: bool = False) -> Array:
    return jnp.broadcast_to(with_rank(source, x.ndim), x.shape).astype(x.dtype)


def _fill(x: Array, value: Any) -> Array:
    return jnp.broadcast_to(jnp.asarray(value, x.dtype), x.shape)


_INEXACT = {
    "acos": jnp.arccos, "acosh": jnp.arccosh, "asin": jnp.arcsin, "asinh": jnp.arcsinh,
    "atan": jnp.arctan, "atanh": jnp.arctanh, "cos": jnp.cos, "cosh": jnp.cosh,
    "digamma": lax.digamma, "erf": lax.erf, "erfc": lax.erfc, "erfinv": lax.erf_inv,
    "exp": jnp.exp, "exp2": jnp.exp2, "expm1": jnp.expm1, "lgamma": lax.lgamma, "log": jnp.log,
    "log10": jnp.log10, "log1p": jnp.log1p, "log2": jnp.log2, "reciprocal": jnp.reciprocal,
    "rsqrt": lax.rsqrt, "sin": jnp.sin, "sinh": jnp.sinh, "sqrt": jnp.sqrt, "tan": jnp.tan,
    "tanh": jnp.tanh, "atan2": _angle, "hypot": jnp.hypot,
}  # fmt: skip
_EXACT = {
    "abs": absolute, "neg": jnp.negative, "sign": _sign, "isinf": jnp.isinf, "isnan": jnp.isnan,
    "bitwise_not": jnp.bitwise_not, "logical_not": jnp.logical_not,
    "logical_and": jnp.logical_and, "logical_or": jnp.logical_or, "logical_xor": jnp.logical_xor,
    "maximum": jnp.maximum, "minimum": jnp.minimum, "fmax": _known(jnp.greater_equal),
    "fmin": _known(jnp.less_equal),
}  # fmt: skip
_ROUNDING = {"ceil": jnp.ceil, "floor": jnp.floor, "round": jnp.round, "trunc": jnp.trunc}
_BOTH = ("Tensor", "Scalar")  # of a tensor and another, or a number
_PAIRS = {
    "eq": jnp.equal, "ne": jnp.not_equal, "ge": jnp.greater_equal, "gt": jnp.greater,
    "le": jnp.less_equal, "lt": jnp.less, "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or, "bitwise_xor": jnp.bitwise_xor, "mul": jnp.multiply,
    "remainder": jnp.remainder, "fmod": jnp.fmod, "__lshift__": jnp.left_shift,
    "__rshift__": jnp.right_shift,
}  # fmt: skip

# of a tensor, or of a number, and another of either; the rest of the name says which
_FORMS = {
    "add": (_add, "Tensor Scalar"),
    "sub": (_subtract, "Tensor Scalar"),
    "div": (_divide, "Tensor Scalar Tensor_mode Scalar_mode"),
    "pow": (_power, "Tensor_Tensor Tensor_Scalar Scalar"),
    "where": (_where, "self"),
    "clamp": (_clamp, "default Tensor"),
    "remainder": (_pointwise(jnp.remainder), "Scalar_Tensor"),
    "bitwise_left_shift": (_pointwise(jnp.left_shift), "Tensor Tensor_Scalar"),
    "bitwise_right_shift": (_pointwise(jnp.right_shift), "Tensor Tensor_Scalar"),
    "round": (_round, "decimals"),
    "fill": (_fill, "Scalar"),
    "_to_copy": (lambda x, *, dtype=None, non_blocking=False: cast(x, dtype), "default"),
}
_ALONE = {
    "sigmoid": lambda x: jax.nn.sigmoid(floating(x)),
    "copy": _copy,
    **dict.fromkeys(("alias", "clone", "lift_fresh_copy"), lambda x: x),
}

OPERATORS: dict[str, Callable] = {
    **{f"aten.{name}.default": _pointwise(f, inexact=True) for name, f in _INEXACT.items()},
    **{f"aten.{name}.default": _pointwise(f) for name, f in _EXACT.items()},
    **{f"aten.{name}.default": _rounding(f) for name, f in _ROUNDING.items()},
    **{f"aten.{name}.{kind}": _pointwise(f) for name, f in _PAIRS.items() for kind in _BOTH},
    **{f"aten.{name}.{kind}": f for name, (f, kinds) in _FORMS.items() for kind in kinds.split()},
    **{f"aten.{name}.default": f for name, f in _ALONE.items()},
}
ELEMENTWISE = frozenset(OPERATORS) | activations.ELEMENTWISE
