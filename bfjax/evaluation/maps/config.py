"""The options of `bfjax explain`; nothing heavy is imported for a `--help`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Maps the regions through which a finished attack works (Eq. 8), for the images it fooled.

    Writes shards/ (a map an image), summary.json, mean_map.png and gallery/. An interrupted run
    started again with the same options goes on where it stopped.
    """

    dir: tyro.conf.Positional[Path]
    """Folder of the results: of `bfjax attack`, or OUT/ATTACK/SOURCE of `bfjax evaluate`."""
    model: str
    """The model that was attacked, named as for bfjax attack."""
    data: str | None = None
    """Where the images lie; none: where they lay when they were attacked."""
    out: Path | None = None
    """Folder for the maps; none: explain/ in the folder of the results."""
    batch_size: int = 16
    """Images explained at once."""
    num_images: int | None = None
    """Only so many of the images that were fooled, drawn by --seed."""
    num_steps: int = 150
    """Iterations."""
    l1: float = 0.05
    """Lambda_1, the weight of ||M||_1."""
    tv: float = 0.2
    """Lambda_2, the weight of TV(M)."""
    mask_size: int = 28
    """Rows and columns of the mask, which is scaled up to the image."""
    start: float = 1.0
    """The mask at the start, everywhere: 1 is the whole attack, 0 the clean image."""
    score: Literal["probability", "logit"] = "probability"
    """DNN_y, the true label's score, which the mask lowers."""
    reduction: Literal["mean", "sum"] = "mean"
    """How the norms add up."""
    tv_exponent: float = 3.0
    """Exponent of the differences in TV(M)."""
    step_size: float = 0.1
    """Step of Adam."""
    num_points: int = 21
    """Points of each deletion and insertion curve."""
    gallery: int = 6
    """Maps drawn into gallery/; 0 for none."""
    seed: int = 0
    """Seed of that drawing, and of the random maps that the curves are compared with."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""
