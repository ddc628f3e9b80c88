"""What finished cells amount to, small enough to be committed: to check a table, nobody attacks.

A file of `experiments/results/cells` is of one model attacked on one set of images. It holds each
attack's summary, and for every image what each model saw in it, clean and attacked: a string with a
digit an image, the number of the class. Experiments run a cell only if it is not recorded here for
the same weights, attack and images; delete the files to run everything again.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bfjax import storage
from bfjax.evaluation import same_attack

CELLS = Path(__file__).parent / "results" / "cells"
_KINDS = ("clean", "adversarial")


def keep(folder: Path, attack: str, source: str) -> None:
    """Records a finished cell.

    Args:
      folder: of the runs of one model on one set of images; its name is the file's.
      attack: the name of the attack.
      source: the name of the model that was attacked.

    Raises:
      ValueError: cells of other images are recorded in that file.
    """
    cell = folder / attack / source
    with (cell / "records.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((cell / "summary.json").read_text(encoding="utf-8"))
    summary["settings"]["data"] = Path(summary["settings"]["data"]).name
    number = {name: str(i) for i, name in enumerate(summary["settings"]["class_names"])}

    def digits(column: str) -> str:
        return "".join(number[row[column]] for row in rows)

    seen = {
        judge: {kind: digits(f"{_prefix(judge, source)}{kind}_prediction") for kind in _KINDS}
        for judge in summary["targets"]
    }
    path = CELLS / f"{folder.name}.json"
    known = storage.read_json(path) or {"attacks": {}}
    images = {"images": [row["file"] for row in rows], "labels": digits("label")}
    # what is in the images is noted since there are fingerprints
    contents = {one["summary"]["settings"].get("images") for one in known["attacks"].values()}
    if (known["attacks"] and known != known | images) or (
        contents - {None, summary["settings"].get("images")}
    ):
        raise ValueError(f"{path} records cells of other images than {cell}: delete it, or these")
    known |= images
    known["attacks"][attack] = {"summary": summary, "seen": seen}
    storage.write_json(path, known)


def summary(folder: Path, attack: str) -> dict[str, Any] | None:
    """The summary of a recorded cell.

    Args:
      folder: of the runs.
      attack: the name of the attack.

    Returns:
      As `bfjax evaluate` wrote it; none if it is not recorded.
    """
    known = storage.read_json(CELLS / f"{folder.name}.json").get("attacks", {})
    return known[attack]["summary"] if attack in known else None


def rows(folder: Path, attack: str, source: str) -> list[dict[str, str]]:
    """What the models saw in each image of a recorded cell.

    Args:
      folder: of the runs.
      attack: the name of the attack.
      source: the name of the model that was attacked.

    Returns:
      One row an image, with the columns of `records.csv` that hold classes.

    Raises:
      ValueError: the cell is not recorded.
    """
    known = storage.read_json(CELLS / f"{folder.name}.json")
    if attack not in known.get("attacks", {}):
        raise ValueError(f"{CELLS / folder.name}.json holds no {attack}: run the experiment first")
    one = known["attacks"][attack]
    names = one["summary"]["settings"]["class_names"]
    columns = {"label": known["labels"]} | {
        f"{_prefix(judge, source)}{kind}_prediction": digits
        for judge, kinds in one["seen"].items()
        for kind, digits in kinds.items()
    }
    return [
        {"file": image} | {name: names[int(digits[i])] for name, digits in columns.items()}
        for i, image in enumerate(known["images"])
    ]


def is_complete(
    found: Mapping[str, Any] | None, text: str, judges: Mapping[str, str], *, measure: bool
) -> bool:
    """Whether a recorded cell is of this attack, and all models have judged it.

    Args:
      found: its summary.
      text: the attack, as `bfjax evaluate` takes it.
      judges: names of the models to the sha256 of their weights.
      measure: also what is not the success is wanted.

    Returns:
      Whether nothing is left to do.
    """
    if found is None or not is_of(found, text):
        return False
    if measure and not found["settings"]["measure"]:
        return False
    return judges.keys() <= judged_by(found, judges).keys()


def is_of(found: Mapping[str, Any], text: str) -> bool:
    """Whether a recorded cell is of an attack.

    Args:
      found: its summary.
      text: the attack, as `bfjax evaluate` takes it.

    Returns:
      Whether it was made by what the text means today.
    """
    return same_attack(found["settings"], text)


def judged_by(found: Mapping[str, Any], judges: Mapping[str, str]) -> dict[str, Any]:
    """What some models made of a recorded cell, as they are now.

    Args:
      found: its summary.
      judges: names of the models to the sha256 of their weights.

    Returns:
      Name to success; what a model of other weights saw under its name is left out.
    """
    known = {name: model["sha256"] for name, model in found["settings"]["models"].items()}
    same = judges.items() & known.items()
    return {name: rate for name, rate in found["targets"].items() if (name, known[name]) in same}


def _prefix(judge: str, source: str) -> str:
    return "" if judge == source else f"{judge}:"
