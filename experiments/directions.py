"""In which direction is a network fooled, and does that hang on how it was trained?

    python -m experiments.directions --models MOBILENET SCRATCH0 SCRATCH1 RESNET50 DENSENET121

The paper's attack for each D0, with 16 × 16 control points, on networks of any kind: how many of
the NORMAL X-rays that a network gets right it then calls PNEUMONIA, and the reverse. Where a
network is so sure that the penalty outweighs its gradient, fields end at zero, and their share
stands beside. The runs lie in `BFJAX_HOME/runs`, shared with the other experiments, and resume
there; the table goes to `experiments/results/directions`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from bfjax import models
from bfjax.models import Checkpoint
from experiments import tables
from experiments.cases import noted

RESULTS = Path(__file__).parent / "results" / "directions"
MIN_DEGREES = (0, 1, 2, 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tables.Inputs):
    """The paper's attack by direction, on networks that were trained in several ways."""

    num_images: int | None = 128
    """Test images, drawn by --seed; none: all."""


def main(config: Config) -> None:
    """Runs what is missing, and writes the table after each network."""
    attacks = dict(tables.attack(min_degree=low) for low in MIN_DEGREES)
    found: dict[str, Any] = {}
    rows = []
    checkpoints = [models.load_config(folder) for folder in config.models]
    for folder, record in zip(config.models, checkpoints, strict=True):
        name = folder.resolve().name
        alone = dataclasses.replace(config, models=(folder,))
        cells = tables.run(alone, attacks)
        found[name] = {attack: of[name] for attack, of in cells.items()}
        rows += [
            [name, how(record), str(low), *row(found[name][attack], name)]
            for low, attack in zip(MIN_DEGREES, attacks, strict=True)
        ]
        title = (
            "Success in % (95 % interval) on test images, white-box, with the full grid. "
            "The paper's MobileNet: 36, 33, 27 and 15 for D0 = 0 to 3, its directions unknown."
        )
        head = ("network", "trained from", "D0", "right", "success", "zero fields, %", "images")
        results = noted(config, checkpoints) | {"cells": found}
        tables.write(RESULTS / "directions", title, head, rows, results)


def how(record: Checkpoint) -> str:
    """What a training began with.

    Args:
      record: of the checkpoint.

    Returns:
      Words for the table.

    Example:
      >>> how(Checkpoint("mobilenet_v1", {}, "ab", extra={"training": {"init": None, "seed": 1}}))
      'scratch, seed 1'
    """
    training = record.extra.get("training", {})
    if "init" not in training:
        return "unknown"
    start = "scratch" if training["init"] is None else "other weights"
    return f"{start}, seed {training['seed']}"


def row(cell: dict[str, Any], name: str) -> list[str]:
    """The cells of one network and D0.

    Args:
      cell: the summary of the run.
      name: of the network.

    Returns:
      Accuracy, success with both directions, share of fields at zero, images.
    """
    rate = cell["targets"][name]
    return [
        tables.share(rate["correct"], cell["images"]),
        tables.cell(rate),
        f"{100 * cell['zero_field_share']:.0f}",
        str(cell["images"]),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
