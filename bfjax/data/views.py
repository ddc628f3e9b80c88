"""Sources made of another source: a part of it, or the same records with other labels."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from bfjax.data.source import Original, Record, Source


class _View(Source):
    """The records of another source, of which a subclass says what is different."""

    def __init__(self, source: Source):
        self._source = source
        self.class_names = source.class_names

    @property
    def names(self) -> list[str]:
        """Name of every record, in order."""
        return self._source.names

    @property
    def groups(self) -> list[str]:
        """Patient of every record, in order."""
        return self._source.groups

    def path(self, index: int) -> str:
        """That of the other source."""
        return self._source.path(index)

    def public(self, path: str) -> str:
        """That of the other source."""
        return self._source.public(path)

    def content(self, index: int) -> bytes:
        """That of the other source."""
        return self._source.content(index)

    def original(self, index: int) -> Original:
        """That of the other source."""
        return self._source.original(index)

    def _record(self, index: int) -> Record:
        return {**self._source[index], "label": int(self.labels[index])}

    def __len__(self) -> int:
        return len(self._source)


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

    @property
    def findings(self) -> Int64[np.ndarray, "records classes"] | None:
        """Those of the other source."""
        findings = self._source.findings
        return None if findings is None else findings[np.asarray(self._indices, np.int64)]

    def path(self, index: int) -> str:
        """That of the other source."""
        return self._source.path(self._indices[index])

    def public(self, path: str) -> str:
        """That of the other source."""
        return self._source.public(path)

    def content(self, index: int) -> bytes:
        """That of the other source."""
        return self._source.content(self._indices[index])

    def original(self, index: int) -> Original:
        """That of the other source."""
        return self._source.original(self._indices[index])

    def _record(self, index: int) -> Record:
        return self._source[self._indices[index]]

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Subset({self._source!r}, {self._indices})"


class Labelled(_View):
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
        super().__init__(source)
        self.class_names, self.label = tuple(class_names), label
        self._index = -1 if label is None else self.class_names.index(label)

    @functools.cached_property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """The one label, for every record."""
        return np.full(len(self), self._index, np.int64)

    def __repr__(self) -> str:
        return f"Labelled({self._source!r}, {self.class_names}, {self.label!r})"


class Finding(_View):
    r"""One class of a source of several, as a problem of two classes: without it, and with it.

    Args:
      source: of labels, or of findings, of which several may be true of a record.
      name: one of its classes.

    Attributes:
      name: as given.

    Raises:
      ValueError: the finding is none of the source's classes.

    Example:
      >>> import bfjax.data, pathlib, tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as root:
      ...     for file in ("a.png", "b.png"):
      ...         Image.new("L", (30, 20)).save(pathlib.Path(root, file))
      ...     table = pathlib.Path(root, "labels.csv")
      ...     _ = table.write_text("file,Edema,Nodule\na.png,0,1\nb.png,1,1\n")
      ...     source = bfjax.data.load(root, "all", image_size=8, labels=table)
      ...     one = Finding(source, "Edema")
      >>> source.findings.tolist(), one.class_names, one.labels.tolist()
      ([[0, 1], [1, 1]], ('no Edema', 'Edema'), [0, 1])
    """

    def __init__(self, source: Source, name: str):
        super().__init__(source)
        if name not in source.class_names:
            raise ValueError(f"{name!r} is none of the findings {', '.join(source.class_names)}")
        self.name, self.class_names = name, (f"no {name}", name)
        self._column = source.class_names.index(name)

    @functools.cached_property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """1 where the finding is there."""
        findings = self._source.findings
        if findings is None:
            return (self._source.labels == self._column).astype(np.int64)
        return findings[:, self._column]

    def __repr__(self) -> str:
        return f"Finding({self._source!r}, {self.name!r})"


class Findings(_View):
    """The records of a source with each of its classes as a finding, which is true or not.

    Args:
      source: whose labels are known.

    Example:
      >>> import bfjax.data
      >>> whole = bfjax.data.load("phantom", "test", num_examples=2, image_size=32)
      >>> Findings(whole).findings.tolist()
      [[1, 0], [0, 1]]
    """

    @functools.cached_property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """None of them alone: -1."""
        return np.full(len(self), -1, np.int64)

    @property
    def findings(self) -> Int64[np.ndarray, "records classes"]:
        """One a record where the source has labels, else its findings."""
        findings = self._source.findings
        if findings is not None:
            return findings
        return np.eye(len(self.class_names), dtype=np.int64)[self._source.labels]

    def __repr__(self) -> str:
        return f"Findings({self._source!r})"


class Ordered(_View):
    """The records of a source with its classes in another order, or under other names.

    Args:
      source: whose labels are known.
      class_names: the classes in their new order; some may be of no record.
      renamed: new name of each class of the source that gets one.

    Raises:
      ValueError: a class of the source is none of them, or two become one; there are findings, and
        not of each class.

    Example:
      >>> import bfjax.data
      >>> whole = bfjax.data.load("phantom", "test", num_examples=2, image_size=32)
      >>> Ordered(whole, ("PNEUMONIA", "healthy"), {"NORMAL": "healthy"}).labels.tolist()
      [1, 0]
    """

    def __init__(
        self,
        source: Source,
        class_names: Sequence[str],
        renamed: Mapping[str, str] | None = None,
    ):
        super().__init__(source)
        self.class_names = tuple(class_names)
        now = [(renamed or {}).get(name, name) for name in source.class_names]
        if unknown := [name for name in now if name not in class_names]:
            raise ValueError(f"{', '.join(unknown)}: none of the classes {', '.join(class_names)}")
        if len({*now}) < len(now) or len({*class_names}) < len(class_names):
            raise ValueError(f"two classes have one name among {', '.join(now)}")
        if source.findings is not None and len(now) < len(class_names):
            raise ValueError(f"no findings for {', '.join({*class_names} - {*now})}")
        self._places = np.array([self.class_names.index(name) for name in now], np.int64)

    @functools.cached_property
    def labels(self) -> Int64[np.ndarray, " records"]:
        """Label of every record, in order."""
        labels = self._source.labels
        return np.where(labels < 0, -1, self._places[labels])

    @property
    def findings(self) -> Int64[np.ndarray, "records classes"] | None:
        """Those of the other source, in the new order."""
        findings = self._source.findings
        return None if findings is None else findings[:, np.argsort(self._places)]

    def __repr__(self) -> str:
        return f"Ordered({self._source!r}, {self.class_names})"


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
