"""The layers of the classifiers.

Activations are (..., h, w, c), one image and a batch alike; each layer computes in the type of its
input. A module's weights are zeros until `bfjax.models.build` draws them.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from bfjax.models.convolution import (
    Activation,
    Convolved,
    channel_sum,
    conv2d,
    depthwise_conv2d,
    per_channel,
)
from bfjax.models.winograd import Transformed, pays, transform_kernel, winograd_conv2d

MIN_SIZE = 32
"""The smallest image side that the classifiers take."""


def relu6(x: Float[Array, ...]) -> Float[Array, ...]:
    """``min(max(x, 0), 6)``; its gradient is 0 at exactly 0 and 6, as PyTorch's.

    Args:
      x: any shape.

    Returns:
      The same shape.

    Example:
      >>> relu6(jnp.asarray([-1.0, 3.0, 7.0])).tolist()
      [0.0, 3.0, 6.0]
    """
    return lax.clamp(jnp.zeros((), x.dtype), x, jnp.full((), 6, x.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalize(
    epsilon: float, x: Array, scale: Array, bias: Array
) -> tuple[Array, tuple[Array, Array]]:
    """Batch normalisation by the batch's own statistics: (y, (mean, variance))."""
    n = x.size // x.shape[-1]
    mean = channel_sum(x) / n
    variance = jnp.maximum(channel_sum(jnp.square(x.astype(jnp.float32))) / n - mean**2, 0)
    gain = scale * lax.rsqrt(variance + epsilon)
    y = x * per_channel(gain, x) + per_channel(bias - mean * gain, x)
    return y, (mean, variance)


def _normalize_fwd(epsilon: float, x: Array, scale: Array, bias: Array) -> Any:
    y, (mean, variance) = _normalize(epsilon, x, scale, bias)
    return (y, (mean, variance)), (x, scale, mean, variance)


def _normalize_bwd(epsilon: float, saved: Any, cotangents: Any) -> tuple[Array, Array, Array]:
    x, scale, mean, variance = saved
    g, _ = cotangents  # the statistics only feed the running averages
    n = x.size // x.shape[-1]
    inverse = lax.rsqrt(variance + epsilon)
    bias_bar = channel_sum(g)
    # in float32: a bfloat16 sum over all pixels would lose its small terms
    wide = x.astype(jnp.float32)
    scale_bar = channel_sum(g.astype(jnp.float32) * (wide - per_channel(mean, wide))) * inverse
    # x̄ = γ/σ (ȳ − mean(ȳ) − x̂ mean(ȳ x̂)), as one scaled sum of ȳ, x and a constant
    a, b = scale * inverse, -scale * inverse**2 * scale_bar / n
    shift = -a * bias_bar / n - b * mean
    x_bar = g * per_channel(a, x) + x * per_channel(b, x) + per_channel(shift, x)
    return x_bar, scale_bar, bias_bar


_normalize.defvjp(_normalize_fwd, _normalize_bwd)


class BatchNorm(nnx.Module):
    """Batch normalisation of the last axis, ``γ (x − μ)/√(σ² + ε) + β``.

    Attributes:
      scale: γ, (c,).
      bias: β, (c,).
      mean: the running average of μ, (c,).
      var: the running average of σ² (the biased variance), (c,).
    """

    def __init__(self, features: int, *, epsilon: float, momentum: float):
        self.scale = nnx.Param(jnp.ones((features,)))
        self.bias = nnx.Param(jnp.zeros((features,)))
        self.mean = nnx.BatchStat(jnp.zeros((features,)))
        self.var = nnx.BatchStat(jnp.ones((features,)))
        self.epsilon = epsilon
        self.momentum = momentum

    def affine(self) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """The gain and the shift that the running averages amount to, ``y = gain x + shift``."""
        gain = self.scale[...] * lax.rsqrt(self.var[...] + self.epsilon)
        return gain, self.bias[...] - self.mean[...] * gain

    def folded(self) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
        """`affine` on the host, where JAX would compile each operation for each size."""
        named = (self.scale, self.bias, self.mean, self.var)
        scale, bias, mean, var = (np.asarray(one[...]) for one in named)
        gain = scale / np.sqrt(var + self.epsilon)
        return gain, bias - mean * gain

    def __call__(self, x: Activation, *, training: bool = False) -> Activation:
        """Normalises by the running averages, or by the batch, which then updates them."""
        if not training:
            gain, shift = self.affine()
            return x * per_channel(gain, x) + per_channel(shift, x)
        y, (mean, var) = _normalize(self.epsilon, x, self.scale[...], self.bias[...])
        m = self.momentum
        self.mean[...] = m * self.mean[...] + (1 - m) * lax.stop_gradient(mean)
        self.var[...] = m * self.var[...] + (1 - m) * lax.stop_gradient(var)
        return y


def _refuse_training(training: bool) -> None:
    if training:
        raise ValueError("this classifier is frozen (batch norms folded): it cannot be trained")


class Bias(nnx.Module):
    """``x + β``: what remains of a batch normalisation folded into the kernel before it."""

    def __init__(self, bias: Float[Array, " c"]):
        self.bias = nnx.Param(bias)

    def __call__(self, x: Activation, *, training: bool = False) -> Activation:
        """Adds the bias; a folded layer cannot be trained."""
        _refuse_training(training)
        return x + per_channel(self.bias[...], x)


class ConvNorm(nnx.Module):
    """A convolution without bias, and its batch normalisation.

    Attributes:
      kernel: (kh, kw, c_in, c_out), or (kh, kw, c) where it is depthwise.
      backward: set once folded for `bfjax.models.winograd`, whose `Transformed` kernel both are.
      norm: a `BatchNorm`, or a `Bias` once folded.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        stride: int = 1,
        padding: str | int = "same",
        epsilon: float,
        momentum: float,
    ):
        self.kernel = nnx.Param(jnp.zeros(shape))
        self.norm: BatchNorm | Bias = BatchNorm(shape[-1], epsilon=epsilon, momentum=momentum)
        self.stride = stride
        self.padding = padding
        self.backward: nnx.Param | None = nnx.data(None)

    def __call__(self, x: Activation, *, training: bool = False) -> Convolved:
        """Convolves and normalises, in the type of `x`."""
        kernel = self.kernel[...]
        if self.backward is not None:
            y = winograd_conv2d(x, Transformed(kernel, self.backward[...]))
        else:
            convolve = conv2d if kernel.ndim == 4 else depthwise_conv2d
            y = convolve(x, kernel.astype(x.dtype), stride=self.stride, padding=self.padding)
        return self.norm(y, training=training)

    def fold(self, *, transform: bool = False) -> None:
        """Folds the batch normalisation into the kernel, exactly: w' = gain · w, β' = shift.

        Args:
          transform: keep the kernel as `bfjax.models.winograd` has it, where that pays.
        """
        if isinstance(self.norm, BatchNorm):
            gain, shift = self.norm.folded()
            kernel = np.asarray(self.kernel[...]) * gain
            self.norm = Bias(jax.device_put(shift))
            if transform and pays(kernel.shape, stride=self.stride, padding=self.padding):
                kernel, backward = transform_kernel(kernel)
                self.backward = nnx.Param(backward)
            self.kernel = nnx.Param(jax.device_put(kernel))


class Conv(nnx.Module):
    """A convolution alone, its output of the size of its input.

    Attributes:
      kernel: (kh, kw, c_in, c_out).
    """

    def __init__(self, *shape: int):
        self.kernel = nnx.Param(jnp.zeros(shape))

    def __call__(self, x: Activation) -> Convolved:
        """Convolves, in the type of `x`."""
        return conv2d(x, self.kernel[...].astype(x.dtype))


class Affine(nnx.Module):
    """``γ x + β``: what remains of a batch normalisation that has no kernel before it."""

    def __init__(self, gain: Float[Array, " c"], shift: Float[Array, " c"]):
        self.gain = nnx.Param(gain)
        self.shift = nnx.Param(shift)

    def __call__(self, x: Activation, *, training: bool = False) -> Activation:
        """Scales and shifts; a folded layer cannot be trained."""
        _refuse_training(training)
        return x * per_channel(self.gain[...], x) + per_channel(self.shift[...], x)


class Preactivation(nnx.Module):
    """A batch normalisation and a relu, before a convolution.

    Attributes:
      norm: a `BatchNorm`, or an `Affine` once folded.
    """

    def __init__(self, features: int, *, epsilon: float, momentum: float):
        self.norm: BatchNorm | Affine = BatchNorm(features, epsilon=epsilon, momentum=momentum)

    def __call__(self, x: Activation, *, training: bool = False) -> Activation:
        """Normalises and cuts, in the type of `x`."""
        return jax.nn.relu(self.norm(x, training=training))

    def fold(self) -> None:
        """Turns the batch normalisation into one scale and one shift."""
        if isinstance(self.norm, BatchNorm):
            self.norm = Affine(*jax.device_put(self.norm.folded()))


class Dense(nnx.Module):
    """``x W + b``.

    Attributes:
      kernel: W, (c_in, c_out).
      bias: b, (c_out,).
    """

    def __init__(self, c_in: int, c_out: int):
        self.kernel = nnx.Param(jnp.zeros((c_in, c_out)))
        self.bias = nnx.Param(jnp.zeros((c_out,)))

    def __call__(self, x: Float[Array, "*batch c_in"]) -> Float[Array, "*batch c_out"]:
        """(..., c_in) to (..., c_out), in the type of `x`."""
        return x @ self.kernel[...].astype(x.dtype) + per_channel(self.bias[...], x)


def check_image(x: Activation, *, channels: int) -> Convolved:
    """Images as a model takes them: grey ones become RGB where it wants that.

    Args:
      x: (..., h, w, c).
      channels: 1 or 3, what the model takes.

    Returns:
      (..., h, w, channels).

    Raises:
      ValueError: neither grey nor RGB, RGB for a grey model, or smaller than `MIN_SIZE`.
    """
    if x.ndim < 3 or x.shape[-1] not in (1, 3):
        raise ValueError(f"an image is (..., h, w, 1) or (..., h, w, 3), got {x.shape}")
    if min(x.shape[-3:-1]) < MIN_SIZE:
        raise ValueError(f"an image has at least {MIN_SIZE} x {MIN_SIZE} pixels, got {x.shape}")
    if x.shape[-1] > channels:
        raise ValueError(f"this model takes grey images (h, w, 1), got {x.shape}")
    return jnp.broadcast_to(x, (*x.shape[:-1], channels))
