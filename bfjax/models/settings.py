"""What the configs of the networks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from bfjax.models.convolution import per_channel
from bfjax.models.layers import ConvNorm, Preactivation, check_image


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of every network with normalisation inside, ``(x − mean) / std`` for each channel.

    A grey image is three equal channels. Where `mean` and `std` have one number, the three
    normalised channels are equal too, and a grey model's stem has one plane: the sum of RGB's
    three. Where they have three numbers, the normalised channels differ by constants that stop
    at the zero padding, so no single plane is exact: a grey model's stem then keeps three.

    Attributes:
      num_classes: how many logits, at least 1.
      channels: 1 (grey) or 3 (RGB), of the images that it takes.
      width: every layer's channels are multiplied by this.
      bn_epsilon: ε of the batch normalisations.
      bn_momentum: the share of the running averages that a training step keeps.
      mean: one number, or those of red, green and blue, for images in [0, 1]; kept as a tuple.
      std: as many numbers.
      dropout: the share of features dropped before the classifier, in training only.

    Raises:
      ValueError: a field is out of its range.
    """

    num_classes: int = 2
    channels: int = 1
    width: float = 1.0
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    dropout: float = 0.0

    def __post_init__(self):
        for name in ("mean", "std"):  # a checkpoint's JSON has lists, which cannot be hashed
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels}")
        if int(32 * self.width) < 1:
            raise ValueError(f"width must leave each layer a channel, got {self.width}")
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.std):
            raise ValueError(f"mean and std have 1 or 3 numbers, got {self.mean} and {self.std}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")

    @property
    def planes(self) -> int:
        """The channels of the normalised image, which the stem takes."""
        return max(self.channels, len(self.mean))

    def conv_norm(self, *shape: int, stride: int = 1, padding: str | int = "same") -> ConvNorm:
        """A convolution with a kernel of this shape, and its batch normalisation."""
        return ConvNorm(
            shape,
            stride=stride,
            padding=padding,
            epsilon=self.bn_epsilon,
            momentum=self.bn_momentum,
        )

    def preactivation(self, features: int) -> Preactivation:
        """A batch normalisation and a relu, before a convolution."""
        return Preactivation(features, epsilon=self.bn_epsilon, momentum=self.bn_momentum)

    def normalize(self, x: Float[Array, "*batch h w c"]) -> Float[Array, "*batch h w planes"]:
        """Images as the stem takes them.

        Args:
          x: (..., h, w, c) in [0, 1].

        Returns:
          (..., h, w, planes), in the type of `x`.

        Raises:
          ValueError: the image's shape does not fit.

        Example:
          >>> Settings(mean=(0.5,), std=(0.5,)).normalize(jnp.ones((32, 32, 1))).max().item()
          1.0
        """
        x = check_image(x, channels=self.channels)
        inverse = [1 / s for s in self.std]
        return (x - per_channel(jnp.array(self.mean), x)) * per_channel(jnp.array(inverse), x)
