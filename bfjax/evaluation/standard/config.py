"""The options of `bfjax audit`; nothing heavy is imported for a `--help`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from bfjax.evaluation.config import ModelsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig(ModelsConfig):
    """Tests how much uneven light classifiers take; nobody has to choose an attack.

    For each model writes audit.json, audit.png, records.csv and lights.csv to OUT/MODEL. An
    interrupted run started again with the same options goes on where it stopped; models may be
    added.
    """

    ranges: tuple[float, ...] = (0.1, 0.2, 0.4, 0.7)
    """Log-ranges of the light, the largest log field less the smallest: 0.1 is what a calibrated
    machine leaves, 0.2 a misused one, 0.4 an uncorrected one, 0.7 a factor of two."""
    exposures: tuple[Literal["fixed", "alone", "free"], ...] = ("fixed", "alone", "free")
    """Uneven light alone, the whole image brighter or darker alone, and both at once; of the first
    that is named are the ranking, the light for all images and the corrections."""
    num_random: int = 32
    """Random lights for each image and range."""
    universal_steps: int = 100
    """Steps that fit one light for all images, at each range; 0 leaves it out. Each half of the
    images is judged under the light that was fitted on the other half."""
    fit_images: int = 128
    """At most so many images of a half are taken to fit it."""
    corrections: tuple[Literal["polynomial", "homomorphic"], ...] = ()
    """Corrections of the light before the classifier, each attacked by who knows of it and by who
    does not; each takes as long as all the rest."""
    batch_size: int = 16
    """Images at once, on one device."""
    out: Path = Path("bfjax-audit")
    """Folder for the results."""
