"""Tests the images in parts, and stores each when it is whole: a run that was killed goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Integer

from bfjax import data, estimate, storage
from bfjax.attack import logits_of, run_batch
from bfjax.data import feed
from bfjax.estimate import Estimate
from bfjax.evaluation import doubts, identity
from bfjax.evaluation.classes import answered
from bfjax.evaluation.identity import IMAGES
from bfjax.evaluation.targets import Target, named
from bfjax.robustness import audit, misuse
from bfjax.types import Image, Logits, Predict, PRNGKey, as_pytree

MACHINE = "machine"
"""The row of what a real machine does, among the exposures."""
_PART = 64  # images


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditRun:
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

    @property
    def part(self) -> int:
        """Images that are stored at once."""
        return self.batch_size * max(1, _PART // self.batch_size)

    def missing(self) -> list[tuple[str, int]]:
        """Rows and first images of the parts that are not there yet."""
        starts = range(0, len(self.source), self.part)
        rows = (*self.settings["exposures"], MACHINE)
        found = [(row, start) for start in starts for row in rows]
        return [(row, start) for row, start in found if not self.shard(row, start).exists()]

    def shard(self, row: str, start: int) -> Path:
        """The file of a part."""
        return self.out / "shards" / row / f"{start:07d}.parquet"

    def gradients(self, row: str) -> float:
        """Gradients of an image for one row, if all attacks are tried within one range."""
        if row == MACHINE:
            return 20
        return 34 + len(self.settings["ranges"]) * self.settings["num_random"] / 3 + 120


def complete(run: AuditRun, on_gradients: Callable[[float], object] = lambda _: None) -> bool:
    """Tests what is left.

    Args:
      run: what to test.
      on_gradients: called now and then with the gradients spent since.

    Returns:
      Whether anything was left.

    Raises:
      ValueError: the folder holds an audit of other settings, images or another model.
    """
    _same_settings(run)
    missing = run.missing()
    if missing and not run.target.is_checkpoint:  # which knows its range
        _ask_about_range(run)
    for row, start in missing:
        chosen = np.arange(start, min(start + run.part, len(run.source)))
        images, labels = _read(run, chosen), run.truth[chosen]
        test = _machine if row == MACHINE else _audited
        key = jax.random.fold_in(jax.random.key(run.settings["seed"]), start)
        with named(run.target):
            columns, params = test(run, row, images, labels, key, on_gradients)
        names = [run.source.names[i] for i in chosen]
        storage.write_shard(
            run.shard(row, start), {"index": chosen, "file": names, **columns}, params
        )
    return bool(missing)


def _ask_about_range(run: AuditRun) -> None:
    rows = doubts.evenly(run.truth, 16)
    images = jnp.asarray(_read(run, rows))
    with named(run.target):
        logits = np.asarray(logits_of(as_pytree(run.target.predict), images))
    doubts.warn_of_range(logits, run.truth[rows], name=run.target.name)


def _same_settings(run: AuditRun) -> None:
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


def _read(run: AuditRun, chosen: np.ndarray) -> Float[np.ndarray, "n h w c"]:
    part = data.Subset(run.source, chosen.tolist())
    return np.concatenate([images for images, _ in feed.in_order(part, run.batch_size)])


def _audited(
    run: AuditRun,
    row: str,
    images: np.ndarray,
    labels: np.ndarray,
    key: PRNGKey,
    on_gradients: Callable[[float], object],
) -> tuple[dict[str, Any], Any]:
    """The standard test of some images under one kind of exposure."""
    settings = run.settings
    found = audit(
        run.target.predict,
        images,
        labels,
        tiers=settings["ranges"],
        num_random=settings["num_random"],
        exposure=row,  # type: ignore[arg-type]
        encoding=settings["encoding"],
        gamma=settings["gamma"],
        batch_size=run.batch_size,
        key=key,
        on_gradients=on_gradients,
    )
    tiers, number, count, classes = found.random.shape
    repeated = np.tile(labels, tiers * number)
    answers, _ = answered(found.random.reshape(-1, classes), repeated)
    right = (answers == repeated).reshape(tiers, number, count).mean(1)
    columns = {
        "clean": list(found.clean),
        "worst": list(found.worst.swapaxes(0, 1).reshape(len(labels), -1)),
        "wrong": list(found.wrong.T),
        "random_right": list(right.T),
        "smallest": found.smallest,
        "gradients": found.gradients,
    }
    flags = {f"flag_{k}": np.broadcast_to(v, len(labels)) for k, v in found.flags.items()}
    return columns | flags, found.params


def _machine(
    run: AuditRun,
    row: str,
    images: np.ndarray,
    labels: np.ndarray,
    key: PRNGKey,
    on_gradients: Callable[[float], object],
) -> tuple[dict[str, Any], Any]:
    """The worst set-up of a machine for some images."""
    del row
    settings = run.settings
    attack = misuse(images.shape[1:], encoding=settings["encoding"], gamma=settings["gamma"])
    logits, params = [], []
    for start in range(0, len(images), run.batch_size):
        part = slice(start, start + run.batch_size)
        count = len(images[part])
        filled = np.resize(np.arange(count), run.batch_size)
        result = run_batch(
            attack,
            run.target.predict,
            images[part][filled],
            labels[part][filled],
            key=jax.random.fold_in(key, start),
            warn=False,
        )
        logits.append(np.asarray(result.logits)[:count])
        params.append(jax.tree.map(lambda x, n=count: np.asarray(x)[:n], result.params))
        on_gradients(attack.num_steps * count)
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *params)
    return {"worst": list(np.concatenate(logits))}, whole


def of_audit(run: AuditRun) -> Estimate:
    """What is left to do, from the time of one gradient of a batch.

    Args:
      run: what would be tested; nothing of it is written.

    Returns:
      The estimate.
    """
    missing = run.missing()
    counts = [min(run.part, len(run.source) - start) for _, start in missing]
    if not missing:
        return Estimate(str(run.out), "nothing", 0.0, 0)
    few = _read(run, np.arange(min(run.batch_size, len(run.source))))
    once = estimate.seconds(
        lambda: jax.block_until_ready(_gradient(run.target.predict, jnp.asarray(few)))
    )
    images, rows = sum(counts), zip(counts, missing, strict=True)
    gradients = sum(count * run.gradients(row) for count, (row, _) in rows)
    size = 8 * images * (4 + 4 * len(run.settings["ranges"]) + 16)
    return Estimate(str(run.out), f"{images} tests of an image", gradients * once / len(few), size)


@jax.jit
def _gradient(predict: Any, images: Any) -> Any:
    return jax.vmap(jax.grad(lambda x: predict(x).sum()))(images)


def at_threshold(predict: Predict, threshold: float) -> Predict:
    """A classifier of two classes whose last logit is raised so that it wins from a probability on.

    Args:
      predict: of one logit, or two.
      threshold: τ in (0, 1); log((1 − τ)/τ) is added.

    Returns:
      The classifier; the same one for a half.

    Raises:
      ValueError: for another threshold; when traced, for other classes.

    Example:
      >>> strict = at_threshold(lambda x: jnp.stack([0 * x.sum(), x.mean()]), 0.9)
      >>> strict(jnp.ones((2, 2, 1))).argmax().item()
      0
    """
    if not 0 < threshold < 1:
        raise ValueError(f"--threshold must be between 0 and 1, got {threshold}")
    if threshold == 0.5:
        return predict
    return Partial(_raised, as_pytree(predict), jnp.log((1 - threshold) / threshold))


def _raised(predict: Any, offset: Any, image: Image) -> Logits:
    logits = predict(image)
    if logits.shape[0] > 2:
        raise ValueError(f"--threshold is for two classes, the model has {logits.shape[0]}")
    return logits.at[-1].add(offset)
