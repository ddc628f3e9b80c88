"""Which reading of what the paper leaves open gives its figures?

    python -m experiments.calibrate --models RESNET50 DENSENET121 MOBILENET --data chest_xray

Searches the open details (monomials, bound, penalties, coordinates), one after the other and again
until none improves, on a half of the test images that the seed chooses, with the last of --models
attacked: that should be the MobileNet, which is fine-tuned from ImageNet weights as the paper's
were. The best few are then made on all models; the half that took part in the search and the
one that did not are judged apart. All that was tried goes to `experiments/results/calibrate`; the
runs lie in `BFJAX_HOME/runs`, shared with the other experiments, and resume there.

The distance between a setting and the paper is the root mean square, in points, of the differences
of the success rates in the rows of Table 2 with a 16 × 16 grid and of ours in Table 1.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import tyro

from bfjax import data, models
from experiments import recorded, table1, table2, tables
from experiments.cases import noted
from experiments.tables import COLUMNS

RESULTS = Path(__file__).parent / "results" / "calibrate"
MIN_DEGREES = (0, 1, 2, 3)
# What is open, and its readings; the search starts at the first of each.
DETAILS: dict[str, tuple[dict[str, Any], ...]] = {
    "bound": tuple({"max_change": bound} for bound in (0.1, 0.05, 0.15, None)),
    "penalty on a": (
        *({"l1_coefficients": weight} for weight in (0.1, 0.0, 0.05, 0.2)),
        {"l1_coefficients": 1.0, "reduction": "mean"},
    ),
    "monomials": tuple({"terms": terms} for terms in ("literal", "count", "total")),
    "penalty on θ": tuple({"l1_warp": weight} for weight in (0.0, 0.01, 0.1)),
    "coordinates": ({"extent": (-1.0, 1.0)}, {"extent": (0.0, 1.0)}),
}
Setting = tuple[int, ...]
"""Which reading of each detail."""
Rates = Mapping[tuple[int, str, str], float]
"""(D0, attacked, judging) to success in %, the models named as in the paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tables.Inputs):
    """The calibration of `attacks.paper`."""

    finalists: int = 1
    """Settings that are made on all models."""


def main(config: Config) -> None:
    """Searches, judges the finalists on both halves, and writes everything."""
    names = tables.names(config.models)
    whole = config.num_images or len(data.load(config.data, "test", image_size=32))
    searched, half = config.models[-1].resolve().name, whole // 2
    few = tables.folder(config, config.models[-1], num_images=half)
    tried: dict[Setting, Rates] = {}

    def try_one(setting: Setting) -> float:
        if setting not in tried:
            run(config, setting, sources=[str(config.models[-1])], num_images=half)
            tried[setting] = rates({searched: few}, setting, names)
            print(describe(setting), f"{distance(tried[setting]):.2f}", flush=True)
        return distance(tried[setting])

    descend(try_one)
    best = sorted(tried, key=try_one)[: config.finalists]
    finals: dict[tuple[Setting, str], Rates] = {}
    write(config, tried, finals, names)
    for setting in best:
        run(config, setting)
        every = {model.resolve().name: tables.folder(config, model) for model in config.models}
        chosen = files(few, setting, searched)
        others = files(every[searched], setting, searched) - chosen
        for part, images in (("searched", chosen), ("other", others)):
            finals[setting, part] = rates(every, setting, names, chosen=images)
        write(config, tried, finals, names)


def run(
    config: Config,
    setting: Setting,
    *,
    sources: list[str] | None = None,
    num_images: int | None = None,
) -> None:
    """Makes the attacks of one setting, for every D0; the search looks at success alone."""
    attacks = dict(attack(setting, low) for low in MIN_DEGREES)
    measure = sources is None
    tables.run(config, attacks, sources=sources, num_images=num_images, measure=measure)


def attack(setting: Setting, min_degree: int) -> tuple[str, str]:
    """The attack of a setting.

    Args:
      setting: which reading of each detail.
      min_degree: D0.

    Returns:
      Its name, and its text as `bfjax evaluate` takes it.

    Example:
      >>> attack((1, 0, 0, 0, 0), 2)[1]
      'bias_field(min_degree=2, max_change=0.05)'
    """
    readings = [values[i] for values, i in zip(DETAILS.values(), setting, strict=True)]
    return tables.attack(min_degree=min_degree, **functools.reduce(operator.or_, readings))


def describe(setting: Setting) -> str:
    """A setting in words."""
    readings = (values[i] for values, i in zip(DETAILS.values(), setting, strict=True))
    return ", ".join(f"{k}={v!r}" for reading in readings for k, v in reading.items())


def descend(distance_of: Callable[[Setting], float]) -> Setting:
    """Goes through the details in turn and takes the best reading of each, until none improves.

    Args:
      distance_of: what is lowered.

    Returns:
      The best setting.

    Example:
      >>> descend(lambda setting: abs(sum(setting) - 3))
      (3, 0, 0, 0, 0)
    """
    best: Setting = (0,) * len(DETAILS)
    while True:
        before = best
        for place, readings in enumerate(DETAILS.values()):
            options = [(*best[:place], i, *best[place + 1 :]) for i in range(len(readings))]
            best = min([best, *options], key=distance_of)
        if best == before:
            return best


def files(folder: Path, setting: Setting, source: str) -> set[str]:
    """The images of a run."""
    return {row["file"] for row in recorded.rows(folder, attack(setting, 0)[0], source)}


def rates(
    folders: Mapping[str, Path],
    setting: Setting,
    names: Mapping[str, str],
    *,
    chosen: Set[str] | None = None,
) -> Rates:
    """Success rates of some images.

    Args:
      folders: names of the models that were attacked, and where the runs lie.
      setting: that was run.
      names: of the models, and how the paper calls them.
      chosen: the files that count; none: all.

    Returns:
      The rates.
    """
    found = {}
    for low in MIN_DEGREES:
        for source, folder in folders.items():
            rows = recorded.rows(folder, attack(setting, low)[0], source)
            rows = [row for row in rows if chosen is None or row["file"] in chosen]
            for judge, column in names.items():
                prefix = "" if judge == source else f"{judge}:"
                if f"{prefix}clean_prediction" in rows[0]:
                    found[low, names[source], column] = _rate(rows, prefix)
    return found


def _rate(rows: list[dict[str, str]], prefix: str) -> float:
    right = [row for row in rows if row[f"{prefix}clean_prediction"] == row["label"]]
    fooled = [row for row in right if row[f"{prefix}adversarial_prediction"] != row["label"]]
    return 100 * len(fooled) / max(len(right), 1)


def paper() -> dict[tuple[int, str, str], list[float]]:
    """The paper's figures of the settings that are tried, one or two for each."""
    found: dict[tuple[int, str, str], list[float]] = {}
    for source, rows in table2.PAPER.items():
        for (grid, low), row in zip(table2.GRID, rows, strict=True):
            if grid == 16:
                for column, rate in zip(COLUMNS, row[:3], strict=True):
                    found.setdefault((low, source, column), []).append(rate)
        for column, rate in zip(COLUMNS, table1.PAPER[source]["ours"][:3], strict=True):
            found[1, source, column].append(rate)
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


def write(
    config: Config,
    tried: Mapping[Setting, Rates],
    finals: Mapping[tuple[Setting, str], Rates],
    names: Mapping[str, str],
) -> None:
    """Writes all that was tried, best first, and the finalists on both halves."""
    head = ("setting", "images", "models attacked", "distance, points")
    rows = [
        [describe(setting), part, str(len({key[1] for key in found})), f"{distance(found):.2f}"]
        for (setting, part), found in finals.items()
    ]
    rows += [
        [describe(setting), "search", "1", f"{distance(found):.2f}"]
        for setting, found in sorted(tried.items(), key=lambda item: distance(item[1]))
    ]

    def plain(found: Rates) -> dict[str, float]:
        return {
            f"D0={low}, {source} → {judge}": rate for (low, source, judge), rate in found.items()
        }

    results = noted(config, [models.load_config(model) for model in config.models]) | {
        "models": dict(names),
        "tried": {describe(s): plain(found) for s, found in tried.items()},
        "finalists": {
            f"{describe(s)}; {part}": plain(found) for (s, part), found in finals.items()
        },
    }
    searched = names[config.models[-1].resolve().name]
    title = (
        "Distance of our success rates to the paper's, root mean square over both tables. "
        f"Search: {searched} attacked, judged by all, on a half of the test images."
    )
    tables.write(RESULTS / "calibrate", title, head, rows, results)


if __name__ == "__main__":
    main(tyro.cli(Config))
