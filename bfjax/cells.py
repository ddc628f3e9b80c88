"""One attack on one model, judged by several: the unit of which every evaluation is made.

A cell's folder holds its settings, a shard of records a batch, and in the end the merged records
and a summary. How many devices and processes make the shards changes no result, and a run that
was killed goes on after its last whole shards.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Integer

from bfjax import data, measures, records, summary
from bfjax.judges import Target, answers
from bfjax.types import Attack, AttackResult, Params, Search


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
      said: what the models said of clean images, for the cells of one evaluation to share.
    """

    attack: Attack | Search
    targets: Sequence[Target]
    source: data.Source
    out: Path
    settings: dict[str, Any]
    batch_size: int
    seed: int = 0
    measure: bool = True
    store_all: bool = False
    said: dict[Any, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def shard(self, start: int) -> Path:
        """The file of the shard whose first image has an index."""
        return self.out / "shards" / f"{start:07d}.parquet"

    def missing(self) -> list[int]:
        """First images of the shards that this process has still to make."""
        starts = range(0, len(self.source), self.batch_size)
        own = starts[jax.process_index() :: jax.process_count()]
        return [start for start in own if not self.shard(start).exists()]

    def images(self, starts: Sequence[int]) -> list[int]:
        """The indices of all images of some shards."""
        count = len(self.source)
        return [i for start in starts for i in range(start, min(start + self.batch_size, count))]

    @property
    def num_gradients(self) -> int:
        """Gradients of the attacked model for each image, at most."""
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


class _Made(NamedTuple):
    """Adversarial images (n, h, w, c), B̂ (n, h, w) where there is one, what makes them again."""

    adversarial: np.ndarray
    log_fields: np.ndarray | None
    params: Params
    objective: np.ndarray | None


def judge(
    cell: Cell,
    split: jax.sharding.Sharding,
    images: Float[np.ndarray, "n h w c"],
    labels: Integer[np.ndarray, " n"],
    indices: Integer[np.ndarray, " n"],
    result: AttackResult,
) -> tuple[dict[str, Any], Params]:
    """Makes attacked images anew, as `rebuild` will, and has all models judge them.

    Args:
      cell: with its arrays on the devices of `split`.
      split: how a batch lies on the devices.
      images: at most as many as the devices take at once.
      labels: the classes that they were attacked away from.
      indices: where they stand in the cell's source.
      result: of the attack, with at least n rows.

    Returns:
      The records' columns, and the parameters that are to be stored, all with n rows.
    """
    whole = functools.partial(filled, split, cell.batch_size)
    names = cell.source.class_names
    made = _made(cell.attack, result, images)
    columns: dict[str, Any] = {
        "file": [cell.source.names[i] for i in indices],
        "label": [names[i] for i in labels],
    }
    if (np.asarray(cell.source.labels)[indices] < 0).any():
        columns["label_from"] = ["predicted"] * len(labels)
    for kind in ("clean", "adversarial", *(measures.SAVED_AS if cell.measure else ())):
        pictures = images if kind == "clean" else made.adversarial
        if kind in measures.SAVED_AS:
            pictures = measures.as_saved(pictures, kind)
        pictures = whole(pictures)
        for target in cell.targets:
            prefix = "" if target is cell.targets[0] else f"{target.name}:"
            asked = target.name, indices.tobytes(), labels.tobytes()
            found = cell.said.get(asked) if kind == "clean" else None
            if found is None:
                found = answers(target, pictures, labels, names)
            if kind == "clean":
                cell.said[asked] = found
            columns |= {f"{prefix}{kind}_{what}": values for what, values in found.items()}
    change = np.abs(np.asarray(made.adversarial, np.float64) - images)
    columns |= {"max_change": change.max((1, 2, 3)), "mean_change": change.mean((1, 2, 3))}
    if made.objective is not None:
        columns["objective"] = made.objective
    if made.log_fields is not None:
        columns["max_log_field"] = np.abs(made.log_fields).max((1, 2))
    if cell.measure:
        columns |= measures.of_images(images, made.adversarial)
        if made.log_fields is not None:
            columns |= measures.of_fields(made.log_fields, made.params)
    size = sum(leaf[0].size for leaf in jax.tree.leaves(made.params))
    return columns, made.params if cell.store_all or size < images[0].size else {}


def _made(attack: Attack | Search, result: AttackResult, images: np.ndarray) -> _Made:
    if isinstance(attack, Search):
        adversarial = np.asarray(result.adversarial)[: len(images)]
        return _Made(adversarial, None, {"adversarial": adversarial}, None)
    objective = np.asarray(result.trace.objective)[: len(images), -1]
    params = jax.tree.map(lambda leaf: leaf[: len(images)], jax.device_get(result.params))
    single = jax.device_put(attack, jax.local_devices()[0])
    made = [
        jax.device_get(_perturbed(single, jax.tree.map(lambda p, i=i: p[i], params), image))
        for i, image in enumerate(images)
    ]
    log_fields, adversarial = zip(*made, strict=True)
    fields = None if log_fields[0] is None else np.stack(log_fields)
    return _Made(np.stack(adversarial), fields, params, objective)


def filled(split: jax.sharding.Sharding, batch_size: int, values: np.ndarray) -> jax.Array:
    """A full batch on the devices, all that is ever compiled for: the last value is repeated.

    Args:
      split: how a batch lies on the devices.
      batch_size: of each device.
      values: at least one, at most what the devices take.

    Returns:
      Placed as `split` says.
    """
    missing = len(split.device_set) * batch_size - len(values)
    whole = np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
    return jax.device_put(whole, split)


@jax.jit
def _perturbed(attack, params, image):
    """(B̂, X_a) of one image: the one program that makes the image judged and the image rebuilt.

    In a batch, or fused with the classifier, XLA may round differently.
    """
    field = attack.perturbation.log_field
    return None if field is None else field(params), attack.perturbation.apply(params, image)


def rebuild(
    attack: Attack | Search, source: data.Source, table: pa.Table, row: int
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
    """One attacked image again, bit for bit, from the parameters that its run stored.

    Args:
      attack: the attack of the run.
      source: the images of the run.
      table: its shards.
      row: which image.

    Returns:
      The clean image (h, w, c), its log field (h, w) or `None` where the attack has none, the
      adversarial image (h, w, c).

    Raises:
      ValueError: the table holds no parameters, or those of another attack.
    """
    image = jnp.asarray(data.to_float(source[row]["image"]))
    if not isinstance(attack, Attack):  # a search stores its images, as they come
        stored = records.read_params(table, row, {"adversarial": image})
        return image, None, jnp.asarray(stored["adversarial"])
    like = jax.eval_shape(lambda x: attack.perturbation.init(x, jax.random.key(0)), image)
    params = records.read_params(table, row, like)
    log_field, adversarial = _perturbed(attack, params, image)
    return image, log_field, adversarial


def merge(cell: Cell, seconds: float, count: int) -> dict[str, Any]:
    """Merges the shards of all processes into `records.csv`, and writes `summary.json`.

    Args:
      cell: all of whose shards are there.
      seconds: how long this run took.
      count: how many images this run attacked.

    Returns:
      The summary, as `summary.json` holds it.
    """
    results = records.without_params(records.read_shards(cell.out / "shards"))
    records.write_csv(cell.out / "records.csv", results)
    found = {"settings": cell.settings} | summary.summarize(
        results, cell.source.class_names, [target.name for target in cell.targets]
    )
    found["run"] = summary.environment() | {
        "images_in_this_run": count,
        "seconds_of_this_run": round(seconds, 2),
    }
    records.write_json(cell.out / "summary.json", found)  # last: who has it is finished
    return found
