"""Reads what `bfjax attack` wrote: the one place that knows the form of its files.

Convention:
    A run is one attack made on one model. A folder holds either one run, or one run in each
    `<attack>/<source>/` and a summary.json on top that lists them. The first target of a run is
    the model that was attacked. The settings of `bfjax evaluate` hold `attack`, a text that
    describes it; those of `bfjax attack` the options of the one attack it makes.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from bfjax import storage
from bfjax.metrics import SuccessRate

_COLUMNS = ("clean_prediction", "clean_score", "adversarial_prediction", "adversarial_score")


class Judgement(NamedTuple):
    """What one model said of one image, clean and attacked.

    Attributes:
      target: the model.
      clean: its prediction.
      clean_score: how probable it found the true class.
      adversarial: its prediction when attacked.
      adversarial_score: the same for the attacked image.
    """

    target: str
    clean: str
    clean_score: float
    adversarial: str
    adversarial_score: float


@dataclasses.dataclass(frozen=True)
class Run:
    """One attack made on one model, judged by it and by others.

    Attributes:
      folder: where it lies.
      attack: the name of the attack.
      settings: what the results depend on.
      summary: what they amount to.
    """

    folder: Path
    attack: str
    settings: dict[str, Any]
    summary: dict[str, Any]

    @property
    def targets(self) -> list[str]:
        """The models that judged, the attacked one first."""
        return list(self.summary["targets"])

    @property
    def source(self) -> str:
        """The model that was attacked."""
        return self.targets[0]

    @property
    def models(self) -> dict[str, dict[str, str]]:
        """The checkpoints: name → `sha256` and `architecture`."""
        return self.settings.get("models", {})

    @property
    def directions(self) -> list[str]:
        """Names such as `NORMAL→PNEUMONIA`, true class first."""
        return list(self.summary["targets"][self.source]["directions"])

    def rate(self, target: str, direction: str | None = None) -> SuccessRate | None:
        """The success of the attack on a model, over all images or in one direction.

        Args:
          target: the model that judges.
          direction: one of `directions`.

        Returns:
          The counts and the rate; `None` where this model did not judge.
        """
        judged = self.summary["targets"].get(target)
        if judged is None:
            return None
        counts = judged if direction is None else judged["directions"][direction]
        return _rate(counts["fooled"], counts["correct"])

    @property
    def accuracy(self) -> SuccessRate:
        """How many of all images the attacked model gets right when clean (as `fooled`)."""
        return _rate(self.summary["targets"][self.source]["correct"], self.summary["images"])

    @property
    def saved_as(self) -> dict[str, SuccessRate]:
        """The success left after saving, by the format, where that was measured."""
        counts = self.summary["targets"][self.source].get("saved_as", {})
        return {kind: _rate(c["fooled"], c["correct"]) for kind, c in counts.items()}

    def read(self) -> pa.Table:
        """The records and the attack parameters, one row an image."""
        folder = self.folder / "shards"
        if not any(folder.glob("*.parquet")):
            raise ValueError(f"{folder} holds no shards, from which the pictures are made")
        return storage.read_shards(folder)

    def judgements(self, record: dict[str, Any]) -> list[Judgement]:
        """What every model said of one image.

        Args:
          record: its row.

        Returns:
          One judgement a target, the attacked model's first.
        """
        found = []
        for target in self.targets:
            prefix = "" if target == self.source else f"{target}:"
            values = [record[f"{prefix}{name}"] for name in _COLUMNS]
            found.append(Judgement(target, *values))
        return found


class Matrix(NamedTuple):
    """The runs of one attack: one a row, judged by the models of the columns.

    Attributes:
      attack: the name of the attack.
      runs: one for each attacked model.
      targets: the models that judge.
    """

    attack: str
    runs: list[Run]
    targets: list[str]


class Results(NamedTuple):
    """All that a folder holds.

    Attributes:
      matrices: one an attack.
      environment: when, on what and with which versions it was made.
    """

    matrices: list[Matrix]
    environment: dict[str, Any]

    @property
    def runs(self) -> list[Run]:
        """All runs, attack by attack."""
        return [run for matrix in self.matrices for run in matrix.runs]


def load(folder: Path) -> Results:
    """Reads a folder of results; the shards only when asked for.

    Args:
      folder: of `bfjax attack` or `bfjax evaluate`.

    Returns:
      The results.

    Raises:
      FileNotFoundError: it holds no finished run.
      ValueError: naming the file that is not what it should be.
    """
    summary = _read(folder / "summary.json")
    if "attacks" in summary:
        matrices = []
        for attack, listed in summary["attacks"].items():
            inner = [folder / _name(attack) / _name(source) for source in listed["sources"]]
            matrices.append(
                Matrix(attack, [_run(path, attack) for path in inner], listed["targets"])
            )
    else:
        run = _run(folder, "")
        matrices = [Matrix(run.attack, [run], run.targets)]
    if not any(matrix.runs for matrix in matrices):
        raise ValueError(f"{folder / 'summary.json'} lists no run")
    return Results(matrices, summary.get("run", {}))


def _run(folder: Path, attack: str) -> Run:
    path = folder / "summary.json"
    summary = _read(path)
    for key in ("settings", "targets", "images"):
        if not summary.get(key):
            raise ValueError(f"{path} has no {key}: it is not of `bfjax attack`")
    settings = summary["settings"]
    return Run(folder, attack or settings.get("attack", "bias_field"), settings, summary)


def _name(name: str) -> str:
    """A folder within the folder, and nowhere else."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"{name!r} in summary.json is no name of a folder")
    return name


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: its folder holds no finished run") from None
    except ValueError:
        raise ValueError(f"{path} is not valid JSON") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def _rate(fooled: int, correct: int) -> SuccessRate:
    return SuccessRate(correct, fooled, fooled / correct if correct else math.nan)
