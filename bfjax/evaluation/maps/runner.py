"""Makes the maps of a finished attack (Eq. 8), a shard a batch, and says what they amount to.

A run that was killed goes on after its last whole shard.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from bfjax import data, progress, storage
from bfjax.data import feed
from bfjax.estimate import Estimate
from bfjax.evaluation.classes import ANY, from_text
from bfjax.evaluation.finished import Run
from bfjax.evaluation.gallery import choose
from bfjax.evaluation.identity import nothing_there
from bfjax.evaluation.maps import gallery, summary
from bfjax.explain import (
    MapOptions,
    centre_map,
    deletion_curve,
    first_of_pair,
    mask_attack,
    pair,
    probability,
    random_map,
    sensitivity_map_batch,
)
from bfjax.types import Predict


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapRun:
    """Whose maps are made, how, and where they go.

    Attributes:
      attacked: the finished attack.
      predict: the model that it attacked.
      options: of `bfjax.explain.sensitivity_map`.
      rows: the images that are explained, in their order.
      fooled: how many images the attack fooled.
      out: the folder.
      settings: what the maps depend on, as JSON gives it back.
      batch_size: images explained at once.
      num_points: of each deletion and insertion curve.
      gallery: how many maps are drawn.
      seed: of the random maps that the curves are compared with.
    """

    attacked: Run
    predict: Predict
    options: MapOptions
    rows: Sequence[int]
    fooled: int
    out: Path
    settings: dict[str, Any]
    batch_size: int
    num_points: int
    gallery: int
    seed: int

    def missing(self) -> dict[Path, Sequence[int]]:
        """The shards that are not there yet, and the rows that each will hold."""
        starts = range(0, len(self.rows), self.batch_size)
        shards = {self.out / "shards" / f"{at:07d}.parquet": at for at in starts}
        return {
            path: self.rows[at : at + self.batch_size]
            for path, at in shards.items()
            if not path.exists()
        }


def complete(run: MapRun) -> dict[str, Any]:
    """Makes what is left of the maps, their pictures and their summary.

    Args:
      run: what to make; one that is finished is only read.

    Returns:
      What `summary.json` holds.

    Raises:
      ValueError: the folder holds maps of other settings, or an image is not the one attacked.
    """
    run.attacked.check(run.rows)
    if not (run.out / "settings.json").exists():
        nothing_there(run.out, "shards")
    storage.same_settings(run.out / "settings.json", run.settings)
    path = run.out / "summary.json"
    if path.exists():
        return storage.read_json(path)
    placed, split = _placed(run)
    missing = run.missing()
    with progress.bar() as bar:
        total = sum(map(len, missing.values())) * (run.options["num_steps"] + _CURVES)
        task = bar.add_task("explaining", total=total)
        for shard, batch in missing.items():
            tick = functools.partial(bar.advance, task, len(batch))
            storage.write_shard(shard, explain_images(placed, batch, split, tick), {})
        bar.remove_task(task)
        maps = summary.gather(run.out / "shards")
        found = {"settings": run.settings} | summary.summarize(maps, fooled=run.fooled)
        _draw(run, maps, found, bar)
    storage.write_json(path, found)  # last: who has it is finished
    return found


def _placed(run: MapRun) -> tuple[MapRun, jax.sharding.NamedSharding]:
    """The run with its model on the devices, and how a batch lies on them."""
    split = feed.split_batches(run.batch_size)
    predict = jax.device_put(run.predict, feed.on_every(split))
    return dataclasses.replace(run, predict=predict), split


def of_maps(run: MapRun) -> Estimate:
    """What is left to do, reckoned from three steps and the curves of the first batch.

    Args:
      run: what would be made; nothing of it is written.

    Returns:
      The estimate.

    Raises:
      ValueError: an image is not the one that was attacked.
    """
    rows = [row for batch in run.missing().values() for row in batch]
    if not rows:
        return Estimate(str(run.out), "nothing", 0.0, 0)
    placed, split = _placed(run)
    few = dataclasses.replace(placed, options=MapOptions(**run.options | {"num_steps": 3}))
    times: list[float] = []
    explain_images(few, rows[: run.batch_size], split, lambda: times.append(time.perf_counter()))
    step, curve = times[2] - times[1], times[-1] - times[-2]  # the first ones compiled
    num_steps = run.options["num_steps"]
    seconds = -(-len(rows) // run.batch_size) * (num_steps * step + _CURVES * curve)
    size = len(rows) * 4 * math.prod(run.attacked.source[0]["image"].shape[:2])
    return Estimate(str(run.out), f"{len(rows)} maps", seconds, size)


def explain_images(
    run: MapRun,
    rows: Sequence[int],
    split: jax.sharding.Sharding,
    tick: Callable[[], object],
) -> dict[str, Any]:
    """The maps of some images, and how well each stands up to maps that have seen nothing.

    Args:
      run: with its model on the devices of `split`.
      rows: which images, at most a batch.
      split: how a batch lies on the devices.
      tick: called after each step and each curve.

    Returns:
      The columns of their shard.

    Raises:
      ValueError: an image is not the one that was attacked.
    """
    result, predict, options = run.attacked, run.predict, run.options
    whole = functools.partial(feed.filled, split, run.batch_size // len(split.device_set))
    names = result.settings["class_names"]
    said = [result.rows[row]["label"] for row in rows]
    labels = whole(from_text(said, names, multi_label=result.settings.get("finding") == ANY))
    made = [result.rebuild(row) for row in rows]
    clean = whole(np.stack([one.image for one in made]))
    attacked = whole(np.stack([one.adversarial for one in made]))
    found = sensitivity_map_batch(
        predict, clean, attacked, labels, on_step=lambda _: tick(), **options
    )
    keys = _keys(jax.random.key(run.seed), whole(np.array(rows)))
    scores = _scores(mask_attack(**options), predict, clean, attacked, labels, found.mask)
    # insertion_curve is this same curve, from the attacked image back to the clean one
    ways = {"deletion": (clean, attacked), "insertion": (attacked, clean)}
    areas = {}
    controls = _controls(keys, found.map.shape[1:], (run.settings["mask_size"],) * 2)
    for kind, maps in {"map": found.map, **controls}.items():
        for curve in summary.CURVES:
            area = _area(run.num_points, predict, *ways[curve], labels, maps)
            areas[f"{curve}_{kind}"] = np.asarray(area)
            tick()
    changes = summary.third_sums(np.abs(np.asarray(attacked - clean)).mean(-1))
    thirds = dict(zip(summary.CHANGES, changes.T, strict=True))
    made = {"flips": found.flips, **scores, **areas, **thirds}
    maps = np.asarray(found.map)[: len(rows)]
    return {
        "index": rows,
        "file": [result.rows[row]["file"] for row in rows],
        "label": said,
        "height": [maps.shape[1]] * len(rows),
        "width": [maps.shape[2]] * len(rows),
        "map": list(maps.reshape(len(rows), -1)),
        **{name: np.asarray(values)[: len(rows)] for name, values in made.items()},
    }


_CURVES = len(summary.CURVES) * (1 + len(summary.CONTROLS))


@jax.jit
def _keys(root, rows):
    # a key an image, so that controls do not depend on the batches
    return jax.vmap(lambda row: jax.random.fold_in(root, row))(rows)


@jax.jit
def _scores(made, predict, clean, attacked, labels, masks):
    """How probable the model finds the truth in each image: clean, attacked, attacked by parts."""

    def score(x, a, y, mask):
        masked = made.perturbation.apply(mask, pair(x, a))
        answers = (predict(x), predict(a), first_of_pair(predict)(masked))
        names = ("score_clean", "score_adversarial", "score_masked")
        return {n: probability(z, y) for n, z in zip(names, answers, strict=True)}

    return jax.vmap(score)(clean, attacked, labels, masks)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _controls(keys, shape, mask_size):
    """Maps that have seen nothing, one an image; the random ones are as smooth as the true ones."""
    random = jax.vmap(lambda key: random_map(key, shape, mask_size=mask_size))(keys)
    return {"random": random, "centre": jnp.broadcast_to(centre_map(shape), random.shape)}


@functools.partial(jax.jit, static_argnums=0)
def _area(num_points, predict, start, end, labels, maps):
    def area(x, a, y, m):
        return deletion_curve(predict, x, a, y, m, num_points=num_points).area

    return jax.vmap(area)(start, end, labels, maps)


def _draw(run: MapRun, maps: summary.Maps, found: dict[str, Any], bar: Progress) -> None:
    """The mean map, and a few single ones, the classes in turn."""
    attacked = run.attacked
    rows, out = maps.columns["index"].tolist(), run.out
    images = (data.to_float(attacked.source[row]["image"]) for row in rows)
    image = sum(images, np.zeros(())) / len(rows)
    gallery.save(gallery.mean_figure(maps.mean, image, found), out / "mean_map.png")
    chosen = choose([attacked.rows[row] for row in rows], run.gallery)
    for at in bar.track(chosen, description="drawing"):
        record = attacked.rows[rows[at]]
        flips, score = (maps.columns[name][at].item() for name in ("flips", "score_masked"))
        values = np.asarray(summary.map_of(out / "shards", rows[at]))
        made = attacked.rebuild(rows[at])
        figure = gallery.case_figure(
            record, made.image, made.adversarial, values, flips=flips, score=score
        )
        path = out / "gallery" / gallery.file_name(rows[at], record["file"])
        gallery.save(figure, path)
