"""Single attacked X-rays for the figures: how they are found, how they are shown, what is noted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.special
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bfjax import Attack, AttackResult, progress, run_batch
from bfjax.models import Checkpoint
from bfjax.storage import environment
from experiments.figures import CITATION, ORANGE
from experiments.inputs import Loaded


class Case(NamedTuple):
    """An X-ray that a classifier gets right when clean and wrong under every attack tried.

    Attributes:
      index: which of the images.
      image: (h, w, c).
      label: its class.
      clean: (classes,), the classifier's logits of the X-ray.
      results: of the attacks, one each.
    """

    index: int
    image: np.ndarray
    label: int
    clean: np.ndarray
    results: tuple[AttackResult, ...]


def find(
    attacks: Sequence[Attack], loaded: Loaded, *, per_class: int, batch_size: int
) -> tuple[list[Case], int]:
    """The first X-rays of each class that all attacks turn, in the order of the data set.

    Args:
      attacks: on fields that start at the identity.
      loaded: the classifier and the images.
      per_class: how many of each class.
      batch_size: images attacked at once.

    Returns:
      The cases, the classes in turn, and how many images were attacked until all were found.
    """
    _, predict, images, labels, _ = loaded
    classes = np.unique(labels)
    order = _in_turn([np.flatnonzero(labels == c).tolist() for c in classes])
    found: dict[int, list[Case]] = {int(c): [] for c in classes}
    done = 0
    with progress.bar() as bar:
        task = bar.add_task("looking for cases", total=len(order))
        while done < len(order) and min(map(len, found.values())) < per_class:
            chosen = order[done : done + batch_size]
            # the last batch is filled up, so that nothing is compiled for it
            batch = np.resize(chosen, batch_size)
            results = [run_batch(a, predict, images[batch], labels[batch]) for a in attacks]
            clean = np.asarray(results[0].trace.logits[:, 0])  # attacks start at the clean image
            wrong = np.all([np.asarray(r.logits).argmax(1) != labels[batch] for r in results], 0)
            turned = wrong & (clean.argmax(1) == labels[batch])
            for i in np.flatnonzero(turned[: len(chosen)]):
                own = tuple(jax.tree.map(lambda x, i=i: np.asarray(x[i]), r) for r in results)
                label = int(labels[batch[i]])
                found[label].append(Case(int(batch[i]), images[batch[i]], label, clean[i], own))
            done += len(chosen)
            bar.advance(task, len(chosen))
    return _in_turn([cases[:per_class] for cases in found.values()]), done


def _in_turn(groups: Sequence[Sequence[Any]]) -> list[Any]:
    """One of each group, then the next of each, as long as there are any."""
    longest = max(map(len, groups))
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


_MIN_WIDTH = 3.9


def blank(rows: int, columns: int, *, size: float, margin: float = 0.25) -> tuple[Figure, Any]:
    """A figure of panels without ticks, wide enough for the citation of the data.

    Args:
      rows: of panels.
      columns: of panels.
      size: of a panel, in inches; larger where a few of them would make a narrow figure.
      margin: left of the panels, in inches.

    Returns:
      The figure, and its axes (rows, columns).
    """
    size = max(size, (_MIN_WIDTH - margin) / columns)
    figure = Figure(figsize=(size * columns + margin, (size + 0.17) * rows + 0.35))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, axes


def show(
    axis: Axes,
    image: Any,
    logits: Any,
    label: int,
    names: Sequence[str],
    *,
    size: float = 7,
) -> dict[str, Any]:
    """Draws an X-ray with the classifier's answer and its score below, orange where it is wrong.

    Args:
      axis: where.
      image: (h, w, 1) in [0, 1], or RGB.
      logits: (classes,).
      label: the true class.
      names: of the classes.
      size: of the letters.

    Returns:
      The numbers shown.
    """
    axis.imshow(np.asarray(image).squeeze(), cmap="gray", vmin=0, vmax=1)
    chances = scipy.special.softmax(np.asarray(logits, np.float64))
    answer = int(chances.argmax())
    wrong = answer != label
    axis.set_xlabel(
        f"{names[answer]} {chances[answer]:.2f}",
        fontsize=size,
        labelpad=2,
        color=ORANGE if wrong else "black",
        fontweight="bold" if wrong else "normal",
    )
    return {"prediction": names[answer], "score": float(chances[answer]), "truth": names[label]}


def noted(config: Any, checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """What every figure's JSON begins with.

    Args:
      config: a dataclass of options; of paths only the names are kept.
      checkpoints: of the classifiers.

    Returns:
      settings, checkpoints, data, run; what JSON can hold.
    """
    settings = {"encoding": "linear"}  # of the grey values, unless a config says more
    settings |= dataclasses.asdict(config) | {"data": Path(config.data).name}
    return {
        "settings": {name: _plain(value) for name, value in settings.items()},
        "checkpoints": [{"architecture": c.architecture, "sha256": c.sha256} for c in checkpoints],
        "data": CITATION,
        "run": environment(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.name if isinstance(value, Path) else value
