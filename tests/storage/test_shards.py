"""Records and parameters come back from shards as they went in."""

import csv
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet
import pytest

from bfjax import storage


class Params(NamedTuple):
    coefficients: np.ndarray
    points: dict


def params(start, count):
    rng = np.random.default_rng(start)
    return Params(
        rng.normal(size=(count, 3)).astype(np.float32),
        {"x": jnp.asarray(rng.normal(size=(count, 2, 2)), jnp.float32), "n": np.arange(count)},
    )


@pytest.fixture
def folder(tmp_path):
    for start, count in ((0, 2), (2, 3)):
        columns = {"file": [f"{start + i}.png" for i in range(count)], "score": np.ones(count)}
        path = tmp_path / f"{start:07d}.parquet"
        storage.write_shard(path, columns, params(start, count))
    return tmp_path


def test_parameters_come_back_bit_for_bit(folder):
    table = storage.read_shards(folder)
    assert table["file"].to_pylist() == [f"{i}.png" for i in range(5)]
    like = Params(np.zeros(3, np.float32), {"x": np.zeros((2, 2), np.float32), "n": np.int64(0)})
    for row, (start, i) in enumerate([(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]):
        found = storage.read_params(table, row, like)
        wanted = params(start, 2 if start == 0 else 3)
        np.testing.assert_array_equal(found.coefficients, wanted.coefficients[i])
        np.testing.assert_array_equal(found.points["x"], wanted.points["x"][i])
        assert found.points["n"] == i
        assert found.coefficients.dtype == np.float32
    with pytest.raises(
        ValueError, match=r"no column params\['other'\]: they are of another attack"
    ):
        storage.read_params(table, 0, {"other": np.zeros(3)})


def test_records_are_what_is_no_parameter(folder):
    records = storage.without_params(storage.read_shards(folder))
    assert records.column_names == ["file", "score"]
    storage.write_csv(folder / "records.csv", records)
    with (folder / "records.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{i}.png" for i in range(5)]


def test_a_shard_gets_further_columns_and_others_may_lack_them(folder):
    shard = folder / "0000002.parquet"
    before = storage.shard_columns(shard)
    storage.add_columns(shard, {"late": [1.0, 2.0, 3.0]})
    assert storage.shard_columns(shard) == [*before, "late"]
    table = storage.read_shards(folder)
    assert table["late"].to_pylist() == [None, None, 1.0, 2.0, 3.0]
    assert storage.shard_columns(folder / "none.parquet") == []


def test_a_damaged_shard_is_named(folder):
    shard = folder / "0000002.parquet"
    shard.write_bytes(shard.read_bytes()[:50])
    for read in (storage.read_shard, storage.shard_columns):
        with pytest.raises(
            ValueError, match=r"0000002\.parquet cannot be read .*; delete it and run"
        ):
            read(shard)
    with pytest.raises(ValueError, match=r"0000002\.parquet"):
        storage.read_shards(folder)
    assert pyarrow.parquet.read_table(folder / "0000000.parquet").num_rows == 2
