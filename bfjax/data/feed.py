"""How images reach the devices: read by Grain in threads, one order a seed, split by process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bfjax import data

_READING = grain.ReadOptions(num_threads=4, prefetch_buffer_size=16)


def in_order(source: data.Source, batch_size: int) -> grain.IterDataset:
    """All of a data set in its own order; the last batch may be smaller.

    Args:
      source: records with ``image`` and ``label``.
      batch_size: images at once.

    Returns:
      A data set of images as float32 in [0, 1], (n, h, w, c), and labels (n,); reading one raises
      `ValueError` for images of different sizes, naming one.
    """
    dataset = grain.MapDataset.source(cast(Any, source))
    return dataset.batch(batch_size, batch_fn=_stacked).to_iter_dataset(_READING)


def _stacked(batch: Sequence[data.Record]) -> tuple[np.ndarray, np.ndarray]:
    first = batch[0]["image"].shape
    for record in batch:  # they differ where the checkpoint names no image size
        if (shape := record["image"].shape) != first:
            raise ValueError(
                f"{record['name']} is {shape[0]} x {shape[1]}, {batch[0]['name']} "
                f"{first[0]} x {first[1]}: bring them to one size"
            )
    images = np.stack([data.to_float(record["image"]) for record in batch])
    return images, np.array([record["label"] for record in batch], np.int32)


def shuffled(
    source: data.Source,
    batch_size: int,
    *,
    seed: int,
    process: tuple[int, int] | None = None,
) -> grain.IterDataset:
    """One pass in random order, whole batches only; its iterator can be saved and set.

    The processes read disjoint images, and their batches of one step make up together the batch
    that a single process would have read.

    Args:
      source: records with ``image`` and ``label``.
      batch_size: images at once, of all processes together.
      seed: of the order.
      process: which one of how many; by default `jax.process_index` and `jax.process_count`.

    Returns:
      A data set of images as float32 in [0, 1], (n, h, w, c), and labels (n,), where n is the
      process's share of the batch size.

    Raises:
      ValueError: the batch does not divide over the processes.

    Example:
      >>> source = data.load("phantom", "train", num_examples=7, image_size=32)
      >>> [labels.shape for _, labels in shuffled(source, 2, seed=0)]
      [(2,), (2,), (2,)]
    """
    index, count = process or (jax.process_index(), jax.process_count())
    if batch_size % count:
        raise ValueError(f"batches of {batch_size} do not divide over {count} processes")
    whole = len(source) // batch_size * batch_size
    dataset = grain.MapDataset.source(cast(Any, source)).shuffle(seed=seed)[:whole]
    # the process's piece of each batch, so that the pieces side by side are that batch in its order
    pieces = _decoded(dataset).batch(batch_size // count)[index::count]
    return pieces.to_iter_dataset(_READING)


def _decoded(dataset: grain.MapDataset) -> grain.MapDataset:
    return dataset.map(lambda r: (data.to_float(r["image"]), np.int32(r["label"])))


def split_batches(batch_size: int) -> NamedSharding:
    """How a batch lies on the devices: split along its first axis over as many as divide it.

    Args:
      batch_size: images of one step, of all processes together.

    Returns:
      The sharding of images and labels.

    Raises:
      ValueError: there are several processes, and the batch does not divide over their devices.

    Example:
      >>> split_batches(6).spec == PartitionSpec("batch")
      True
    """
    devices = jax.devices()
    if jax.process_count() == 1:
        devices = devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]
    elif batch_size % len(devices):
        raise ValueError(f"batches of {batch_size} do not divide over {len(devices)} devices")
    return NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))


def split_locally() -> NamedSharding:
    """How a batch lies on the devices of this process alone: split along its first axis.

    Returns:
      The sharding of images and labels.

    Example:
      >>> split_locally().mesh.size == jax.local_device_count()
      True
    """
    return NamedSharding(Mesh(np.array(jax.local_devices()), ("batch",)), PartitionSpec("batch"))


def on_every(split: NamedSharding) -> NamedSharding:
    """How parameters lie: whole on each device of `split`.

    Args:
      split: from `split_batches`.

    Returns:
      The sharding of everything that is no batch.
    """
    return NamedSharding(split.mesh, PartitionSpec())


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
