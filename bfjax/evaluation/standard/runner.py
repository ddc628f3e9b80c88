"""Tests the images in parts, and stores each when it is whole: a run that was killed goes on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer

from bfjax import estimate, storage
from bfjax.estimate import Estimate
from bfjax.evaluation import doubts, model_run
from bfjax.evaluation.model_run import ModelRun, batches, read
from bfjax.evaluation.standard import testing
from bfjax.evaluation.standard.testing import MACHINE, UNIVERSAL
from bfjax.evaluation.targets import named

_PART = 64  # images


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditRun(ModelRun):
    """What an audit tests of one model."""

    @property
    def part(self) -> int:
        """Images that are stored at once."""
        return self.batch_size * max(1, _PART // self.batch_size)

    @property
    def rows(self) -> tuple[str, ...]:
        """What is tested: exposures, a machine's set-ups, corrections, one light for all."""
        both = all(map(len, halves(self.truth)))
        last = (UNIVERSAL,) if self.settings["universal_steps"] and both else ()
        return (*self.settings["exposures"], MACHINE, *self.settings["corrections"], *last)

    def missing(self) -> list[tuple[str, int]]:
        """Rows and first images of the parts that are not there yet."""
        found = [(row, start) for start in self._starts for row in self.rows if row != UNIVERSAL]
        found += [(UNIVERSAL, half) for half in range(2) if UNIVERSAL in self.rows]
        return [(row, start) for row, start in found if not self.shard(row, start).exists()]

    def chosen(self, row: str, start: int) -> Integer[np.ndarray, " part"]:
        """The images of a part; of one light for all those of one half."""
        if row == UNIVERSAL:
            return halves(self.truth)[start]
        ends = [end for end in self._starts if end > start]
        return np.arange(start, ends[0] if ends else len(self.source))

    @property
    def _starts(self) -> list[int]:
        """Of the parts; less than a batch joins the last one, and compiles nothing of its own."""
        starts, count = list(range(0, len(self.source), self.part)), len(self.source)
        return starts[:-1] if len(starts) > 1 and count - starts[-1] < self.batch_size else starts

    def shard(self, row: str, start: int) -> Path:
        """The file of a part."""
        return self.out / "shards" / row / f"{start:07d}.parquet"

    @property
    def _audited(self) -> float:
        """Gradients of an audit of uneven light, of each image."""
        random = len(self.settings["ranges"]) * self.settings["num_random"] / 3
        return 37 + random + (100 if len(self.source.class_names) == 2 else 120)

    def gradients(self, row: str, start: int) -> float:
        """Gradients of a part, if all attacks are tried within one range."""
        count, tiers = len(self.chosen(row, start)), len(self.settings["ranges"])
        if row == UNIVERSAL:
            return tiers * (self.settings["universal_steps"] * self.batch_size + count / 3)
        if row == MACHINE:
            return (20 + (self.settings["num_random"] + 1) / 3) * count
        if row in self.settings["corrections"]:
            return (self._audited + 80 * tiers) * count
        if row == "alone":
            return (37 + tiers + 50) * count
        return self._audited * count


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
    model_run.begin(run)
    missing = run.missing()
    if missing:
        model_run.ask_about_range(run)
    for row, start in missing:
        chosen = run.chosen(row, start)
        shown = fitted_to(run, start) if row == UNIVERSAL else chosen
        test = testing.Test(
            predict=run.target.predict,
            images=read(run, shown),
            labels=run.truth[shown],
            names=[run.source.names[i] for i in shown],
            settings=run.settings,
            batch_size=run.batch_size,
            key=jax.random.fold_in(jax.random.key(run.settings["seed"]), start),
            on_gradients=on_gradients,
        )
        with named(run.target):
            if row == UNIVERSAL:
                columns, params = test.universal(functools.partial(batches, run, chosen))
            elif row == MACHINE:
                columns, params = test.machine()
            elif row in run.settings["corrections"]:
                columns, params = test.corrected(row)
            else:
                columns, params = test.audited(row)
        names = [run.source.names[i] for i in chosen]
        storage.write_shard(
            run.shard(row, start), {"index": chosen, "file": names, **columns}, params
        )
    return bool(missing)


def fitted_to(run: AuditRun, half: int) -> Integer[np.ndarray, " n"]:
    """The images that the light is fitted to which one half is judged under: some of the other.

    Args:
      run: the audit.
      half: 0 or 1, the half that is judged.

    Returns:
      Their numbers.
    """
    other = run.chosen(UNIVERSAL, 1 - half)
    return other[doubts.evenly(run.truth[other], run.settings["fit_images"])]


def halves(truth: Integer[np.ndarray, " n"]) -> list[Integer[np.ndarray, " half"]]:
    """Two halves of the images: the first and the second ones of each class.

    Where names are in order of the patients, all images of one stay together but for the patient in
    the middle of each class. Odd ones out go to the halves in turns.

    Args:
      truth: (n,), the classes.

    Returns:
      The numbers of their images.

    Example:
      >>> [half.tolist() for half in halves(np.array([0, 0, 0, 1, 1]))]
      [[0, 1, 3], [2, 4]]
    """
    first = np.zeros(len(truth), bool)
    odd = 0
    for c in np.unique(truth):
        of_class = np.flatnonzero(truth == c)
        first[of_class[: (len(of_class) + 1 - odd) // 2]] = True
        odd = (odd + len(of_class)) % 2
    return [np.flatnonzero(first), np.flatnonzero(~first)]


def of_audit(run: AuditRun) -> Estimate:
    """What is left to do, from the time of one gradient of a batch.

    Args:
      run: what would be tested; nothing of it is written.

    Returns:
      The estimate.
    """
    missing = run.missing()
    if not missing:
        return Estimate(str(run.out), "nothing", 0.0, 0)
    few = read(run, np.arange(min(run.batch_size, len(run.source))))
    once = estimate.seconds(
        lambda: jax.block_until_ready(_gradient(run.target.predict, jnp.asarray(few)))
    )
    images = sum(len(run.chosen(*part)) for part in missing)
    gradients = sum(run.gradients(*part) for part in missing)
    size = 8 * images * (4 + 4 * len(run.settings["ranges"]) + 16)
    return Estimate(str(run.out), f"{images} tests of an image", gradients * once / len(few), size)


@jax.jit
def _gradient(predict: Any, images: Any) -> Any:
    return jax.vmap(jax.grad(lambda x: predict(x).sum()))(images)
