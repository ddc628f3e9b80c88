"""One attack on one model, judged by several: the unit of which every evaluation is made.

A cell's folder holds its settings, a shard of records a batch, and in the end the merged records
and a summary. How many devices and processes make the shards changes no result, and a run that
was killed goes on after its last whole shards. A model that comes to judge later is shown the same
attacked images, made again from what the shards store.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Integer

from bfjax import data, storage
from bfjax.evaluation import identity, meaning, summary
from bfjax.evaluation.classes import ANY
from bfjax.evaluation.identity import IMAGES
from bfjax.evaluation.targets import Target
from bfjax.types import Attack, Perturbation, Search


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """An attack, what it is made on, and where its results go.

    Attributes:
      attack: of any kind.
      targets: the model that is attacked, then those that only judge.
      source: the images.
      out: the folder.
      settings: what the results depend on, as JSON gives it back.
      batch_size: images of one shard, which one device attacks at once.
      seed: of random attacks.
      measure: also measure quality, similarity, smoothness, and success after saving.
      store_all: also store parameters that are as large as the image.
      perturbation_at: (h, w) to what the attack perturbs images of that size with, in float64;
        `None` of an attack that knows its own size alone.
      fingerprint: of the images.
      aim: what a targeted attack moves an image to: the number of a class, or `None` for another
        than its own, drawn by the seed. Other attacks do not ask.
      said: what the models said of clean images, for the cells of one evaluation to share.
    """

    attack: Attack | Search
    targets: Sequence[Target]
    source: data.Source
    out: Path
    settings: dict[str, Any]
    batch_size: int
    fingerprint: data.Fingerprint
    seed: int = 0
    measure: bool = True
    store_all: bool = False
    perturbation_at: Callable[[tuple[int, int]], Perturbation] | None = None
    aim: int | None = None
    said: dict[Any, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def shard(self, start: int) -> Path:
        """The file of the shard whose first image has an index."""
        return self.out / "shards" / f"{start:07d}.parquet"

    def missing(self) -> list[int]:
        """First images of the shards that this process has still to make."""
        return self.left()[0]

    def left(self) -> tuple[list[int], list[int]]:
        """What this process has still to do.

        Returns:
          The first images of the shards to make, and of those that some models have yet to judge.
          Where such a shard does not store what makes its images again, it is to be made anew.
        """
        starts = range(0, len(self.source), self.batch_size)
        missing, unjudged = [], []
        for start in starts[jax.process_index() :: jax.process_count()]:
            columns = storage.shard_columns(self.shard(start))
            if self.yet_to_judge(columns):
                stored = any(name.startswith(storage.PARAMS) for name in columns)
                if not stored:
                    self._refuse_to_lose(columns)
                (unjudged if stored else missing).append(start)
        return missing, unjudged

    def _refuse_to_lose(self, columns: Sequence[str]) -> None:
        """A shard that is made anew holds no more than the models say that are named now."""
        judged = {name.rpartition(":")[0] for name in columns if name.endswith("clean_prediction")}
        if lost := sorted(judged - {self.prefix(t).rstrip(":") for t in self.targets}):
            raise ValueError(
                f"{self.out} holds what {lost[0]} said, and not what makes its images again: name "
                f"{lost[0]} among the models that judge, too, or choose another --out"
            )

    def yet_to_judge(self, columns: Sequence[str]) -> list[Target]:
        """The models of which there is nothing among some columns."""
        return [t for t in self.targets if f"{self.prefix(t)}clean_prediction" not in columns]

    def prefix(self, target: Target) -> str:
        """What the columns of a model begin with."""
        return "" if target.name == self.targets[0].name else f"{target.name}:"

    @property
    def multi_label(self) -> bool:
        """Whether several findings may be true of an image, and each counts."""
        return self.settings.get("finding") == ANY

    def warns(self, count: int) -> bool:
        """Whether outputs that seem to be probabilities are worth a word.

        They are not where probabilities were undone, nor, by chance, those of a few images.
        """
        enough = count >= min(self.batch_size, len(self.source))
        return enough and self.settings.get("outputs") != "probabilities"

    @functools.cached_property
    def truth(self) -> Integer[np.ndarray, "n ..."]:
        """The label of each image, or with `multi_label` its findings; -1 where it is not known."""
        if not self.multi_label:
            return np.asarray(self.source.labels, np.int32)
        if (findings := self.source.findings) is not None:
            return findings.astype(np.int32)
        return np.full((len(self.source), len(self.source.class_names)), -1, np.int32)

    @property
    def finished(self) -> bool:
        """Whether the summary is there, and tells of all models."""
        told = storage.read_json(self.out / "summary.json").get("targets", {})
        return all(target.name in told for target in self.targets)

    def same_settings(self) -> None:
        """Writes the settings of a new cell, or makes sure that they are those of the one there.

        Raises:
          ValueError: its settings are others, naming the first that differs; or its images or
            models. Models may come to judge, or stay away, but not change.
        """
        path, settings = self.out / "settings.json", self.settings
        before = storage.read_json(path)
        begun = any((self.out / "shards").glob("*.parquet")) or self.finished
        if not before or not begun:
            identity.nothing_there(self.out, "shards", "gallery", "adversarial", "explain")
            self.fingerprint.write(self.out / IMAGES)  # first: settings without it name no image
            storage.write_json(path, settings)
            return
        before = meaning.completed(before)
        known, now = before["models"], settings["models"]
        one, other = next(iter(known)), next(iter(now))
        if one != other:
            raise ValueError(f"{self.out} attacked {one}, not {other}: choose another --out")
        told = ("models", "images", *(["num_images"] if "images" in before else []))  # below
        same = {name: before[name] for name in told if name in before}
        same |= meaning.in_words_of(before, settings, self.out)
        of_now = {k: v for k, v in settings.items() if k != "images"}
        storage.check_same(self.out, before, of_now | same)
        # first the images, of which the models' answers are
        identity.same_images(self.out, before.get("images"), self.fingerprint, self.finished)
        for name in known.keys() & now.keys():
            identity.same_model(name, known[name], now[name], self.out)
        if late := {name: about for name, about in now.items() if name not in known}:
            # before they judge: one that is interrupted, and then changed, is refused
            storage.write_json(path, before | {"models": known | late})

    def images(self, starts: Sequence[int]) -> list[int]:
        """The indices of all images of some shards."""
        count = len(self.source)
        return [i for start in starts for i in range(start, min(start + self.batch_size, count))]

    @property
    def num_gradients(self) -> int:
        """Steps for each image, at most; of a search its gradients."""
        if isinstance(self.attack, Attack):
            return self.attack.num_steps
        return self.attack.max_gradients


def placed(cell: Cell, sharding: jax.sharding.Sharding) -> Cell:
    """A cell with the attack's tables and the models' weights on each device.

    Args:
      cell: any.
      sharding: on which devices.

    Returns:
      The same, placed.
    """
    targets = [
        dataclasses.replace(t, predict=jax.device_put(t.predict, sharding)) for t in cell.targets
    ]
    attack = jax.device_put(cell.attack, sharding)
    return dataclasses.replace(cell, attack=attack, targets=targets)


def merge(cell: Cell, seconds: float, count: int) -> dict[str, Any]:
    """Merges the shards of all processes into `records.csv`, and writes `summary.json`.

    Args:
      cell: all of whose shards are there.
      seconds: how long this run took.
      count: how many images this run attacked.

    Returns:
      The summary, as `summary.json` holds it.
    """
    results = storage.without_params(storage.read_shards(cell.out / "shards"))
    # of models that came later and were interrupted, some shards say nothing
    results = results.select([n for n in results.column_names if not results[n].null_count])
    storage.write_csv(cell.out / "records.csv", results)
    known = storage.read_json(cell.out / "settings.json")["models"]
    prefixes = {name: "" if i == 0 else f"{name}:" for i, name in enumerate(known)}
    judged = [n for n, p in prefixes.items() if f"{p}clean_prediction" in results.column_names]
    settings = cell.settings | {"models": {name: known[name] for name in judged}}
    found = {"settings": settings} | summary.summarize(
        results, cell.source.class_names, judged, multi_label=cell.multi_label
    )
    before = storage.read_json(cell.out / "summary.json")
    found["run"] = (
        before["run"]
        if before and not count
        else storage.environment()
        | {
            "images_in_this_run": count,
            "seconds_of_this_run": round(seconds, 2),
        }
    )
    storage.write_json(cell.out / "summary.json", found)  # last: who has it is finished
    return found
