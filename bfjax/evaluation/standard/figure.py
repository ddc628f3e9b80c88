"""The figure of an audit: accuracy against the log-range of the light."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bfjax import storage

_NAMES = {
    "fixed": "worst uneven light found",
    "alone": "worst exposure alone",
    "free": "worst of both at once",
}
_COLOURS = {"fixed": "#b35806", "alone": "#998ec3", "free": "#542788"}


def draw(folder: Path, audit: dict[str, Any]) -> Path:
    """Draws an audit as a PNG.

    Args:
      folder: where it goes.
      audit: what `audit.json` holds.

    Returns:
      The file.
    """
    path = folder / "audit.png"
    with storage.replacing(path) as temporary:
        panels([audit]).savefig(temporary, format="png", dpi=130)
    return path


def panels(audits: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against the log-range, a panel for each audit.

    Args:
      audits: what each `audit.json` holds.

    Returns:
      The figure.
    """
    figure = Figure(figsize=(2.4 + 4.0 * len(audits), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    many = figure.subplots(1, len(audits), sharey=True, squeeze=False)[0]
    for axes, audit in zip(many, audits, strict=True):
        _draw(axes, audit)
    many[0].set_ylabel("accuracy, %")
    figure.supxlabel("log-range of the light: largest log field less the smallest", fontsize=10)
    handles, labels = many[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside upper center", ncols=3)
    return figure


def _draw(axes: Axes, audit: dict[str, Any]) -> None:
    end = max(audit["settings"]["ranges"])
    for name, row in audit["rows"].items():
        places = np.asarray([*row["curve"]["log_range"], end])
        heights = np.asarray([*row["curve"]["accuracy"], row["curve"]["accuracy"][-1]])
        within = places <= end
        axes.step(
            places[within],
            100 * heights[within],
            where="post",
            color=_COLOURS[name],
            label=_NAMES[name],
        )
    first = next(iter(audit["rows"]))
    tiers = audit["rows"][first]["tiers"]
    ranges = [tier["log_range"] for tier in tiers]
    for tier in tiers:
        low, high = tier["intervals"]["accuracy"]
        axes.plot([tier["log_range"]] * 2, [100 * low, 100 * high], color=_COLOURS[first], lw=1)
    lines = {"random": ("o:", "#1b7837", "random light, mean")}
    if "universal" in audit:
        lines["universal"] = ("s--", "#2166ac", "universal light, one for all")
    for name, (style, colour, label) in lines.items():
        heights = [100 * tier[f"{name}_accuracy"] for tier in tiers]
        axes.plot(ranges, heights, style, color=colour, label=label)
    machine = 100 * audit["machine"]["accuracy"]
    axes.axhline(
        machine, color="grey", ls="--", lw=1, label="a machine's worst set-up, of any log-range"
    )
    axes.set_xlim(0, end)
    axes.set_ylim(0, 101)
    axes.set_title(f"{audit['model']['name']}, {audit['images']} images", fontsize=10)
