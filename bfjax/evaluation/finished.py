"""Finished attacks, opened again: their records, their images, and what made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from bfjax import data, storage
from bfjax.evaluation import identity
from bfjax.evaluation.rebuilding import rebuild
from bfjax.evaluation.specification import from_settings
from bfjax.types import Attack, Search

# The mean change, which other images do not share; another JPEG decoder moves it by far less.
_SAME_CHANGE = 1e-3


class Rebuilt(NamedTuple):
    """One attacked image again.

    Attributes:
      image: X.
      log_field: B̂, or `None` where the attack has none.
      adversarial: X_a.
    """

    image: Float[np.ndarray, "h w c"]
    log_field: Float[np.ndarray, "h w"] | None
    adversarial: Float[np.ndarray, "h w c"]


class Run(NamedTuple):
    """An attack on one model, as its folder, its images and its settings tell it.

    Attributes:
      folder: where it lies.
      settings: what its results depend on.
      rows: the records, one an image.
      table: its shards, which hold the parameters.
      source: the clean images.
      attack: what was run.
      digests: of the images that were attacked; older results have none.
    """

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    table: pa.Table
    source: data.Source
    attack: Attack | Search
    digests: Sequence[str] | None = None

    @property
    def model(self) -> tuple[str, str]:
        """The name of the model that was attacked, and the sha256 of its weights."""
        name, known = next(iter(self.settings["models"].items()))
        return name, known["sha256"]

    def fooled(self) -> list[int]:
        """The rows of the images that the model got right when clean, and wrong when attacked."""
        return [
            i
            for i, row in enumerate(self.rows)
            if row["clean_prediction"] == row["label"] != row["adversarial_prediction"]
        ]

    def check(self, rows: Sequence[int]) -> None:
        """Makes sure that some images are those that were attacked.

        Args:
          rows: which.

        Raises:
          ValueError: one is not, naming it.
          OSError: it cannot be read.
        """
        if self.digests is None:
            return
        for row in rows:
            same_image(self.source, row, self.digests[row])

    def rebuild(self, row: int) -> Rebuilt:
        """One image, bit for bit as it was attacked and judged.

        Args:
          row: which image.

        Returns:
          The image, its log field, the attacked image.

        Raises:
          ValueError: the clean image is not the one that was attacked.
        """
        self.check([row])
        image, field, adversarial = rebuild(self.attack, self.source, self.table, row)
        image, adversarial = np.asarray(image), np.asarray(adversarial)
        change = float(np.abs(adversarial - image).mean())
        known = self.rows[row]
        if abs(change - known["mean_change"]) > _SAME_CHANGE:
            raise ValueError(
                f"{known['file']} of {self.source!r} is not the image that was attacked: it "
                f"changes by {change:.4f}, {self.folder} says {known['mean_change']:.4f}"
            )
        return Rebuilt(image, None if field is None else np.asarray(field), adversarial)


def load_run(
    folder: Path, *, settings: dict[str, Any] | None = None, where: str | None = None
) -> Run:
    """Opens a finished attack.

    Args:
      folder: the results of `bfjax attack`, or of one attack on one model of `bfjax evaluate`.
      settings: of the run, for whoever has read them already.
      where: the images; `None` for where they lay when they were attacked.

    Returns:
      The run.

    Raises:
      FileNotFoundError: it is not finished, or the images are not there.
      ValueError: its images cannot be made again from what it holds, or other ones are there.
    """
    settings = settings or _settings(folder)
    source = open_source(settings, where)
    if not any((folder / "shards").glob("*.parquet")):
        raise ValueError(f"{folder / 'shards'} holds no shards, from which images are made again")
    table = storage.read_shards(folder / "shards")
    if not any(name.startswith(storage.PARAMS) for name in table.column_names):
        raise ValueError(f"{folder} stored no parameters: run it anew with --store-all")
    rows = storage.without_params(table).to_pylist()
    source = as_listed(source, [row["file"] for row in rows], settings, folder)
    known = fingerprint_of(folder, settings)
    digests = None if known is None else known.digests
    attack = from_settings(settings, source[0]["image"].shape)
    return Run(folder, settings, rows, table, source, attack, digests)


def open_source(settings: dict[str, Any], where: str | None = None) -> data.Source:
    """The images of a result.

    Args:
      settings: of the result.
      where: the images; `None` for where they lay when it was made.

    Returns:
      The source.

    Raises:
      FileNotFoundError: they are not there.
      ValueError: others are, which do not fit.
    """
    try:
        return data.load(
            where or settings["data"],
            settings["split"],
            image_size=settings["image_size"],
            resize=settings["resize"],
            num_examples=settings["num_images"],
            seed=settings["seed"],
            unlabelled=True,
            labels=_labels(settings.get("labels"), where),
            class_names=settings.get("columns" if "finding" in settings else "classes", ()),
        )
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; --data says where the images lie now") from None


def as_listed(
    source: data.Source, files: list[str], settings: dict[str, Any], folder: Path
) -> data.Source:
    """Those images of a source that a result is of, which are all, or it left some out.

    Args:
      source: of the settings.
      files: their names in the result, in order.
      settings: of the result.
      folder: of the result.

    Returns:
      The images.

    Raises:
      ValueError: the source holds others.
    """
    there = source.names
    if settings.keys() & {"skipped", "target_class"}:  # which left images out
        listed = set(files)
        source = data.Subset(source, [i for i, name in enumerate(there) if name in listed])
        there = source.names
    if there != files:
        lacking = sorted(set(files) - set(there))
        what = f"there is no {lacking[0]}" if lacking else "there are more, or in another order"
        raise ValueError(f"{source!r} does not hold the images of {folder}: {what}; see --data")
    return source


def fingerprint_of(folder: Path, settings: dict[str, Any]) -> data.Fingerprint | None:
    """What tells the images of a result from others.

    Args:
      folder: of the result.
      settings: of the result.

    Returns:
      The fingerprint; older results have none.

    Raises:
      ValueError: it is not of this result.
    """
    known = data.read_fingerprint(folder / identity.IMAGES)
    if known is not None and known.sha256 != settings.get("images"):
        raise ValueError(f"{folder / identity.IMAGES} is not of the results in that folder")
    return known


def same_image(source: data.Source, row: int, digest: str) -> None:
    """Makes sure that an image is the one that a result is of.

    Args:
      source: the images.
      row: which.
      digest: of the one that was attacked.

    Raises:
      ValueError: it is another one, naming it.
      OSError: it cannot be read.
    """
    if data.digest(source, row) != digest:
        raise ValueError(
            f"{source.names[row]} of {source!r} is not the image that was attacked: it has other "
            "contents; bring that back, or attack anew"
        )


def _labels(path: str | None, where: str | None) -> str | None:
    """The list of labels: where it lay, or, of images elsewhere, in their folder or beside it."""
    if path is None or where is None or Path(path).exists():
        return path
    places = (folder / Path(path).name for folder in (Path(where), Path(where).parent))
    return next((str(place) for place in places if place.is_file()), path)


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: {folder} holds no finished run") from None
    except ValueError:
        raise ValueError(f"{path} is not valid JSON") from None
    if "settings" not in summary:
        raise ValueError(f"{folder} is not of one attack on one model: name {folder}/ATTACK/MODEL")
    return summary["settings"]
