"""MobileNet V2, the network that torchvision's, timm's and Keras' ImageNet weights belong to.

Reference:
    Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018,
    https://arxiv.org/abs/1801.04381, Table 2.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from bfjax.models.classifier import Classifier
from bfjax.models.layers import Dense, relu6
from bfjax.models.settings import Settings

# (expansion, channels, blocks, stride of the first), Table 2
_STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
_FEATURES = 1280

KERAS: dict[str, Any] = {"bn_epsilon": 1e-3, "padding": "same", "mean": (0.5,), "std": (0.5,)}
"""The settings that `keras.applications.MobileNetV2` and its preprocessing amount to."""


@dataclasses.dataclass(frozen=True)
class MobileNetV2Config(Settings):
    """What makes one MobileNet V2 differ from another; as it stands, torchvision's and timm's.

    Attributes:
      padding: of the 3×3 layers, ``"symmetric"`` (one zero on each side, PyTorch's) or ``"same"``
        (TensorFlow's and Keras').

    Raises:
      ValueError: a field is out of its range.
    """

    padding: str = "symmetric"

    def __post_init__(self):
        super().__post_init__()
        if self.padding not in ("same", "symmetric"):
            raise ValueError(f"padding must be 'same' or 'symmetric', got {self.padding!r}")


def round_channels(channels: float) -> int:
    """The multiple of 8 nearest to a scaled number of channels, and at least nine tenths of it.

    Args:
      channels: how many there would be.

    Returns:
      How many there are, at least 8.

    Example:
      >>> [round_channels(c) for c in (3, 12, 19, 33.6)]
      [8, 16, 24, 32]
    """
    nearest = max(8, int(channels / 8 + 0.5) * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class InvertedResidual(nnx.Module):
    """1×1 to more channels, a depthwise 3×3, and 1×1 back to few, without a last relu6."""

    def __init__(
        self, c_in: int, c_out: int, expansion: int, stride: int, *, config: MobileNetV2Config
    ):
        c = expansion * c_in
        padding = "same" if config.padding == "same" else 1
        self.expand = nnx.data(config.conv_norm(1, 1, c_in, c) if expansion > 1 else None)
        self.depthwise = config.conv_norm(3, 3, c, stride=stride, padding=padding)
        self.project = config.conv_norm(1, 1, c, c_out)
        self.residual = stride == 1 and c_in == c_out

    def __call__(
        self, x: Float[Array, "*batch h w c"], *, training: bool = False
    ) -> Float[Array, "*batch h2 w2 c2"]:
        """(..., h, w, c) to (..., ⌈h/stride⌉, ⌈w/stride⌉, c')."""
        y = relu6(self.expand(x, training=training)) if self.expand else x
        y = relu6(self.depthwise(y, training=training))
        y = self.project(y, training=training)
        return x + y if self.residual else y


class MobileNetV2(Classifier):
    """MobileNet V2: images in [0, 1] to logits, normalisation inside.

    The weights are zeros: `bfjax.models.build` draws them.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = MobileNetV2(MobileNetV2Config(num_classes=3, width=0.35))
      >>> jax.eval_shape(model, jnp.zeros((2, 32, 32, 1))).shape
      (2, 3)
    """

    def __init__(self, config: MobileNetV2Config):
        self.config = config
        c_in = round_channels(32 * config.width)
        self.stem = config.conv_norm(
            *(3, 3, config.planes, c_in),
            stride=2,
            padding="same" if config.padding == "same" else 1,
        )
        stages = []
        for expansion, channels, blocks, stride in _STAGES:
            c_out, stage = round_channels(channels * config.width), []
            for i in range(blocks):
                block = InvertedResidual(c_in, c_out, expansion, 1 if i else stride, config=config)
                stage.append(block)
                c_in = c_out
            stages.append(nnx.List(stage))
        self.stages = nnx.List(stages)
        features = round_channels(_FEATURES * max(1.0, config.width))
        self.last = config.conv_norm(1, 1, c_in, features)
        self.head = Dense(features, config.num_classes)

    def features(
        self, x: Float[Array, "*batch h w planes"], *, training: bool
    ) -> Float[Array, "*batch h2 w2 c"]:
        """The last activations of normalised images."""
        x = relu6(self.stem(x, training=training))
        for stage in self.stages:
            for block in stage:
                x = self.through(block, x, training=training)
        return relu6(self.last(x, training=training))
