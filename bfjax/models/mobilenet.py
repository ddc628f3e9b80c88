"""MobileNet V1, the network that Google's and Keras' ImageNet weights belong to.

Reference:
    Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications, 2017, https://arxiv.org/abs/1704.04861, Table 1.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from bfjax.models.layers import ConvNorm, Dense, check_image, relu6
from bfjax.types import PRNGKey

# (stride, channels) of the thirteen depthwise-separable blocks, Table 1
_BLOCKS = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512), (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024)),
)


@dataclasses.dataclass(frozen=True)
class MobileNetV1Config:
    """What makes one MobileNet V1 differ from another.

    Attributes:
      num_classes: how many logits, at least 1.
      channels: 1 (grey) or 3 (RGB), of the images that it takes.
      width: every layer's channels are multiplied by this.
      bn_epsilon: ε of the batch normalisations; 1e-3 is Google's and Keras'.
      bn_momentum: the share of the running averages that a training step keeps; Keras' 0.99
        is too slow for fine-tuning over a few hundred steps.
      dropout: the share of features dropped before the classifier, in training only.
      padding: of the 3×3 layers, ``"same"`` (TensorFlow's and Keras') or ``"symmetric"`` (one
        zero on each side, PyTorch's).

    Raises:
      ValueError: a field is out of its range.
    """

    num_classes: int = 2
    channels: int = 1
    width: float = 1.0
    bn_epsilon: float = 1e-3
    bn_momentum: float = 0.9
    dropout: float = 0.0
    padding: str = "same"

    def __post_init__(self):
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels}")
        if int(32 * self.width) < 1:
            raise ValueError(f"width must leave the stem at least a channel, got {self.width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.padding not in ("same", "symmetric"):
            raise ValueError(f"padding must be 'same' or 'symmetric', got {self.padding!r}")


class SeparableBlock(nnx.Module):
    """A depthwise 3×3 and a pointwise 1×1 convolution, each normalised and cut by relu6."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, config: MobileNetV1Config):
        norm = {"epsilon": config.bn_epsilon, "momentum": config.bn_momentum}
        padding = "same" if config.padding == "same" else 1
        self.depthwise = ConvNorm((3, 3, c_in), stride=stride, padding=padding, **norm)
        self.pointwise = ConvNorm((1, 1, c_in, c_out), **norm)

    def __call__(
        self, x: Float[Array, "*batch h w c"], *, training: bool = False
    ) -> Float[Array, "*batch h2 w2 c2"]:
        """(..., h, w, c) to (..., ⌈h/stride⌉, ⌈w/stride⌉, c')."""
        x = relu6(self.depthwise(x, training=training))
        return relu6(self.pointwise(x, training=training))


class MobileNetV1(nnx.Module):
    """MobileNet V1: images in [0, 1] to logits, normalisation (2x − 1) inside.

    The weights are zeros: `bfjax.models.build` draws them.

    Example:
      >>> model = MobileNetV1(MobileNetV1Config(num_classes=3, width=0.25))
      >>> jax.eval_shape(model, jnp.zeros((2, 64, 64, 1))).shape
      (2, 3)
    """

    def __init__(self, config: MobileNetV1Config):
        self.config = config
        scaled = [(stride, int(c * config.width)) for stride, c in _BLOCKS]
        c_in = int(32 * config.width)
        self.stem = ConvNorm(
            (3, 3, config.channels, c_in),
            stride=2,
            padding="same" if config.padding == "same" else 1,
            epsilon=config.bn_epsilon,
            momentum=config.bn_momentum,
        )
        blocks = []
        for stride, c_out in scaled:
            blocks.append(SeparableBlock(c_in, c_out, stride, config=config))
            c_in = c_out
        self.blocks = nnx.List(blocks)
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
          x: (..., h, w, c) in [0, 1], h and w at least 32; a grey image given to an RGB model is
            taken as three equal channels.
          training: normalise by the batch, and update the running averages.
          key: for dropout, needed only where it is in use.

        Returns:
          (..., classes), in the type of `x`.

        Raises:
          ValueError: the image's shape does not fit, or dropout lacks its key.
        """
        x = check_image(x, channels=self.config.channels)
        x = relu6(self.stem(2 * x - 1, training=training))
        for block in self.blocks:
            x = block(x, training=training)
        x = x.mean((-3, -2))
        if training and self.config.dropout:
            if key is None:
                raise ValueError("dropout needs a key in training")
            keep = jax.random.bernoulli(key, 1 - self.config.dropout, x.shape)
            x = jnp.where(keep, x / (1 - self.config.dropout), 0)
        return self.head(x)
