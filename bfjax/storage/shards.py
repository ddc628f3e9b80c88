"""The records of a long run: one Parquet shard a batch, merged at the end.

A shard appears under its final name only when it is whole, so a run killed at any point resumes
after its last finished batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from bfjax.storage.files import replacing
from bfjax.types import Params

PARAMS = "params"
"""The columns of a shard that hold attack parameters begin with this."""


def write_shard(path: Path, columns: dict[str, Any], params: Params) -> None:
    """Writes one batch: its records, and the parameters of its attacks as list columns.

    Args:
      path: the shard.
      columns: name → one value an image.
      params: a pytree whose leaves have a leading axis of the batch.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    for key_path, leaf in leaves:
        rows = np.asarray(leaf).reshape(len(leaf), -1)
        columns = columns | {PARAMS + jax.tree_util.keystr(key_path): list(rows)}
    with replacing(path) as temporary:
        pa.parquet.write_table(pa.table(columns), temporary, compression="zstd")


def read_params(table: pa.Table, row: int, like: Params) -> Params:
    """The parameters of one attack, as `write_shard` stored them.

    Args:
      table: the shards' table.
      row: which image.
      like: a pytree with the structure, shapes and types of the parameters of one image.

    Returns:
      The parameters, in the structure of `like`.

    Raises:
      ValueError: when the table holds parameters of another structure.
    """

    def read(key_path, leaf):
        name = PARAMS + jax.tree_util.keystr(key_path)
        if name not in table.column_names:
            raise ValueError(f"the shards hold no column {name}: they are of another attack")
        return np.asarray(table[name][row].as_py(), leaf.dtype).reshape(leaf.shape)

    return jax.tree_util.tree_map_with_path(read, like)


def read_shards(folder: Path) -> pa.Table:
    """All shards of a folder as one table, in order.

    Args:
      folder: where the shards lie.

    Returns:
      The table.

    Raises:
      ValueError: naming the shard that cannot be read.
    """
    tables = [read_shard(path) for path in sorted(folder.glob("*.parquet"))]
    # a model that comes to judge later has columns in some shards before it has them in all
    return pa.concat_tables(tables, promote_options="default")


def read_shard(path: Path) -> pa.Table:
    """One shard.

    Args:
      path: the shard.

    Returns:
      The table.

    Raises:
      ValueError: naming it, if it cannot be read.
    """
    with _readable(path):
        return pa.parquet.read_table(path)


def shard_columns(path: Path) -> list[str]:
    """The names of a shard's columns.

    Args:
      path: the shard.

    Returns:
      The names; none where there is no shard.

    Raises:
      ValueError: naming it, if it cannot be read.
    """
    if not path.exists():
        return []
    with _readable(path):
        return pa.parquet.read_schema(path).names


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); delete it and run again") from None


def add_columns(path: Path, columns: dict[str, Any]) -> None:
    """Writes a shard anew, with further columns.

    Args:
      path: the shard.
      columns: name → one value an image.

    Raises:
      ValueError: naming it, if it cannot be read.
    """
    table = read_shard(path)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    with replacing(path) as temporary:
        pa.parquet.write_table(table, temporary, compression="zstd")


def without_params(table: pa.Table) -> pa.Table:
    """The records alone: what was measured, without the parameters of the attacks.

    Args:
      table: from `read_shards`.

    Returns:
      The other columns.
    """
    return table.select([name for name in table.column_names if not name.startswith(PARAMS)])


def write_csv(path: Path, table: pa.Table) -> None:
    """Writes records as CSV with one row an image.

    Args:
      path: the file.
      table: `without_params`.
    """
    with replacing(path) as temporary:
        pa.csv.write_csv(table, temporary)
