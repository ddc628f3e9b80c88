"""Optax transformations that optax lacks: the pieces of MI-FGSM, TI-FGSM and steps on L2, L1.

They act on each leaf of the gradient alone, so they drive any parameters: pixels, a free log
field, or the coefficients and control points of a bias field.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

Norm = Literal["linf", "l2", "l1"]
"""The largest absolute value, the Euclidean norm, or the sum of absolute values."""


def normalize(norm: Norm) -> optax.GradientTransformation:
    """Divides each leaf by its norm, g / ‖g‖; a leaf of zeros stays zero.

    Args:
      norm: `"l1"` (Dong et al.'s), `"l2"` or `"linf"`.

    Returns:
      A stateless transformation.

    Raises:
      ValueError: for another norm.

    Example:
      >>> update, _ = normalize("l1").update(jnp.asarray([3.0, -1.0]), optax.EmptyState())
      >>> update.tolist()
      [0.75, -0.25]

    Reference: Dong et al., Boosting Adversarial Attacks with Momentum, CVPR 2018, Eq. 6.
    """
    scaled = functools.partial(_unit, norm=check_norm(norm))
    return optax.stateless(lambda updates, _: jax.tree.map(scaled, updates))


def _unit(g: Array, *, norm: Norm) -> Array:
    size = norm_of(g, norm)
    return g / jnp.where(size > 0, size, 1).astype(g.dtype)


def gaussian_smoothing(*, size: int = 15, sigma: float = 7 / 3) -> optax.GradientTransformation:
    """The gradient convolved with a Gaussian along its first two axes, w * g (TI-FGSM).

    Leaves of fewer than two axes are left alone. For a bias field, whose parameters are no image,
    `smooth_gradient` smooths where the gradient still is one.

    Args:
      size: of the kernel, an odd number of pixels.
      sigma: of the Gaussian, in pixels.

    Returns:
      A stateless transformation.

    Raises:
      ValueError: for an even size or a sigma that is not positive.

    Example:
      >>> g = jnp.zeros((3, 3)).at[1, 1].set(1.0)
      >>> update, _ = gaussian_smoothing(size=3, sigma=1.0).update(g, optax.EmptyState())
      >>> round(float(update[1, 1]), 3)
      0.204

    Reference: Dong et al., Evading Defenses by Translation-Invariant Attacks, CVPR 2019, Eq. 7.
    """
    kernel = gaussian_kernel(size, sigma)
    one = functools.partial(smoothed, kernel=kernel)
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: one(g) if g.ndim >= 2 else g, updates)
    )


def steepest(norm: Norm, step_size: Any) -> optax.GradientTransformation:
    """The step of a length that raises a linear loss most: sign(g) on L∞, g / ‖g‖ on L2 and L1.

    Args:
      norm: in which the step is measured.
      step_size: its length (on L∞ of every entry).

    Returns:
      A stateless transformation, handed the gradient of what is to be lowered.

    Raises:
      ValueError: for another norm.

    Example:
      >>> update, _ = steepest("l2", 0.5).update(jnp.asarray([3.0, -4.0]), optax.EmptyState())
      >>> [round(x, 6) for x in update.tolist()]
      [-0.3, 0.4]
    """
    if check_norm(norm) == "linf":
        return optax.sign_sgd(step_size)
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: -step_size * _unit(g, norm=norm), updates)
    )


def smoothed(x: Float[Array, "h w *rest"], kernel: tuple[float, ...]) -> Float[Array, "h w *rest"]:
    """Convolves along the first two axes with a symmetric kernel, zeros beyond the border.

    Args:
      x: (h, w, ...).
      kernel: weights of an odd number of neighbours.

    Returns:
      The same shape.

    Example:
      >>> smoothed(jnp.ones((1, 2)), (0.25, 0.5, 0.25)).tolist()
      [[0.375, 0.375]]
    """
    reach = len(kernel) // 2
    for axis in (0, 1):
        # shifted sums: inside a loop XLA's CPU backend runs them fast, whatever the gradient
        padded = jnp.pad(x, [(reach, reach) if i == axis else (0, 0) for i in range(x.ndim)])
        n = x.shape[axis]
        shifts = (jax.lax.slice_in_dim(padded, k, k + n, axis=axis) for k in range(len(kernel)))
        x = functools.reduce(jnp.add, (w * s for w, s in zip(kernel, shifts, strict=True)))
    return x


def norm_of(x: Array, norm: Norm) -> Array:
    """‖x‖ over all entries, in at least float32.

    Args:
      x: any shape.
      norm: `"linf"`, `"l2"` or `"l1"`.

    Returns:
      A scalar.

    Example:
      >>> norm_of(jnp.asarray([[3.0], [-4.0]]), "l2").item()
      5.0
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if norm == "linf":
        return jnp.max(jnp.abs(x))
    return jnp.sum(jnp.abs(x)) if norm == "l1" else jnp.sqrt(jnp.sum(x * x))


def check_norm(norm: Norm) -> Norm:
    """The norm itself, or a ValueError for one that is unknown.

    Args:
      norm: its name.

    Returns:
      The name.

    Example:
      >>> check_norm("l2")
      'l2'
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {get_args(Norm)}, got {norm!r}")
    return norm


def gaussian_kernel(size: int, sigma: float) -> tuple[float, ...]:
    """The weights of a sampled Gaussian, their sum one.

    Args:
      size: an odd number of pixels.
      sigma: in pixels.

    Returns:
      As many numbers.

    Raises:
      ValueError: for an even size or a sigma that is not positive.

    Example:
      >>> [round(w, 3) for w in gaussian_kernel(3, 1.0)]
      [0.274, 0.452, 0.274]
    """
    if size < 1 or size % 2 == 0 or not sigma > 0:
        raise ValueError(f"a kernel has an odd size and a positive sigma, got {size=}, {sigma=}")
    weights = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    return tuple(map(float, weights / weights.sum()))
