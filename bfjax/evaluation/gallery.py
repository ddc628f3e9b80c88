"""Pictures of single attacks: original, bias field, adversarial image, difference."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bfjax import storage


class Case(NamedTuple):
    """One attacked image.

    Attributes:
      record: its row of the records.
      image: (h, w, c), X.
      log_field: (h, w), B̂.
      adversarial: (h, w, c), X_a.
      encoding: of the grey values: in a `"log"` one more exposure is darker.
    """

    record: dict[str, Any]
    image: Float[Array | np.ndarray, "h w c"]
    log_field: Float[Array | np.ndarray, "h w"]
    adversarial: Float[Array | np.ndarray, "h w c"]
    encoding: str = "linear"


def choose(rows: list[dict[str, Any]], count: int) -> list[int]:
    """Which cases to draw: three in four fooled, spread over the classes, the rest resisted.

    Args:
      rows: the records.
      count: how many.

    Returns:
      Indices into `rows`, fooled ones first; fewer when there are fewer rows.

    Example:
      >>> row = {"label": "a", "clean_prediction": "a", "adversarial_prediction": "b"}
      >>> choose([row, row | {"adversarial_prediction": "a"}], 2)
      [0, 1]
    """
    fooled: dict[str, list[int]] = {}
    resisted, wrong = [], []
    for i, row in enumerate(rows):
        if row["clean_prediction"] != row["label"]:
            wrong.append(i)
        elif row["adversarial_prediction"] != row["label"]:
            fooled.setdefault(row["label"], []).append(i)
        else:
            resisted.append(i)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*fooled.values()))
    alternating = [i for i in turns if i is not None]
    share = max(count - len(resisted), (3 * count + 3) // 4)
    return [*alternating[:share], *resisted, *alternating[share:], *wrong][:count]


def path_of(folder: Path, index: int, name: str) -> Path:
    """Where the picture of a case lies.

    Args:
      folder: of the pictures.
      index: its number, which begins the file's name.
      name: of the image.

    Returns:
      The file.

    Example:
      >>> path_of(Path("gallery"), 3, "NORMAL/a b.png").as_posix()
      'gallery/00003_a_b.png'
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).stem)[:60]
    return folder / f"{index:05d}_{stem}.png"


def draw(folder: Path, index: int, case: Case) -> Path:
    """Draws one case as a PNG of four panels.

    Args:
      folder: where the picture goes.
      index: its number, which begins the file's name.
      case: the attack.

    Returns:
      The file.
    """
    path = path_of(folder, index, case.record["file"])
    figure = panels([case])
    with storage.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def panels(cases: list[Case]) -> Figure:
    """Draws cases as rows: original, bias field, adversarial, difference.

    The field is B = exp(B̂), on a logarithmic diverging scale centred at 1 (no change) that ends
    at a half and at two, orange for more exposure, where the image gets brighter, or in a log
    encoding darker, which the title says; X_a − X is centred at 0.

    Args:
      cases: one or more.

    Returns:
      A Matplotlib figure, not yet saved.
    """
    figure = Figure(figsize=(10.4, 2.95 * len(cases)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(cases), 4, squeeze=False)
    for axes, case in zip(grid, cases, strict=True):
        record = case.record
        image, adversarial = (np.asarray(x, np.float64) for x in (case.image, case.adversarial))
        log_field = np.asarray(case.log_field, np.float64)
        reach = np.clip(np.abs(log_field).max(), np.log(1.02), np.log(2))
        difference = (adversarial - image).mean(-1)
        span = max(np.abs(difference).max(), 1e-3)
        axes[0].imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
        axes[0].set_title(_caption("original", record, "clean"))
        scale = LogNorm(np.exp(-reach), np.exp(reach))
        shown = axes[1].imshow(np.exp(log_field), cmap="PuOr_r", norm=scale)
        low, high = np.exp(log_field.min()), np.exp(log_field.max())
        more = " (more is darker)" if case.encoding == "log" else ""
        axes[1].set_title(f"bias field B{more}\n{low:.3g} to {high:.3g}")
        _colour_bar(figure, shown, axes[1], [np.exp(-reach), 1, np.exp(reach)])
        axes[2].imshow(adversarial.squeeze(), cmap="gray", vmin=0, vmax=1)
        axes[2].set_title(_caption("adversarial", record, "adversarial"))
        shown = axes[3].imshow(difference, cmap="PuOr_r", vmin=-span, vmax=span)
        axes[3].set_title(f"difference\nup to {np.abs(difference).max():.3f} of the range")
        _colour_bar(figure, shown, axes[3], [-span, 0, span])
        axes[0].set_ylabel(f"{Path(record['file']).name[:34]}\ntruth: {record['label']}")
        for axis in axes:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.title.set_fontsize(9)
            axis.yaxis.label.set_fontsize(8)
    return figure


def _caption(title: str, record: dict[str, Any], kind: str) -> str:
    """The prediction, and how probable the model finds the true class."""
    return f"{title}: {record[f'{kind}_prediction']}\nP(truth) = {record[f'{kind}_score']:.2f}"


def _colour_bar(figure: Figure, shown, axis, ticks: list[float]) -> None:
    bar = figure.colorbar(shown, ax=axis, shrink=0.8, ticks=ticks, format="%.2f")
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7)
