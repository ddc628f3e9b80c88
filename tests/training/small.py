"""A small data set and a small network that learns it, for the tests of training."""

import dataclasses

import jax
import numpy as np
from flax import nnx

from bfjax import data
from bfjax.models.layers import ConvNorm, Dense
from bfjax.training import TrainConfig


class Stripes(data.Source):
    """Grey noise with horizontal (0) or vertical (1) stripes, two images of each patient."""

    class_names = ("horizontal", "vertical")

    def __init__(self, count, *, size=32, seed=0, bits=8):
        self.count, self.size, self.seed, self.bits = count, size, seed, bits

    labels = property(lambda self: np.arange(self.count) // 2 % 2)
    groups = property(lambda self: [f"p{i // 2}" for i in range(self.count)])
    names = property(lambda self: [f"{i}.png" for i in range(self.count)])

    def __len__(self):
        return self.count

    def _record(self, index):
        generator = np.random.default_rng([self.seed, index])
        wave = np.sin(np.arange(self.size) * generator.uniform(0.8, 1.2) + generator.uniform(0, 6))
        label = int(self.labels[index])
        image = 0.5 + 0.2 * (wave[None, :] if label else wave[:, None])
        image = np.clip(image + generator.normal(0, 0.1, (self.size, self.size)), 0, 1)
        full = 2**self.bits - 1
        return {
            "image": np.round(full * image).astype(f"uint{self.bits}")[..., None],
            "label": label,
            "name": self.names[index],
            "cause": "",
            "group": self.groups[index],
        }


@dataclasses.dataclass(frozen=True)
class TinyConfig:
    num_classes: int = 2
    channels: int = 1


class Tiny(nnx.Module):
    def __init__(self, config):
        self.config = config
        norm = {"epsilon": 1e-3, "momentum": 0.8}
        self.first = ConvNorm((3, 3, config.channels, 8), stride=2, **norm)
        self.second = ConvNorm((3, 3, 8), stride=2, **norm)
        self.head = Dense(8, config.num_classes)

    def __call__(self, x, *, training=False, key=None):
        x = jax.nn.relu(self.first(x, training=training))
        x = jax.nn.relu(self.second(x, training=training))
        return self.head(x.mean((-3, -2)))


def config(out, **changes):
    settings = {
        "model": "tiny",
        "image_size": 32,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.03,
        "validation": 0.2,
        "shift": 0.1,
        "rotation": 0.0,
        "scale": 0.0,
    }
    return TrainConfig(data="stripes", out=out, **(settings | changes))


SOURCE, TEST = Stripes(96), Stripes(30, seed=1)
