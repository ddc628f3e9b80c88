"""`bfjax export`: a checkpoint of smaller numbers in several files, and what that changed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bfjax import data, estimate, models
from bfjax.classification import Metrics, evaluate_classifier
from bfjax.config import ExportConfig
from bfjax.models.checkpoint import Checkpoint
from bfjax.models.registry import weights_of

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


def main(config: ExportConfig) -> None:
    """The command `bfjax export`: exports, then prints what it changed."""
    if config.dry_run:
        estimate.show([_estimate(config)])
        return
    exported = export(config)
    before, after = exported.before, exported.after
    size = sum(file.stat().st_size for file in exported.files)
    print(f"{len(exported.files)} files of weights, {size / 2**20:.1f} MiB, in {config.out}")
    print(
        f"accuracy {before.accuracy:.2%} before, {after.accuracy:.2%} after "
        f"({after.accuracy - before.accuracy:+.2%}) on {after.count} images; "
        f"loss {before.loss:.5f} before, {after.loss:.5f} after"
    )


def export(config: ExportConfig) -> Exported:
    """Runs `config`.

    Args:
      config: what to export, and how.

    Returns:
      What was written, and the metrics before and after.

    Raises:
      ValueError: the size cannot be read, the export would replace its original, the data set has
        other classes, or a weight is too large for the type.
      FileNotFoundError: there is no such checkpoint, or no such data.
    """
    size, record, model, source = _opened(config)
    metadata = {
        **record.extra,
        "class_names": record.class_names,
        "image_size": record.image_size,
        "resize": record.resize,
        "metrics": record.metrics,
        "exported_from": record.sha256,
    }
    models.save(model, config.out, metadata=metadata, dtype=config.dtype, shard_size=size)
    before, after = (
        evaluate_classifier(models.load(path), source, batch_size=config.batch_size)
        for path in (config.model, config.out)
    )
    names = models.load_config(config.out).shards
    return Exported([config.out / name for name in names], before, after)


def _opened(config: ExportConfig) -> tuple[int, Checkpoint, Any, data.Source]:
    """The size of a shard, what the checkpoint says of itself, its model, the images."""
    size = parse_size(config.shard_size)
    if os.path.realpath(config.out) == os.path.realpath(config.model):
        raise ValueError(f"the export would replace {config.model} itself: choose another --out")
    record, model = models.load_config(config.model), models.load_model(config.model)
    source = data.load(
        config.data,
        config.split,
        image_size=record.image_size,
        resize=record.resize,
        num_examples=config.num_images,
        seed=config.seed,
    )
    if record.class_names and tuple(source.class_names) != record.class_names:
        raise ValueError(
            f"{config.data} has the classes {', '.join(source.class_names)}, {config.model} was "
            f"trained on {', '.join(record.class_names)}"
        )
    return size, record, model, source


def _estimate(config: ExportConfig) -> estimate.Estimate:
    """What the new files would take, and the two evaluations."""
    _, _, model, source = _opened(config)
    size = sum(w.size for w in weights_of(model).values()) * np.dtype(config.dtype).itemsize
    few = data.Subset(source, range(min(config.batch_size, len(source))))
    predict = models.load(config.model)
    forward = estimate.seconds(
        lambda: evaluate_classifier(predict, few, batch_size=config.batch_size)
    )
    batches = -(-len(source) // config.batch_size)
    work = f"judge {len(source)} images twice"
    return estimate.Estimate(str(config.out), work, 2 * batches * forward, size)


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
