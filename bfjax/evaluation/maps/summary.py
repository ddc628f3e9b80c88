"""What the maps of an attack say together: `summary.json` of `bfjax explain`."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from bfjax import storage
from bfjax.explain import Shares, shares
from bfjax.metrics import wilson_interval
from bfjax.storage import environment

CURVES = ("deletion", "insertion")
CONTROLS = ("random", "centre")
"""Maps that have seen nothing, with which those of the attack are compared."""
CHANGES = tuple(f"change_{third}" for third in Shares._fields)


class Maps(NamedTuple):
    """The maps of an attack.

    Attributes:
      columns: of the shards, without the maps themselves.
      mean: (h, w), the mean map.
      thirds: (n, 3), the sum of each map in the top, the middle and the bottom third.
    """

    columns: dict[str, np.ndarray]
    mean: Float[np.ndarray, "h w"]
    thirds: Float[np.ndarray, "n 3"]


def as_maps(table: pa.Table) -> Float[np.ndarray, "n h w"]:
    """The maps of a shard, or of some of its rows.

    Args:
      table: from `storage.read_shard`.

    Returns:
      In [0, 1].
    """
    size = table["height"][0].as_py(), table["width"][0].as_py()
    return table["map"].combine_chunks().flatten().to_numpy().reshape(-1, *size)


def gather(folder: Path) -> Maps:
    """Reads all maps, one shard after the other.

    Args:
      folder: of the shards.

    Returns:
      What is needed of them.

    Raises:
      ValueError: naming the shard that cannot be read.
    """
    total, thirds, rest = 0.0, [], []
    for path in sorted(folder.glob("*.parquet")):
        maps = as_maps(table := storage.read_shard(path))
        total = total + maps.sum(0, dtype=np.float64)
        thirds.append(third_sums(maps))
        rest.append(table.drop_columns("map"))
    table = pa.concat_tables(rest, promote_options="default")
    columns = {name: np.array(table[name]) for name in table.column_names}
    return Maps(columns, np.asarray(total) / len(table), np.concatenate(thirds))


def map_of(folder: Path, row: int) -> Float[np.ndarray, "h w"] | None:
    """Where the attack on one image works (Eq. 8), if that was computed.

    Args:
      folder: of the shards.
      row: which image.

    Returns:
      (h, w), or `None`.
    """
    path = _shards(tuple(sorted(folder.glob("*.parquet")))).get(row)
    if path is None:
        return None
    table = storage.read_shard(path)
    at = table["index"].to_pylist().index(row)
    return as_maps(table.slice(at, 1))[0]


@functools.lru_cache(maxsize=8)
def _shards(paths: tuple[Path, ...]) -> dict[int, Path]:
    """Which shard holds which image."""
    return {
        index: path
        for path in paths
        for index in pa.parquet.read_table(path, columns=["index"])["index"].to_pylist()
    }


def third_sums(maps: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n 3"]:
    """The sum of each map in the top, the middle and the bottom third of its height.

    Args:
      maps: not negative.

    Returns:
      (n, 3).

    Example:
      >>> third_sums(np.array([[[1.0, 1.0], [0.0, 0.0], [3.0, 1.0]]])).round(3).tolist()
      [[2.0, 0.0, 4.0]]
    """
    # a map of zeros has no shares, and adds nothing
    parts = np.nan_to_num(np.stack(_shares(maps), 1))
    return parts * maps.sum((1, 2), dtype=np.float64)[:, None]


_shares = jax.jit(jax.vmap(shares))


def summarize(maps: Maps, *, fooled: int) -> dict[str, Any]:
    """What `summary.json` says of the maps.

    Args:
      maps: at least one.
      fooled: how many images the attack fooled.

    Returns:
      What JSON can hold. Intervals are of 95 %: Wilson's of the share that flips, and of all else
      the bootstrap's over images.
    """
    columns, ones = maps.columns, np.ones(len(maps.thirds))
    flips = int(columns["flips"].sum())
    low, high = wilson_interval(flips, len(ones))
    curves = {}
    for curve in CURVES:
        areas = {"map": columns[f"{curve}_map"]}
        areas |= {control: columns[f"{curve}_{control}"] for control in CONTROLS}
        areas |= {f"map_minus_{c}": areas["map"] - areas[c] for c in CONTROLS}
        curves[curve] = {name: ratio(area, ones) for name, area in areas.items()}
    return {
        "images": len(ones),
        "fooled": fooled,
        "flips": {"count": flips, "rate": flips / len(ones), "low": low, "high": high},
        "mean_score": {
            kind: float(columns[f"score_{kind}"].mean())
            for kind in ("clean", "adversarial", "masked")
        },
        "mean_map": float(maps.mean.mean()),
        "thirds": _thirds(maps.thirds),
        "thirds_of_change": _thirds(np.stack([columns[name] for name in CHANGES], 1)),
        "areas": curves,
        "run": environment(),
    }


def _thirds(sums: Float[np.ndarray, "n 3"]) -> dict[str, Any]:
    return {
        name: ratio(part, sums.sum(1)) for name, part in zip(Shares._fields, sums.T, strict=True)
    }


def ratio(
    above: Float[np.ndarray, " n"], below: Float[np.ndarray, " n"], *, resamples: int = 2000
) -> dict[str, float | None]:
    """A ratio of sums over images, with its 95 % percentile bootstrap over them.

    Args:
      above: (n,), each image's part above the fraction bar.
      below: (n,), and below it; ones for a mean.
      resamples: of the bootstrap, whose seed is fixed: equal images are drawn for every ratio.

    Returns:
      The value, low and high; `None` where the sum below is 0.

    Example:
      >>> found = ratio(np.array([1.0, 2.0, 6.0]), np.array([2.0, 4.0, 6.0]))
      >>> found["value"], found["low"], found["high"]
      (0.75, 0.5, 1.0)
    """
    n = len(above)
    random, even, both = np.random.default_rng(0), np.full(n, 1 / n), np.stack([above, below], 1)
    sums = np.stack([both.sum(0), *(random.multinomial(n, even) @ both for _ in range(resamples))])
    with np.errstate(invalid="ignore", divide="ignore"):
        value, *others = sums[:, 0] / sums[:, 1]
    low, high = np.quantile(others, (0.025, 0.975))
    names = ("value", "low", "high")
    found = dict(zip(names, map(float, (value, low, high)), strict=True))
    return {name: number if math.isfinite(number) else None for name, number in found.items()}


def show(summary: dict[str, Any], out: Path) -> None:
    """Prints a summary as a table.

    Args:
      summary: from `summarize`.
      out: where the details lie.
    """
    flips = summary["flips"]
    table = Table(title=f"maps of {summary['images']} of {summary['fooled']} images that it fooled")
    for heading in ("", "mean", "95 % interval"):
        table.add_column(heading, justify="right" if table.columns else "left")
    lines = {"still fooled through the map": flips | {"value": flips["rate"]}}
    for of, what in (("thirds", "map"), ("thirds_of_change", "change")):
        lines |= {f"{name} third of the {what}": third for name, third in summary[of].items()}
    for curve, areas in summary["areas"].items():
        lines |= {f"area of {curve}, {name} map": areas[name] for name in CONTROLS}
        lines[f"area of {curve}, the map"] = areas["map"]
    for name, line in lines.items():
        value, low, high = ("-" if line[k] is None else f"{line[k]:.3f}" for k in _SHOWN)
        table.add_row(name, value, f"{low} to {high}")
    console = Console()
    console.print(table)
    console.print(f"details in {out}: summary.json, mean_map.png, gallery/", highlight=False)


_SHOWN = ("value", "low", "high")
