"""What becomes of one batch of a cell: attacked images, what every model says, what is measured.

An image that is judged is made from the parameters that its shard stores, so that whoever makes it
again, for a picture or for a model that comes later, has the same image, bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Integer

from bfjax import storage
from bfjax.attack import Restarts, is_targeted
from bfjax.data import feed
from bfjax.evaluation import measures
from bfjax.evaluation.cells import Cell
from bfjax.evaluation.classes import as_text, from_text
from bfjax.evaluation.rebuilding import perturbed, rebuilt, unclipped
from bfjax.evaluation.targets import Target, answers
from bfjax.types import Attack, AttackResult, Params, Search


class _Made(NamedTuple):
    """Adversarial images (n, h, w, c), B̂ (n, h, w) where there is one, what makes them again.

    `unclipped` are the images (n, h, w, c) before any clip, where they are measured; `of_field` are
    the parameters of B̂, which are not always what makes an image again.
    """

    adversarial: np.ndarray
    log_fields: np.ndarray | None
    params: Params
    objective: np.ndarray | None
    unclipped: np.ndarray | None = None
    of_field: Params = None


def judge(
    cell: Cell,
    split: jax.sharding.Sharding,
    images: Float[np.ndarray, "n h w c"],
    labels: Integer[np.ndarray, "n ..."],
    indices: Integer[np.ndarray, " n"],
    result: AttackResult,
) -> tuple[dict[str, Any], Params]:
    """Makes attacked images anew, as `rebuilding` will, and has all models judge them.

    Args:
      cell: with its arrays on the devices of `split`.
      split: how a batch lies on the devices.
      images: at most as many as the devices take at once.
      labels: their classes or findings, as far as they are known else as the model says.
      indices: where they stand in the cell's source.
      result: of the attack, with at least n rows.

    Returns:
      The records' columns, and the parameters that are to be stored, all with n rows.

    Raises:
      ValueError: an attacked image is not finite, or what a model says of one.
    """
    names, files = cell.source.class_names, cell.source.names
    made = _made(cell, result, images)
    columns: dict[str, Any] = {
        "file": [files[i] for i in indices],
        "label": as_text(labels, names),
    }
    finite = np.isfinite(made.adversarial).all((1, 2, 3))
    if not finite.all():
        i = int(finite.argmin())
        raise ValueError(f"attacked, {columns['file'][i]} is NaN: {_why(cell, result, i)}")
    if is_targeted(cell.attack):
        columns["target"] = as_text(aims(cell, labels, indices), names)
    if (cell.truth[indices] < 0).any():
        columns["label_from"] = ["predicted"] * len(labels)
    columns |= _verdicts(cell, split, cell.targets, images, made.adversarial, labels, indices)
    change = np.abs(np.asarray(made.adversarial, np.float64) - images)
    columns |= {"max_change": change.max((1, 2, 3)), "mean_change": change.mean((1, 2, 3))}
    if made.objective is not None:
        columns["objective"] = made.objective
    if result.flags is not None:  # of which some searches have none
        columns |= {n: np.asarray(v)[: len(labels)] for n, v in result.flags._asdict().items()}
    if made.log_fields is not None:
        columns["max_log_field"] = np.abs(made.log_fields).max((1, 2))
    if cell.measure:
        columns |= measures.of_images(images, made.adversarial)
        if made.log_fields is not None:
            columns |= measures.of_fields(made.log_fields, made.of_field)
        if made.unclipped is not None:
            columns |= measures.of_clips(made.unclipped, made.adversarial)
    size = sum(leaf[0].size for leaf in jax.tree.leaves(made.params))
    return columns, made.params if cell.store_all or size < images[0].size else {}


def _why(cell: Cell, result: AttackResult, row: int) -> str:
    """Why an attacked image is no number."""
    gradients = getattr(result.trace, "gradient", None)
    if gradients is not None and not np.isfinite(np.asarray(gradients)[row, 0]):
        return (
            f"the gradient of {cell.targets[0].name} is NaN or infinite at the clean image, where "
            "some part of it has no slope, such as sqrt(0)"
        )
    return "the optimizer diverged; give it smaller steps"


def aims(
    cell: Cell, labels: Integer[np.ndarray, "n ..."], indices: Integer[np.ndarray, " n"]
) -> Integer[np.ndarray, "n ..."]:
    """The labels that the attack is given: those to leave, or of a targeted attack those to reach.

    Args:
      cell: whose attack it is.
      labels: of the images, known or predicted.
      indices: where the images stand in the cell's source; what is drawn depends on nothing else.

    Returns:
      For a targeted attack `Cell.aim`, or for each image another class than its own.
    """
    if not is_targeted(cell.attack):
        return labels
    if cell.aim is not None:
        return np.full_like(labels, cell.aim)
    others = len(cell.source.class_names) - 1
    drawn = [np.random.default_rng([cell.seed, i]).integers(others) for i in indices]
    return np.asarray(drawn + (drawn >= labels), labels.dtype)


def judge_later(
    cell: Cell,
    split: jax.sharding.Sharding,
    images: Float[np.ndarray, "n h w c"],
    starts: Sequence[int],
) -> list[dict[str, Any]]:
    """What models say that come to judge shards which are there.

    Args:
      cell: with its arrays on the devices of `split`.
      split: how a batch lies on the devices.
      images: of those shards, at most as many as the devices take at once.
      starts: the first images of the shards, which the same models have yet to judge.

    Returns:
      The further columns of each shard.

    Raises:
      ValueError: a shard cannot be read.
    """
    tables = [storage.read_shard(cell.shard(start)) for start in starts]
    sizes = [table.num_rows for table in tables]
    table = pa.concat_tables(tables, promote_options="default")
    attack = jax.device_put(cell.attack, jax.local_devices()[0])
    adversarial = np.stack([rebuilt(attack, x, table, i)[1] for i, x in enumerate(images)])
    names = cell.source.class_names
    labels = from_text(table["label"].to_pylist(), names, multi_label=cell.multi_label)
    indices = np.array(cell.images(starts))
    later = cell.yet_to_judge(table.column_names)
    found = _verdicts(cell, split, later, images, adversarial, labels, indices)
    ends = np.cumsum([0, *sizes])
    rows = [slice(*pair) for pair in itertools.pairwise(ends)]
    return [{name: values[part] for name, values in found.items()} for part in rows]


def _verdicts(
    cell: Cell,
    split: jax.sharding.Sharding,
    targets: Sequence[Target],
    images: Float[np.ndarray, "n h w c"],
    adversarial: Float[np.ndarray, "n h w c"],
    labels: Integer[np.ndarray, "n ..."],
    indices: Integer[np.ndarray, " n"],
) -> dict[str, Any]:
    """What some models say of clean, of attacked and of saved images, as columns of the records."""
    names, columns = cell.source.class_names, {}
    for kind in ("clean", "adversarial", *(measures.SAVED_AS if cell.measure else ())):
        pictures = images if kind == "clean" else adversarial
        if kind in measures.SAVED_AS:
            pictures = measures.as_saved(pictures, kind)
        pictures = feed.filled(split, cell.batch_size, pictures)
        for target in targets:
            asked = target.name, indices.tobytes(), labels.tobytes()
            found = cell.said.get(asked) if kind == "clean" else None
            if found is None:
                # of the attacked model, the attack itself warns
                judges = kind == "clean" and target is not cell.targets[0]
                warn = judges and cell.warns(len(images))
                found = answers(target, pictures, labels, names, warn=warn)
            if kind == "clean":
                cell.said[asked] = found
            prefix = cell.prefix(target)
            columns |= {f"{prefix}{kind}_{what}": values for what, values in found.items()}
    return columns


def _made(cell: Cell, result: AttackResult, images: np.ndarray) -> _Made:
    attack = cell.attack
    if isinstance(attack, Restarts):  # what is kept is the result of one of its runs
        made = _of_attack(attack.attack, cell, result, images)
        adversarial = np.asarray(result.adversarial)[: len(images)]
        return made._replace(adversarial=adversarial, params={"adversarial": adversarial})
    if isinstance(attack, Search):
        adversarial = np.asarray(result.adversarial)[: len(images)]
        return _Made(adversarial, None, {"adversarial": adversarial}, None)
    return _of_attack(attack, cell, result, images)


def _of_attack(attack: Attack, cell: Cell, result: AttackResult, images: np.ndarray) -> _Made:
    objective = np.asarray(result.trace.objective)[: len(images), -1]
    params = jax.tree.map(lambda leaf: leaf[: len(images)], jax.device_get(result.params))
    single = jax.device_put(attack, jax.local_devices()[0])
    each = [(jax.tree.map(lambda p, i=i: p[i], params), x) for i, x in enumerate(images)]
    made = [jax.device_get(perturbed(single, *one)) for one in each]
    log_fields, adversarial = map(_stacked, zip(*made, strict=True))
    free = [jax.device_get(unclipped(single, *one)) for one in each] if cell.measure else [None]
    return _Made(adversarial, log_fields, params, objective, _stacked(free), params)


def _stacked(arrays: Sequence[Any]) -> Any:
    return None if arrays[0] is None else np.stack(arrays)
