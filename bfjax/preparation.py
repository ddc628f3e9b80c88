"""What a training run begins with: its images split by patient, its network, its optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from bfjax import data, models
from bfjax.classification import split_patients
from bfjax.config import TrainConfig
from bfjax.optimization import TrainState, make_optimizer, start


class Prepared(NamedTuple):
    """What a run begins with.

    Attributes:
      training: the images that it learns from.
      validation: those held out, by patient.
      graph: of the network.
      optimizer: over all epochs.
      state: before the first step.
      steps: of an epoch.
      weights: of the classes.
    """

    training: data.Source
    validation: data.Source
    graph: Any
    optimizer: optax.GradientTransformation
    state: TrainState
    steps: int
    weights: Float[Array, " k"]


def prepare(config: TrainConfig, source: data.Source) -> Prepared:
    """Splits the training images by patient, and builds what learns from them.

    Args:
      config: as for `train`.
      source: the training split.

    Returns:
      What a run begins with.

    Raises:
      ValueError: settings that do not fit each other or the images.
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
    state = start(config, params, statistics, optimizer.init(params))
    weights = class_weights(config, np.asarray(training.labels), len(source.class_names))
    return Prepared(training, validation, graph, optimizer, state, steps, weights)


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


def class_weights(
    config: TrainConfig, labels: Int[np.ndarray, " n"], classes: int
) -> Float[Array, " k"]:
    """The weights n / (k n_c) of the classes, whose mean over the images is 1.

    Args:
      config: whether they are wanted; all are 1 otherwise.
      labels: of the n images.
      classes: k.

    Returns:
      (k,), one weight a class.
    """
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (classes * np.maximum(counts, 1))
    return jnp.asarray(weights if config.class_weights else np.ones(classes), jnp.float32)
