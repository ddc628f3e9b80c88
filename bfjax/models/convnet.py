"""A small plain network, for demos and tests: it learns from a few hundred images in a minute."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
from flax import nnx
from jaxtyping import Array, Float

from bfjax.models.classifier import Classifier
from bfjax.models.layers import Dense
from bfjax.models.settings import Settings

# (stride, channels) of the 3×3 layers
_LAYERS = ((2, 16), (1, 16), (2, 32), (1, 32), (2, 64), (1, 64))


@dataclasses.dataclass(frozen=True)
class ConvNetConfig(Settings):
    """What makes one small network differ from another.

    Raises:
      ValueError: a field is out of its range.
    """

    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.5,)

    def __post_init__(self):
        super().__post_init__()
        if int(_LAYERS[0][1] * self.width) < 1:
            raise ValueError(f"width must leave each layer a channel, got {self.width}")


class ConvNet(Classifier):
    """Six 3×3 convolutions and a global average: images in [0, 1] to logits.

    The weights are zeros: `bfjax.models.build` draws them.

    Example:
      >>> import jax.numpy as jnp
      >>> model = ConvNet(ConvNetConfig(num_classes=3))
      >>> model(jnp.zeros((2, 64, 64, 1))).shape
      (2, 3)
    """

    def __init__(self, config: ConvNetConfig):
        self.config = config
        layers, c_in = [], config.planes
        for stride, channels in _LAYERS:
            c_out = int(channels * config.width)
            layers.append(config.conv_norm(3, 3, c_in, c_out, stride=stride))
            c_in = c_out
        self.layers = nnx.List(layers)
        self.head = Dense(c_in, config.num_classes)

    def features(
        self, x: Float[Array, "*batch h w planes"], *, training: bool
    ) -> Float[Array, "*batch h2 w2 c"]:
        """The last activations of normalised images."""
        for layer in self.layers:
            x = jax.nn.relu(layer(x, training=training))
        return x
