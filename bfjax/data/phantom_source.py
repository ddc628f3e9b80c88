"""Phantoms as a data source: endless, balanced, split without overlap."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Int64

from bfjax.data.phantom import Phantom, phantom
from bfjax.data.source import Record, Source

SPLITS = ("train", "val", "test")

_DEFAULT_NUM_EXAMPLES = {"train": 512, "val": 128, "test": 128}


class PhantomSource(Source):
    """Phantoms as records, drawn when they are read; every other one is positive.

    Args:
      split: "train", "val" or "test"; no phantom occurs in two of them.
      num_examples: how many; by default 512, 128 and 128.
      image_size: side of the square in pixels, at least 16.
      seed: another seed gives other phantoms in every split.

    Raises:
      ValueError: an unknown split, or a size, number or seed out of range.

    Example:
      >>> source = PhantomSource("train", num_examples=3, image_size=32)
      >>> source.labels.tolist(), source[0]["name"]
      ([0, 1, 0], 'NORMAL/phantom0-train-00000.png')
    """

    class_names = ("NORMAL", "PNEUMONIA")

    def __init__(
        self,
        split: str,
        *,
        num_examples: int | None = None,
        image_size: int = 224,
        seed: int = 0,
    ):
        if split not in SPLITS:
            raise ValueError(f"phantom has no split {split!r}; it has {', '.join(SPLITS)}")
        if num_examples is None:
            num_examples = _DEFAULT_NUM_EXAMPLES[split]
        if num_examples < 1:
            raise ValueError(f"num_examples must be at least 1, got {num_examples}")
        if image_size < 16:
            raise ValueError(f"image_size must be at least 16 for phantoms, got {image_size}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self._split, self._length, self._size, self._seed = split, num_examples, image_size, seed

    @functools.cached_property
    def names(self) -> list[str]:
        """Name of every record, in order."""
        return [f"{self.class_names[i % 2]}/{g}.png" for i, g in enumerate(self.groups)]

    @functools.cached_property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """Label of every record, in order."""
        return np.arange(self._length, dtype=np.int64) % 2

    @functools.cached_property
    def groups(self) -> list[str]:
        """Every phantom is a patient of its own."""
        return [f"phantom{self._seed}-{self._split}-{i:05}" for i in range(self._length)]

    def draw(self, index: int) -> Phantom:
        """The phantom behind a record, with its masks.

        Args:
          index: of the record, at least 0.

        Returns:
          The image of `self[index]` and where its lungs, heart and opacities are.

        Example:
          >>> source = PhantomSource("test", num_examples=2, image_size=32)
          >>> bool((source.draw(1).image == source[1]["image"]).all())
          True
        """
        seed = (self._seed, SPLITS.index(self._split), index)
        return phantom(seed, size=self._size, positive=index % 2 == 1)

    def content(self, index: int) -> bytes:
        """What a phantom is drawn from."""
        return f"phantom {self._seed} {self._split} {index} {self._size}".encode()

    def _record(self, index: int) -> Record:
        return Record(
            image=self.draw(index).image,
            label=index % 2,
            name=self.names[index],
            cause="",
            group=self.groups[index],
        )

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return (
            f"PhantomSource({self._split!r}, num_examples={self._length}, "
            f"image_size={self._size}, seed={self._seed})"
        )
