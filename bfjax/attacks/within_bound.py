"""The most that a field can do within a bound on itself: smooth light, and no more than that."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import jax

from bfjax import attack as pieces
from bfjax import field as fields
from bfjax.attack import annealed, in_turn, margin
from bfjax.field import Encoding
from bfjax.numbers import Number, check_numbers, of_one_image
from bfjax.types import Attack, Field, Image, LinearField, Loss, Params, PRNGKey

NUM_STEPS = 30
"""Iterations, by default."""
_FIRST_STEP = 0.15  # of the log-range
_MAX_WARP_GRADIENT = 0.9


def bounded_field(
    field: Field,
    *,
    max_log_field: Number | None = None,
    max_log_range: Number | None = None,
    step_size: Number | None = None,
    num_steps: int = NUM_STEPS,
    loss: Loss = margin,
    targeted: bool = False,
    transform: Callable[[PRNGKey, Image], Image] | None = None,
    num_draws: int = 1,
    early_stop: bool = False,
    iterate: Literal["last", "best"] = "best",
    start_noise: Number | None = None,
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
) -> Attack:
    """The strongest field of a kind within a bound on its log-range, or on |B̂|.

    argmax_c L(X·exp(B̂(c)), y) subject to max B̂ − min B̂ ≤ ρ, or |B̂| ≤ h, or both: steps along the
    normalised gradient, ∇/‖∇‖₂, whose length falls to 0 by a cosine, each followed by the nearest
    field within the bounds (`bfjax.field.onto_sampled_bounds`); the best iterate is returned. Of
    what was compared it finds the most that is still smooth light (`experiments/results/bounds`):
    scaling the field back loses elsewhere what is too much at one pixel, and sign steps run into
    corners of the coefficients. Clipping B̂ at each pixel, or bending it by tanh, finds more, but
    plateaus with an edge between them. The field of `polynomial_tps`, whose basis each step of the
    control points changes, is scaled, and its warp kept from folding.

    Args:
      field: a `bfjax.LinearField`, such as `bfjax.field.legendre`, or `polynomial_tps`.
      max_log_field: h, bound on |B̂|; `None` for no bound.
      max_log_range: ρ, bound on the largest B̂ less the smallest; `None` for no bound.
      step_size: length of the first step, in units of the parameters (of an orthonormal basis the
        RMS of the change of B̂); `None` is 0.15 ρ, or 0.3 h.
      num_steps: iterations.
      loss: what is raised.
      targeted: move towards the label given to `run` instead of away from it.
      transform: a random view of the image, drawn anew each step; `run` then needs a key.
      num_draws: over how many draws of it each step's loss is averaged.
      early_stop: leave an image alone as soon as it is fooled.
      iterate: which iterate is returned, the `"best"` or the `"last"`.
      start_noise: half-width of a random start around the identity, which needs a key at `run`;
        `None` starts at the identity.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.

    Returns:
      An `Attack` whose params are the field's.

    Raises:
      ValueError: without a bound, for an option that is out of range, or a field that cannot be
        scaled.

    Example:
      >>> import jax.numpy as jnp
      >>> import bfjax
      >>> predict = lambda image: 9 * jnp.stack([image[:4].mean(), image[4:].mean()])
      >>> field = bfjax.field.legendre((8, 8), degree=2)
      >>> attack = bfjax.attacks.bounded_field(field, max_log_range=0.4)
      >>> result = bfjax.run(attack, predict, jnp.full((8, 8, 1), 0.5), 0)
      >>> int(result.logits.argmax()), round(float(jnp.ptp(field.log_field(result.params))), 3)
      (1, 0.4)

    Reference: for the normalised gradient, Madry et al., Towards Deep Learning Models Resistant to
    Adversarial Attacks, ICLR 2018, in L2.
    """
    if max_log_field is None and max_log_range is None:
        raise ValueError("nothing is bounded: give max_log_range, max_log_field or both")
    bounds = {"max_log_field": max_log_field, "max_log_range": max_log_range}
    check_numbers(above=0, below=math.inf, optional=True, **bounds)
    if step_size is None:
        step_size = first_step(max_log_field, max_log_range)
    stop = pieces.is_right if targeted else pieces.is_wrong
    return Attack(
        perturbation=fields.bias_field(
            field, start_noise=start_noise, encoding=encoding, gamma=gamma
        ),
        loss=pieces.targeted(loss) if targeted else loss,
        optimizer=annealed("l2", step_size, num_steps=num_steps),
        project=_within(field, max_log_field, max_log_range),
        num_steps=num_steps,
        transform=transform,
        num_draws=num_draws,
        stop=stop if early_stop else None,
        iterate=iterate,
    )


def first_step(max_log_field: Number | None, max_log_range: Number | None) -> Number:
    """The length of the first step within these bounds, of which one is given.

    Args:
      max_log_field: h.
      max_log_range: ρ.

    Returns:
      0.15 ρ, or 0.3 h.

    Example:
      >>> first_step(None, 0.4)
      0.06
    """
    if max_log_range is not None:
        return _FIRST_STEP * max_log_range
    assert max_log_field is not None
    return _FIRST_STEP * (2 * max_log_field)


def _within(
    field: Field, max_log_field: Number | None, max_log_range: Number | None
) -> Callable[[Params, Image], Params] | None:
    if isinstance(field, LinearField):
        return fields.onto_sampled_bounds(
            field, max_log_field=max_log_field, max_log_range=max_log_range
        )
    start = jax.eval_shape(of_one_image(field).init)
    if not isinstance(start, fields.PolynomialTPSParams):
        raise ValueError(
            "bounded_field takes a bfjax.LinearField, such as legendre, or polynomial_tps; compose "
            "an attack of another field, such as radiographic with parameter_ball, by bfjax.Attack"
        )
    return scaled_within(field, _MAX_WARP_GRADIENT, max_log_field, max_log_range)


def scaled_within(
    field: Field,
    max_warp_gradient: Number | None,
    max_log_field: Number | None,
    max_log_range: Number | None,
) -> Callable[[Params, Image], Params] | None:
    """The projection that holds some bounds on a field of `polynomial_tps` by scaling.

    Args:
      field: the field.
      max_warp_gradient: see `bfjax.field.limit_warp`; `None` for no bound.
      max_log_field: see `bfjax.field.limit_log_field`; likewise.
      max_log_range: see `bfjax.field.limit_log_range`; likewise.

    Returns:
      For `Attack.project`; `None` without a bound.
    """
    limits = {
        fields.limit_warp: max_warp_gradient,
        fields.limit_log_field: max_log_field,
        fields.limit_log_range: max_log_range,
    }
    held = [limit(field, maximum=most) for limit, most in limits.items() if most is not None]
    return in_turn(*held) if held else None
