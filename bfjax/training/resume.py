"""What a training run leaves on disk, and goes on from: its states, its log, its metrics."""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from bfjax import data, models, progress, storage
from bfjax.evaluation import Metrics
from bfjax.storage import Saves
from bfjax.training.step import TrainState

_IMAGES = "images (sha256)"
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


def is_finished(out: Path) -> bool:
    """Whether the folder of a training holds a checkpoint.

    Args:
      out: the folder.

    Returns:
      Whether it does.
    """
    return (out / models.CONFIG).is_file()


def epochs_done(out: Path) -> int | None:
    """How far a training has come, by its log.

    Args:
      out: the folder.

    Returns:
      Epochs that are done; `None` where all is.
    """
    if is_finished(out):
        return None
    log = out / "log.csv"
    return max(len(log.read_text(encoding="utf-8").splitlines()) - 1, 0) if log.is_file() else 0


def fingerprint(source: data.Source) -> data.Fingerprint:
    """Which images a training is of, with their patients: these decide which are held out.

    Args:
      source: the images.

    Returns:
      The fingerprint; its labels are class and patient, who goes by the first image: no id is
      written.
    """
    with progress.bar() as bar:
        task = bar.add_task("looking through the images", total=len(source))
        found = data.fingerprint(source, lambda: bar.advance(task))
    first: dict[str, str] = {}
    for name, group in zip(found.names, source.groups, strict=True):
        first.setdefault(group, name)
    both = zip(found.labels, source.groups, strict=True)
    return found._replace(labels=[f"{label} of the patient of {first[g]}" for label, g in both])


def write_images(out: Path, images: dict[str, data.Fingerprint]) -> None:
    """Notes which images a training is of.

    Args:
      out: its folder.
      images: by split.
    """
    for split, found in images.items():
        found.write(out / f"images_{split}.parquet")


def same_images(out: Path, images: dict[str, data.Fingerprint]) -> None:
    """Makes sure that a training is of these images, as far as its folder says.

    Args:
      out: its folder.
      images: by split.

    Raises:
      ValueError: it is of others, naming the first few.
    """
    for split, now in images.items():
        before = data.read_fingerprint(out / f"images_{split}.parquet")
        if before is not None and before != now:
            raise ValueError(
                f"{out} holds a training on other images ({split}): {data.changes(before, now)}; "
                f"bring those back, choose another --out, or delete {out} to start anew"
            )


def same_training(out: Path, settings: dict[str, Any], *, but: str = "") -> None:
    """Makes sure that a finished run is of these settings.

    Args:
      out: its folder, with a checkpoint.
      settings: what the run's outcome depends on, as JSON gives it back.
      but: one of them that is not looked at.

    Raises:
      ValueError: it holds a run with other settings, naming the first that differs.
    """
    before = models.load_config(out).extra.get("training", {})
    before = {name: value for name, value in before.items() if name != but}
    _refuse_other(before, {k: v for k, v in settings.items() if k != but}, out)


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
    same_training(out, settings)
    models.load_model(out)  # whole, or refused
    tidy(out)  # a run may be killed before it can do so
    stored = models.load_config(out).metrics["test"]
    pairs = {name: tuple(ends) for name, ends in stored["intervals"].items()}
    return Metrics(
        **stored | {"confusion": tuple(map(tuple, stored["confusion"])), "intervals": pairs}
    )


def digest_of(path: Path) -> str:
    """What tells the contents of a file, or of a checkpoint, from others.

    Args:
      path: the file, or the folder of the checkpoint.

    Returns:
      Its SHA-256, in hexadecimal.

    Raises:
      FileNotFoundError: there is none.
    """
    if path.is_dir():
        return models.load_config(path).sha256
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def save(states: Saves, run: RunState, settings: dict[str, Any], images: data.Fingerprint) -> None:
    """Saves a run under the number of its steps.

    Args:
      states: of the run.
      run: where it is.
      settings: what must be equal for it to go on.
      images: that it trains on, of which the same holds.
    """
    noted = settings | {_IMAGES: images.sha256}
    about = run._asdict() | {"losses": floats(run.losses), "settings": noted}
    arrays = (about.pop("state"), about.pop("best"))
    states.save(int(run.state.step), arrays, about)


def restore(
    states: Saves,
    like: RunState,
    settings: dict[str, Any],
    images: data.Fingerprint,
    folder: Path,
) -> RunState:
    """Reads what `save` wrote last.

    Args:
      states: of the run.
      like: a run at its start.
      settings: of the run that wants to go on.
      images: that it trains on.
      folder: of the states, to be named.

    Returns:
      The run, or `like` itself where nothing has been saved.

    Raises:
      ValueError: it has other settings or images, or cannot be read.
    """
    latest = states.latest
    if latest is None:
        return like
    about = states.about(latest)
    before = about.pop("settings")
    if _IMAGES not in before:
        raise ValueError(
            f"{folder} was begun by a bfjax that did not note what is in its images, so it is not "
            f"gone on with: choose another --out, or delete {folder} to start anew"
        )
    _refuse_other(before | {_IMAGES: images.sha256}, settings | {_IMAGES: images.sha256}, folder)
    same_images(folder.parent, {"train": images})
    if before[_IMAGES] != images.sha256:
        raise ValueError(f"{folder} is not of the images that {folder.parent} names: delete it")
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
