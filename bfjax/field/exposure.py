"""How evenly an X-ray machine exposes its detector: distance, heel effect and grid cut-off.

Convention:
    The detector is a plane; lengths are in cm, angles in radians, and exposures are logarithms.
    `along` runs along the axis of the tube, from the anode to the cathode, and `across` at right
    angles to it, as the strips of the grid are counted; both are 0 in the middle of the image. The
    central ray ends at (off_along, off_across) after the distance D, and the tube leans by the
    angle τ along its axis, positive when it moves to the side of its cathode. With
    u = along − off_along and w = across − off_across a ray has the length R,

        R² = D² + u² + w² − 2 D u sin τ

References:
    Bushberg et al., *The Essential Physics of Medical Imaging*, chapters on X-ray production and
    radiography. Philibert, *A method for calculating the absorption correction in electron-probe
    microanalysis*, 1963. Hondius Boldingh, *Grids to reduce scattered X-rays in medical
    radiography*, Philips Research Reports Supplement 1, 1964.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

Falloff = Literal["cos2", "cos3"]
"""Exposure per solid angle, or per area of the detector."""

_Value = Float[Array, "..."] | float

# Fitted to SpekPy: see `log_heel`. The rest of this file is geometry.
_ABSORPTION = 0.0725
_VOLTAGE_POWER = 0.78
_FILTRATION_POWER = -0.57

# Width of a large focal spot, nominal value 1.2 (IEC 60336). It blurs the shadow of the strips.
_FOCAL_SPOT = 0.12
# Below these a logarithm bends to a slope that stays finite: the horizon of the anode, where the
# ray grazes its surface, and a grid whose strips hide the focal spot, but for what shines through.
_GRAZING = 0.002
_OPAQUE = 0.02


class SetUp(NamedTuple):
    """An X-ray machine as it stands before its detector.

    Attributes:
      off_along: where the central ray meets the detector, along the axis of the tube.
      off_across: the same, across it.
      distance: D, along the central ray.
      tilt: τ.
      anode_angle: α, between the surface of the anode and the central ray.
      grid_shift: where the middle of the grid lies, across the tube and so across its strips.
      grid_focus: f0, the distance for which the grid is made.
      kilovolts: voltage of the tube.
      filtration: of the beam, in mm of aluminium.
      grid_ratio: r, height of the strips by the gap between them; `None` is no grid.
    """

    off_along: _Value
    off_across: _Value
    distance: _Value
    tilt: _Value
    anode_angle: _Value
    grid_shift: _Value
    grid_focus: _Value
    kilovolts: _Value
    filtration: _Value
    grid_ratio: _Value | None


def log_exposure(
    set_up: SetUp, along: _Value, across: _Value, *, falloff: Falloff = "cos2"
) -> Float[Array, ...]:
    """The logarithm of the exposure: distance, heel effect and grid.

    Args:
      set_up: the machine.
      along: where on the detector; broadcasts with `across`.
      across: the same, at right angles.
      falloff: see `log_inverse_square`.

    Returns:
      The logarithm, up to a constant, for each point.
    """
    u, w = along - set_up.off_along, across - set_up.off_across
    # (R / D)², which is near 1: the logarithm then keeps its digits
    squared = 1 + (u * u + w * w) / set_up.distance**2
    squared = squared - 2 * jnp.sin(set_up.tilt) * u / set_up.distance
    sine = take_off_sine(set_up, u) / jnp.sqrt(squared)
    heel = log_heel(sine, kilovolts=set_up.kilovolts, filtration=set_up.filtration)
    exposure = log_inverse_square(squared, falloff=falloff) + heel
    if set_up.grid_ratio is None:
        return exposure
    return exposure + log_grid(set_up, across, ratio=set_up.grid_ratio)


def log_inverse_square(
    squared: Float[Array, ...], *, falloff: Falloff = "cos2"
) -> Float[Array, ...]:
    """The inverse square law: −log (R/D)², and with `"cos3"` the obliquity as well.

    Straight below an upright tube D/R = cos θ. The exposure of a surface that faces the ray falls
    as the solid angle it fills, with cos² θ. A flat detector catches the same ray on an area that
    is larger by 1/cos θ, so that per area it falls with cos³ θ. One that absorbs little makes up
    for it, since the oblique path through it is longer by as much: it follows cos² θ again.

    Args:
      squared: (R/D)².
      falloff: `"cos2"`, per solid angle, or `"cos3"`, per area of a detector that absorbs all.

    Returns:
      The logarithm, up to a constant.
    """
    return -(1.0 if falloff == "cos2" else 1.5) * jnp.log(squared)


def take_off_sine(set_up: SetUp, u: _Value) -> Float[Array, ...]:
    """R/D times the sine of the angle between a ray and the surface of the anode.

    The normal of the surface is n = cos α ĉ + sin α d̂, with ĉ along the axis of the tube and d̂
    along the central ray. For the ray of length R to a point u along the detector

        R sin φ = u cos τ cos α + (D − u sin τ) sin α

    so that φ is α on the central ray, smaller on the side of the anode, and 0 at its horizon.

    Args:
      set_up: the machine.
      u: how far a point is from the central ray, along the axis of the tube.

    Returns:
      R sin φ / D.
    """
    u = u / set_up.distance
    along, down = u * jnp.cos(set_up.tilt), 1 - u * jnp.sin(set_up.tilt)
    return along * jnp.cos(set_up.anode_angle) + down * jnp.sin(set_up.anode_angle)


def log_heel(
    sine: Float[Array, ...], *, kilovolts: _Value, filtration: _Value
) -> Float[Array, ...]:
    """The heel effect: what the anode absorbs of the X-rays that are made below its surface.

    From the depth t a ray that leaves at the angle φ passes t / sin φ of tungsten, and
    exp(−μ t / sin φ) of it comes out. Where X-rays are made at depths that fall off exponentially,
    with the mean t̄, the share that comes out is, averaged over them,

        ∫ exp(−t/t̄ − μ t / sin φ) dt/t̄ = 1 / (1 + κ / sin φ),  κ = μ t̄

    which is Philibert's absorption correction for h = 0. κ, the mean depth in units of the mean
    free path, stands for the whole spectrum. Its three constants are fitted to air kerma that
    SpekPy 2.5.4 computes for 12° to 16° anodes, 60 to 140 kV, 2.5 to 3.5 mm of aluminium:

        κ = 0.0725 (kV / 120)^0.78 (mm Al / 3)^−0.57

    Over ±21.5 cm at 150 to 210 cm the logarithms then differ by at most 0.016; of a 10° anode, by
    0.03. A detector that sees the hard part of the spectrum better than air sees a weaker effect.

    Args:
      sine: sin φ.
      kilovolts: voltage of the tube; outside 60 to 140 the fit is a guess.
      filtration: of the beam, in mm of aluminium; outside 2.5 to 3.5 likewise.

    Returns:
      The logarithm of that share.
    """
    absorption = _ABSORPTION * (kilovolts / 120.0) ** _VOLTAGE_POWER
    absorption = absorption * (filtration / 3.0) ** _FILTRATION_POWER
    return -jnp.log1p(absorption * jnp.exp(-_log_above(sine, _GRAZING)))


def log_grid(set_up: SetUp, across: _Value, *, ratio: _Value) -> Float[Array, ...]:
    """Grid cut-off: the shadow of the strips of a focused linear grid, which run along the tube.

    Strips of height h and gap h/r, a distance q from the middle of the grid, point to its focal
    line at the height f0. The focal spot stands at the height H = D cos τ, and b from that line
    across the grid. Ray and strip then part by the angle δ, and the strip hides the loss L:

        L = r |δ|,   δ = b/H − q (1/H − 1/f0)

    It is r b / f0 for lateral decentring alone and r q |1/f0 − 1/f| for a wrong distance alone. A
    focal spot of the width F blurs the shadow: |δ| becomes √(δ² + (F/4H)²), which is the mean over
    the spot where δ = 0 and where the spot is small against it.

    Args:
      set_up: the machine.
      across: where on the detector.
      ratio: r.

    Returns:
      The logarithm of 1 − L, which beyond full cut-off, L > 1, goes on falling but stays finite.

    References:
      Hondius Boldingh 1964; Curry, Dowdey and Murry, *Christensen's Physics of Diagnostic
      Radiology*, chapter on grids; IEC 60627 for what a grid is.
    """
    height = set_up.distance * jnp.cos(set_up.tilt)
    b, q = set_up.off_across - set_up.grid_shift, across - set_up.grid_shift
    # in focus it is zero to the last digit
    parting = b / height - q * ((set_up.grid_focus - height) / (height * set_up.grid_focus))
    blurred = jnp.sqrt(parting**2 + (_FOCAL_SPOT / 4 / height) ** 2)
    return _log_above(1 - ratio * blurred, _OPAQUE)


def _log_above(x: Float[Array, ...], floor: float) -> Float[Array, ...]:
    """Log((x + √(x² + floor²)) / 2): log x for x well above the floor, smooth and finite below."""
    return jnp.arcsinh(x / floor) + math.log(floor / 2)
