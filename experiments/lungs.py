"""Where the lungs are, by darkness and usual position, and how much of the maps lies in them.

No learned model: lungs are darker than what surrounds them, one on each side of the spine. On the
phantoms, whose lungs are known, the mean IoU is 0.85 (tests/experiments/test_figures.py). An opaque
lung is found in part.

Convention:
    Coordinates are [-1, 1] from the first to the last pixel, x to the right, y down.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from bfjax.evaluation.maps import ratio

_POSITION_WEIGHT = 2.2  # how many standard deviations of darkness the usual position outweighs


def lungs(image: Float[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"]:
    """Segments the lungs of a chest X-ray.

    Args:
      image: in [0, 1], the patient upright, bright where dense.

    Returns:
      Where the lungs are, without what lies behind the heart.
    """
    h, w, _ = image.shape
    x, y = np.meshgrid(np.linspace(-1, 1, w), np.linspace(-1, 1, h))
    # near one in two upright ovals beside the spine, near zero elsewhere
    oval = np.hypot((np.abs(x) - 0.42) / 0.38, (y + 0.05) / 0.82)
    usual = np.exp(-(oval**4))
    grey = image.mean(-1, dtype=np.float64)
    darker = ndimage.gaussian_filter(grey, h / 6, mode="nearest")
    darker -= ndimage.gaussian_filter(grey, h / 75)  # ribs are smoothed away
    darker /= max(float(darker[usual > 0.5].std()), 1e-6)
    wanted = (darker + _POSITION_WEIGHT * (usual - 0.5) > 0) & (usual > 0.2)
    wanted = ndimage.binary_opening(wanted, _disk(h / 60))
    found, reach = np.zeros_like(wanted), _disk(h / 22)
    for side in (x < 0, x > 0):
        parts, count = ndimage.label(wanted & side)
        if count:
            sizes = ndimage.sum(usual > 0.5, parts, np.arange(count) + 1)
            largest = np.pad(parts == np.argmax(sizes) + 1, len(reach))
            closed = ndimage.binary_closing(largest, reach)
            found |= closed[len(reach) : -len(reach), len(reach) : -len(reach)]
    return ndimage.binary_fill_holes(found)


def _disk(radius: float) -> Bool[np.ndarray, "d d"]:
    reach = np.arange(-max(1, round(radius)), max(1, round(radius)) + 1)
    return np.hypot(reach[:, None], reach) <= reach[-1]


def relate(maps: Float[np.ndarray, "n h w"], masks: Bool[np.ndarray, "n h w"]) -> dict[str, Any]:
    """How much of the maps lies in the lungs, each map taken with its own patient's.

    Maps that follow the organs lie in their own patient's lungs more, or less, than in other
    patients'; a map of the image's thirds alone would not know the difference.

    Args:
      maps: of single images.
      masks: the lungs of the same images.

    Returns:
      area, the lungs' share of the image; inside, the maps' share in their own lungs; both with
      95 % bootstrap intervals over images; inside_others, the same in the lungs of all others.
    """
    whole = maps.sum((1, 2), dtype=np.float64)
    own = (maps * masks).sum((1, 2), dtype=np.float64)
    every = (maps.sum(0, dtype=np.float64) * masks.sum(0)).sum()  # each map with each mask
    others = (len(maps) - 1) * whole.sum()
    return {
        "images": len(maps),
        "area": ratio(masks.mean((1, 2)), np.ones(len(masks))),
        "inside": ratio(own, whole),
        "inside_others": float((every - own.sum()) / others) if others else None,
    }
