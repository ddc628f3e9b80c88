"""What a data source is: records by index, and what is known of them without decoding."""

from __future__ import annotations

import abc
import operator
from collections.abc import Iterator
from typing import NamedTuple, SupportsIndex, TypedDict

import numpy as np
from jaxtyping import Int64

from bfjax.data.image import GreyImage


class Record(TypedDict):
    """One image and what is known about it.

    Attributes:
      image: (h, w, 1), uint8 or uint16 (see `bfjax.data.to_float`).
      label: index into the source's `class_names`; -1 where it is not one of them.
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
      class_names: the classes in the order of the labels and findings; none where the labels are
        not known, and are then all -1 (see `Labelled`).
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

    @property
    def findings(self) -> Int64[np.ndarray, "records classes"] | None:
        """Whether each class is true of each record, 0 or 1, where several may be.

        `None` where every record has one class. Else the labels are -1, until one of the classes
        is chosen (see `Finding`).
        """
        return None

    def path(self, index: int) -> str:
        """Where a record comes from, for the eyes of its owner: names may be anonymous.

        Args:
          index: of the record, at least 0.

        Returns:
          The path of its file; its name where it has none.
        """
        return self.names[index]

    def public(self, path: str) -> str:
        """The path of a data set as results may tell it.

        Args:
          path: that leads to the images.

        Returns:
          The same, but for folders and files that identify a person.
        """
        return path

    def content(self, index: int) -> bytes:
        """The bytes that a record is made of; of other bytes it is another image.

        Args:
          index: of the record, at least 0.

        Returns:
          Its file; its pixels where it has none.

        Raises:
          ImageError: the file cannot be read.
        """
        return self[index]["image"].tobytes()

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

    def __getitem__(self, index: SupportsIndex) -> Record:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"record {position} of a source of {len(self)}")
        return self._record(position % len(self))

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))
