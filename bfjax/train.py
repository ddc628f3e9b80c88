"""Fine-tunes a classifier: AdamW, one cycle, validation by patient, resumable after each epoch."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors
import safetensors.numpy
from flax import nnx
from jaxtyping import Array, Float, Int, Scalar

from bfjax import data, models, progress
from bfjax.classification import Metrics, batches, evaluate_classifier, split_patients
from bfjax.types import Image, PRNGKey


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains a classifier on the train split and evaluates it once on the test split.

    A part of the train split, split off by patient, chooses the epoch that is kept. Writes
    model.safetensors, config.json and log.csv; an interrupted run started again with the same
    options goes on after its last finished epoch.
    """

    data: str = "chest_xray"
    """Data set: chest_xray, phantom, or a folder of class folders."""
    out: Path = Path("bfjax-model")
    """Folder for the checkpoint."""
    model: str = "mobilenet_v1"
    """Architecture."""
    init: Path | None = None
    """Weights to start from (.npz, .h5 or .safetensors); none: from scratch."""
    width: float = 1.0
    """Multiplies the channels of every layer."""
    dropout: float = 0.0
    """Share of features dropped before the classifier."""
    image_size: int = 224
    """Side of the images in pixels."""
    resize: str = "squash"
    """How images become square: squash or pad."""
    num_examples: int | None = None
    """Only so many training images (phantoms: as many as wanted)."""
    epochs: int = 3
    """Passes over the training images."""
    batch_size: int = 32
    """Images of one step."""
    learning_rate: float = 3e-4
    """Peak of the one-cycle schedule."""
    warmup: float = 0.25
    """Share of the steps until that peak."""
    weight_decay: float = 0.01
    """AdamW's decay of kernels."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    class_weights: bool = True
    """Weigh classes by the inverse of their frequency."""
    flip: bool = True
    """Mirror half of the images left to right."""
    shift: float = 0.05
    """Largest shift, as a share of the side."""
    brightness: float = 0.1
    """Largest change of brightness, in units of [0, 1]."""
    contrast: float = 0.1
    """Largest relative change of contrast."""
    validation: float = 0.1
    """Share of the training images held out, by patient."""
    seed: int = 0
    """Seed of the weights, the split, the order and the augmentation."""
    verbose: bool = False
    """A line on stderr after each epoch."""


class TrainState(NamedTuple):
    """What one step hands to the next: parameters, running averages, the optimiser's state."""

    params: Any
    statistics: Any
    opt_state: Any
    step: Int[Array, ""]


class Progress(NamedTuple):
    """What one epoch hands to the next: the state, the best model so far, the log."""

    state: TrainState
    best: tuple[Any, Any]
    history: list[dict[str, float]]


def main(config: TrainConfig) -> None:
    """The command `bfjax train`: trains, then prints the metrics on the test split."""
    metrics = train(config)
    names = models.load_config(config.out).class_names
    print(f"test: {describe(metrics)}")
    print(f"rows are true, columns predicted, {', '.join(names)}: {metrics.confusion}")
    print(f"checkpoint in {config.out}")


def describe(metrics: Metrics) -> str:
    """Metrics as a line of text.

    Args:
      metrics: of any classifier.

    Returns:
      Accuracy, AUC and, for two classes, sensitivity and specificity.
    """
    text = f"accuracy {metrics.accuracy:.2%} of {metrics.count}, AUC {metrics.auc:.4f}"
    if metrics.sensitivity is None or metrics.specificity is None:
        return text
    return f"{text}, sensitivity {metrics.sensitivity:.2%}, specificity {metrics.specificity:.2%}"


def train(config: TrainConfig) -> Metrics:
    """Runs `config`, or what is left of it, and writes the checkpoint.

    The epoch with the highest validation AUC is kept (a balanced measure that needs no threshold;
    of equals the lower loss); the test split is read once, at the end.

    Args:
      config: everything that matters.

    Returns:
      The metrics on the test split.

    Raises:
      ValueError: settings that do not fit the data or the interrupted run in `config.out`.
      FileNotFoundError: there are no such data or initial weights.
    """
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
      ValueError: settings that do not fit the data or the interrupted run in `config.out`.
      FileNotFoundError: there are no such initial weights.
    """
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
    channels = source[0]["image"].shape[-1]
    graph, params, statistics = nnx.split(
        _initial_model(config, len(source.class_names), channels), nnx.Param, nnx.BatchStat
    )
    optimizer = make_optimizer(config, config.epochs * steps)
    state = TrainState(params, statistics, optimizer.init(params), jnp.zeros((), jnp.int32))
    done = Progress(state, (params, statistics), [])
    file = config.out / "training.safetensors"
    if file.exists():
        done = _resume(file, done, config)
    config.out.mkdir(parents=True, exist_ok=True)
    weights = _class_weights(config, training)
    step = make_step(graph, optimizer, config)
    with progress.bar() as bar:
        task = bar.add_task("training", total=config.epochs * steps)
        bar.advance(task, len(done.history) * steps)
        for epoch in range(len(done.history), config.epochs):
            started = time.perf_counter()
            state, losses = done.state, []
            order = int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0])
            for images, labels in batches(training, config.batch_size, shuffle=order):
                state, loss = step(state, images, labels, weights)
                losses.append(loss)
                bar.advance(task)
            predict = models.as_predict(nnx.merge(graph, state.params, state.statistics))
            measured = evaluate_classifier(predict, validation, batch_size=config.batch_size)
            row = {
                "epoch": epoch + 1,
                "train_loss": float(np.mean(jax.device_get(losses))),
                **{f"val_{k}": v for k, v in dataclasses.asdict(measured).items() if k != "confusion"},
                "seconds": round(time.perf_counter() - started, 1),
            }
            better = all(_rank(row) > _rank(past) for past in done.history)
            best = (state.params, state.statistics) if better else done.best
            # the step takes over its state's memory: what is kept must not be in it
            done = jax.tree.map(jnp.copy, Progress(state, best, [])) if better else done
            done = Progress(state, done.best, [*done.history_or(row)])
            _write(file, done, config)
            _write_log(config.out / "log.csv", done.history)
            if config.verbose:
                print(f"epoch {epoch + 1}: {describe(measured)} (validation)", file=sys.stderr)
    model = nnx.merge(graph, *done.best)
    metrics = evaluate_classifier(
        models.as_predict(models.freeze(model)), test, batch_size=config.batch_size
    )
    return metrics
