"""`bfjax explain`: through which parts of its X-rays a finished attack works (Eq. 8).

The maps go to DIR/explain, a shard a batch: a run that was killed goes on after its last whole
shard.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bfjax import (
    data,
    estimate,
    feed,
    finished,
    gallery,
    judges,
    map_gallery,
    map_summary,
    progress,
    records,
)
from bfjax.config import ExplainConfig
from bfjax.explain import (
    centre_map,
    deletion_curve,
    first_of_pair,
    logit,
    mask_attack,
    pair,
    probability,
    random_map,
    sensitivity_map_batch,
)
from bfjax.explain.mask import Options
from bfjax.types import Predict


def main(config: ExplainConfig) -> None:
    """The command `bfjax explain`: runs, then prints what the maps say together."""
    if config.dry_run:
        estimate.show([_estimate(config)])
        return
    map_summary.show(explain(config), _out(config))


def explain(config: ExplainConfig) -> dict[str, Any]:
    """Runs `config`, or what is left of it.

    Args:
      config: which attack, and how its maps are found.

    Returns:
      What `summary.json` holds.

    Raises:
      ValueError: for options, images or a checkpoint that do not fit, naming the culprit; or
        nothing was fooled.
      FileNotFoundError: for missing results, data or checkpoints.
    """
    run, target, options, fooled, rows = _opened(config)
    settings = dataclasses.asdict(config) | {"num_images": len(rows), "attacked": _alone(run)}
    for presentational in ("dir", "model", "data", "out", "gallery", "dry_run"):
        del settings[presentational]
    out = _out(config)
    records.same_settings(out / "settings.json", settings)
    if (out / "summary.json").exists():
        return json.loads((out / "summary.json").read_text(encoding="utf-8"))
    split = feed.split_batches(config.batch_size)
    predict = jax.device_put(target.predict, feed.on_every(split))
    missing = {path: batch for path, batch in _batches(config, rows).items() if not path.exists()}
    with progress.bar() as bar:
        total = sum(map(len, missing.values())) * (config.num_steps + _CURVES)
        task = bar.add_task("explaining", total=total)
        for path, batch in missing.items():
            tick = functools.partial(bar.advance, task, len(batch))
            columns = explain_images(config, options, run, predict, batch, split, tick)
            records.write_shard(path, columns, {})
        bar.remove_task(task)
        maps = map_summary.gather(out / "shards")
        found = {"settings": settings} | map_summary.summarize(maps, fooled=fooled)
        _draw(config, run, maps, found, bar)
    records.write_json(out / "summary.json", found)  # last: who has it is finished
    return found


def _opened(config: ExplainConfig) -> tuple[finished.Run, judges.Target, Options, int, list[int]]:
    """The attack, its model, the options of the maps, how many were fooled, whose maps are made."""
    if jax.process_count() > 1:
        raise ValueError("bfjax explain runs in one process, on all devices of a machine")
    if config.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {config.batch_size}")
    run, target = finished.load(config.dir, where=config.data), judges.load(config.model)
    name, sha256 = run.model
    if target.config.sha256 != sha256:
        raise ValueError(
            f"{config.dir} attacked {name}, whose weights have the sha256 {sha256}; those of "
            f"{config.model} have {target.config.sha256}"
        )
    options = _options(config, run.source[0]["image"].shape)
    fooled = run.fooled()
    return run, target, options, len(fooled), _drawn(config, fooled)


def _alone(run: finished.Run) -> dict[str, Any]:
    """The settings of the attack without its judges: models may join them while maps are made."""
    name, _ = run.model
    return run.settings | {"models": {name: run.settings["models"][name]}}


def _estimate(config: ExplainConfig) -> estimate.Estimate:
    """What is left to do, reckoned from three steps and the curves of the first batch."""
    run, target, options, _, rows = _opened(config)
    rows = [
        row for path, batch in _batches(config, rows).items() if not path.exists() for row in batch
    ]
    if not rows:
        return estimate.Estimate(str(_out(config)), "nothing", 0.0, 0)
    split = feed.split_batches(config.batch_size)
    predict = jax.device_put(target.predict, feed.on_every(split))
    times: list[float] = []
    explain_images(
        config,
        Options(**options | {"num_steps": 3}),
        run,
        predict,
        rows[: config.batch_size],
        split,
        lambda: times.append(time.perf_counter()),
    )
    step, curve = times[2] - times[1], times[-1] - times[-2]  # the first ones compiled
    seconds = -(-len(rows) // config.batch_size) * (config.num_steps * step + _CURVES * curve)
    size = len(rows) * 4 * math.prod(run.source[0]["image"].shape[:2])
    return estimate.Estimate(str(_out(config)), f"{len(rows)} maps", seconds, size)


def _batches(config: ExplainConfig, rows: Sequence[int]) -> dict[Path, Sequence[int]]:
    """The shards, and the rows that each holds."""
    starts = range(0, len(rows), config.batch_size)
    shards = _out(config) / "shards"
    return {shards / f"{at:07d}.parquet": rows[at : at + config.batch_size] for at in starts}


def _out(config: ExplainConfig) -> Path:
    return config.out or config.dir / "explain"


_SCORES = {"probability": probability, "logit": logit}


def _options(config: ExplainConfig, shape: tuple[int, ...]) -> Options:
    """The options of the maps, tried on an image: what is bad fails before anything is written."""
    options = Options(
        num_steps=config.num_steps,
        l1=config.l1,
        tv=config.tv,
        mask_size=config.mask_size,
        start=config.start,
        score=_SCORES[config.score],
        reduction=config.reduction,
        tv_exponent=config.tv_exponent,
        step_size=config.step_size,
    )
    image = jnp.zeros(shape)
    mask_attack(**options).perturbation.init(pair(image, image), None)
    if config.num_points < 2:
        raise ValueError(f"--num-points must be at least 2, got {config.num_points}")
    return options


def _drawn(config: ExplainConfig, fooled: list[int]) -> list[int]:
    """The rows that are explained, in their order."""
    if not fooled:
        raise ValueError(f"the attack of {config.dir} fooled no image: there is nothing to explain")
    count = len(fooled) if config.num_images is None else config.num_images
    if not 1 <= count <= len(fooled):
        raise ValueError(f"--num-images must be 1 to {len(fooled)} here, got {count}")
    return sorted(np.random.default_rng(config.seed).choice(fooled, count, replace=False).tolist())


def explain_images(
    config: ExplainConfig,
    options: Options,
    run: finished.Run,
    predict: Predict,
    rows: Sequence[int],
    split: jax.sharding.Sharding,
    tick: Callable[[], object],
) -> dict[str, Any]:
    """The maps of some images, and how well each stands up to maps that have seen nothing.

    Args:
      config: the batch size, the seed, the points of the curves.
      options: of the maps.
      run: the attack.
      predict: the model that was attacked, on the devices of `split`.
      rows: which images, at most a batch.
      split: how a batch lies on the devices.
      tick: called after each step and each curve.

    Returns:
      The columns of their shard.

    Raises:
      ValueError: an image is not the one that was attacked.
    """
    whole = functools.partial(feed.filled, split, config.batch_size // len(split.device_set))
    names = run.settings["class_names"]
    labels = whole(np.array([names.index(run.rows[row]["label"]) for row in rows], np.int32))
    made = [run.rebuild(row) for row in rows]
    clean = whole(np.stack([one.image for one in made]))
    attacked = whole(np.stack([one.adversarial for one in made]))
    found = sensitivity_map_batch(
        predict, clean, attacked, labels, on_step=lambda _: tick(), **options
    )
    keys = _keys(jax.random.key(config.seed), whole(np.array(rows)))
    scores = _scores(mask_attack(**options), predict, clean, attacked, labels, found.mask)
    # insertion_curve is this same curve, from the attacked image back to the clean one
    ways = {"deletion": (clean, attacked), "insertion": (attacked, clean)}
    areas = {}
    controls = _controls(keys, found.map.shape[1:], (config.mask_size, config.mask_size))
    for kind, maps in {"map": found.map, **controls}.items():
        for curve in map_summary.CURVES:
            area = _area(config.num_points, predict, *ways[curve], labels, maps)
            areas[f"{curve}_{kind}"] = np.asarray(area)
            tick()
    changes = map_summary.third_sums(np.abs(np.asarray(attacked - clean)).mean(-1))
    thirds = dict(zip(map_summary.CHANGES, changes.T, strict=True))
    made = {"flips": found.flips, **scores, **areas, **thirds}
    maps = np.asarray(found.map)[: len(rows)]
    return {
        "index": rows,
        "file": [run.rows[row]["file"] for row in rows],
        "label": [run.rows[row]["label"] for row in rows],
        "height": [maps.shape[1]] * len(rows),
        "width": [maps.shape[2]] * len(rows),
        "map": list(maps.reshape(len(rows), -1)),
        **{name: np.asarray(values)[: len(rows)] for name, values in made.items()},
    }


_CURVES = len(map_summary.CURVES) * (1 + len(map_summary.CONTROLS))


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


def _draw(
    config: ExplainConfig,
    run: finished.Run,
    maps: map_summary.Maps,
    found: dict[str, Any],
    bar: Any,
) -> None:
    """The mean map, and a few single ones, the classes in turn."""
    rows, out = maps.columns["index"].tolist(), _out(config)
    image = sum((data.to_float(run.source[row]["image"]) for row in rows), np.zeros(())) / len(rows)
    map_gallery.save(map_gallery.mean_figure(maps.mean, image, found), out / "mean_map.png")
    chosen = gallery.choose([run.rows[row] for row in rows], config.gallery)
    table = records.read_shards(out / "shards")
    for at in bar.track(chosen, description="drawing"):
        record = run.rows[rows[at]]
        flips, score = (maps.columns[name][at].item() for name in ("flips", "score_masked"))
        values = np.asarray(table["map"][at].as_py()).reshape(maps.mean.shape)
        made = run.rebuild(rows[at])
        figure = map_gallery.case_figure(
            record, made.image, made.adversarial, values, flips=flips, score=score
        )
        path = out / "gallery" / map_gallery.file_name(rows[at], record["file"])
        map_gallery.save(figure, path)
