"""A checkpoint of smaller numbers in several files, and what that changed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from flax import nnx

from bfjax import data, models
from bfjax.estimate import Estimate, seconds
from bfjax.evaluation import Metrics, evaluate_classifier

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Exported(NamedTuple):
    """What was written, and how good the classifier was and is.

    Attributes:
      files: the files of weights, in order.
      before: the metrics of the checkpoint.
      after: those of the export, read back from its files.
    """

    files: list[Path]
    before: Metrics
    after: Metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What is exported, how, and what both checkpoints are judged on.

    Attributes:
      model: the folder of the checkpoint.
      out: the folder for the new one.
      record: what the checkpoint says of itself.
      network: the network with its weights.
      source: the images on which both are evaluated.
      dtype: what the weights are rounded to.
      shard_size: bytes of one file, at most.
      batch_size: images at once.
    """

    model: Path
    out: Path
    record: models.Checkpoint
    network: nnx.Module
    source: data.Source
    dtype: Literal["float32", "float16"]
    shard_size: int
    batch_size: int


def run(export: Export) -> Exported:
    """Writes the new checkpoint, and judges both.

    Args:
      export: what to do.

    Returns:
      What was written, and the metrics before and after.

    Raises:
      ValueError: a weight is too large for the type.
    """
    record = export.record
    metadata = {
        **record.extra,
        "class_names": record.class_names,
        "image_size": record.image_size,
        "resize": record.resize,
        "metrics": record.metrics,
        "exported_from": record.sha256,
    }
    models.save(
        export.network,
        export.out,
        metadata=metadata,
        dtype=export.dtype,
        shard_size=export.shard_size,
    )
    before, after = (
        evaluate_classifier(
            models.load(path), export.source, batch_size=export.batch_size, warn=False
        )
        for path in (export.model, export.out)
    )
    names = models.load_config(export.out).shards
    return Exported([export.out / name for name in names], before, after)


def of_export(export: Export) -> Estimate:
    """What the new files would take, and the two evaluations.

    Args:
      export: what would be done; nothing is written.

    Returns:
      The estimate.
    """
    weights = models.weights_of(export.network).values()
    size = sum(w.size for w in weights) * np.dtype(export.dtype).itemsize
    few = data.Subset(export.source, range(min(export.batch_size, len(export.source))))
    predict = models.load(export.model)
    forward = seconds(
        lambda: evaluate_classifier(predict, few, batch_size=export.batch_size, warn=False)
    )
    batches = -(-len(export.source) // export.batch_size)
    work = f"judge {len(export.source)} images twice"
    return Estimate(str(export.out), work, 2 * batches * forward, size)


def parse_size(text: str) -> int:
    """A size in bytes.

    Args:
      text: a number and a unit, such as ``"15MiB"`` or ``"1.5 GB"``.

    Returns:
      Bytes, at least 1.

    Raises:
      ValueError: it is neither.

    Example:
      >>> parse_size("15MiB"), parse_size("1.5 kB")
      (15728640, 1500)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?I?B)", text.strip().upper())
    size = int(float(found[1]) * _UNITS.get(found[2], 0)) if found else 0
    if size < 1:
        raise ValueError(f"{text!r} is no size: give a number and a unit, such as 15MiB")
    return size
