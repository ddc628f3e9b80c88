from .files import check_same, read_json, replacing, same_settings, write_json
from .location import home
from .provenance import environment
from .shards import (
    PARAMS,
    add_columns,
    read_params,
    read_shard,
    read_shards,
    shard_columns,
    without_params,
    write_csv,
    write_shard,
)
from .states import Saves, saves

__all__ = [
    "PARAMS",
    "Saves",
    "add_columns",
    "check_same",
    "environment",
    "home",
    "read_json",
    "read_params",
    "read_shard",
    "read_shards",
    "replacing",
    "same_settings",
    "saves",
    "shard_columns",
    "without_params",
    "write_csv",
    "write_json",
    "write_shard",
]
