"""MobileNet V1, the network that Google's and Keras' ImageNet weights belong to.

Reference:
    Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications, 2017, https://arxiv.org/abs/1704.04861, Table 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Float

from bfjax.models.classifier import Classifier
from bfjax.models.layers import Dense, relu6
from bfjax.models.settings import Settings

# (stride, channels) of the thirteen depthwise-separable blocks, Table 1
_BLOCKS = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512), (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024)),
)


@dataclasses.dataclass(frozen=True)
class MobileNetV1Config(Settings):
    """What makes one MobileNet V1 differ from another; as it stands, Google's and Keras'.

    Their momentum of the running averages, 0.99, is too slow for fine-tuning over a few hundred
    steps: 0.9 is kept here.

    Attributes:
      padding: of the 3×3 layers, ``"same"`` (TensorFlow's and Keras') or ``"symmetric"`` (one
        zero on each side, PyTorch's).

    Raises:
      ValueError: a field is out of its range.
    """

    bn_epsilon: float = 1e-3
    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.5,)
    padding: str = "same"

    def __post_init__(self):
        super().__post_init__()
        if self.padding not in ("same", "symmetric"):
            raise ValueError(f"padding must be 'same' or 'symmetric', got {self.padding!r}")


class SeparableBlock(nnx.Module):
    """A depthwise 3×3 and a pointwise 1×1 convolution, each normalised and cut by relu6."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, config: MobileNetV1Config):
        padding = "same" if config.padding == "same" else 1
        self.depthwise = config.conv_norm(3, 3, c_in, stride=stride, padding=padding)
        self.pointwise = config.conv_norm(1, 1, c_in, c_out)

    def __call__(
        self, x: Float[Array, "*batch h w c"], *, training: bool = False
    ) -> Float[Array, "*batch h2 w2 c2"]:
        """(..., h, w, c) to (..., ⌈h/stride⌉, ⌈w/stride⌉, c')."""
        x = relu6(self.depthwise(x, training=training))
        return relu6(self.pointwise(x, training=training))


class MobileNetV1(Classifier):
    """MobileNet V1: images in [0, 1] to logits, normalisation inside.

    The weights are zeros: `bfjax.models.build` draws them.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = MobileNetV1(MobileNetV1Config(num_classes=3, width=0.25))
      >>> jax.eval_shape(model, jnp.zeros((2, 64, 64, 1))).shape
      (2, 3)
    """

    def __init__(self, config: MobileNetV1Config):
        self.config = config
        scaled = [(stride, int(c * config.width)) for stride, c in _BLOCKS]
        c_in = int(32 * config.width)
        self.stem = config.conv_norm(
            *(3, 3, config.planes, c_in),
            stride=2,
            padding="same" if config.padding == "same" else 1,
        )
        blocks = []
        for stride, c_out in scaled:
            blocks.append(SeparableBlock(c_in, c_out, stride, config=config))
            c_in = c_out
        self.blocks = nnx.List(blocks)
        self.head = Dense(c_in, config.num_classes)

    def features(
        self, x: Float[Array, "*batch h w planes"], *, training: bool
    ) -> Float[Array, "*batch h2 w2 c"]:
        """The last activations of normalised images."""
        x = relu6(self.stem(x, training=training))
        for block in self.blocks:
            x = self.through(block, x, training=training)
        return x
