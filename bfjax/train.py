"""Fine-tunes a classifier: AdamW, validation by patient, resumable exactly at any step."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from bfjax import curves, data, feed, models, progress
from bfjax.classification import (
    Metrics,
    describe,
    evaluate_classifier,
    report,
    split_patients,
)
from bfjax.config import TrainConfig
from bfjax.optimization import augment, make_optimizer, make_step, resized, start
from bfjax.resume import saves
from bfjax.runs import (
    TRAINING,
    Progress,
    finished,
    floats,
    restore,
    save,
    settings_of,
    tidy,
    write_log,
)
from bfjax.types import Image, Predict, PRNGKey

__all__ = ["describe", "fit", "main", "report", "train"]

# Other machines and other patients: about twice what training augments by. Fixed, so that the
# scores of differently trained classifiers compare.
_SHIFT = TrainConfig(
    flip=False, shift=0.1, rotation=15.0, scale=0.25, brightness=0.25, contrast=0.5
)


def main(config: TrainConfig) -> None:
    """The command `bfjax train`: trains, then prints the metrics on the test split."""
    if metrics := finished(config):
        print(f"{config.out} holds this run, finished before; its stored metrics:")
    else:
        metrics = train(config)
    if jax.process_index() > 0:
        return
    names = models.load_config(config.out).class_names
    print(report(metrics))
    print(f"rows are true, columns predicted, {', '.join(names)}: {metrics.confusion}")
    print(f"checkpoint in {config.out}")


def train(config: TrainConfig) -> Metrics:
    """Runs `config`, or what is left of it, and writes the checkpoint.

    The epoch with the lowest validation loss is kept: the AUC of held-out patients comes so near
    to one that it no longer tells epochs apart, while the loss still does (`config.select` has
    the AUC decide all the same, and the loss between equals). The test split is read once, at the
    end. A run that is finished is not run again.

    Args:
      config: everything that matters.

    Returns:
      The metrics on the test split.

    Raises:
      ValueError: settings that do not fit the data or the run in `config.out`.
      FileNotFoundError: there are no such data or initial weights.
    """
    if metrics := finished(config):
        return metrics
    source, test = (
        data.load(
            config.data,
            split,
            image_size=config.image_size,
            resize=config.resize,
            num_examples=config.num_examples if split == "train" else None,
            seed=config.seed,
        )
        for split in ("train", "test")
    )
    return fit(config, source, test)


def fit(config: TrainConfig, source: data.Source, test: data.Source) -> Metrics:
    """`train` on given sources.

    Args:
      config: as for `train`; its `data` and `num_examples` are only recorded.
      source: the training split, from which the validation part is taken.
      test: read once, at the end.

    Returns:
      The metrics on `test`.

    Raises:
      ValueError: settings that do not fit the data or the run in `config.out`.
      FileNotFoundError: there are no such initial weights.
    """
    if metrics := finished(config):
        return metrics
    kept, held = split_patients(
        np.asarray(source.labels), source.groups, fraction=config.validation, seed=config.seed
    )
    training, validation = data.Subset(source, kept), data.Subset(source, held)
    steps = len(training) // config.batch_size
    if steps < 1 or config.epochs < 1:
        raise ValueError(
            f"nothing to do: {config.epochs} epochs of {len(training)} images in batches of "
            f"{config.batch_size}"
        )
    if not all(models.MIN_SIZE <= side <= config.image_size for side in config.progressive):
        raise ValueError(
            f"progressive sides go from {models.MIN_SIZE} to {config.image_size}, the image size, "
            f"got {config.progressive}"
        )
    if config.patience is not None and config.patience < 1:
        raise ValueError(f"patience is a number of epochs, at least 1, got {config.patience}")
    channels = source[0]["image"].shape[-1]
    graph, params, statistics = nnx.split(
        _initial_model(config, tuple(source.class_names), channels), nnx.Param, nnx.BatchStat
    )
    optimizer = make_optimizer(config, config.epochs * steps)
    split = feed.split_batches(config.batch_size)
    whole = feed.on_every(split)
    state = start(config, params, statistics, optimizer.init(params))
    state = jax.device_put(state, whole)
    run = Progress(state, state.kept, [])
    # of other images the rest of a run would be another run
    names = hashlib.sha256("\n".join(source.names).encode()).hexdigest()
    settings = settings_of(config) | {"names of the images (sha256)": names}
    weights = _class_weights(config, np.asarray(training.labels), len(source.class_names))
    step_at = functools.cache(
        lambda size: make_step(graph, optimizer, config, size=size, placed=whole)
    )
    writes = jax.process_index() == 0
    with saves(config.out / TRAINING) as states, progress.bar() as bar:
        run = restore(states, run, settings, config.out / TRAINING)
        saved = time.monotonic()
        task = bar.add_task("training", total=config.epochs * steps)
        bar.advance(task, len(run.history) * steps + len(run.losses))
        while len(run.history) < config.epochs and not _stalled(run.history, config):
            started = time.monotonic() - run.seconds
            size = side_of(config, len(run.history))
            step = step_at(size)
            order = np.random.SeedSequence([config.seed, len(run.history)]).generate_state(1)
            reader = iter(feed.shuffled(training, config.batch_size, seed=int(order[0])))
            if run.reader is not None:
                reader.set_state(run.reader)
            for done in range(len(run.losses) + 1, steps + 1):
                images, labels = (
                    jax.make_array_from_process_local_data(split, x) for x in next(reader)
                )
                state, loss = step(run.state, images, labels, weights)
                run = run._replace(state=state, losses=[*run.losses, loss])
                # one step in flight: all at once, their images would fill the memory
                jax.block_until_ready(run.losses[-2:-1])
                bar.advance(task)
                many = config.save_steps and done % config.save_steps == 0
                if done < steps and (many or time.monotonic() > saved + 60 * config.save_minutes):
                    seconds = time.monotonic() - started
                    run = run._replace(reader=reader.get_state(), seconds=seconds)
                    save(states, run, settings)
                    saved = time.monotonic()
            predict = models.as_predict(nnx.merge(graph, *run.state.kept))
            scores = _validate(predict, validation, config, size=size)
            run = _ended(run, scores, config, seconds=time.monotonic() - started)
            if writes:  # before the state: one that is saved is in the log
                write_log(config.out / "log.csv", run.history)
            save(states, run, settings)
            saved = time.monotonic()
            if config.verbose and writes:
                row = run.history[-1]
                print(
                    f"epoch {row['epoch']} ({row['seconds']:.0f} s): loss {row['train_loss']:.4f}; "
                    f"validation {describe(scores['val'])}",
                    file=sys.stderr,
                    flush=True,
                )
    model = nnx.merge(graph, *run.best)
    predict = models.as_predict(models.freeze(model))
    metrics = evaluate_classifier(predict, test, batch_size=config.batch_size)
    if not writes:
        return metrics
    best = max(run.history, key=lambda row: _rank(row, config))
    curves.draw(config.out / "curves.png", run.history, kept=best["epoch"])
    metadata = {
        "class_names": list(source.class_names),
        "image_size": config.image_size,
        "resize": config.resize,
        "metrics": {"test": dataclasses.asdict(metrics), "validation": best},
        "training": settings_of(config),
    }
    models.save(model, config.out, metadata=metadata)
    tidy(config.out)
    return metrics


def _validate(
    predict: Predict, source: data.Source, config: TrainConfig, *, size: int
) -> dict[str, Metrics]:
    """The metrics of images of a size, by the prefix they have in the log."""
    names = ("val", "shifted") if config.select == "shifted" else ("val",)
    return {
        name: evaluate_classifier(
            predict, source, batch_size=config.batch_size, transform=_views(size)[name]
        )
        for name in names
    }


@functools.cache  # equal transforms are the same one, and share a compilation
def _views(size: int) -> dict[str, Callable[[PRNGKey, Image], Image]]:
    return {
        "val": lambda key, image: resized(image, size),
        "shifted": lambda key, image: augment(key, resized(image, size), config=_SHIFT),
    }


def _ended(
    run: Progress, scores: dict[str, Metrics], config: TrainConfig, *, seconds: float
) -> Progress:
    """The run after an epoch: its row in the log, and its weights if they are the best so far."""
    row = {
        "epoch": len(run.history) + 1,
        "image_size": side_of(config, len(run.history)),
        "train_loss": float(np.mean(floats(run.losses))),
        **{f"{name}_{k}": v for name, m in scores.items() for k, v in _scalars(m).items()},
        "seconds": round(seconds, 1),
    }
    better = all(_rank(row, config) > _rank(past, config) for past in run.history)
    best = run.state.kept if better else run.best
    return Progress(run.state, best, [*run.history, row])


def side_of(config: TrainConfig, epoch: int) -> int:
    """The side of the images in an epoch.

    Args:
      config: its `image_size`, and the smaller ones before it.
      epoch: counted from 0.

    Returns:
      Pixels.

    Example:
      >>> [side_of(TrainConfig(progressive=(96, 160)), epoch) for epoch in range(4)]
      [96, 160, 224, 224]
    """
    return (*config.progressive, config.image_size)[min(epoch, len(config.progressive))]


def _initial_model(config: TrainConfig, classes: tuple[str, ...], channels: int) -> nnx.Module:
    # only what was asked for: not every architecture has every setting
    wanted = {"width": config.width, "dropout": config.dropout}
    settings = {k: v for k, v in wanted.items() if v != getattr(TrainConfig, k)}
    if config.init is not None:
        settings = models.settings_for(config.model, config.init) | settings
    model = models.build(
        config.model, num_classes=len(classes), channels=channels, seed=config.seed, **settings
    )
    if config.init is None:
        return model
    # the head of our own classes is kept; ImageNet's answers another question
    ours = Path(config.init).is_dir() and models.load_config(config.init).class_names == classes
    return models.load_pretrained(model, config.init, head=ours)


def _class_weights(
    config: TrainConfig, labels: Int[np.ndarray, " n"], classes: int
) -> Float[Array, " k"]:
    """The weights n / (k n_c), whose mean over the images is 1."""
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (classes * np.maximum(counts, 1))
    return jnp.asarray(weights if config.class_weights else np.ones(classes), jnp.float32)


def _rank(row: dict[str, Any], config: TrainConfig) -> tuple[float, ...]:
    """Higher is better; scores at a smaller size of the images do not compare."""
    size, loss = row["image_size"], -row["val_loss"]
    if config.select == "auc":
        return size, row["val_auc"], loss
    return size, -row["shifted_loss"] if config.select == "shifted" else loss


def _stalled(history: list[dict[str, Any]], config: TrainConfig) -> bool:
    """Whether the last `patience` epochs were no better than the best before them."""
    if config.patience is None or not history:
        return False
    best = max(range(len(history)), key=lambda i: _rank(history[i], config))
    return len(history) - 1 - best >= config.patience


def _scalars(metrics: Metrics) -> dict[str, Any]:
    fields = dataclasses.asdict(metrics)
    return {k: v for k, v in fields.items() if k not in ("confusion", "intervals")}
