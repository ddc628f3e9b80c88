"""What a training run does: its images, its network, its optimizer, and when it ends."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from bfjax import data, models
from bfjax.training.augmentation import Augmentation
from bfjax.training.hardening import Hardening
from bfjax.training.step import make_step

Select = Literal["loss", "auc", "shifted"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A training run before its first step; `commands.make_plan` makes one of options.

    Attributes:
      out: the folder.
      settings: what the outcome depends on, as JSON gives it back.
      fingerprint: of all images; of other ones the rest would be another run.
      training: the images that it learns from.
      validation: those held out, by patient.
      graph: of the network.
      optimizer: over all epochs.
      class_weights: of the loss.
      augmentation: of the images.
      hardening: under which light they are learnt.
      epochs: passes over the training images.
      resize: how images became square.
      sides: of the images in the first epochs; the last one is that of all others.
      batch_size: images of one step.
      label_smoothing: share of the target spread over all classes.
      average: decay of the running average of the weights; 0 for none.
      dtype: of the activations.
      remat: less memory for more time, see `make_step`.
      select: which validation score chooses the epoch that is kept.
      patience: stop after so many epochs without a better one; `None`: never.
      save_minutes: the run is saved after each epoch, and within one every so many minutes.
      save_steps: it is also saved every so many steps.
      seed: of the order and the augmentation.
      verbose: a line on stderr after each epoch.

    Raises:
      ValueError: a side or a patience that is out of its range.
    """

    out: Path
    settings: dict[str, Any]
    fingerprint: data.Fingerprint
    training: data.Source
    validation: data.Source
    graph: Any
    optimizer: optax.GradientTransformation
    class_weights: Float[Array, " k"]
    augmentation: Augmentation
    hardening: Hardening
    epochs: int
    resize: str
    sides: tuple[int, ...]
    batch_size: int
    label_smoothing: float
    average: float
    dtype: str
    remat: bool
    select: Select
    patience: int | None
    save_minutes: float
    save_steps: int | None
    seed: int
    verbose: bool

    def __post_init__(self) -> None:
        """Refuses sides and a patience that cannot be."""
        *smaller, size = self.sides
        if not all(models.MIN_SIZE <= side <= size for side in smaller):
            raise ValueError(
                f"progressive sides go from {models.MIN_SIZE} to {size}, the image size, "
                f"got {tuple(smaller)}"
            )
        if len(smaller) >= self.epochs:
            raise ValueError(
                f"progressive sides are of fewer than all {self.epochs} epochs, the last of which "
                f"are at {size}, got {tuple(smaller)}"
            )
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is a number of epochs, at least 1, got {self.patience}")

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.training) // self.batch_size

    def side(self, epoch: int) -> int:
        """The side of the images in an epoch, counted from 0."""
        return self.sides[min(epoch, len(self.sides) - 1)]

    def step_at(self, size: int, placed: jax.sharding.Sharding) -> Any:
        """The training step for images of a side, its new state on the devices of `placed`."""
        return make_step(
            self.graph,
            self.optimizer,
            augmentation=self.augmentation,
            hardening=self.hardening,
            label_smoothing=self.label_smoothing,
            average=self.average,
            dtype=self.dtype,
            remat=self.remat,
            seed=self.seed,
            size=size,
            placed=placed,
        )


def balanced_weights(labels: Int[np.ndarray, " n"], classes: int) -> Float[Array, " k"]:
    """The weights n / (k n_c) of the classes, whose mean over the images is 1.

    Args:
      labels: of the n images.
      classes: k.

    Returns:
      (k,), one weight a class.

    Example:
      >>> balanced_weights(np.array([0, 0, 0, 0, 1, 1]), 2).tolist()
      [0.75, 1.5]
    """
    counts = np.bincount(labels, minlength=classes)
    return jnp.asarray(len(labels) / (classes * np.maximum(counts, 1)), jnp.float32)
