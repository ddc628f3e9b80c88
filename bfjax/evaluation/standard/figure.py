"""The figure of an audit: accuracy against the log-range of the light."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    end = max(audit["settings"]["ranges"])
    for name, row in audit["rows"].items():
        places = [*row["curve"]["log_range"], end]
        heights = [*row["curve"]["accuracy"], row["curve"]["accuracy"][-1]]
        within = np.asarray(places) <= end
        axes.step(
            np.asarray(places)[within],
            100 * np.asarray(heights)[within],
            where="post",
            color=_COLOURS[name],
            label=_NAMES[name],
        )
    first = next(iter(audit["rows"]))
    tiers = audit["rows"][first]["tiers"]
    ranges = [tier["log_range"] for tier in tiers]
    random = [100 * tier["random_accuracy"] for tier in tiers]
    axes.plot(ranges, random, "o:", color="#1b7837", label="random light, mean")
    for tier in tiers:
        low, high = tier["intervals"]["accuracy"]
        axes.plot([tier["log_range"]] * 2, [100 * low, 100 * high], color=_COLOURS[first], lw=1)
    axes.axhline(
        100 * audit["machine"]["accuracy"], color="grey", ls="--", lw=1, label="a machine's set-ups"
    )
    axes.set_xlim(0, end)
    axes.set_ylim(0, 101)
    axes.set_xlabel("log-range of the light: largest log field less the smallest")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"{audit['model']['name']}, {audit['images']} images")
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    path = folder / "audit.png"
    with storage.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    return path
