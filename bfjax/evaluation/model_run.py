"""One model on images whose classes are known: what its tests have in common, all made in parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from bfjax import data, storage
from bfjax.attack import logits_of
from bfjax.data import feed
from bfjax.evaluation import doubts, identity
from bfjax.evaluation.identity import IMAGES
from bfjax.evaluation.targets import Target, named
from bfjax.types import as_pytree


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRun:
    """A model, the images it is tested on, and where that goes.

    Attributes:
      target: the model, as it answers at the threshold.
      source: the images.
      truth: (n,), their classes.
      fingerprint: of the images.
      out: the folder.
      settings: what the results depend on, as JSON gives it back.
      batch_size: images at once.
    """

    target: Target
    source: data.Source
    truth: Integer[np.ndarray, " n"]
    fingerprint: data.Fingerprint
    out: Path
    settings: dict[str, Any]
    batch_size: int


def begin(run: ModelRun) -> None:
    """Notes what a test is of, or makes sure that the one in the folder is of the same.

    Args:
      run: what is tested.

    Raises:
      ValueError: the folder holds a test of other settings, images or another model.
    """
    path, settings = run.out / "settings.json", run.settings
    before = storage.read_json(path)
    if not before:
        identity.nothing_there(run.out, "shards")
        run.fingerprint.write(run.out / IMAGES)  # first: settings without it name no image
        storage.write_json(path, settings)
        return
    told = {"model": settings["model"], "images": settings["images"]}
    storage.check_same(run.out, before, settings | {k: before[k] for k in told})
    identity.same_images(run.out, before["images"], run.fingerprint, False)
    identity.same_model(run.target.name, before["model"], settings["model"], run.out)


def ask_about_range(run: ModelRun) -> None:
    """Warns where the model seems to expect images of another range; a checkpoint knows its own.

    Args:
      run: the model and the images.

    Warns:
      UserWarning: as `bfjax.evaluation.doubts.warn_of_range`.
    """
    if run.target.is_checkpoint:
        return
    rows = doubts.evenly(run.truth, 16)
    doubts.warn_of_range(said(run, read(run, rows)), run.truth[rows], name=run.target.name)


def read(run: ModelRun, chosen: Integer[np.ndarray, " n"]) -> Float[np.ndarray, "n h w c"]:
    """Some images.

    Args:
      run: whose they are.
      chosen: their numbers.

    Returns:
      (n, h, w, c) in [0, 1].
    """
    return np.concatenate(list(batches(run, chosen)))


def batches(
    run: ModelRun, chosen: Integer[np.ndarray, " n"]
) -> Iterator[Float[np.ndarray, "b h w c"]]:
    """Some images, a batch at a time.

    Args:
      run: whose they are.
      chosen: their numbers.

    Yields:
      (b, h, w, c) in [0, 1]; the last one may be smaller.
    """
    part = data.Subset(run.source, chosen.tolist())
    return (images for images, _ in feed.in_order(part, run.batch_size))


def said(run: ModelRun, images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n k"]:
    """What the model says of images without light, by a program for whole batches alone.

    Args:
      run: the model.
      images: in [0, 1].

    Returns:
      (n, k).
    """
    found, predict = [], as_pytree(run.target.predict)
    with named(run.target):
        for start in range(0, len(images), run.batch_size):
            part = images[start : start + run.batch_size]
            filled = jnp.asarray(part[np.resize(np.arange(len(part)), run.batch_size)])
            found.append(np.asarray(logits_of(predict, filled))[: len(part)])
    return np.concatenate(found)


def clean_logits(run: ModelRun) -> Float[np.ndarray, "n k"]:
    """What the model says of all images without light.

    Args:
      run: the model and the images.

    Returns:
      (n, k).
    """
    batches = feed.in_order(run.source, run.batch_size)
    return np.concatenate([said(run, images) for images, _ in batches])
