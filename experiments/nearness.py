"""How far the success rates of a reading of the paper are from its own figures, for every D0.

The distance between a setting and the paper is the root mean square, in points, of the differences
of the success rates in the rows of Table 2 with a 16 × 16 grid and of ours in Table 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from experiments import recorded, table1, table2, tables
from experiments.tables import COLUMNS

MIN_DEGREES = (0, 1, 2, 3)
Options = Mapping[str, Any]
"""Of `bfjax.attacks.bias_field`."""
Rates = Mapping[str, float]
"""`pair` of D0, attacked and judging model to success in %."""


def attack(options: Options, min_degree: int) -> tuple[str, str]:
    """The attack of a setting.

    Args:
      options: of the setting.
      min_degree: D0.

    Returns:
      Its name, and its text as `bfjax evaluate` takes it.

    Example:
      >>> attack({"max_change": 0.05}, 2)[1]
      'bias_field(min_degree=2, max_change=0.05)'
    """
    return tables.attack(min_degree=min_degree, **options)


def rates(
    folders: Mapping[str, Path],
    options: Options,
    names: Mapping[str, str],
    *,
    chosen: Set[str] | None = None,
) -> Rates:
    """Success rates of some images.

    Args:
      folders: names of the models that were attacked, and where the runs lie.
      options: of the setting that was run.
      names: of the models, and how the paper calls them.
      chosen: the files that count; none: all.

    Returns:
      The rates.
    """
    found = {}
    for low in MIN_DEGREES:
        for source, folder in folders.items():
            rows = recorded.rows(folder, attack(options, low)[0], source)
            rows = [row for row in rows if chosen is None or row["file"] in chosen]
            for judge, column in names.items():
                prefix = "" if judge == source else f"{judge}:"
                if f"{prefix}clean_prediction" in rows[0]:
                    found[pair(low, names[source], column)] = _rate(rows, prefix)
    return found


def pair(min_degree: int, attacked: str, judging: str) -> str:
    """What a rate is of, in words.

    Args:
      min_degree: D0.
      attacked: the model, as the paper calls it.
      judging: the model.

    Returns:
      The words.

    Example:
      >>> pair(1, "MobileNet", "ResNet50")
      'D0=1, MobileNet → ResNet50'
    """
    return f"D0={min_degree}, {attacked} → {judging}"


def _rate(rows: list[dict[str, str]], prefix: str) -> float:
    right = [row for row in rows if row[f"{prefix}clean_prediction"] == row["label"]]
    fooled = [row for row in right if row[f"{prefix}adversarial_prediction"] != row["label"]]
    return 100 * len(fooled) / max(len(right), 1)


def paper() -> dict[str, list[float]]:
    """The paper's figures of the settings that are tried, one or two for each `pair`."""
    found: dict[str, list[float]] = {}
    for source, rows in table2.PAPER.items():
        for (grid, low), row in zip(table2.GRID, rows, strict=True):
            if grid == 16:
                for column, rate in zip(COLUMNS, row[:3], strict=True):
                    found.setdefault(pair(low, source, column), []).append(rate)
        for column, rate in zip(COLUMNS, table1.PAPER[source]["ours"][:3], strict=True):
            found[pair(1, source, column)].append(rate)
    return found


def distance(found: Rates) -> float:
    """Root mean square of the differences to the paper.

    Args:
      found: our rates.

    Returns:
      In points.
    """
    known = paper()
    squares = [(rate - other) ** 2 for key, rate in found.items() for other in known[key]]
    return math.sqrt(sum(squares) / len(squares))
