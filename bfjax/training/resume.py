"""What a training run leaves on disk, and goes on from: its states, its log, its metrics."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from bfjax import models, storage
from bfjax.evaluation import Metrics
from bfjax.storage import Saves
from bfjax.training.step import TrainState

TRAINING = "training"
"""The folder of the saved states within that of the run; gone when it is finished."""


class RunState(NamedTuple):
    """Where a run is: all that its further steps and its end depend on.

    Attributes:
      state: parameters, running averages, the optimiser's state, the step.
      best: parameters and statistics of the best epoch so far.
      history: the rows of the log.
      losses: of the steps of the epoch under way.
      reader: where Grain is in that epoch; None at its start.
      seconds: that the epoch has taken.
    """

    state: TrainState
    best: tuple[Any, Any]
    history: list[dict[str, Any]]
    losses: list[Any] = []  # noqa: RUF012  never changed, only replaced
    reader: dict[str, Any] | None = None
    seconds: float = 0.0


def stored_metrics(out: Path, settings: dict[str, Any]) -> Metrics:
    """The metrics of a run that was finished before.

    Args:
      out: its folder, with a checkpoint.
      settings: what the run's outcome depends on, as JSON gives it back.

    Returns:
      The metrics on the test split, as they were stored.

    Raises:
      ValueError: it holds a run with other settings, naming the first that differs, or a
        checkpoint that was damaged.
    """
    record = models.load_config(out)
    _refuse_other(record.extra.get("training", {}), settings, out)
    models.load_model(out)  # whole, or refused
    tidy(out)  # a run may be killed before it can do so
    stored = record.metrics["test"]
    pairs = {name: tuple(ends) for name, ends in stored["intervals"].items()}
    return Metrics(
        **stored | {"confusion": tuple(map(tuple, stored["confusion"])), "intervals": pairs}
    )


def tidy(folder: Path) -> None:
    """Deletes the saved states of a run that is finished.

    Args:
      folder: of the run.
    """
    shutil.rmtree(folder / TRAINING, ignore_errors=True)


def _refuse_other(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{folder} holds a run with other settings ({name} was {before.get(name)!r}, now "
                f"it is {now.get(name)!r}): choose another --out, or delete {folder} to start anew"
            )


def save(states: Saves, run: RunState, settings: dict[str, Any]) -> None:
    """Saves a run under the number of its steps.

    Args:
      states: of the run.
      run: where it is.
      settings: what must be equal for it to go on.
    """
    about = run._asdict() | {"losses": floats(run.losses), "settings": settings}
    arrays = (about.pop("state"), about.pop("best"))
    states.save(int(run.state.step), arrays, about)


def restore(states: Saves, like: RunState, settings: dict[str, Any], folder: Path) -> RunState:
    """Reads what `save` wrote last.

    Args:
      states: of the run.
      like: a run at its start.
      settings: of the run that wants to go on.
      folder: of the states, to be named.

    Returns:
      The run, or `like` itself where nothing has been saved.

    Raises:
      ValueError: it has other settings, or cannot be read.
    """
    latest = states.latest
    if latest is None:
        return like
    about = states.about(latest)
    _refuse_other(about.pop("settings"), settings, folder)
    state, best = states.arrays(latest, (like.state, like.best))
    return RunState(state, best, **about)


def floats(losses: Sequence[Any]) -> list[float]:
    """Losses as numbers: those still on the device, and those read back from a saved state.

    Args:
      losses: scalars.

    Returns:
      The numbers.
    """
    return [float(loss) for loss in jax.device_get(losses)]


def write_log(file: Path, history: list[dict[str, Any]]) -> None:
    """Writes the log of a run as CSV, a row an epoch.

    Args:
      file: the log.
      history: its rows.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with storage.replacing(file) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
