"""The curves of a training run: loss, and how much is answered and ranked rightly, by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bfjax import storage

# Okabe and Ito's colours, told apart by the colour-blind; markers and dashes do so in grey
_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#666666"
_FORMS = ((_BLUE, "--s"), (_VERMILION, "-o"))
# the unit of a panel, and the column and the label of each of its curves
_PANELS = {
    "loss": (
        "nats",
        (("train_loss", "training, augmented"), ("val_loss", "validation")),
    ),
    "validation": ("share", (("val_accuracy", "accuracy"), ("val_auc", "AUC"))),
}


def draw(path: Path, history: list[dict[str, Any]], *, kept: int) -> Path:
    """Draws the curves as a PNG.

    Args:
      path: the file.
      history: the rows of the log, one an epoch.
      kept: which epoch the checkpoint is of.

    Returns:
      The file.
    """
    figure = plot(history, kept=kept)
    with storage.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def plot(history: list[dict[str, Any]], *, kept: int) -> Figure:
    """Two panels beside each other: the losses, and accuracy and AUC on the validation part.

    Args:
      history: the rows of the log, one an epoch.
      kept: which epoch the checkpoint is of, marked by a vertical line.

    Returns:
      A Matplotlib figure, not yet saved.
    """
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in history]
    panels = figure.subplots(1, len(_PANELS))
    for axes, (title, (unit, curves)) in zip(panels, _PANELS.items(), strict=True):
        for (name, label), (colour, form) in zip(curves, _FORMS, strict=True):
            # a marker shows where there are few epochs, and clutters where there are many
            form = form if len(epochs) <= 40 else form[:-1]
            column = [row[name] for row in history]
            axes.plot(epochs, column, form, color=colour, ms=4, lw=1.6, label=label)
        axes.set_title(title)
        axes.set_ylabel(unit)
        _decorate(axes, kept)
    return figure


def _decorate(axes: Axes, kept: int) -> None:
    axes.axvline(kept, color=_GREY, ls=":", lw=1.2, label=f"kept: epoch {kept}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5)
