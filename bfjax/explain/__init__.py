"""Which parts of an X-ray an attack works through: maps (Eq. 8), and whether they mean anything."""

from bfjax.explain.curves import Curve, centre_map, deletion_curve, insertion_curve, random_map
from bfjax.explain.maps import (
    Shares,
    mean_map,
    overlap,
    shares,
    spearman,
    top_fraction,
    upsample,
)
from bfjax.explain.mask import MapOptions, first_of_pair, mask_attack, pair, total_variation
from bfjax.explain.score import logit, probability
from bfjax.explain.sensitivity import SensitivityMap, sensitivity_map, sensitivity_map_batch

__all__ = [
    "Curve",
    "MapOptions",
    "SensitivityMap",
    "Shares",
    "centre_map",
    "deletion_curve",
    "first_of_pair",
    "insertion_curve",
    "logit",
    "mask_attack",
    "mean_map",
    "overlap",
    "pair",
    "probability",
    "random_map",
    "sensitivity_map",
    "sensitivity_map_batch",
    "shares",
    "spearman",
    "top_fraction",
    "total_variation",
    "upsample",
]
