"""What an attack raises (losses on logits) and what it pays (penalties on parameters): Eq. 5."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Scalar

from bfjax.types import Label, Logits, Params

Reduction = Literal["sum", "mean"]


def cross_entropy(logits: Logits, label: Label) -> Scalar:
    """J(X_a, y) = −log softmax(logits)[y], the loss of Eq. 5; raising it leaves class y.

    Args:
      logits: (classes,), of any float type; computed in at least float32.
      label: y, the true class, 0 ≤ y < classes.

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
    if logits.ndim != 1 or logits.shape[0] < 2:
        raise ValueError(f"logits must be (classes,) with two or more, got shape {logits.shape}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(label))


def targeted_cross_entropy(logits: Logits, label: Label) -> Scalar:
    """−J(X_a, t) = log softmax(logits)[t]; raising it moves towards the target class t.

    Args:
      logits: (classes,).
      label: t, the class to reach.

    Returns:
      The log probability of the target in nats, ≤ 0.

    Raises:
      ValueError: when traced, for logits that are not one vector of two or more classes.

    Example:
      >>> import jax.numpy as jnp
      >>> targeted_cross_entropy(jnp.zeros(2), 1).item()
      -0.6931...
    """
    return -cross_entropy(logits, label)


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
