"""ResNet50, the network that torchvision's, timm's and Keras' ImageNet weights belong to.

Reference:
    He et al., Deep Residual Learning for Image Recognition, 2015,
    https://arxiv.org/abs/1512.03385, Table 1.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from bfjax.models.classifier import Classifier
from bfjax.models.layers import Dense
from bfjax.models.pooling import max_pool
from bfjax.models.settings import Settings

# (blocks, channels of their 3×3 convolution, stride of the first), Table 1
_STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
_EXPANSION = 4

KERAS: dict[str, Any] = {
    "strided": "1x1",
    "bn_epsilon": 1.001e-5,
    "mean": (123.68 / 255, 116.779 / 255, 103.939 / 255),
    "std": (1 / 255, 1 / 255, 1 / 255),
}
"""The settings that `keras.applications.ResNet50` and its preprocessing (Caffe's) amount to."""


@dataclasses.dataclass(frozen=True)
class ResNet50Config(Settings):
    """What makes one ResNet50 differ from another; as it stands, torchvision's and timm's.

    Keras' convolutions have a bias and see BGR. Neither is a setting: a bias before a batch
    normalisation only shifts its running mean, and the order of the channels only permutes the
    stem's kernel, so the importer puts both where they belong, exactly.

    Attributes:
      strided: where a block that halves the image does so, in its ``"3x3"`` (torchvision's,
        called v1.5) or its first ``"1x1"`` convolution (the paper's and Keras').

    Raises:
      ValueError: a field is out of its range.
    """

    strided: str = "3x3"

    def __post_init__(self):
        super().__post_init__()
        if self.strided not in ("1x1", "3x3"):
            raise ValueError(f"strided must be '1x1' or '3x3', got {self.strided!r}")


class Bottleneck(nnx.Module):
    """``relu(F(x) + shortcut(x))``: 1×1 to fewer channels, 3×3, and 1×1 to four times as many."""

    def __init__(self, c_in: int, c: int, stride: int, *, config: ResNet50Config):
        c_out = _EXPANSION * c
        strides = (stride, 1) if config.strided == "1x1" else (1, stride)
        self.reduce = config.conv_norm(1, 1, c_in, c, stride=strides[0])
        self.convolve = config.conv_norm(3, 3, c, c, stride=strides[1], padding=1)
        self.expand = config.conv_norm(1, 1, c, c_out)
        widens = stride > 1 or c_in != c_out
        self.shortcut = nnx.data(
            config.conv_norm(1, 1, c_in, c_out, stride=stride) if widens else None
        )

    def __call__(
        self, x: Float[Array, "*batch h w c"], *, training: bool = False
    ) -> Float[Array, "*batch h2 w2 c2"]:
        """(..., h, w, c) to (..., ⌈h/stride⌉, ⌈w/stride⌉, c')."""
        y = jax.nn.relu(self.reduce(x, training=training))
        y = jax.nn.relu(self.convolve(y, training=training))
        y = self.expand(y, training=training)
        return jax.nn.relu(y + (self.shortcut(x, training=training) if self.shortcut else x))


class ResNet50(Classifier):
    """ResNet50: images in [0, 1] to logits, normalisation inside.

    The weights are zeros: `bfjax.models.build` draws them.

    Example:
      >>> import jax.numpy as jnp
      >>> model = ResNet50(ResNet50Config(num_classes=3, width=0.125))
      >>> model(jnp.zeros((2, 32, 32, 1))).shape
      (2, 3)
    """

    def __init__(self, config: ResNet50Config):
        self.config = config
        c_in = int(64 * config.width)
        self.stem = config.conv_norm(7, 7, config.planes, c_in, stride=2, padding=3)
        stages = []
        for blocks, channels, stride in _STAGES:
            c, stage = int(channels * config.width), []
            for i in range(blocks):
                stage.append(Bottleneck(c_in, c, 1 if i else stride, config=config))
                c_in = _EXPANSION * c
            stages.append(nnx.List(stage))
        self.stages = nnx.List(stages)
        self.head = Dense(c_in, config.num_classes)

    def features(
        self, x: Float[Array, "*batch h w planes"], *, training: bool
    ) -> Float[Array, "*batch h2 w2 c"]:
        """The last activations of normalised images."""
        x = max_pool(jax.nn.relu(self.stem(x, training=training)))
        for stage in self.stages:
            for block in stage:
                x = self.through(block, x, training=training)
        return x
