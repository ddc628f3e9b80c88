"""Collects finished `bfjax train` runs: their settings, logs and test metrics, and a table of them.

    python -m experiments.training --runs FOLDER [FOLDER ...]

Each folder is one that `bfjax train --out` wrote; its log, settings and metrics (not its weights)
go to `experiments/results/training` under the folder's name, and the table lists every run there.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import tyro

from bfjax import models, storage

RESULTS = Path(__file__).parent / "results" / "training"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which runs to collect."""

    runs: tuple[Path, ...] = ()
    """Folders of finished runs; none: only the table is drawn up anew."""


def main(config: Config) -> None:
    """Collects the runs and draws up the table."""
    for folder in config.runs:
        record = models.load_config(folder)
        RESULTS.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "log.csv", RESULTS / f"{folder.name}.csv")
        shutil.copyfile(folder / "curves.png", RESULTS / f"{folder.name}.png")
        run = {
            "architecture": record.architecture,
            "checkpoint_sha256": record.sha256,
            "training": record.extra["training"],
            "validation": record.metrics["validation"],
            "test": record.metrics["test"],
            "versions": record.versions,
        }
        storage.write_json(RESULTS / f"{folder.name}.json", run)
    with storage.replacing(RESULTS / "table.md") as temporary:
        temporary.write_text(table(), encoding="utf-8")


def table() -> str:
    """Every collected run as a row of Markdown.

    Returns:
      The table: test accuracy, AUC, sensitivity and specificity in %, 95 % intervals where the run
      stored them, and the minutes that its log sums up to.
    """
    lines = [
        "On the 624 test images, in %, with 95 % intervals; minutes on the machine that trained.",
        "",
        "| run | seed | accuracy | AUC | sensitivity | specificity | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for file in sorted(RESULTS.glob("*.json")):
        run = json.loads(file.read_text(encoding="utf-8"))
        cells = [_cell(run["test"], name) for name in ("accuracy", "auc", *_RATES)]
        seed, took = run["training"]["seed"], minutes(file.with_suffix(".csv"))
        lines.append(f"| {file.stem} | {seed} | {' | '.join(cells)} | {took:.0f} |")
    return "\n".join(lines) + "\n"


def minutes(log: Path) -> float:
    """How long a training took.

    Args:
      log: its log.csv.

    Returns:
      Minutes.
    """
    with log.open(encoding="utf-8") as rows:
        return sum(float(row["seconds"]) for row in csv.DictReader(rows)) / 60


_RATES = ("sensitivity", "specificity")


def _cell(test: dict[str, Any], name: str) -> str:
    text = f"{100 * test[name]:.2f}"
    if ends := test.get("intervals", {}).get(name):
        text += f" ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    return text


if __name__ == "__main__":
    main(tyro.cli(Config))
