"""What an attack pays: penalties on its parameters (Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Scalar

from bfjax.numbers import check_numbers, with_numbers
from bfjax.types import Params, as_pytree

Reduction = Literal["sum", "mean"]
"""How a norm adds up."""


def l1_penalty(
    identity: Params | Callable[[], Params], weights: Params, *, reduction: Reduction = "sum"
) -> Partial:
    """Σ_k λ_k ‖p_k − p0_k‖₁ over the parts of the parameters: λ_a‖a‖₁ + λ_θ‖θ − θ0‖₁ of Eq. 5.

    Its gradient at p = p0 is zero (sign(0) = 0), so it does not push off the identity.

    Args:
      identity: p0, the parameters of the identity field, or a function that makes them.
      weights: λ, a number for each part, in the same structure; `None` leaves a part out.
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
    given, structure = jax.tree.flatten(weights, is_leaf=lambda weight: weight is None)
    if not callable(identity) and jax.tree.structure(identity) != structure:
        raise ValueError(f"one weight for each part of the parameters, got {weights}")
    for weight in given:
        check_numbers(at_least=0, **{"a penalty's weight": weight})
    start = as_pytree(identity) if callable(identity) else identity
    reduce = Partial(jnp.sum if reduction == "sum" else jnp.mean)  # a Partial: static under jit
    return with_numbers(Partial(_l1, reduce, start), weights=tuple(given))


def _l1(reduce: Partial, identity: Any, params: Params, *, weights: tuple) -> Scalar:
    start = identity() if callable(identity) else identity
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(start), weights, strict=True)
    total = jnp.zeros((), jnp.float32)
    for p, p0, weight in pairs:
        if weight is not None:
            away = p - p0
            total += weight * reduce(jnp.sign(away) * away)  # |·|, but jnp.abs has slope 1 at 0
    return total
