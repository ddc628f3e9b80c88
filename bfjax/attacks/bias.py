"""The attack of the paper: a smooth bias field, driven by sign gradients (Eq. 4 to 7)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from bfjax import attack as pieces
from bfjax import field as fields
from bfjax.attack import (
    Reduction,
    annealed,
    chain,
    cross_entropy,
    l1_penalty,
    margin,
    normalize,
    steepest,
    with_hyperparameters,
)
from bfjax.attacks.within_bound import NUM_STEPS, first_step, scaled_within
from bfjax.field import Border, Encoding, PolynomialTPSParams, Terms
from bfjax.numbers import Number, check_numbers
from bfjax.types import Attack, Image, Loss, PRNGKey

LogFieldBound = Literal["project", "clip", "tanh"]


def bias_field(
    image_shape: tuple[int, ...],
    *,
    degree: int = 10,
    min_degree: int = 1,
    grid_size: int = 16,
    terms: Terms = "literal",
    border: Border = "clamp",
    max_warp_gradient: Number | None = 0.9,
    l1_coefficients: Number | None = 0.1,
    l1_warp: Number | None = 0.0,
    reduction: Reduction = "sum",
    step_size: Number | None = None,
    warp_step_size: Number | None = None,
    decay: Number | None = None,
    num_steps: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    max_change: Number | None = None,
    max_log_field: Number | None = None,
    max_log_range: Number | None = None,
    log_field_bound: LogFieldBound = "project",
    loss: Loss | None = None,
    targeted: bool = False,
    transform: Callable[[PRNGKey, Image], Image] | None = None,
    num_draws: int = 1,
    early_stop: bool = False,
    iterate: Literal["last", "best"] | None = None,
    start_noise: Number | None = None,
    offset: Number | None = None,
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    extent: tuple[Number, Number] = (-1.0, 1.0),
    dtype: DTypeLike = jnp.float32,
) -> Attack:
    """The adversarial-smooth bias field attack (Eq. 4–7).

    argmax_{a,θ} J(X·exp(B̂(a, θ)), y) − λ_a‖a‖₁ − λ_θ‖θ − θ0‖₁, by a ← a + ε_a sign(∇a),
    θ ← θ + ε_θ sign(∇θ). Where the paper leaves a detail open, the default is a field that is one:
    the warp stays in the image and does not fold, and no pixel is clipped but to [0, 1]. Every
    other reading is an option; `bfjax.attacks.paper` is that of the paper's tables. Within a bound
    on the field ten sign steps find little: there the default is the steps of `bounded_field`. They
    find about four times as many with D0 = 0 and `terms="total"`, which is what to take there:
    light that rises along one axis alone is none of the `"literal"` monomials of D0 = 1
    (`experiments/results/bounds`).

    Args:
      image_shape: (h, w) or (h, w, c) of the images to attack.
      degree: D of Eq. 4.
      min_degree: D0 of Eq. 4.
      grid_size: control points of the warp along each axis, at least 2.
      terms: which monomials are kept, see `bfjax.field.exponents`.
      border: whether warped coordinates are kept in the image, see `bfjax.field.polynomial_tps`.
      max_warp_gradient: the warp's displacement is scaled until its slopes stay below that, so that
        it does not fold, see `bfjax.field.limit_warp`; `None` lets it.
      l1_coefficients: λ_a; `None` leaves that term out.
      l1_warp: λ_θ; likewise.
      reduction: whether ‖·‖₁ is the `"sum"` or the `"mean"` of the absolute values.
      step_size: ε_a, in units of the log field; `None` is 0.06. Within a bound on the field, where
        no step, decay or optimizer is given, the steps are those of `bounded_field`.
      warp_step_size: ε_θ, in coordinates (the image is 2 wide); `None` takes ε_a.
      decay: μ of MI-FGSM: the steps follow the sign of g ← μ g + ∇ / ‖∇‖₁, accumulated for a and
        for θ apart, which transfers better; `None` is Eq. 6 and 7.
      num_steps: iterations; `None` is 10, and 30 of those steps.
      optimizer: any optax transformation in place of the two sign steps; it is handed the
        gradient of minus the objective. The step sizes and the decay are not used then.
      max_change: ε, X_a is clipped to X ± ε, in units of [0, 1], which tears the product X · B
        along visible edges; `None` for no bound.
      max_log_field: bound on |B̂|; `None` for no bound.
      max_log_range: bound on the largest B̂ less the smallest, which a change of exposure leaves as
        it is; `None` for no bound.
      log_field_bound: how these bounds are held: `"project"` by scaling a after each step, which
        leaves the field as smooth as it is; the bound on |B̂| also by `"clip"` or `"tanh"` at each
        pixel inside the perturbation, which bends it, see `bfjax.bias_field`.
      loss: what is raised, J; `None` is the cross-entropy, and the margin by those steps.
      targeted: move towards the label given to `run` instead of away from it.
      transform: a random view of the image, drawn anew each step; `run` then needs a key.
      num_draws: over how many draws of it each step's loss is averaged.
      early_stop: leave an image alone as soon as it is fooled.
      iterate: which iterate is returned; `None` is the `"last"`, and the `"best"` of those steps.
      start_noise: half-width of a random start around the identity, which needs a key at `run`;
        `None` starts at the identity.
      offset: o of X_a = (X + o)·exp(B̂) − o; `None` keeps black pixels black.
      encoding: of the grey values, `"linear"` in the exposure (the paper's product), or `"log"`:
        X_a = X − γ B̂.
      gamma: γ of `"log"`, see `bfjax.bias_field`.
      extent: coordinates of the first and last pixel centre.
      dtype: of the field and its parameters, float32 or float64.

    Returns:
      An `Attack` whose params are `PolynomialTPSParams`.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import bfjax
      >>> predict = lambda image: jnp.stack([image[:8].mean(), image[8:].mean()])
      >>> attack = bfjax.attacks.bias_field((16, 16), degree=4, grid_size=4, max_log_range=0.4)
      >>> result = bfjax.run(attack, predict, jnp.full((16, 16, 1), 0.5), 0)
      >>> light = jnp.log(result.adversarial / 0.5)
      >>> float(light.max() - light.min()) <= 0.4 + 1e-6
      True

    Reference: Tian et al., *Bias Field Poses a Threat to DNN-based X-ray Recognition*, ICME 2021;
    for the decay, Dong et al., Boosting Adversarial Attacks with Momentum, CVPR 2018, Eq. 6.
    """
    if len(image_shape) not in (2, 3):
        raise ValueError(f"image_shape must be (h, w) or (h, w, c), got {tuple(image_shape)}")
    if log_field_bound not in get_args(LogFieldBound):
        raise ValueError(
            f"log_field_bound must be one of {get_args(LogFieldBound)}, got {log_field_bound!r}"
        )
    if max_log_range is not None and log_field_bound != "project":
        raise ValueError(
            f"max_log_range is held by scaling, not by {log_field_bound!r}: "
            "set log_field_bound='project'"
        )
    check_numbers(above=0, optional=True, step_size=step_size)
    bounds = {"max_log_field": max_log_field, "max_log_range": max_log_range}
    check_numbers(above=0, below=math.inf, optional=True, **bounds)
    check_numbers(above=0, below=1, optional=True, max_warp_gradient=max_warp_gradient)
    check_numbers(at_least=0, optional=True, warp_step_size=warp_step_size, decay=decay)
    weights = {"l1_coefficients": l1_coefficients, "l1_warp": l1_warp}
    check_numbers(at_least=0, optional=True, **weights)
    field = fields.polynomial_tps(
        (image_shape[0], image_shape[1]),
        degree=degree,
        min_degree=min_degree,
        grid_size=grid_size,
        terms=terms,
        border=border,
        extent=extent,
        dtype=dtype,
    )
    bounded = not (max_log_field is None and max_log_range is None)
    within = bounded and optimizer is step_size is warp_step_size is decay is None
    num_steps = (NUM_STEPS if within else 10) if num_steps is None else num_steps
    if within:
        length = first_step(max_log_field, max_log_range)
        optimizer = annealed("l2", length, num_steps=num_steps)
    loss = loss or (margin if within else cross_entropy)
    stop = pieces.is_right if targeted else pieces.is_wrong
    inside = log_field_bound != "project"
    scaled = None if inside else max_log_field
    return Attack(
        perturbation=fields.bias_field(
            field,
            max_change=max_change,
            max_log_field=max_log_field if inside else None,
            saturation="tanh" if log_field_bound == "tanh" else "clip",
            offset=offset,
            start_noise=start_noise,
            encoding=encoding,
            gamma=gamma,
        ),
        loss=pieces.targeted(loss) if targeted else loss,
        penalty=l1_penalty(
            field.init, PolynomialTPSParams._make(weights.values()), reduction=reduction
        ),
        optimizer=optimizer or _momentum_and_signs(step_size, warp_step_size, decay),
        project=scaled_within(field, max_warp_gradient, scaled, max_log_range),
        num_steps=num_steps,
        transform=transform,
        num_draws=num_draws,
        stop=stop if early_stop else None,
        iterate=iterate or ("best" if within else "last"),
    )


def _momentum_and_signs(
    step_size: Number | None, warp_step_size: Number | None, decay: Number | None
) -> optax.GradientTransformation:
    step_size = 0.06 if step_size is None else step_size
    if warp_step_size is None:
        steps = steepest("linf", step_size)
    else:
        steps = with_hyperparameters(_signs, step_size=step_size, warp_step_size=warp_step_size)
    if decay is None:
        return steps
    return chain(normalize("l1"), with_hyperparameters(optax.trace, decay=decay), steps)


def _signs(*, step_size: Any, warp_step_size: Any) -> optax.GradientTransformation:
    """Eq. 6 and 7: each part of the parameters moves by its own step along its gradient's sign."""
    sizes = PolynomialTPSParams(step_size, warp_step_size)
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda size, g: -size * jnp.sign(g), sizes, updates)
    )
