"""What CSV files say of images: their classes, or their patients.

Convention:
    The file has a header. A row's file is named by its path from the root, by the end of it (the
    bare name is one) or by a longer path that ends in it, with or without the file's ending, as
    long as it is clear which file is meant. Commas, semicolons or tabs separate the columns.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from bfjax.data.walk import Tree

_VALUES = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}
# normalised: lower case, letters and digits alone
_FILES = (
    "imageid",
    "imageindex",
    "path",
    "dicomid",
    "filename",
    "filepath",
    "file",
    "imagepath",
    "image",
)
_PATIENTS = ("patientid", "patient", "subjectid", "subject", "person", "group")
_ENDING = re.compile(r"\.(?![0-9]+$)\w{1,5}$")  # of a UID, the last number is none


class Table(NamedTuple):
    """A CSV file.

    Attributes:
      path: where it lies.
      header: names of the columns.
      rows: the values of each row, as many as there are columns.
      lines: on which line each row ends.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]


class Labels(NamedTuple):
    """The classes of images.

    Attributes:
      class_names: in the order of the columns.
      files: paths of the images, n of them.
      labels: (n,); -1 where several classes may be true of an image.
      findings: (n, classes), 0 or 1; `None` where exactly one class is true of each image.
    """

    class_names: tuple[str, ...]
    files: list[str]
    labels: Int64[np.ndarray, " n"]
    findings: Int64[np.ndarray, "n classes"] | None


def read_table(path: Path) -> Table:
    r"""Reads a CSV file with a header.

    Args:
      path: of the file, UTF-8; one that ends in .gz is unpacked.

    Returns:
      The table.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is no such file; a column has no name, or the name of another; a row has more
        or fewer values than there are columns.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "labels.csv")
      ...     _ = path.write_text("file,Edema\na.png,1\n")
      ...     read_table(path).rows
      [['a.png', '1']]
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        found = [(row, reader.line_num) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file: line {reader.line_num}: {error}") from None
    if len(found) < 2:
        raise ValueError(f"{path} holds no rows below a header")
    header, *rows = ([value.strip() for value in row] for row, _ in found)
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path} has two columns {twice[0]!r}")
    lines = [line for _, line in found[1:]]
    ragged = [line for row, line in zip(rows, lines, strict=True) if len(row) != len(header)]
    if ragged:
        raise ValueError(
            f"{path} has {len(header)} columns, but not in {len(ragged)} rows, such as line "
            f"{_few(ragged)}"
        )
    return Table(path, header, rows, lines)


def read_labels(
    path: Path, tree: Tree, prefix: str, files: Sequence[str], *, columns: Sequence[str] = ()
) -> Labels:
    """The classes of images, from a CSV file: file name, then one column of 0 and 1 a class.

    Where every row of the file has exactly one 1, that is the class. A single column X makes two
    classes, "no X" and "X". Otherwise several classes may be true of an image, or none.

    Args:
      path: of the CSV file.
      tree: where the images lie.
      prefix: of the folder in it from which their paths lead.
      files: their paths; those that no row names and that are no images are left out.
      columns: which of the columns are classes, in this order; none for all.

    Returns:
      The files and their labels.

    Raises:
      FileNotFoundError: there is no such CSV file.
      ValueError: an image has no row, or it is not clear which; a value is neither 0 nor 1.
    """
    table = read_table(path)
    if len(table.header) == 2 and {*columns} == {f"no {table.header[1]}", table.header[1]}:
        columns = table.header[1:]
    if unknown := [name for name in columns if name not in table.header[1:]]:
        raise ValueError(
            f"{path} has no column {', '.join(unknown)}; it has {', '.join(table.header[1:])}"
        )
    names = list(columns) or table.header[1:]
    if not names or not all(names):
        raise ValueError(f"{path} needs a name for each column: the file, then each class")
    places = [table.header.index(name, 1) for name in names]
    cells = [[row[i].lower() for i in places] for row in table.rows]
    bad = [
        f"{value!r} (line {line}, column {name})"
        for row, line in zip(cells, table.lines, strict=True)
        for name, value in zip(names, row, strict=True)
        if value not in _VALUES
    ]
    if bad:
        raise ValueError(
            f"{path}: {len(bad)} values are neither 0 nor 1, such as {_few(bad)}: write 0 or 1 for "
            "what is uncertain or blank, or leave out the row and its image; name the columns that "
            "are classes with --class-names"
        )
    found = np.array([[_VALUES[value] for value in row] for row in cells], np.int64)
    rows = match(table, tree, prefix, files, column=0)
    kept, mine = list(rows), found[list(rows.values())]
    if len(names) == 1:
        return Labels((f"no {names[0]}", names[0]), kept, mine[:, 0], None)
    if (found.sum(1) == 1).all():
        return Labels(tuple(names), kept, mine.argmax(1), None)
    return Labels(tuple(names), kept, np.full(len(kept), -1, np.int64), mine)


def read_groups(path: Path, tree: Tree, prefix: str, files: Sequence[str]) -> list[str]:
    """The patients of images, from a CSV file.

    Args:
      path: of the CSV file. The columns of files and patients are told by their names where these
        are known (ImageID, Image Index, Path, dicom_id; PatientID, Patient ID, subject_id); else
        files have the other of two columns, or the first that is not the patients'.
      tree: where the images lie.
      prefix: of the folder in it from which their paths lead.
      files: their paths.

    Returns:
      The patient of each; its own path of what is no image and has no row.

    Raises:
      FileNotFoundError: there is no such CSV file.
      ValueError: it is not clear which column says what; an image has no row, or rows of several
        patients.
    """
    table = read_table(path)
    plain = [re.sub(r"\W|_", "", name.lower()) for name in table.header]
    by_name = [next((plain.index(n) for n in known if n in plain), None)
               for known in (_FILES, _PATIENTS)]  # fmt: skip
    file, patient = by_name
    if len(plain) == 2:  # the other one
        file = 1 - patient if file is None and patient is not None else file or 0
        patient = 1 - file if patient is None else patient
    elif file is None:
        file = next((i for i in range(len(plain)) if i != patient), 0)
    if patient is None or patient == file:
        raise ValueError(
            f"{path} has no column PatientID, subject_id or patient among {', '.join(table.header)}"
        )
    if blank := [n for row, n in zip(table.rows, table.lines, strict=True) if not row[patient]]:
        raise ValueError(f"{path} names no patient in {len(blank)} rows, such as line {blank[0]}")
    # one row for each file and patient: a file of two patients stays in two
    once = {(row[file], row[patient]): i for i, row in reversed(list(enumerate(table.rows)))}
    kept = sorted(once.values())
    table = table._replace(rows=[table.rows[i] for i in kept], lines=[table.lines[i] for i in kept])
    found = match(table, tree, prefix, files, column=file)
    return [table.rows[found[name]][patient] if name in found else name for name in files]


def match(
    table: Table, tree: Tree, prefix: str, files: Sequence[str], *, column: int
) -> dict[str, int]:
    """Which row of a table tells of each image.

    Rows that name no file at all, as of a larger data set, are counted in a warning.

    Args:
      table: rows of files.
      tree: where all images lie.
      prefix: of the folder in it from which the paths of the wanted images lead.
      files: their paths.
      column: that names the file.

    Returns:
      Index of the row of each; what has no row and is no image is left out.

    Raises:
      ValueError: counting the images without a row, and with several, the rows that may mean
        several images, and the rows of one name.
    """
    keys = [_plain(row[column]) for row in table.rows]
    rows: dict[str, list[int]] = {}
    tails: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(key, []).append(i)
        for tail in _tails(key)[1:]:
            tails.setdefault(tail, []).append(i)
    above = _plain(tree.root.absolute().as_posix())
    wanted = {f"{prefix}{name}" for name in files}
    of_file: dict[str, list[int]] = {}
    of_row: dict[int, list[str]] = {}
    for path in tree.files:
        plain = _plain(path)
        found: list[int] = []
        for name in dict.fromkeys((plain, _ENDING.sub("", plain))):
            found = found or [i for end in _tails(f"{above}/{name}") for i in rows.get(end, ())]
            found = found or tails.get(name, [])
        of_file[path] = found
        for i in found:
            of_row.setdefault(i, []).append(path)
    missing = [
        path for path in of_file if path in wanted and not of_file[path] and tree.shows(path)
    ]
    several = [
        f"{path} (lines {', '.join(str(table.lines[i]) for i in of_file[path][:3])})"
        for path in of_file
        if path in wanted and len(of_file[path]) > 1
    ]
    unclear = [
        f"{table.rows[i][column]} ({_few(paths)})"
        for i, paths in of_row.items()
        if len(paths) > 1 and wanted & set(paths)
    ]
    problems = [
        f"{len(missing)} of {len(wanted)} images have no row, such as {_few(missing)}"
        if missing
        else "",
        f"{len(several)} images have several rows, such as {_few(several)}" if several else "",
        f"{len(unclear)} rows may mean several images, such as {_few(unclear)}: give their paths"
        if unclear
        else "",
    ]
    if any(problems):
        raise ValueError(f"{table.path} for {tree.root}: {'; '.join(filter(None, problems))}")
    if idle := [table.rows[i][column] for i in range(len(keys)) if i not in of_row]:
        warnings.warn(
            f"{len(idle)} of {len(keys)} rows of {table.path} name no file of {tree.root}, such as "
            f"{_few(idle)}",
            stacklevel=2,
        )
    mine = {name: of_file[f"{prefix}{name}"] for name in files}
    return {name: found[0] for name, found in mine.items() if found}


def _plain(name: str) -> str:
    """One spelling of a path: slashes forward, accents composed, none in front."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/")).lstrip("./")


def _tails(path: str) -> list[str]:
    """A path, then its ends, the shortest last."""
    parts = path.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _few(items: Iterable[object]) -> str:
    return ", ".join(map(str, itertools.islice(items, 3)))
