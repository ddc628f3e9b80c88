"""The models of an evaluation: those that are attacked, and those that judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Integer

from bfjax import models
from bfjax.attack import ensemble
from bfjax.types import Predict


@dataclasses.dataclass(frozen=True)
class Target:
    """A model on which adversarial images are made, or that judges them."""

    name: str
    predict: Predict
    config: models.Checkpoint


def load(text: str) -> Target:
    """A checkpoint, or several as one.

    Args:
      text: its folder; several, joined by plus signs, answer with the mean of their logits.

    Returns:
      The model, named after its folder.

    Raises:
      ValueError: a checkpoint is damaged, or several do not fit together.
      FileNotFoundError: there is none.
    """
    paths = [Path(part) for part in ([text] if Path(text).exists() else text.split("+"))]
    found = [Target(p.resolve().name, models.load(p), models.load_config(p)) for p in paths]
    if len(found) == 1:
        return found[0]
    check(found)
    whole = {what: "+".join(getattr(t.config, what) for t in found) for what in _OF_ALL}
    return Target(
        "+".join(target.name for target in found),
        ensemble([target.predict for target in found]),
        dataclasses.replace(found[0].config, **whole),
    )


_OF_ALL = ("sha256", "architecture")


def check(targets: Sequence[Target]) -> None:
    """Makes sure that models can judge the same images, and are told apart.

    Args:
      targets: the models.

    Raises:
      ValueError: naming the two that do not fit.
    """
    names = [target.name for target in targets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two models are called {twice[0]}: rename one of the folders")
    first, *others = targets
    for other in others:
        for what in ("class_names", "image_size", "resize"):
            one, two = getattr(first.config, what), getattr(other.config, what)
            if one != two:
                raise ValueError(f"{what} of {first.name} is {one}, of {other.name} {two}")


def answers(
    target: Target,
    images: Float[Array, "batch h w c"],
    labels: Integer[np.ndarray, " n"],
) -> dict[str, Any]:
    """What a model says of some images.

    Args:
      target: the model.
      images: in [0, 1], on one device or several.
      labels: the classes of the first n of them; the rest is there to fill the batch.

    Returns:
      The predictions as names, and the scores of the true classes.

    Raises:
      ValueError: its logits are not finite.
    """
    logits = np.asarray(_logits(target.predict, images), np.float64)[: len(labels)]
    if not np.isfinite(logits).all():
        raise ValueError(f"{target.name} gives NaN or infinite logits; its weights are bad")
    scores = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return {
        "prediction": [target.config.class_names[i] for i in logits.argmax(1)],
        "score": scores[np.arange(len(labels)), labels],
    }


@jax.jit
def _logits(predict, images):
    return jax.vmap(predict)(images)
