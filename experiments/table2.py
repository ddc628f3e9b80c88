"""Table 2: the grid of control points and D0, and beside it a sweep of D and a strength curve.

    python -m experiments.table2 --models RESNET50 DENSENET121 MOBILENET --data chest_xray

The paper's rows are run on all test images, the sweeps of D and of `max_change` on --sweep-images.
The runs lie in `BFJAX_HOME/runs`, shared with the other experiments, and resume there.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bfjax import storage
from bfjax.metrics import wilson_interval
from experiments import tables
from experiments.tables import COLUMNS

RESULTS = Path(__file__).parent / "results" / "table2"

GRID = ((4, 0), (8, 0), (12, 0), (16, 0), (16, 1), (16, 2), (16, 3))
DEGREES = (2, 4, 6, 8, 10, 12)
STRENGTHS = (0.02, 0.05, 0.1, 0.15, 0.2)

# The paper's Table 2, D = 10: (→ ResNet50, → DenseNet121, → MobileNet, BRISQUE) per row of GRID.
PAPER: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "ResNet50": (
        (37.97, 15.33, 10.84, 32.4873),
        (37.79, 14.05, 9.91, 32.5778),
        (37.61, 14.23, 9.73, 32.097),
        (38.34, 14.42, 10.81, 32.3661),
        (36.89, 13.5, 11.35, 31.3312),
        (29.48, 7.85, 8.11, 29.0977),
        (18.81, 2.19, 4.15, 28.606),
    ),
    "DenseNet121": (
        (14.65, 31.39, 8.29, 31.331),
        (13.2, 31.57, 6.49, 31.3609),
        (12.84, 31.2, 6.49, 31.9176),
        (13.56, 31.02, 6.85, 31.4455),
        (14.65, 32.12, 9.37, 30.6853),
        (12.84, 26.09, 8.83, 30.0223),
        (4.7, 16.24, 4.68, 29.0152),
    ),
    "MobileNet": (
        (21.52, 20.44, 35.68, 34.9368),
        (21.7, 20.26, 35.68, 34.0957),
        (21.7, 20.44, 35.86, 34.3194),
        (21.34, 20.26, 36.04, 34.0944),
        (17, 19.34, 32.79, 31.7842),
        (12.12, 11.86, 26.85, 29.5885),
        (4.7, 3.47, 15.32, 29.2909),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tables.Inputs):
    """Table 2, a sweep of D, and a strength curve."""

    sweep_images: int | None = 128
    """Test images for the two sweeps; 0 leaves them out, none: all."""


def main(config: Config) -> None:
    """Runs what is missing, then writes the table, the sweeps and their curves."""
    names = tables.names(config.models)
    grid = [tables.attack(grid_size=size, min_degree=low) for size, low in GRID]
    found = tables.run(config, dict(grid))
    rows = []
    for i, ((size, low), (name, _)) in enumerate(zip(GRID, grid, strict=True)):
        for source, cell in in_order(found[name], names).items():
            paper = PAPER[names[source]][i]
            rows.append([str(size), str(low), *_row(cell, names[source], names, paper)])
    head = ("grid", "D0", "attacked on", *(f"→ {column}" for column in COLUMNS), *_LAST)
    title = (
        "Success in %: fooled / right when clean by the model in the column (95 % interval), and "
        f"[the paper's]. {tables.QUALITY}."
    )
    tables.write(RESULTS / "table2", title, head, rows, {"cells": found, "models": names})
    if config.sweep_images == 0:
        return
    degrees = [tables.attack(degree=degree) for degree in DEGREES]
    strengths = [tables.attack(max_change=bound) for bound in STRENGTHS]
    for stem, attacks, values, label in (
        ("degree", dict(degrees), DEGREES, "D, the largest total degree"),
        ("strength", dict(strengths), STRENGTHS, "bound on |X_a - X|"),
    ):
        swept = tables.run(config, attacks, num_images=config.sweep_images)
        rows = [
            [str(value), *_row(cell, names[source], names)]
            for name, value in zip(attacks, values, strict=True)
            for source, cell in in_order(swept[name], names).items()
        ]
        head = (stem, "attacked on", *(f"→ {column}" for column in COLUMNS), *_LAST)
        title = (
            f"As Table 2, on a part of the test images drawn by seed {config.seed}: {label}. "
            f"{tables.QUALITY}."
        )
        tables.write(RESULTS / stem, title, head, rows, {"cells": swept, "models": names})
        figure = draw(dict(zip(values, swept.values(), strict=True)), label, names)
        with storage.replacing(RESULTS / f"{stem}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=120)


_LAST = ("BRISQUE", "TV of B̂", "above 8 cycles, %", "folded, %", "images")


def in_order(cells: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The cells that are there, in the paper's order of the models."""
    return {source: cells[source] for source in names if source in cells}


def _row(
    summary: dict[str, Any],
    title: str,
    names: dict[str, str],
    paper: tuple[float | None, ...] = (None,) * 4,
) -> list[str]:
    return [
        title,
        *tables.judged(summary, names, paper[:3]),
        tables.quality(summary, paper[3]),
        f"{summary['mean_total_variation']:.0f}",
        f"{100 * summary['mean_high_frequency_share']:.2f}",
        f"{100 * summary['mean_folded_share']:.1f}",
        str(summary["images"]),
    ]


def draw(
    swept: dict[float, dict[str, dict[str, Any]]], label: str, names: dict[str, str]
) -> Figure:
    """White-box success with its 95 % interval, and mean BRISQUE, against what was swept.

    Args:
      swept: value to name of the source to the cell's summary.
      label: what the values are.
      names: of the sources.

    Returns:
      A Matplotlib figure.
    """
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    success, quality = figure.subplots(1, 2)
    for source, title in names.items():
        there = {value: row[source] for value, row in swept.items() if source in row}
        if not there:
            continue
        values, cells = list(there), list(there.values())
        rates = [cell["targets"][source] for cell in cells]
        shares = np.array([rate["rate"] for rate in rates], float)
        ends = np.array([wilson_interval(rate["fooled"], rate["correct"]) for rate in rates])
        line = success.plot(values, 100 * shares, marker="o", ms=4, label=title)[0]
        success.fill_between(values, *(100 * ends.T), color=line.get_color(), alpha=0.15, lw=0)
        quality.plot(values, [cell["mean_brisque"] for cell in cells], marker="o", ms=4)
    success.set(xlabel=label, ylabel="white-box success, %", ylim=(0, None))
    quality.set(xlabel=label, ylabel="mean BRISQUE")
    success.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config))
