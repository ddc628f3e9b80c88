"""Which images a result is of: their names, their labels, and a digest of what is in each.

A result that is kept, whole or in part, is gone on with only if these are still the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from bfjax import storage
from bfjax.data.source import Source

_TOLD = 3  # of each kind of change


class Fingerprint(NamedTuple):
    """What tells the images of a source from others; one entry a record.

    Attributes:
      names: of the records.
      labels: their classes or findings; "" where there are none, or they are not known.
      digests: sha256 of their contents, the first half of it, in hexadecimal.
    """

    names: list[str]
    labels: list[str]
    digests: list[str]

    @property
    def sha256(self) -> str:
        """One digest of all, in their order."""
        lines = ("\0".join(row) for row in zip(*self, strict=True))
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()

    def write(self, path: Path) -> None:
        """Writes it as a table with a row a record.

        Args:
          path: the Parquet file.
        """
        with storage.replacing(path) as temporary:
            pa.parquet.write_table(pa.table(self._asdict()), temporary, compression="zstd")


def read_fingerprint(path: Path) -> Fingerprint | None:
    """What `Fingerprint.write` wrote.

    Args:
      path: the file.

    Returns:
      The fingerprint; `None` where there is no file.

    Raises:
      ValueError: it cannot be read.
    """
    if not path.exists():
        return None
    return Fingerprint(**storage.read_shard(path).select(Fingerprint._fields).to_pydict())


def digest(source: Source, index: int) -> str:
    """The digest of one record, as a fingerprint holds it.

    Args:
      source: of the record.
      index: which.

    Returns:
      32 hexadecimal digits.

    Raises:
      OSError, ImageError: it cannot be read.
    """
    return hashlib.sha256(source.content(index)).hexdigest()[:32]


def fingerprint(source: Source, on_image: Callable[[], object] = lambda: None) -> Fingerprint:
    """Reads all records, without decoding them where they lie in files.

    Threads do not pay: the files of 100,000 X-rays of 20 kB take four seconds in one.

    Args:
      source: the images.
      on_image: called after each.

    Returns:
      Their fingerprint.

    Raises:
      OSError, ImageError: a record cannot be read.

    Example:
      >>> import bfjax.data
      >>> source = bfjax.data.load("phantom", "test", num_examples=2, image_size=32)
      >>> fingerprint(source).labels
      ['NORMAL', 'PNEUMONIA']
    """
    digests = []
    for i in range(len(source)):
        digests.append(digest(source, i))
        on_image()
    return Fingerprint(list(source.names), _labels(source), digests)


def _labels(source: Source) -> list[str]:
    """The class of each record, or, where several may be true, all that are."""
    names, findings = source.class_names, source.findings
    labels = ["" if label < 0 else names[label] for label in np.asarray(source.labels)]
    if findings is None or any(labels):
        return labels
    said = ("|".join(n for n, there in zip(names, row, strict=True) if there) for row in findings)
    return [one or "no finding" for one in said]


def changes(before: Fingerprint, now: Fingerprint) -> str:
    """What differs between two fingerprints, in words that name the first few images.

    Args:
      before: of the images that a result is of.
      now: of those there are.

    Returns:
      The words; none where nothing differs.

    Example:
      >>> one = Fingerprint(["a.png", "b.png"], ["NORMAL"] * 2, ["0", "1"])
      >>> changes(one, one._replace(digests=["0", "2"]))
      'b.png has other contents'
      >>> changes(one, one._replace(names=["a.png", "c.png"]))
      'b.png is now c.png'
    """
    was, is_ = ({name: rest for name, *rest in zip(*one, strict=True)} for one in (before, now))
    new = {is_[name][1]: name for name in is_ if name not in was}
    found: dict[str, list[str]] = {"renamed": [], "gone": [], "contents": [], "label": []}
    for name in was:
        if name not in is_:
            renamed = new.pop(was[name][1], None)
            kind, what = ("renamed", f"now {renamed}") if renamed else ("gone", "gone")
            found[kind].append(f"{name} is {what}")
            continue
        if was[name][1] != is_[name][1]:
            found["contents"].append(f"{name} has other contents")
        elif was[name][0] != is_[name][0]:
            labels = (was[name][0] or "unknown", is_[name][0] or "unknown")
            found["label"].append(f"{name} was {labels[0]}, now it is {labels[1]}")
    found["new"] = [f"{name} is new" for name in new.values()]
    told = []
    for lines in found.values():
        more = [f"and {len(lines) - _TOLD} more so"] if len(lines) > _TOLD else []
        told += [*sorted(lines)[:_TOLD], *more]
    if not told and before != now:
        told = ["they are in another order"]
    return ", ".join(told)
