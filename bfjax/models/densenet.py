"""DenseNet121, the network that torchvision's, timm's and Keras' ImageNet weights belong to.

Reference:
    Huang et al., Densely Connected Convolutional Networks, 2016,
    https://arxiv.org/abs/1608.06993, Table 1.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from bfjax.models.classifier import Classifier
from bfjax.models.dense_block import FrozenLayer, dense_block
from bfjax.models.layers import Affine, Bias, Conv, Dense
from bfjax.models.pooling import average_pool, max_pool
from bfjax.models.settings import Settings

# layers of each dense block, channels that a layer adds, and the stem's; Table 1
_BLOCKS = (6, 12, 24, 16)
_GROWTH = 32
_STEM = 64
_BOTTLENECK = 4  # a layer's 1×1 convolution has this many times its channels

KERAS: dict[str, Any] = {"bn_epsilon": 1.001e-5}
"""The settings that `keras.applications.DenseNet121` amounts to, its preprocessing PyTorch's."""


@dataclasses.dataclass(frozen=True)
class DenseNet121Config(Settings):
    """What makes one DenseNet121 differ from another; as it stands, torchvision's and timm's.

    Raises:
      ValueError: a field is out of its range.
    """


class DenseLayer(nnx.Module):
    """Adds channels: ``[x, F(x)]``, with normalisation and relu before each convolution."""

    def __init__(self, c_in: int, growth: int, *, config: DenseNet121Config):
        c = _BOTTLENECK * growth
        self.preactivation = config.preactivation(c_in)
        # the normalisation before the second convolution comes right after the first
        self.reduce = config.conv_norm(1, 1, c_in, c)
        self.grow = Conv(3, 3, c, growth)

    def __call__(
        self, x: Float[Array, "*batch h w c"], *, training: bool = False
    ) -> Float[Array, "*batch h w c2"]:
        """(..., h, w, c) to (..., h, w, c + growth)."""
        y = self.reduce(self.preactivation(x, training=training), training=training)
        return jnp.concatenate([x, self.grow(jax.nn.relu(y))], -1)

    def frozen(self) -> FrozenLayer:
        """The same layer for `dense_block`, once its normalisations are folded."""
        before, after = self.preactivation.norm, self.reduce.norm
        if not (isinstance(before, Affine) and isinstance(after, Bias)):
            raise ValueError("this layer still has batch normalisations: freeze the model first")
        of_both = before.gain[...], before.shift[...], self.reduce.kernel[...], after.bias[...]
        return FrozenLayer(*of_both, self.grow.kernel[...])


class Transition(nnx.Module):
    """Between two blocks: half the channels, half the size."""

    def __init__(self, c_in: int, *, config: DenseNet121Config):
        self.preactivation = config.preactivation(c_in)
        self.reduce = Conv(1, 1, c_in, c_in // 2)

    def __call__(
        self, x: Float[Array, "*batch h w c"], *, training: bool = False
    ) -> Float[Array, "*batch h2 w2 c2"]:
        """(..., h, w, c) to (..., ⌊h/2⌋, ⌊w/2⌋, ⌊c/2⌋)."""
        # The paper pools last. A mean of pixels and a 1×1 convolution commute, and this order
        # multiplies a quarter as often.
        return self.reduce(average_pool(self.preactivation(x, training=training)))


class DenseNet121(Classifier):
    """DenseNet121: images in [0, 1] to logits, normalisation inside.

    The weights are zeros: `bfjax.models.build` draws them.

    Example:
      >>> model = DenseNet121(DenseNet121Config(num_classes=3, width=0.125))
      >>> jax.eval_shape(model, jnp.zeros((2, 32, 32, 1))).shape
      (2, 3)
    """

    def __init__(self, config: DenseNet121Config):
        self.config = config
        c, growth = int(_STEM * config.width), int(_GROWTH * config.width)
        self.stem = config.conv_norm(7, 7, config.planes, c, stride=2, padding=3)
        blocks, transitions = [], []
        for i, layers in enumerate(_BLOCKS):
            if i > 0:
                transitions.append(Transition(c, config=config))
                c //= 2
            wider = range(c, c + layers * growth, growth)
            blocks.append(nnx.List([DenseLayer(c, growth, config=config) for c in wider]))
            c += layers * growth
        self.blocks = nnx.List(blocks)
        self.transitions = nnx.List(transitions)
        self.preactivation = config.preactivation(c)
        self.head = Dense(c, config.num_classes)

    def features(
        self, x: Float[Array, "*batch h w planes"], *, training: bool
    ) -> Float[Array, "*batch h2 w2 c"]:
        """The last activations of normalised images."""
        x = max_pool(jax.nn.relu(self.stem(x, training=training)))
        for i, block in enumerate(self.blocks):
            if i > 0:
                x = self.through(self.transitions[i - 1], x, training=training)
            if isinstance(self.preactivation.norm, Affine):
                x = dense_block(x, [layer.frozen() for layer in block])
                continue
            for layer in block:
                x = self.through(layer, x, training=training)
        return self.preactivation(x, training=training)
