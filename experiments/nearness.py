"""How far the figures of a reading of the paper are from its own, in every row of both its tables.

The distance between a setting and the paper is the root mean square, in points, of the differences
of the success rates in all rows of Table 2 and of ours in Table 1, and of BRISQUE in each row of
Table 2 less that of its last, D0 = 3: what BRISQUE says of another D0, whoever's code it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bfjax import metrics
from bfjax.evaluation import load_run
from experiments import recorded, table1, table2, tables
from experiments.tables import COLUMNS

ROWS = table2.GRID
"""Grid and D0 of each row of Table 2; ours in Table 1 is (16, 1)."""
Options = Mapping[str, Any]
"""Of `bfjax.attacks.bias_field`."""
Rates = Mapping[str, float]
"""Row, attacked and judging model to success in %, of all images and of each class, and row and
attacked model to BRISQUE."""


def attack(options: Options, row: tuple[int, int]) -> tuple[str, str]:
    """The attack of a setting.

    Args:
      options: of the setting.
      row: grid and D0.

    Returns:
      Its name, and its text as `bfjax evaluate` takes it.

    Example:
      >>> attack({"max_change": 0.05}, (8, 0))[1]
      'paper(grid_size=8, min_degree=0, max_change=0.05)'
    """
    return tables.attack(grid_size=row[0], min_degree=row[1], **options)


def rates(
    folders: Mapping[str, Path],
    options: Options,
    names: Mapping[str, str],
    *,
    chosen: Set[str] | None = None,
) -> Rates:
    """Success rates, also of each class alone, and BRISQUE against that of the last row.

    Args:
      folders: names of the models that were attacked, and where the runs lie.
      options: of the setting that was run.
      names: of the models, and how the paper calls them.
      chosen: the files that count; none: all.

    Returns:
      The figures.
    """
    found = {}
    for row in ROWS:
        for source, folder in folders.items():
            name = attack(options, row)[0]
            rows = recorded.rows(folder, name, source)
            kept = [one for one in rows if chosen is None or one["file"] in chosen]
            for judge, column in names.items():
                prefix = "" if judge == source else f"{judge}:"
                if f"{prefix}clean_prediction" in rows[0]:
                    key = pair(row, names[source], column)
                    found[key] = _rate(kept, prefix)
                    for label in sorted({one["label"] for one in kept}):
                        alone = [one for one in kept if one["label"] == label]
                        found[f"{key}, {label}"] = _rate(alone, prefix)
            found[pair(row, names[source], "BRISQUE")] = _brisque(folder / name / source, chosen)
    for source in folders:
        last = found[pair(ROWS[-1], names[source], "BRISQUE")]
        for row in ROWS:
            found[pair(row, names[source], "BRISQUE")] -= last
    return found


def pair(row: tuple[int, int], attacked: str, column: str) -> str:
    """What a figure is of, in words.

    Args:
      row: grid and D0.
      attacked: the model, as the paper calls it.
      column: the model that judges, or BRISQUE.

    Returns:
      The words.

    Example:
      >>> pair((16, 1), "MobileNet", "ResNet50")
      'grid 16, D0=1, MobileNet → ResNet50'
    """
    return f"grid {row[0]}, D0={row[1]}, {attacked} → {column}"


def _rate(rows: list[dict[str, str]], prefix: str) -> float:
    right = [row for row in rows if row[f"{prefix}clean_prediction"] == row["label"]]
    fooled = [row for row in right if row[f"{prefix}adversarial_prediction"] != row["label"]]
    return 100 * len(fooled) / max(len(right), 1)


def _brisque(folder: Path, chosen: Set[str] | None) -> float:
    """The mean of the attacked images of a run, made again."""
    run = load_run(folder)
    kept = [i for i, row in enumerate(run.rows) if chosen is None or row["file"] in chosen]
    scores = [_score(jnp.asarray(run.rebuild(i).adversarial)) for i in kept]
    return float(np.mean(scores))


_score = jax.jit(metrics.brisque)


def paper() -> dict[str, list[float]]:
    """The paper's figures of the rows that are tried, one or two for each `pair`."""
    found: dict[str, list[float]] = {}
    for source, rows in table2.PAPER.items():
        for row, figures in zip(ROWS, rows, strict=True):
            for column, rate in zip(COLUMNS, figures[:3], strict=True):
                found.setdefault(pair(row, source, column), []).append(rate)
            found[pair(row, source, "BRISQUE")] = [figures[3] - rows[-1][3]]
        for column, rate in zip(COLUMNS, table1.PAPER[source]["ours"][:3], strict=True):
            found[pair((16, 1), source, column)].append(rate)
    return found


def distance(found: Rates) -> float:
    """Root mean square of the differences to the paper, which does not tell classes apart.

    Args:
      found: our figures.

    Returns:
      In points.
    """
    known = paper()
    squares = [(rate - other) ** 2 for key, rate in found.items() for other in known.get(key, ())]
    return math.sqrt(sum(squares) / len(squares))
