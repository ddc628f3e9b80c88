"""Runs a cell: batch by batch, or, where images may be done earlier than others, in a stream."""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float, Integer
from rich.progress import Progress

from bfjax import data, storage
from bfjax.attack import run_batch, run_stream
from bfjax.data import feed
from bfjax.evaluation import cells, doubts, verdicts
from bfjax.evaluation.cells import Cell
from bfjax.evaluation.classes import from_text
from bfjax.evaluation.targets import answers, named
from bfjax.types import Attack, Params, Search

_Batches = Iterable[tuple[np.ndarray, np.ndarray]]
_Shard = tuple[int, dict[str, Any], Params]  # its first image, columns, what makes the images again


def complete(cell: Cell, bar: Progress, description: str) -> dict[str, Any]:
    """All that is left of a cell by all processes, then its summary by the first.

    Args:
      cell: what to run; one that is finished is only read.
      bar: shows how far it is.
      description: for the bar.

    Returns:
      What the cell's `summary.json` holds.

    Raises:
      ValueError, OSError: as `run`.
    """
    cell.same_settings()
    if not cell.finished:
        started = time.perf_counter()
        total = len(cell.images(cell.missing())) * cell.num_gradients
        task = bar.add_task(description, total=total)
        count = run(cell, lambda gradients: bar.advance(task, gradients))
        bar.remove_task(task)
        _wait(f"{cell.out}: shards")
        if jax.process_index() == 0:
            cells.merge(cell, time.perf_counter() - started, count)
        _wait(f"{cell.out}: summary")
    return json.loads((cell.out / "summary.json").read_text(encoding="utf-8"))


def _wait(name: str) -> None:
    """Until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def run(cell: Cell, on_step: Callable[[int], object] = lambda gradients: None) -> int:
    """Makes the missing shards, as many at once as this process has devices.

    Shards that are there, and that some models have yet to judge, are shown to those models first:
    nothing is attacked again. A run that is killed loses the shards under way: one batch, or, of an
    attack that stops early, those whose last images still resist.

    Args:
      cell: what to run.
      on_step: called now and then with the number of gradients, summed over images, that were made
        or turned out to be unnecessary since the last call.

    Returns:
      How many images were attacked.

    Raises:
      ValueError: for images or weights that do not fit, naming the culprit.
      OSError: a shard cannot be written; the earlier ones stay.
    """
    missing, unjudged = cell.left()
    split = feed.split_locally()
    ready = cells.placed(cell, feed.on_every(split)) if missing or unjudged else cell
    if (missing or unjudged) and jax.process_index() == 0:
        doubts.look(ready, split)
    _judge_later(ready, split, unjudged)
    indices = cell.images(missing)
    if not missing:
        return 0
    reader = feed.in_order(data.Subset(cell.source, indices), split.mesh.size * cell.batch_size)
    streams = isinstance(cell.attack, Attack) and cell.attack.stop is not None
    shards = (_stream if streams else _batch_by_batch)(ready, split, missing, reader, on_step)
    with named(cell.targets[0]):
        for start, columns, params in shards:
            storage.write_shard(cell.shard(start), columns, params)
    return len(indices)


def _batch_by_batch(
    cell: Cell,
    split: jax.sharding.NamedSharding,
    missing: Sequence[int],
    reader: _Batches,
    on_step: Callable[[int], object],
) -> Iterator[_Shard]:
    devices = split.mesh.size
    for k, (images, _) in enumerate(reader):
        starts = missing[k * devices : (k + 1) * devices]
        chosen = np.array(cell.images(starts))
        columns, params = attack_images(cell, split, images, chosen, on_step)
        for i, start in enumerate(starts):
            rows = slice(i * cell.batch_size, (i + 1) * cell.batch_size)
            part = {name: values[rows] for name, values in columns.items()}
            yield start, part, jax.tree.map(lambda leaf, rows=rows: leaf[rows], params)


def _judge_later(cell: Cell, split: jax.sharding.NamedSharding, starts: Sequence[int]) -> None:
    """Adds to shards what models say of their images that have yet to judge them."""
    devices = split.mesh.size

    def lacking(start: int) -> list[str]:
        columns = storage.shard_columns(cell.shard(start))
        return [target.name for target in cell.yet_to_judge(columns)]

    for _, group in itertools.groupby(starts, key=lacking):
        alike = list(group)
        images_of = data.Subset(cell.source, cell.images(alike))
        reader = feed.in_order(images_of, devices * cell.batch_size)
        for k, (images, _) in enumerate(reader):
            together = alike[k * devices : (k + 1) * devices]
            found = verdicts.judge_later(cell, split, images, together)
            for start, columns in zip(together, found, strict=True):
                storage.add_columns(cell.shard(start), columns)


def _stream(
    cell: Cell,
    split: jax.sharding.NamedSharding,
    missing: Sequence[int],
    reader: _Batches,
    on_step: Callable[[int], object],
) -> Iterator[_Shard]:
    assert isinstance(cell.attack, Attack)  # a search is no loop of steps

    def examples() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        numbers = iter(cell.images(missing))
        for images, _ in reader:
            chosen = np.array(list(itertools.islice(numbers, len(images))))
            labels = _known(cell, split, images, chosen)
            truth.update(zip(chosen.tolist(), labels, strict=True))
            yield from zip(
                chosen.tolist(), images, verdicts.aims(cell, labels, chosen), strict=True
            )

    truth: dict[int, np.ndarray] = {}
    unwritten = {start: cell.images([start]) for start in missing}
    rows: dict[int, tuple[dict[str, Any], Params]] = {}
    for done in run_stream(
        cell.attack,
        cell.targets[0].predict,
        examples(),
        batch_size=split.mesh.size * cell.batch_size,
        key=jax.random.key(cell.seed),
        place=functools.partial(jax.device_put, device=split),
        on_step=on_step,
        warn=cell.warns(len(cell.source)),
    ):
        stopped = np.asarray(done.result.trace.stopped)
        on_step(int(stopped[:, :-1].sum()))  # of these steps the first alone was made
        labels = np.stack([truth.pop(number) for number in done.numbers])
        columns, params = verdicts.judge(
            cell, split, done.images, labels, np.array(done.numbers), done.result
        )
        rows |= {n: _row(columns, params, row) for row, n in enumerate(done.numbers)}
        for start in [s for s, wanted in unwritten.items() if rows.keys() >= set(wanted)]:
            each = [rows.pop(i) for i in unwritten.pop(start)]
            whole = {name: np.array([one[name] for one, _ in each]) for name in columns}
            kept = jax.tree.map(lambda *leaves: np.stack(leaves), *(params for _, params in each))
            yield start, whole, kept


def _row(columns: dict[str, Any], params: Params, row: int) -> tuple[dict[str, Any], Params]:
    one = {name: values[row] for name, values in columns.items()}
    return one, jax.tree.map(lambda leaf: np.asarray(leaf[row]), params)


def attack_images(
    cell: Cell,
    split: jax.sharding.NamedSharding,
    images: Float[np.ndarray, "n h w c"],
    indices: Integer[np.ndarray, " n"],
    on_step: Callable[[int], object],
) -> tuple[dict[str, Any], Params]:
    """Attacks some images, all of them for all steps, and has all models judge them.

    Args:
      cell: with its arrays on the devices of `split`.
      split: how a batch lies on the devices.
      images: at most as many as the devices take at once.
      indices: where they stand in the cell's source.
      on_step: as of `run`.

    Returns:
      The records' columns, and the parameters that are to be stored, all with n rows.

    Raises:
      ValueError: as `run`.
    """
    whole = functools.partial(feed.filled, split, cell.batch_size)
    labels = _known(cell, split, images, indices)
    # a key an image, so that results do not depend on the batches
    keys = _keys(cell.seed, whole(indices))
    steps: dict[str, Any] = {"on_step": lambda _: on_step(len(images))}
    if isinstance(cell.attack, Search):
        steps = {}
    predict = cell.targets[0].predict
    aims = verdicts.aims(cell, labels, indices)
    warn = cell.warns(len(images))
    result = run_batch(
        cell.attack, predict, whole(images), whole(aims), key=keys, warn=warn, **steps
    )
    if not steps:
        on_step(len(images) * cell.num_gradients)
    return verdicts.judge(cell, split, images, labels, indices, result)


def _known(
    cell: Cell,
    split: jax.sharding.NamedSharding,
    images: Float[np.ndarray, "n h w c"],
    indices: Integer[np.ndarray, " n"],
) -> Integer[np.ndarray, "n ..."]:
    """The labels; where they are not known, what the attacked model itself answers."""
    labels = cell.truth[indices]
    if (labels >= 0).all():
        return labels
    names, batch = cell.source.class_names, feed.filled(split, cell.batch_size, images)
    found = answers(cell.targets[0], batch, labels, names)["prediction"]
    return from_text(found, names, multi_label=cell.multi_label)


@functools.partial(jax.jit, static_argnums=0)
def _keys(seed, indices):
    root = jax.random.key(seed)
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(indices)
