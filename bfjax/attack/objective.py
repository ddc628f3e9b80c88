"""What an attack raises (losses on logits) and what it pays (penalties on parameters): Eq. 5."""

from __future__ import annotations

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Scalar

from bfjax.types import Label, Logits, Loss, Params

Reduction = Literal["sum", "mean"]
"""How a norm adds up."""


def cross_entropy(logits: Logits, label: Label) -> Scalar:
    """J(X_a, y) = −log softmax(z)[y] = log(1 + Σ_{k≠y} exp(z_k − z_y)), the loss of Eq. 5.

    In the second form neither the value nor the gradient cancels: a classifier that is as good as
    certain still has a slope, down to margins of about 100, where softmax(z)[y] − 1 is only noise
    from 16 on.

    Args:
      logits: z, (classes,), of any float type; computed in at least float32.
      label: y, the true class, 0 ≤ y < classes. Raising the loss leaves it.

    Returns:
      The cross-entropy in nats, ≥ 0.

    Raises:
      ValueError: when traced, for logits that are not one vector of two or more classes.

    Example:
      >>> import jax.numpy as jnp
      >>> cross_entropy(jnp.zeros(2), 0).item()
      0.6931...

    Reference: Tian et al., ICME 2021, Eq. 5.
    """
    others = _others(logits, label)
    return jax.nn.softplus(jax.nn.logsumexp(others))


def margin(logits: Logits, label: Label) -> Scalar:
    """max_{k≠y} z_k − z_y: positive exactly where another class wins; it never saturates.

    Args:
      logits: (classes,).
      label: y, the true class.

    Returns:
      The margin, in units of the logits.

    Raises:
      ValueError: when traced, for logits that are not one vector of two or more classes.

    Example:
      >>> import jax.numpy as jnp
      >>> margin(jnp.asarray([1.0, 3.0, 2.0]), 1).item()
      -1.0

    Reference: Carlini and Wagner, Towards Evaluating the Robustness of Neural Networks, 2017, f6.
    """
    return jnp.max(_others(logits, label))


def binary_cross_entropy(logits: Logits, label: Label) -> Scalar:
    """Σ_k log(1 + exp(−s_k z_k)), s = ±1: for one logit, or a head of several labels.

    Args:
      logits: (heads,), one for a classifier whose only logit says class 1.
      label: 0 or 1; for several heads (heads,) of 0 and 1.

    Returns:
      The cross-entropy in nats, summed over the heads.

    Raises:
      ValueError: when traced, for labels of another shape than the logits.

    Example:
      >>> import jax.numpy as jnp
      >>> binary_cross_entropy(jnp.zeros(1), 1).item()
      0.6931...
    """
    return jnp.sum(jax.nn.softplus(-_signed(logits, label)))


def binary_margin(logits: Logits, label: Label) -> Scalar:
    """max_k −s_k z_k, s = ±1: positive exactly where at least one head is wrong.

    Args:
      logits: (heads,), as for `binary_cross_entropy`.
      label: 0 or 1; for several heads (heads,) of 0 and 1.

    Returns:
      The margin, in units of the logits.

    Raises:
      ValueError: when traced, for labels of another shape than the logits.

    Example:
      >>> import jax.numpy as jnp
      >>> binary_margin(jnp.asarray([2.0, -1.0]), jnp.asarray([1, 0])).item()
      -1.0
    """
    return jnp.max(-_signed(logits, label))


@functools.cache  # equal losses are then the same function, and share a compilation
def targeted(loss: Loss) -> Loss:
    """−loss: raising it moves towards the label given, instead of away from it.

    Args:
      loss: for instance `margin`, whose targeted version is z_t − max_{k≠t} z_k.

    Returns:
      A loss.

    Example:
      >>> import jax.numpy as jnp
      >>> targeted(margin)(jnp.asarray([1.0, 3.0]), 1).item()
      2.0
    """
    return lambda logits, label: -loss(logits, label)


def is_wrong(logits: Logits, label: Label) -> Bool[Array, ""]:
    """Whether the classifier errs: the largest logit is another class's, or a head's sign is wrong.

    Args:
      logits: (classes,); a single logit says class 1 where it is positive.
      label: the true class; (heads,) of 0 and 1 for several labels.

    Returns:
      A boolean, for `Attack.stop`.

    Raises:
      ValueError: when traced, for labels of another shape than the logits.

    Example:
      >>> import jax.numpy as jnp
      >>> bool(is_wrong(jnp.asarray([1.0, 3.0]), 1)), bool(is_wrong(jnp.asarray([1.0]), 0))
      (False, True)
    """
    if logits.shape == (1,) or jnp.ndim(label):
        return jnp.any((logits > 0) != jnp.asarray(label, bool).reshape(-1))
    return jnp.argmax(logits) != label


def is_right(logits: Logits, label: Label) -> Bool[Array, ""]:
    """Not `is_wrong`: whether a targeted attack has arrived.

    Args:
      logits: (classes,).
      label: the target.

    Returns:
      A boolean, for `Attack.stop`.

    Raises:
      ValueError: when traced, for labels of another shape than the logits.

    Example:
      >>> import jax.numpy as jnp
      >>> bool(is_right(jnp.asarray([1.0, 3.0]), 1))
      True
    """
    return ~is_wrong(logits, label)


def _others(logits: Logits, label: Label) -> Logits:
    """Each z_k − z_y, and −∞ for y itself."""
    if logits.ndim != 1 or logits.shape[0] < 2:
        raise ValueError(f"logits must be (classes,) with two or more, got shape {logits.shape}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    own = jnp.arange(logits.shape[0]) == label
    return jnp.where(own, -jnp.inf, logits - logits[label])


def _signed(logits: Logits, label: Label) -> Logits:
    """Each head's logit, positive where it is right."""
    label = jnp.asarray(label).reshape(-1)
    if logits.shape != label.shape:
        raise ValueError(f"one label of 0 or 1 a logit, got {label.shape} for {logits.shape}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jnp.where(label > 0, logits, -logits)


def l1_penalty(identity: Params, weights: Params, *, reduction: Reduction = "sum") -> Partial:
    """Σ_k λ_k ‖p_k − p0_k‖₁ over the parts of the parameters: λ_a‖a‖₁ + λ_θ‖θ − θ0‖₁ of Eq. 5.

    Its gradient at p = p0 is zero (sign(0) = 0), so it does not push off the identity.

    Args:
      identity: p0, the parameters of the identity field.
      weights: λ, a float for each part, in the same structure.
      reduction: `"sum"` over the entries of a part, or their `"mean"`.

    Returns:
      `params -> scalar`, for `Attack.penalty`. The weights are leaves: changing them compiles
      nothing anew.

    Raises:
      ValueError: for an unknown reduction, a negative weight or another structure.

    Example:
      >>> import jax.numpy as jnp
      >>> penalty = l1_penalty((jnp.zeros(2), jnp.ones(2)), (0.5, 2.0))
      >>> penalty((jnp.asarray([1.0, -1.0]), jnp.ones(2))).item()
      1.0

    Reference: Tian et al., ICME 2021, Eq. 5.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {get_args(Reduction)}, got {reduction!r}")
    if jax.tree.structure(identity) != jax.tree.structure(weights):
        raise ValueError(f"one weight for each part of the parameters, got {weights}")
    if not all(weight >= 0 for weight in jax.tree.leaves(weights)):
        raise ValueError(f"penalty weights must not be negative, got {weights}")
    reduce = Partial(jnp.sum if reduction == "sum" else jnp.mean)  # a Partial: static under jit
    return Partial(_l1, reduce, identity, weights)


def _l1(reduce: Partial, identity: Params, weights: Params, params: Params) -> Scalar:
    def part(p, p0, weight):
        away = p - p0
        return weight * reduce(jnp.sign(away) * away)  # |·|, but jnp.abs has slope 1 at 0

    parts = jax.tree.map(part, params, identity, weights)
    return jnp.sum(jnp.stack(jax.tree.leaves(parts)))
