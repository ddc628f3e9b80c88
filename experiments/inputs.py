"""What the experiments on single attacks start from: a checkpoint, and test images that fit it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bfjax import data, models
from bfjax.models import Checkpoint
from bfjax.types import Predict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """The options that choose them."""

    model: Path
    """Folder of the checkpoint."""
    data: str = "chest_xray"
    """Data set, or the folder where it lies."""
    num_images: int | None = None
    """Only so many test images, drawn by --seed; none: all."""
    seed: int = 0
    """Seed of that drawing."""


class Loaded(NamedTuple):
    """The classifier, and the images in [0, 1], (n, h, w, c), with their labels and sha256."""

    record: Checkpoint
    predict: Predict
    images: np.ndarray
    labels: np.ndarray
    sha256: str


def load(config: Inputs) -> Loaded:
    """Reads what the options name.

    Args:
      config: the options.

    Returns:
      The classifier and its test images.
    """
    record = models.load_config(config.model)
    source = data.load(
        config.data,
        "test",
        image_size=record.image_size,
        resize=record.resize,
        num_examples=config.num_images,
        seed=config.seed,
    )
    images = np.stack([data.to_float(source[i]["image"]) for i in range(len(source))])
    predict, known = models.load(config.model), data.fingerprint(source)
    return Loaded(record, predict, images, np.asarray(source.labels), known.sha256)


def names_differ(folders: Sequence[str | Path]) -> None:
    """Makes sure that results, which lie by the names of the folders, are told apart.

    Args:
      folders: of checkpoints.

    Raises:
      ValueError: two have one name.
    """
    names = [Path(folder).resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"two folders have one name, by which results lie: {', '.join(names)}")
