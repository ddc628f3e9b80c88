"""What every classifier does around its own layers: normalise, pool, drop out, and answer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from bfjax.models.convolution import Activation, Convolved
from bfjax.models.layers import Dense
from bfjax.models.remat import rematerialized
from bfjax.models.settings import Settings
from bfjax.types import PRNGKey, as_key


class Classifier(nnx.Module):
    """Images in [0, 1] to logits; a network adds its layers and `features`.

    The weights are zeros: `bfjax.models.build` draws them.

    Attributes:
      config: the network's settings.
      head: from the mean of the last activations to the logits.
      remat: whether the gradient in training computes each block's activations once more, from
        its input, instead of keeping them: less memory, more time.
    """

    config: Settings
    head: Dense
    remat: bool = False

    def features(
        self, x: Float[Array, "*batch h w planes"], *, training: bool
    ) -> Float[Array, "*batch h2 w2 c"]:
        """The last activations of normalised images."""
        raise NotImplementedError

    def through(self, block: Any, x: Activation, *, training: bool) -> Convolved:
        """The activations after a block; between blocks lies all that `remat` keeps.

        Args:
          block: a module that takes activations.
          x: (..., h, w, c).
          training: as of the block.

        Returns:
          What the block returns.
        """
        if training and self.remat:
            return rematerialized(block, x)
        return block(x, training=training)

    def __call__(
        self,
        x: Float[Array, "*batch h w c"],
        *,
        training: bool = False,
        key: PRNGKey | None = None,
    ) -> Float[Array, "*batch classes"]:
        """The logits of images.

        Args:
          x: (..., h, w, c) in [0, 1], h and w at least 32; a grey image given to an RGB model is
            taken as three equal channels.
          training: normalise by the batch, and update the running averages.
          key: for dropout, needed only where it is in use.

        Returns:
          (..., classes), in the type of `x`.

        Raises:
          ValueError: the image's shape does not fit, or dropout lacks its key.
        """
        x = self.features(self.config.normalize(x), training=training).mean((-3, -2))
        if training and (rate := self.config.dropout):
            if key is None:
                raise ValueError("dropout needs a key in training")
            x = jnp.where(jax.random.bernoulli(as_key(key), 1 - rate, x.shape), x / (1 - rate), 0)
        return self.head(x)
