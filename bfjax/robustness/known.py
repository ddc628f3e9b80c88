"""What an audit knows of each image: the worst light found so far, and the least uneven one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bfjax.attack import is_wrong
from bfjax.robustness import programs
from bfjax.robustness.random_search import margin_of
from bfjax.robustness.threat import Threat
from bfjax.types import Predict


class Known:
    """What is known of n images.

    Attributes:
      smallest: (n,), the least log-range at which an image was found to err.
      params: (n, p), c of that light.
      turned: (n, classes), the answers under it.
      worst: (t, n, classes), the answers under the worst light within each log-range.
      margins: (t, n), how far these err.
      gradients: (n,), spent so far.
      flags: see `FLAGS`.
      survived: (n,), whether all attacks failed within the largest range that is not decided.
      followed: (n,), whether light that followed a gradient turned it.
      tiers: (t,), the log-ranges; `limits` are these with room for rounding.
    """

    params: np.ndarray
    turned: np.ndarray
    worst: np.ndarray
    margins: np.ndarray

    def __init__(
        self,
        predict: Predict,
        images: np.ndarray,
        labels: np.ndarray,
        threat: Threat,
        tiers: list[float],
        batch_size: int,
        names: list[str] | None,
    ):
        self.names = names or [f"image {i}" for i in range(len(images))]
        self.predict, self.images, self.labels, self.threat = predict, images, labels, threat
        self.tiers, self.batch_size = np.asarray(tiers), min(batch_size, len(images))
        self.limits = self.tiers * (1 + 1e-5)  # what is within a range may exceed it by rounding
        count = len(images)
        self.smallest, self.gradients = np.full(count, np.inf), np.zeros(count)
        self.flags: dict[str, Any] = {}
        self.survived, self.followed = np.zeros((2, count), bool)

    def of(self, chosen: np.ndarray) -> tuple[Array, Array]:
        """Images and labels of some numbers."""
        return jnp.asarray(self.images[chosen]), jnp.asarray(self.labels[chosen])

    def margin(self, logits: np.ndarray, chosen: Any = slice(None)) -> np.ndarray:
        """How far the answers err."""
        return self.mapped(margin_of, logits, chosen)

    def wrong(self, logits: np.ndarray, chosen: Any = slice(None)) -> np.ndarray:
        """Whether they do."""
        return self.mapped(is_wrong, logits, chosen)

    def mapped(self, function: Any, logits: np.ndarray, chosen: Any = slice(None)) -> np.ndarray:
        """A function of logits and label, of each image."""
        return np.asarray(jax.vmap(function)(jnp.asarray(logits), jnp.asarray(self.labels[chosen])))

    def offer(self, chosen: np.ndarray, params: np.ndarray, logits: np.ndarray) -> None:
        """A light of each of some images: perhaps the worst within a range, or the least uneven."""
        self.check_answers(logits, chosen)
        sizes = np.asarray(jax.vmap(self.threat.size)(jnp.asarray(params)))
        margins, wrong = self.margin(logits, chosen), self.wrong(logits, chosen)
        less = wrong & (sizes < self.smallest[chosen])
        self.smallest[chosen[less]] = sizes[less]
        self.params[chosen[less]] = params[less]
        self.turned[chosen[less]] = logits[less]
        for t, limit in enumerate(self.limits):
            worse = (sizes <= limit) & (margins > self.margins[t, chosen])
            self.margins[t, chosen[worse]] = margins[worse]
            self.worst[t, chosen[worse]] = logits[worse]

    def weaken(self) -> None:
        """Each light that turns an image, made as weak along its own line as still does."""
        turned = (self.smallest > 0) & np.isfinite(self.smallest)
        for chosen, real in programs.batches(np.flatnonzero(turned), self.batch_size):
            params = jnp.asarray(self.params[chosen])
            found = programs.weakest(self.threat, self.predict, *self.of(chosen), params)
            params, logits = (np.asarray(leaf)[real] for leaf in found)
            self.offer(chosen[real], params, logits)
            self.gradients[chosen[real]] += (programs.HALVINGS + 1) / 3

    def check_answers(self, logits: np.ndarray, chosen: np.ndarray) -> None:
        """NaN is neither right nor wrong."""
        unknown = np.isnan(logits).any(-1)
        if unknown.any():
            raise ValueError(
                f"the classifier answers NaN at {self.names[chosen[unknown][0]]} or under light "
                "on it: no class is right or wrong then"
            )
