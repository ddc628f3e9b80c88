"""A small plain network, for demos and tests: it learns from a few hundred images in a minute."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from bfjax.models.layers import ConvNorm, Dense, check_image
from bfjax.types import PRNGKey

# (stride, channels) of the 3×3 layers
_LAYERS = ((2, 16), (1, 16), (2, 32), (1, 32), (2, 64), (1, 64))


@dataclasses.dataclass(frozen=True)
class ConvNetConfig:
    """What makes one small network differ from another.

    Attributes:
      num_classes: how many logits, at least 1.
      channels: 1 (grey) or 3 (RGB), of the images that it takes.
      width: every layer's channels are multiplied by this.
      bn_epsilon: ε of the batch normalisations.
      bn_momentum: the share of the running averages that a training step keeps.

    Raises:
      ValueError: a field is out of its range.
    """

    num_classes: int = 2
    channels: int = 1
    width: float = 1.0
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9

    def __post_init__(self):
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels}")
        if int(_LAYERS[0][1] * self.width) < 1:
            raise ValueError(f"width must leave each layer a channel, got {self.width}")


class ConvNet(nnx.Module):
    """Six 3×3 convolutions and a global average: images in [0, 1] to logits.

    The weights are zeros: `bfjax.models.build` draws them.

    Example:
      >>> model = ConvNet(ConvNetConfig(num_classes=3))
      >>> model(jnp.zeros((2, 64, 64, 1))).shape
      (2, 3)
    """

    def __init__(self, config: ConvNetConfig):
        self.config = config
        layers, c_in = [], config.channels
        for stride, channels in _LAYERS:
            c_out = int(channels * config.width)
            layers.append(
                ConvNorm(
                    (3, 3, c_in, c_out),
                    stride=stride,
                    epsilon=config.bn_epsilon,
                    momentum=config.bn_momentum,
                )
            )
            c_in = c_out
        self.layers = nnx.List(layers)
        self.head = Dense(c_in, config.num_classes)

    def __call__(
        self,
        x: Float[Array, "*batch h w c"],
        *,
        training: bool = False,
        key: PRNGKey | None = None,
    ) -> Float[Array, "*batch classes"]:
        """The logits of images.

        Args:
          x: (..., h, w, c) in [0, 1], h and w at least 32.
          training: normalise by the batch, and update the running averages.
          key: not used; the network draws nothing.

        Returns:
          (..., classes), in the type of `x`.

        Raises:
          ValueError: the image's shape does not fit.
        """
        del key
        x = 2 * check_image(x, channels=self.config.channels) - 1
        for layer in self.layers:
            x = jax.nn.relu(layer(x, training=training))
        return self.head(jnp.mean(x, (-3, -2)))
