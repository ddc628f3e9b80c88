"""The field that an X-ray machine can make: a few parameters of its set-up, each within a range."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import DTypeLike

from bfjax.field.exposure import Falloff, SetUp, log_exposure
from bfjax.field.polynomial_tps import check_dtype, check_shape
from bfjax.field.tps import lattice
from bfjax.numbers import Number, check_numbers, known, with_numbers
from bfjax.types import Field, LogField

LOG_RANGE_TIERS = {"calibrated": 0.1, "misuse": 0.2, "uncorrected": 0.4}
"""How far the log field of a machine ranges, largest minus smallest B̂, along 43 cm at 180 cm.

From SpekPy 2.5.4, air kerma of a 12° anode at 120 kV behind 3 mm of aluminium, without a grid:

- uncorrected: 0.39, from 0.74 to 1.09 of the exposure in the middle; 0.25 with a 15° anode, and
  0.42 behind 2.5 mm.
- calibrated, by a flat field made so: 0.08 remains at 80 kV, and 0.10 with the tube 5 cm off centre
  on the side of its anode.
- misuse of the same flat field: 0.15 remains at 150 cm, and 0.16 with the tube 5 cm off centre on
  the side of its cathode.
"""

Direction = Literal["down", "up", "right", "left"]
"""Where in the image something lies."""

# whether along y, and whether towards larger coordinates
_AXES = {"down": (True, 1), "up": (True, -1), "right": (False, 1), "left": (False, -1)}


class RadiographicParams(NamedTuple):
    """The parameters of `radiographic`: seven scalars, each in [-1, 1] for what it is listed.

    Attributes:
      off_centre_x: where the central ray meets the image, to the right of its middle.
      off_centre_y: the same, below its middle.
      source_distance: of the focal spot from that point, beyond the nominal distance.
      tube_tilt: of the tube along its axis, towards its cathode, still aimed at that point.
      anode_angle: beyond the nominal angle.
      grid_decentring: how far the middle of the grid lies to the right, or below, across the tube.
      grid_focus: distance for which the grid is made, beyond the nominal one.
    """

    off_centre_x: Number
    off_centre_y: Number
    source_distance: Number
    tube_tilt: Number
    anode_angle: Number
    grid_decentring: Number
    grid_focus: Number


LISTED_RANGES = RadiographicParams(
    off_centre_x=5.0,
    off_centre_y=5.0,
    source_distance=30.0,
    tube_tilt=3.0,
    anode_angle=1.0,
    grid_decentring=2.0,
    grid_focus=20.0,
)
"""What the parameter 1 stands for by default, in cm and degrees; -1 is as much the other way."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Machine:
    shape: tuple[int, int]
    cathode: Direction
    falloff: Falloff
    calibrated: bool
    dtype: str

    def nominal(self) -> RadiographicParams:
        return RadiographicParams._make(jnp.zeros(len(LISTED_RANGES), self.dtype))


def radiographic(
    shape: tuple[int, int],
    *,
    width_cm: Number,
    height_cm: Number | None = None,
    source_cm: Number = 180.0,
    ranges: RadiographicParams = LISTED_RANGES,
    calibrated: bool = True,
    cathode: Direction = "down",
    falloff: Falloff = "cos2",
    kilovolts: Number = 120.0,
    filtration_mm: Number = 3.0,
    flat_field_kilovolts: Number | None = None,
    anode_degrees: Number = 12.0,
    grid_ratio: Number | None = 10.0,
    grid_focus_cm: Number | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Field:
    """The log field of an X-ray machine whose set-up is not the nominal one.

    B̂ = ℓ(set-up) − ℓ(nominal set-up) with the flat-field correction that detectors have, which is
    made at the nominal set-up, and B̂ = ℓ(set-up) without it. The log exposure ℓ is the sum of three
    closed forms, each given with its source in `bfjax.field.exposure`: the inverse square law, the
    heel effect and the cut-off of a focused grid. It counts from the middle of the image, whose
    exposure an automatic control is taken to hold: B̂ is 0 there.

    Each parameter, in [-1, 1], scales its range. `bfjax.attack.parameter_ball(norm="linf",
    radius=1)` holds them there; take steps on L∞, since on L2 and L1 each scalar is a part of its
    own. The default ranges, what they are taken from, and how far B̂ ranges over 43 cm squared when
    one alone is -1 or 1 (cathode down, both ends):

    | parameter | ± | source | B̂ |
    |---|---|---|---|
    | off_centre_x | 5 cm | 2 % of the distance in 21 CFR 1020.31; more by hand | 0.02, 0.02 |
    | off_centre_y | 5 cm | the same | 0.11, 0.17 |
    | source_distance | 30 cm | about the 140 to 200 cm of EUR 16260, chest | 0.44, 0.26 |
    | ... without a grid | | | 0.17, 0.09 |
    | tube_tilt | 3° | the outer limit of tools that test beam alignment | 0.02, 0.02 |
    | anode_angle | 1° | our choice, for wear and mounting | 0.09, 0.07 |
    | grid_decentring | 2 cm | our choice, less than the tube's | 0, 0 |
    | grid_focus | 20 cm | our choice, inside the limits of grids for 180 cm | 0.16, 0.13 |

    For parameters drawn uniformly from [-1, 1] B̂ ranges over 0.31 in the median, and in one case of
    twenty over more than 0.79; without a grid these are 0.09 and 0.32. The extremes together reach
    2.6. Smaller `ranges` keep an attack from them.

    A decentred grid in focus takes the same everywhere, which the exposure control makes up for; it
    shows where the distance is wrong as well. In focus and centred, the grid's own two parameters
    have no gradient: an attack moves them once the others have moved, or from `start_noise`.

    The field is meant for presentation images, whose grey value falls with the logarithm of the
    exposure, `encoding="log"`: there more exposure is darker. `encoding="linear"` multiplies the
    image by exp(B̂), which is right only where its values are proportional to the exposure.

    Args:
      shape: (h, w) of the image; any size, each pixel is computed by itself.
      width_cm: of the detector, from the first to the last pixel centre of a row.
      height_cm: the same of a column; `None` is for square pixels, width_cm · (h − 1) / (w − 1).
      source_cm: nominal distance of the focal spot from the detector.
      ranges: what the parameter 1 stands for, in cm and degrees, as `LISTED_RANGES`.
      calibrated: whether a flat-field correction has been applied. Without it the start is no
        identity: its B̂ is all of the nominal machine's non-uniformity.
      cathode: where in the image the cathode lies, seen from the anode. The axis of the tube, the
        tilt and the strips of the grid run along this direction.
      falloff: `"cos2"`, exposure per solid angle, as SpekPy has it, or `"cos3"`, per area of the
        detector; see `bfjax.field.exposure.log_inverse_square`.
      kilovolts: voltage of the tube, 50 to 150.
      filtration_mm: all that filters the beam, in mm of aluminium; the heel effect is fitted for
        2.5 to 3.5.
      flat_field_kilovolts: voltage at which the flat field was made; `None` is the same. With
        another the start is no identity either.
      anode_degrees: nominal angle of the anode; the heel effect is fitted for 12 to 16.
      grid_ratio: height of the grid's strips by the gap between them; `None` is no grid, and the
        last two parameters then do nothing.
      grid_focus_cm: nominal distance for which the grid is made; `None` is `source_cm`.
      dtype: of parameters and field, float32 or float64.

    Returns:
      A `Field` whose params are `RadiographicParams`, 0 at the nominal set-up.

    Raises:
      ValueError: for a shape, length, voltage, angle or range that makes no machine.

    Example:
      >>> field = radiographic((64, 64), width_cm=43.0)
      >>> off_centre = field.init()._replace(off_centre_y=jnp.asarray(-1.0))
      >>> found = field.log_field(off_centre)
      >>> found.shape, round(float(found.max() - found.min()), 2)
      ((64, 64), 0.11)
    """
    if cathode not in get_args(Direction):
        raise ValueError(f"cathode must be one of {get_args(Direction)}, got {cathode!r}")
    if falloff not in get_args(Falloff):
        raise ValueError(f"falloff must be one of {get_args(Falloff)}, got {falloff!r}")
    if flat_field_kilovolts is not None and not calibrated:
        raise ValueError(
            f"flat_field_kilovolts={flat_field_kilovolts} is of a flat field: set calibrated=True"
        )
    lengths = {"height_cm": height_cm, "grid_ratio": grid_ratio, "grid_focus_cm": grid_focus_cm}
    nominal = {
        "width_cm": width_cm,
        "source_cm": source_cm,
        "filtration_mm": filtration_mm,
        "anode_degrees": anode_degrees,
    }
    check_numbers(above=0, below=math.inf, **nominal)
    check_numbers(above=0, below=math.inf, optional=True, **lengths)
    check_numbers(at_least=50, at_most=150, kilovolts=kilovolts)
    check_numbers(
        at_least=50, at_most=150, optional=True, flat_field_kilovolts=flat_field_kilovolts
    )
    _check_ranges(
        ranges, source_cm, source_cm if grid_focus_cm is None else grid_focus_cm, anode_degrees
    )
    machine = _Machine(check_shape(shape), cathode, falloff, calibrated, check_dtype(dtype))
    log_field = with_numbers(
        Partial(_log_field, machine),
        ranges=ranges,
        kilovolts=kilovolts,
        flat_field_kilovolts=flat_field_kilovolts,
        **nominal,
        **lengths,
    )
    return Field(init=Partial(_Machine.nominal, machine), log_field=log_field)


def _check_ranges(
    ranges: RadiographicParams, source_cm: Number, grid_focus_cm: Number, anode_degrees: Number
) -> None:
    """No corner of the ranges has a source in the detector, or an anode that is none."""
    if not isinstance(ranges, RadiographicParams):
        raise ValueError(f"ranges must be RadiographicParams, got {ranges!r}")
    for name, reach in ranges._asdict().items():
        check_numbers(at_least=0, below=math.inf, **{f"the range of {name}": reach})
    for name, nominal, low, high in (
        ("source_distance", source_cm, 0, math.inf),
        ("tube_tilt", 0, -90, 90),
        ("anode_angle", anode_degrees, 0, 90),
        ("grid_focus", grid_focus_cm, 0, math.inf),
    ):
        middle, reach = known(nominal), known(getattr(ranges, name))
        if middle is None or reach is None:
            continue
        if np.any(middle - reach <= low) or np.any(middle + reach >= high):
            raise ValueError(
                f"{name} must stay between {low} and {high}, got a range of {reach} about {middle}"
            )


def _log_field(
    machine: _Machine,
    params: RadiographicParams,
    *,
    ranges: RadiographicParams,
    width_cm: Any,
    height_cm: Any,
    source_cm: Any,
    anode_degrees: Any,
    grid_ratio: Any,
    grid_focus_cm: Any,
    kilovolts: Any,
    filtration_mm: Any,
    flat_field_kilovolts: Any,
) -> LogField:
    vertical, sign = _AXES[machine.cathode]

    def set_up(change: Any, kilovolts: Any) -> SetUp:
        along, across = change.off_centre_x, change.off_centre_y
        if vertical:
            along, across = across, along
        numbers = SetUp(
            off_along=sign * along,
            off_across=across,
            distance=source_cm + change.source_distance,
            tilt=jnp.radians(change.tube_tilt),
            anode_angle=jnp.radians(anode_degrees + change.anode_angle),
            grid_shift=change.grid_decentring,
            grid_focus=grid_focus_cm + change.grid_focus,
            kilovolts=kilovolts,
            filtration=filtration_mm,
            grid_ratio=grid_ratio,
        )
        return jax.tree.map(lambda number: jnp.asarray(number, machine.dtype), numbers)

    height, width = machine.shape
    if height_cm is None:
        height_cm = width_cm * ((height - 1) / max(width - 1, 1))  # between pixel centres
    if grid_focus_cm is None:
        grid_focus_cm = source_cm
    x = jnp.asarray(lattice(1, width)[None, :, 0], machine.dtype) * (width_cm / 2)
    y = jnp.asarray(lattice(height, 1)[:, 1:], machine.dtype) * (height_cm / 2)
    along, across = (sign * y, x) if vertical else (sign * x, y)
    exposure = functools.partial(log_exposure, falloff=machine.falloff)

    def from_the_middle(set_up: SetUp) -> LogField:
        return exposure(set_up, along, across) - exposure(set_up, 0.0, 0.0)

    moved = set_up(jax.tree.map(jnp.multiply, params, ranges), kilovolts)
    if not machine.calibrated:
        return from_the_middle(moved).astype(machine.dtype)
    flat = kilovolts if flat_field_kilovolts is None else flat_field_kilovolts
    nominal = set_up(machine.nominal(), flat)
    # side by side, so that where they are equal they are rounded alike, and B̂ is exactly 0
    both = jax.vmap(from_the_middle)(jax.tree.map(lambda *one: jnp.stack(one), moved, nominal))
    return (both[0] - both[1]).astype(machine.dtype)
