"""What a data source is: records by index, and what is known of them without decoding."""

from __future__ import annotations

import abc
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple, SupportsIndex, TypedDict

import numpy as np
from jaxtyping import Int64

from bfjax.data.image import GreyImage, ImageError


class Record(TypedDict):
    """One image and what is known about it.

    Attributes:
      image: (h, w, 1), uint8 or uint16 (see `bfjax.data.to_float`).
      label: index into the source's `class_names`.
      name: class folder and file name, unique within the source.
      cause: `"bacteria"`, `"virus"`, or `""` where there is none or none is known.
      group: the patient; images of one patient share it.
    """

    image: GreyImage
    label: int
    name: str
    cause: str
    group: str


class Original(NamedTuple):
    """An image as its file holds it.

    Attributes:
      image: (h, w, 1) of its own size, uint8 or uint16.
      dicom: the file itself where it is DICOM, else `None`.
    """

    image: GreyImage
    dicom: bytes | None = None


class Source(abc.ABC):
    """A random-access source of records, as Grain takes it (`grain.MapDataset.source(source)`).

    Sources are cheap to make and to pickle: they hold names, and open files where they are read.

    Attributes:
      class_names: the classes in the order of the labels; none where the labels are not known,
        and are then all -1 (see `Labelled`).
    """

    class_names: tuple[str, ...]

    @property
    @abc.abstractmethod
    def names(self) -> list[str]:
        """Name of every record, in order, without decoding an image."""

    @property
    @abc.abstractmethod
    def labels(self) -> Int64[np.ndarray, " records"]:
        """Label of every record, in order, without decoding an image."""

    @property
    @abc.abstractmethod
    def groups(self) -> list[str]:
        """Patient of every record, in order, without decoding an image."""

    @abc.abstractmethod
    def _record(self, index: int) -> Record:
        """The record at `index`, which lies in [0, len)."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many records there are."""

    def original(self, index: int) -> Original:
        """The image of a record before it was brought to the size of the source.

        Args:
          index: of the record, at least 0.

        Returns:
          The image; that of the record where it has no other size.

        Raises:
          ImageError: the file cannot be decoded.
          OSError: it cannot be read.
        """
        return Original(self[index]["image"])

    def content(self, index: int) -> bytes:
        """What a record is made of, to tell it from others: its file, where it has one.

        Args:
          index: of the record, at least 0.

        Returns:
          Bytes that change when the image does; those of its pixels where it has no file.

        Raises:
          ImageError: the file cannot be read out of its archive.
          OSError: it cannot be read.
        """
        image = self[index]["image"]
        return f"{image.shape} {image.dtype} ".encode() + image.tobytes()

    def __getitem__(self, index: SupportsIndex) -> Record:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"record {position} of a source of {len(self)}")
        return self._record(position % len(self))

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))


class Subset(Source):
    """Some records of another source, in the order given.

    Args:
      source: where the records come from.
      indices: which of them.

    Raises:
      IndexError: an index lies outside the source.

    Example:
      >>> import bfjax.data
      >>> whole = bfjax.data.load("phantom", "test", num_examples=6, image_size=32)
      >>> positives = Subset(whole, [i for i, y in enumerate(whole.labels) if y == 1])
      >>> len(positives), positives.labels.tolist()
      (3, [1, 1, 1])
    """

    def __init__(self, source: Source, indices: Sequence[int] | Int64[np.ndarray, " some"]):
        self._source = source
        self._indices = [int(i) for i in indices]
        if self._indices and not 0 <= min(self._indices) <= max(self._indices) < len(source):
            raise IndexError(f"indices outside a source of {len(source)}")
        self.class_names = source.class_names

    @property
    def names(self) -> list[str]:
        """Name of every record, in order."""
        names = self._source.names
        return [names[i] for i in self._indices]

    @property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """Label of every record, in order."""
        return self._source.labels[np.asarray(self._indices, np.int64)]

    @property
    def groups(self) -> list[str]:
        """Patient of every record, in order."""
        groups = self._source.groups
        return [groups[i] for i in self._indices]

    def original(self, index: int) -> Original:
        """That of the other source."""
        return self._source.original(self._indices[index])

    def content(self, index: int) -> bytes:
        """That of the other source."""
        return self._source.content(self._indices[index])

    def _record(self, index: int) -> Record:
        return self._source[self._indices[index]]

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Subset({self._source!r}, {self._indices})"


class Labelled(Source):
    """The images of a source without labels, among the classes of a model.

    Args:
      source: whose labels are not known.
      class_names: the classes.
      label: the one that all images are of; `None` where it is still not known, and -1 stands for
        it.

    Attributes:
      label: as given.

    Raises:
      ValueError: the label is none of the classes.

    Example:
      >>> import bfjax.data
      >>> whole = bfjax.data.load("phantom", "test", num_examples=2, image_size=32)
      >>> Labelled(whole, ("benign", "malignant"), "malignant").labels.tolist()
      [1, 1]
    """

    def __init__(self, source: Source, class_names: Sequence[str], label: str | None = None):
        if label is not None and label not in class_names:
            raise ValueError(f"{label!r} is none of the classes {', '.join(class_names)}")
        self._source, self.class_names, self.label = source, tuple(class_names), label
        self._index = -1 if label is None else self.class_names.index(label)

    @property
    def names(self) -> list[str]:
        """Name of every record, in order."""
        return self._source.names

    @property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """The one label, for every record."""
        return np.full(len(self), self._index, np.int64)

    @property
    def groups(self) -> list[str]:
        """Patient of every record, in order."""
        return self._source.groups

    def original(self, index: int) -> Original:
        """That of the other source."""
        return self._source.original(index)

    def content(self, index: int) -> bytes:
        """That of the other source."""
        return self._source.content(index)

    def _record(self, index: int) -> Record:
        return {**self._source[index], "label": self._index}

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return f"Labelled({self._source!r}, {self.class_names}, {self.label!r})"


def subsample(source: Source, num_examples: int | None, *, seed: int) -> Source:
    """A random part of a source, drawn without replacement and kept in the source's order.

    Args:
      source: where the records come from.
      num_examples: how many to draw; `None` for all.
      seed: which of the parts.

    Returns:
      The source itself where nothing is left out.

    Raises:
      ValueError: fewer than one record asked for, or more than there are.

    Example:
      >>> import bfjax.data
      >>> whole = bfjax.data.load("phantom", "test", num_examples=6, image_size=32)
      >>> len(subsample(whole, 2, seed=0))
      2
    """
    if num_examples is None or num_examples == len(source):
        return source
    if not 1 <= num_examples <= len(source):
        raise ValueError(f"num_examples must be 1 to {len(source)} here, got {num_examples}")
    chosen = np.random.default_rng(seed).choice(len(source), num_examples, replace=False)
    return Subset(source, np.sort(chosen))


def check(source: Source) -> list[str]:
    """Reads every record and collects what is wrong with the files.

    Args:
      source: any source.

    Returns:
      One line for each file that cannot be read, beginning with its name; empty if all can.

    Example:
      >>> import bfjax.data
      >>> check(bfjax.data.load("phantom", "test", num_examples=2, image_size=32))
      []
    """
    problems = []
    for i in range(len(source)):
        try:
            source[i]
        except ImageError as error:
            problems.append(str(error))
        except OSError as error:  # not readable, or gone since it was listed
            problems.append(f"{source.names[i]}: {error}")
    return problems
