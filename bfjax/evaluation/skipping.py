"""Files that cannot be read: all of them are told at once, or left out with a list."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Generator
from pathlib import Path

from bfjax import data, progress, storage

LIST = "skipped.csv"

# of an attack, an evaluation, a training, an audit, a certificate, whole or begun
_RESULTS = (
    *("summary.json", "shards/*.parquet", "*/*/shards/*.parquet", "config.json", "training/*"),
    *("*/shards/*/*.parquet", "*/shards/*.parquet"),
)
_MANY = 1000  # files, which take their time


class BadFilesError(data.ImageError):
    """Several files that cannot be read; the message, one line, names all of them.

    Attributes:
      problems: one line for each.
    """

    def __init__(self, problems: list[str]):
        self.problems = problems
        told = "; ".join(problems)
        super().__init__(
            f"{len(problems)} files cannot be read (--skip-bad leaves them out): {told}"
        )


@contextlib.contextmanager
def all_bad_files(*sources: data.Source) -> Generator[None]:
    """Where one file turns out to be bad, looks through the others before the error is told.

    Args:
      sources: what is read in the block.

    Raises:
      BadFilesError: several files cannot be read.
      ImageError: one cannot.
    """
    try:
        yield
    except data.ImageError as error:
        if isinstance(error, BadFilesError):
            raise
        if (count := sum(map(len, sources))) > _MANY:
            progress.note(f"a file cannot be read; looking through all {count}")
        problems = [line for source in sources for line in data.check(source)]
        if len(problems) < 2:
            raise
        raise BadFilesError(problems) from None


def without_bad_files(
    source: data.Source, path: Path, *, write: bool
) -> tuple[data.Source, list[str]]:
    """The images that can be read; the others are listed.

    Where results are beside it, a list is followed, so that a run that goes on has the images that
    it began with. Else it is of a run that did not begin, perhaps of other images.

    Args:
      source: all images.
      path: of the list, which has name and reason of each file that is left out.
      write: the list is written.

    Returns:
      The rest, and the names of those left out.

    Raises:
      ValueError: none can be read, or what is there is no such list.
    """
    known = _read(path)
    begun = any(any(path.parent.glob(kept)) for kept in _RESULTS)
    if known is None or not begun:
        bad = data.bad_files(source)
        rows = [(source.names[i], reason) for i, reason in bad.items()]
        if write:
            with (
                storage.replacing(path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                csv.writer(file).writerows([("file", "reason"), *rows])
        known = [name for name, _ in rows]
    names = source.names
    listed = set(known)
    left_out = [name for name in names if name in listed]
    kept = [i for i, name in enumerate(names) if name not in listed]
    if not kept:
        raise ValueError(f"none of the {len(source)} files can be read; see {path}")
    if not left_out:
        return source, []
    where = f", listed in {path}" if write or begun else ""
    progress.note(f"{len(left_out)} files that cannot be read are left out{where}")
    return data.Subset(source, kept), left_out


def _read(path: Path) -> list[str] | None:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row["file"] for row in csv.DictReader(file)]
    except FileNotFoundError:
        return None
    except (KeyError, UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is no list of files; delete it") from None
