"""PyTorch's normalisations, on activations (n, ..., c); of layers on any array.

PyTorch's operators also return what their backward passes need; here that is `None`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from bfjax.models.convolution import per_channel

Vector = Float[Array, " c"]
Result = tuple[Array, None, None]


def batch_norm(
    x: Float[Array, "n *pixels c"],
    weight: Vector | None,
    bias: Vector | None,
    mean: Vector,
    variance: Vector,
    momentum: float,
    epsilon: float,
) -> Result:
    """``aten._native_batch_norm_legit_no_training``: by the running averages."""
    return running_batch_norm(x, weight, bias, mean, variance, momentum, epsilon), None, None


def running_batch_norm(
    x: Float[Array, "n *pixels c"],
    weight: Vector | None,
    bias: Vector | None,
    mean: Vector,
    variance: Vector,
    momentum: float,
    epsilon: float,
) -> Array:
    """The first result of `batch_norm`."""
    del momentum
    gain = lax.rsqrt(variance + epsilon)
    gain = gain if weight is None else gain * weight
    shift = -mean * gain if bias is None else bias - mean * gain
    return affine(x, gain, shift)


def affine(x: Float[Array, "n *pixels c"], gain: Vector, shift: Vector) -> Array:
    """``γ x + β``: what a batch normalisation by running averages amounts to."""
    return x * per_channel(gain, x) + per_channel(shift, x)


def batch_norm_of_itself(
    x: Float[Array, "n *pixels c"],
    weight: Vector | None,
    bias: Vector | None,
    training: bool,
    momentum: float,
    epsilon: float,
) -> Result:
    """``aten._native_batch_norm_legit.no_stats``: by the averages of the batch that it sees.

    An instance norm is one over n · c channels.
    """
    del training, momentum
    y = _normalised(x, tuple(range(x.ndim - 1)), epsilon)
    return _scaled(y, weight, bias), None, None


def batch_norm_of_either(
    x: Float[Array, "n *pixels c"],
    weight: Vector | None,
    bias: Vector | None,
    mean: Vector,
    variance: Vector,
    training: bool,
    momentum: float,
    epsilon: float,
) -> Result:
    """``aten._native_batch_norm_legit``, without what it would do to the running averages."""
    if training:
        return batch_norm_of_itself(x, weight, bias, training, momentum, epsilon)
    return batch_norm(x, weight, bias, mean, variance, momentum, epsilon)


def group_norm(
    x: Float[Array, "n *pixels c"],
    weight: Vector | None,
    bias: Vector | None,
    n: int,
    c: int,
    pixels: int,
    groups: int,
    epsilon: float,
) -> Result:
    """``aten.native_group_norm``."""
    grouped = x.reshape(n, pixels, groups, c // groups)
    y = _normalised(grouped, (1, 3), epsilon).reshape(x.shape)
    return _scaled(y, weight, bias), None, None


def layer_norm(
    x: Float[Array, ...],
    normalized_shape: Sequence[int],
    weight: Float[Array, ...] | None,
    bias: Float[Array, ...] | None,
    epsilon: float,
) -> Result:
    """``aten.native_layer_norm``: over the last axes."""
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    leading = (1,) * axes[0]
    weight, bias = (v if v is None else v.reshape(leading + v.shape) for v in (weight, bias))
    y = _normalised(x, axes, epsilon)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, None, None


def _normalised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    centred = x - x.mean(axes, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + epsilon)


def _scaled(y: Array, weight: Vector | None, bias: Vector | None) -> Array:
    y = y if weight is None else y * per_channel(weight, y)
    return y if bias is None else y + per_channel(bias, y)


WITH_CHANNELS_LAST = {
    "aten._native_batch_norm_legit_no_training.default": batch_norm,
    "aten._native_batch_norm_legit.no_stats": batch_norm_of_itself,
    "aten._native_batch_norm_legit.default": batch_norm_of_either,
    "aten.native_group_norm.default": group_norm,
    "bfjax.batch_norm": running_batch_norm,
    "bfjax.affine": affine,
}
OPERATORS = {"aten.native_layer_norm.default": layer_norm}
