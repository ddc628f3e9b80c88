"""Certifies images in parts, and stores each when it is whole: a run that was killed goes on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Integer

from bfjax import estimate, storage
from bfjax.data import feed
from bfjax.estimate import Estimate
from bfjax.evaluation import model_run
from bfjax.evaluation.model_run import ModelRun, read
from bfjax.evaluation.targets import named
from bfjax.field import legendre
from bfjax.robustness import DEGREE, Certificate, certify
from bfjax.types import as_pytree

_PART = 8  # images: no more are lost to who is killed


@dataclasses.dataclass(frozen=True, kw_only=True)
class CertifyRun(ModelRun):
    """What is certified of one model; `batch_size` counts lights."""

    def missing(self) -> list[int]:
        """The first images of the parts that are not there yet."""
        return [k for k in range(0, len(self.source), _PART) if not self.shard(k).exists()]

    def chosen(self, start: int) -> Integer[np.ndarray, " part"]:
        """The images of a part."""
        return np.arange(start, min(start + _PART, len(self.source)), dtype=np.int32)

    def shard(self, start: int) -> Path:
        """The file of a part."""
        return self.out / "shards" / f"{start:07d}.parquet"


def complete(run: CertifyRun, on_images: Callable[[int], object] = lambda _: None) -> bool:
    """Certifies what is left.

    Args:
      run: what to certify.
      on_images: called now and then with the number of images certified since.

    Returns:
      Whether anything was left.

    Raises:
      ValueError: the folder holds certificates of other settings, images or another model.
    """
    model_run.begin(run)
    missing = run.missing()
    if missing:
        model_run.ask_about_range(run)
    for start in missing:
        chosen = run.chosen(start)
        images = read(run, chosen)
        found = _certificates(run, images, chosen, on_images)
        columns = {
            "index": chosen,
            "file": [run.source.names[i] for i in chosen],
            "label": run.truth[chosen],
            "clean": list(model_run.said(run, images)),
            "certified": found.label,
            **{name: getattr(found, name) for name in _NUMBERS},
            "counts": list(found.counts),
        }
        storage.write_shard(run.shard(start), columns, {})
    return bool(missing)


_NUMBERS = ("radius", "safe_radius", "log_range", "lower_bound")


def _certificates(
    run: CertifyRun,
    images: Float[np.ndarray, "n h w c"],
    numbers: Integer[np.ndarray, " n"],
    on_images: Callable[[int], object],
) -> Certificate:
    """Certificates of (n,) images, one on each device; an image's lights depend on its number."""
    split, found = feed.split_locally(), []
    predict = jax.device_put(as_pytree(run.target.predict), feed.on_every(split))
    kept = ("sigma", "alpha", "headroom", "gamma", "encoding", "num_guess", "num_samples")
    options = {name: run.settings[name] for name in kept}
    with named(run.target):
        for start in range(0, len(images), split.num_devices):
            some = slice(start, start + split.num_devices)
            placed = (feed.filled(split, 1, values[some]) for values in (images, numbers))
            told = _certified(
                predict,
                legendre(images.shape[1:3], degree=DEGREE),
                *placed,
                jax.random.key(run.settings["seed"]),
                chunk_size=run.batch_size,
                **options,
            )
            count = len(numbers[some])
            found.append(jax.tree.map(lambda x, n=count: np.asarray(x)[:n], told))
            on_images(count)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


@functools.partial(jax.jit, static_argnames=("encoding", "num_guess", "num_samples", "chunk_size"))
def _certified(predict, field, images, numbers, key, **options: Any) -> Certificate:
    def of_one(image, number):
        return certify(predict, field, image, key=jax.random.fold_in(key, number), **options)

    return jax.vmap(of_one)(images, numbers)


def of_certificates(run: CertifyRun) -> Estimate:
    """What is left to do, from the time of some lights on an image.

    Args:
      run: what would be certified; nothing of it is written.

    Returns:
      The estimate.
    """
    missing = run.missing()
    if not missing:
        return Estimate(str(run.out), "nothing", 0.0, 0)
    lights = run.settings["num_guess"] + run.settings["num_samples"]
    few = {"num_guess": run.batch_size, "num_samples": run.batch_size}
    short = dataclasses.replace(run, settings=run.settings | few)
    devices = jax.local_device_count()
    numbers = np.arange(min(devices, len(run.source)), dtype=np.int32)
    images = read(run, numbers)
    once = estimate.seconds(lambda: _certificates(short, images, numbers, lambda _: None))
    counts = [len(run.chosen(start)) for start in missing]
    rounds = sum(-(-count // devices) for count in counts)
    size = 8 * sum(counts) * (10 + 2 * len(run.settings["class_names"]))
    work = f"{sum(counts)} images, {lights} lights each"
    return Estimate(str(run.out), work, rounds * once * lights / (2 * run.batch_size), size)
