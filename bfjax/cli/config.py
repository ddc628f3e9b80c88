"""The options of `bfjax demo`."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Trains a small classifier on procedural chest phantoms, attacks, draws and audits it.

    Needs no download and three minutes on two cores. An interrupted demo goes on where it stopped.
    """

    out: Path = Path("bfjax-demo")
    """Folder for the checkpoint (model/) and the results (attack/, audit/)."""
    seed: int = 0
    """Seed of the phantoms and of the training."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""
