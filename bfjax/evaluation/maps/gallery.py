"""Pictures of sensitivity maps (Eq. 8): single ones, and their mean.

Convention:
    Maps are in viridis, which the colour-blind can read, and the more opaque the larger they are:
    where a map is 0 the X-ray itself is seen.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bfjax import storage

COLOURS = "viridis"
"""Matplotlib's name for the colours of a map."""
_OPACITY = 0.75  # of the largest value


def blended(
    image: Float[Array | np.ndarray, "h w c"],
    values: Float[Array | np.ndarray, "h w"],
    *,
    scale: Normalize | None = None,
) -> Float[np.ndarray, "h w 3"]:
    """A map as colours on an X-ray.

    Args:
      image: in [0, 1].
      values: the map.
      scale: takes its values to [0, 1]; `None` where they are in it.

    Returns:
      RGB in [0, 1].

    Example:
      >>> blended(np.full((1, 1, 1), 0.5), np.zeros((1, 1))).tolist()
      [[[0.5, 0.5, 0.5]]]
    """
    shown = np.asarray(values if scale is None else scale(np.asarray(values)), np.float64)
    colours = matplotlib.colormaps[COLOURS](shown)[..., :3]
    opacity = _OPACITY * np.clip(shown, 0, 1)[..., None]
    return (1 - opacity) * np.asarray(image, np.float64).mean(-1, keepdims=True) + opacity * colours


def mean_figure(
    mean: Float[np.ndarray, "h w"],
    image: Float[np.ndarray, "h w c"],
    summary: dict[str, Any],
) -> Figure:
    """The mean map beside its blend with the mean X-ray, the share of each third at its side.

    Args:
      mean: the mean map.
      image: the mean of the clean X-rays.
      summary: from `maps.summary.summarize`.

    Returns:
      A Matplotlib figure, not yet saved.
    """
    figure, axes = _figure(2, width=3.3)
    scale = Normalize(float(mean.min()), max(float(mean.max()), float(mean.min()) + 1e-6))
    axes[0].imshow(mean, cmap=COLOURS, norm=scale)
    axes[0].set_title(f"mean of {summary['images']} maps", fontsize=9)
    axes[1].imshow(blended(image, mean, scale=scale))
    axes[1].set_title("on the mean X-ray", fontsize=9)
    draw_thirds(axes[0], summary["thirds"])
    _bar(figure, axes, scale)
    return figure


def draw_thirds(axes: Axes, thirds: dict[str, dict[str, Any]], *, size: float = 9) -> None:
    """Lines between the thirds of a mean map, and the share of each with its interval beside it.

    Args:
      axes: with the map.
      thirds: of the summary.
      size: of the letters.
    """
    bottom, top = axes.get_ylim()  # of an image: the last row is below
    known = [t for t in thirds.values() if t["value"] is not None]
    axes.set_yticks(
        [top + (k + 0.5) * (bottom - top) / 3 for k in range(len(known))],
        list(map(_share, known)),
        fontsize=size,
    )
    axes.tick_params(axis="y", length=0)
    for k in (1, 2):
        axes.axhline(top + k * (bottom - top) / 3, color="white", lw=0.8, ls="--")


def _share(third: dict[str, Any]) -> str:
    value, *ends = (None if x is None else f"{100 * x:.0f}" for x in map(third.get, _ENDS))
    # where nearly all maps are zero, some resamples hold no others: a share without an interval
    return f"{value} %" if None in ends else f"{value} %\n[{', '.join(map(str, ends))}]"


_ENDS = ("value", "low", "high")


def case_figure(
    record: dict[str, Any],
    image: Float[Array | np.ndarray, "h w c"],
    adversarial: Float[Array | np.ndarray, "h w c"],
    values: Float[np.ndarray, "h w"],
    *,
    flips: bool,
    score: float,
) -> Figure:
    """One image: clean, attacked, and where the attack works.

    Args:
      record: its row of the records.
      image: X.
      adversarial: X_a.
      values: its map.
      flips: whether the classifier errs on what the map shows of X_a.
      score: how probable it finds the truth there.

    Returns:
      A Matplotlib figure, not yet saved.
    """
    figure, axes = _figure(3, width=2.9)
    pictures = {"original": ("clean", image), "attacked": ("adversarial", adversarial)}
    for axis, (title, (kind, picture)) in zip(axes, pictures.items(), strict=False):
        axis.imshow(np.asarray(picture).squeeze(), cmap="gray", vmin=0, vmax=1)
        prediction, chance = record[f"{kind}_prediction"], record[f"{kind}_score"]
        axis.set_title(f"{title}: {prediction}\nP(truth) = {chance:.2f}", fontsize=9)
    axes[2].imshow(blended(image, values))
    answer = "still fooled" if flips else "right again"
    axes[2].set_title(f"attacked only here: {answer}\nP(truth) = {score:.2f}", fontsize=9)
    axes[0].set_ylabel(f"{Path(record['file']).name[:34]}\ntruth: {record['label']}", fontsize=8)
    _bar(figure, axes, Normalize(0, 1))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, atomically.

    Args:
      figure: any.
      path: the file.
    """
    with storage.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def file_name(row: int, file: str) -> str:
    """A harmless name for the picture of an image.

    Args:
      row: its number.
      file: its own name.

    Returns:
      A name that ends in .png.

    Example:
      >>> file_name(3, "x/y z<b>.jpeg")
      '00003_y_z_b_.png'
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(file).stem)[:60]
    return f"{row:05d}_{stem}.png"


def _figure(columns: int, *, width: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * columns + 0.9, width + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, axes


def _bar(figure: Figure, axes: list[Axes], scale: Normalize) -> None:
    bar = figure.colorbar(ScalarMappable(scale, COLOURS), ax=axes, shrink=0.8, format="%.2f")
    bar.set_label("sensitivity M", fontsize=8)
    bar.ax.tick_params(labelsize=7)
