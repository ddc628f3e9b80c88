"""Activations, with PyTorch's gradients at their kinks."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from bfjax.models.aten.promotion import floating

# Klambauer et al., Self-Normalizing Neural Networks (2017)
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _elu(x: Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Array:
    positive = x > 0
    below = jnp.where(positive, 0, x)  # where expm1 would overflow its gradient is not asked
    return jnp.where(positive, scale * x, scale * alpha * jnp.expm1(input_scale * below))


def hardtanh(x: Array, min_val: float = -1, max_val: float = 1) -> Array:
    """Within bounds; unlike with clamp, no gradient passes at a bound."""
    x = jnp.where(x <= min_val, jnp.asarray(min_val, x.dtype), x)
    return jnp.where(x >= max_val, jnp.asarray(max_val, x.dtype), x)


def _hard_sigmoid(x: Array) -> Array:
    return hardtanh(x + 3, 0, 6) / 6


def _hard_swish(x: Array) -> Array:
    inside = jnp.where(x <= -3, 0, x * (x + 3) / 6)
    return jnp.where(x >= 3, x, inside)


def _leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    return jnp.where(x > 0, x, negative_slope * x)


def _prelu(x: Array, weight: Array) -> Array:
    """A slope for each channel, which is the second axis."""
    axes = [1 if axis != 1 else -1 for axis in range(x.ndim)]
    slope = weight if weight.ndim == x.ndim else weight.reshape(axes or ())
    return jnp.where(x > 0, x, slope * x)


def _glu(x: Array, dim: int = -1) -> Array:
    first, second = jnp.split(x, 2, axis=dim)
    return first * jax.nn.sigmoid(second)


def _gelu(x: Array, *, approximate: str = "none") -> Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _softplus(x: Array, beta: float = 1, threshold: float = 20) -> Array:
    linear = beta * x > threshold
    return jnp.where(linear, x, jax.nn.softplus(beta * x) / beta)


def _logit(x: Array, eps: float | None = None) -> Array:
    x = floating(x)
    if eps is not None:
        x = jnp.where(x < eps, eps, jnp.where(x > 1 - eps, 1 - eps, x))
    return jnp.log(x / (1 - x))


def _threshold(x: Array, threshold: float, value: float) -> Array:
    return jnp.where(x <= threshold, jnp.asarray(value, x.dtype), x)


def _hard_shrink(x: Array, lambd: float = 0.5) -> Array:
    return jnp.where(jnp.abs(x) <= lambd, 0, x)


def _soft_shrink(x: Array, lambd: float = 0.5) -> Array:
    return jnp.where(x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, 0 * x))


_POINTWISE: dict[str, Callable] = {
    "celu": lambda x, alpha=1.0: _elu(x, alpha, 1, 1 / alpha),
    "elu": _elu,
    "gelu": _gelu,
    "hardshrink": _hard_shrink,
    "hardsigmoid": _hard_sigmoid,
    "hardswish": _hard_swish,
    "hardtanh": hardtanh,
    "leaky_relu": _leaky_relu,
    "log_sigmoid": jax.nn.log_sigmoid,
    "logit": _logit,
    "mish": jax.nn.mish,
    "relu": lambda x: jnp.where(x <= 0, jnp.zeros_like(x), x),
    "relu6": lambda x: hardtanh(x, 0, 6),
    "selu": lambda x: _elu(x, _SELU_ALPHA, _SELU_SCALE),
    "silu": jax.nn.silu,
    "softplus": _softplus,
    "softshrink": _soft_shrink,
    "threshold": _threshold,
}
ELEMENTWISE = frozenset(f"aten.{name}.default" for name in _POINTWISE)
OPERATORS: dict[str, Callable] = {
    **{f"aten.{name}.default": function for name, function in _POINTWISE.items()},
    "aten.glu.default": _glu,
    "aten.prelu.default": _prelu,
    "aten._prelu_kernel.default": _prelu,
}
