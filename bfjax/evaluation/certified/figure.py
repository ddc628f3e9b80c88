"""The figure of certificates: certified accuracy against the root mean square of the light."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bfjax import storage

_LINES = {
    "radius": ("#2166ac", "certified"),
    "safe_radius": ("#92c5de", "certified, also clipped"),
}


def draw(folder: Path, certificates: dict[str, Any]) -> Path:
    """Draws certificates as a PNG.

    Args:
      folder: where it goes.
      certificates: what `certificates.json` holds.

    Returns:
      The file.
    """
    path = folder / "certificates.png"
    with storage.replacing(path) as temporary:
        panels([certificates]).savefig(temporary, format="png", dpi=130)
    return path


def panels(found: Sequence[dict[str, Any]]) -> Figure:
    """Certified accuracy against the root mean square, a panel for each model.

    Args:
      found: what each `certificates.json` holds.

    Returns:
      The figure.
    """
    figure = Figure(figsize=(2.4 + 4.0 * len(found), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    many = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, one in zip(many, found, strict=True):
        _draw(axes, one)
    many[0].set_ylabel("certified accuracy, %")
    handles, labels = many[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Axes, one: dict[str, Any]) -> None:
    end = 1.05 * one["reach"]
    for kind, (colour, label) in _LINES.items():
        places = np.asarray([*one["curve"][kind]["rms"], end])
        heights = np.asarray([*one["curve"][kind]["accuracy"], 0.0])
        axes.step(places, 100 * heights, where="post", color=colour, label=label)
    clean = 100 * one["clean"]["accuracy"]
    axes.axhline(clean, color="grey", ls="--", lw=1, label="bare model, no light")
    axes.set_xlabel("root mean square of the light's log field")
    axes.set_xlim(0, end)
    axes.set_ylim(0, 101)
    sigma = f"$\\sigma$ = {one['settings']['sigma']:g}"
    axes.set_title(f"{one['model']['name']}, {sigma}, {one['images']} images", fontsize=10)
