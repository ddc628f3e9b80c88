"""The threat of the standard test: smooth light, no more uneven than its log-range says.

Light is B̂ = Σ c_k B̂_k over the 14 orthonormal Legendre polynomials of degree 1 to 4, so that the
root mean square of B̂ is ‖c‖₂. Its log-range is max B̂ − min B̂. Exposure is a constant, |c_0| ≤ ρ/2,
which has no range of its own. Light may also be bounded by its root mean square, as certificates
are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Scalar

from bfjax.attack import in_turn, parameter_ball
from bfjax.field import (
    LOG_RANGE_TIERS,
    Encoding,
    bias_field,
    legendre,
    limit_log_field,
    onto_sampled_bounds,
)
from bfjax.numbers import Number, check_numbers, with_numbers
from bfjax.types import Image, LinearField, Params, Perturbation, PRNGKey, as_key

TIERS = {**LOG_RANGE_TIERS, "a factor of two": 0.7}
"""The log-ranges that are reported, by what makes them, see `bfjax.field.LOG_RANGE_TIERS`."""
DEGREE = 4
"""Of the polynomials."""
Exposure = Literal["fixed", "alone", "free"]
"""Whether the light is uneven alone, the whole image brighter or darker alone, or both at once."""


class Threat(NamedTuple):
    """What an attacker may do to the light of one image.

    Attributes:
      perturbation: the image under a light, of params c.
      within: `(params, image) -> params`, the nearest light that is allowed.
      draw: `key -> params`, a random light as uneven as is allowed.
      size: `params -> scalar`, the log-range at which a light is just allowed, or its root mean
        square where that is bounded.
      scaled: `size -> threat`, the same kind of light of another largest size.
      largest: the largest size, ρ.
    """

    perturbation: Perturbation
    within: Callable[[Params, Image], Params]
    draw: Callable[[PRNGKey], Params]
    size: Callable[[Params], Scalar]
    scaled: Callable[[Number], Threat]
    largest: Number


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Kind:
    exposure: Exposure
    measure: Literal["log_range", "rms"]


def light(
    image_shape: tuple[int, ...],
    *,
    max_log_range: Number | None = None,
    max_rms: Number | None = None,
    exposure: Exposure = "fixed",
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    clip: bool = True,
) -> Threat:
    """The light that the standard test allows within a log-range, or within a root mean square.

    {c : max B̂ − min B̂ ≤ ρ, |c_0| ≤ ρ/2}, with c_0 = 0 where the exposure is fixed, and c_0 alone
    where it is alone; or {c : ‖c‖₂ ≤ r}. A random light is c ~ N(0, I), scaled to a range of
    exactly ρ, or to ‖c‖₂ = r; exposure alone is ±ρ/2, or ±r.

    Args:
      image_shape: (h, w) or (h, w, c).
      max_log_range: ρ; see `TIERS`.
      max_rms: r, of the log field, in its place.
      exposure: whether the exposure is `"fixed"`, changes `"alone"`, or is `"free"` as well.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.
      clip: whether images end at black and white, as files do. Without it they go beyond, which is
        the light that `certify` speaks of; the classifier must clip, as `smooth` does.

    Returns:
      The threat, a pytree; its params are c, (14,), (1,) or (15,), the constant first.

    Raises:
      ValueError: for a range or a root mean square that is not positive, for both or none of
        them, or for another exposure.

    Example:
      >>> threat = light((32, 32, 1), max_log_range=0.4)
      >>> c = threat.draw(jax.random.key(0))
      >>> c.shape, round(float(threat.size(c)), 4)
      ((14,), 0.4)
    """
    if (max_log_range is None) == (max_rms is None):
        raise ValueError(
            f"light is bounded by max_log_range or by max_rms, got {max_log_range} and {max_rms}"
        )
    check_numbers(
        above=0, below=math.inf, optional=True, max_log_range=max_log_range, max_rms=max_rms
    )
    if exposure not in get_args(Exposure):
        raise ValueError(f"exposure must be one of {get_args(Exposure)}, got {exposure!r}")
    alone = exposure == "alone"
    field = legendre(
        (image_shape[0], image_shape[1]),
        degree=0 if alone else DEGREE,
        constant=exposure != "fixed",
    )
    perturbation = bias_field(field, encoding=encoding, gamma=gamma)
    if not clip:
        perturbation = perturbation._replace(apply=cast(Any, perturbation.unclipped))
    if max_rms is None:
        return _within(_Kind(exposure, "log_range"), field, perturbation, max_log_range)
    return _within(_Kind(exposure, "rms"), field, perturbation, max_rms)


def _within(kind: _Kind, field: LinearField, perturbation: Perturbation, largest: Any) -> Threat:
    half = largest / 2
    if kind.measure == "rms":
        within = parameter_ball(norm="l2", radius=largest)
    elif kind.exposure == "alone":
        within = limit_log_field(field, half)
    else:
        within = onto_sampled_bounds(field, max_log_range=largest)
    if kind == _Kind("free", "log_range"):
        within = in_turn(within, with_numbers(Partial(_bound_exposure), half=half))
    return Threat(
        perturbation,
        within,
        with_numbers(Partial(_draw, kind, field), largest=largest),
        Partial(_size, kind, field),
        Partial(_within, kind, field, perturbation),
        largest,
    )


def _bound_exposure(c: Float[Array, " n"], image: Image, *, half: Any) -> Float[Array, " n"]:
    del image
    return c.at[0].set(jnp.clip(c[0], -half, half).astype(c.dtype))


def _draw(kind: _Kind, field: LinearField, key: PRNGKey, *, largest: Any) -> Float[Array, " n"]:
    c = jax.random.normal(as_key(key), field.init().shape)
    if kind.measure == "rms":
        return c * largest / jnp.linalg.norm(c)
    if kind.exposure == "alone":
        return jnp.sign(c) * largest / 2
    c = c * largest / jnp.ptp(field.log_field(c))
    if kind.exposure == "free":
        return c.at[0].set(jnp.clip(c[0], -largest / 2, largest / 2))
    return c


def _size(kind: _Kind, field: LinearField, c: Float[Array, " n"]) -> Scalar:
    if kind.measure == "rms":
        return jnp.linalg.norm(c)
    if kind.exposure == "alone":
        return 2 * jnp.abs(c[0])
    log_range = jnp.ptp(field.log_field(c))
    if kind.exposure == "free":
        return jnp.maximum(log_range, 2 * jnp.abs(c[0]))
    return log_range
