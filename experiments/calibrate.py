"""Which reading of what the paper leaves open gives its figures?

    python -m experiments.calibrate --models RESNET50 DENSENET121 MOBILENET --data chest_xray

Searches the open details (border, penalties, monomials, bounds), one after the other and again
until none improves, with a warp that does not fold, on --search-images test images that the seed
chooses, with the last of --models attacked: that should be the MobileNet, which is fine-tuned from
ImageNet weights as the paper's were. The best is then tried with a step less and a step more, which
must not matter. The best few are made on the other models, on fewer images, and the best on all
test images, where those that took no part in the search are judged apart, all by their distance to
the paper (`experiments/nearness.py`). All that was tried goes to `experiments/results/calibrate`,
and is not tried again for the same weights and images; the runs lie in `BFJAX_HOME/runs`, shared
with the other experiments, and resume there.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from bfjax import data, models, storage
from experiments import nearness, tables
from experiments.cases import noted
from experiments.nearness import Options, Rates, distance

RESULTS = Path(__file__).parent / "results" / "calibrate"
# What is open, and its readings; the search starts at the first of each, where one from the first
# guesses (0.05, `total`, no penalty on θ) had arrived.
DETAILS: dict[str, tuple[dict[str, Any], ...]] = {
    "penalty on a": (
        *({"l1_coefficients": weight} for weight in (0.2, 0.4, 0.1, 0.05, 0.03)),
        {"l1_coefficients": 1.0, "reduction": "mean"},
    ),
    "monomials": tuple({"terms": terms} for terms in ("count", "total", "literal")),
    "penalty on θ": tuple({"l1_warp": weight} for weight in (0.01, 0.0, 0.1)),
    "bound": (
        {"max_change": None},
        {"max_change": 0.1},
        {"max_change": None, "max_log_field": 1.4, "log_field_bound": "project"},
        {"max_change": None, "max_log_range": 1.4, "log_field_bound": "project"},
    ),
    "border": tuple({"border": border} for border in ("clamp", "free")),
    "fold": tuple({"max_warp_gradient": most} for most in (0.9, 0.5)),
}
# A warp that folds is none. What folds is measured beside the search and is no candidate: the first
# reading without a limit, and one whose coordinates leave the image too, held back by a bound on
# every grey value.
FOLDING = (
    {"max_warp_gradient": None},
    {
        "border": "free",
        "max_warp_gradient": None,
        "max_change": 0.1,
        "l1_coefficients": 0.1,
        "l1_warp": 0.0,
        "terms": "literal",
    },
)
# The paper says ten steps, and the answer must not hang on their being even: where the penalty
# outweighs the gradient, signs step forth and back, and each second iterate is exactly 0.
CHECKS = ({"num_steps": 9}, {"num_steps": 11})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tables.Inputs):
    """The calibration of `attacks.paper`."""

    search_images: int = 128
    """Test images of the search, drawn by --seed."""
    finalists: int = 3
    """Settings that are made on the other models too."""
    final_images: int = 64
    """Test images of those."""


class Found(NamedTuple):
    """All that was measured, by the settings in words.

    Attributes:
      tried: settings of the search.
      checks: of the best, what must not matter.
      folding: what is no candidate, because its warp folds.
      finalists: (setting, images) of those that were made on more.
    """

    tried: dict[str, Rates]
    checks: dict[str, Rates]
    folding: dict[str, Rates]
    finalists: dict[tuple[str, str], Rates]


def main(config: Config) -> None:
    """Searches, judges the best on other models and images, and writes everything."""
    names = tables.names(config.models)
    *others, last = config.models
    searched = last.resolve().name
    few = tables.folder(config, last, num_images=config.search_images, measure=False)
    before = earlier(config)
    found, known = Found({}, {}, {}, {}), {}

    def try_one(options: Options, into: dict[str, Rates] = found.tried) -> float:
        key = describe(options)
        if key not in into:
            known[key] = options
            if key in before:
                into[key] = before[key]
            else:
                images = config.search_images
                run(config, options, sources=[str(last)], num_images=images, measure=False)
                into[key] = nearness.rates({searched: few}, options, names)
                write(config, found, names)
            print(key, f"{distance(into[key]):.2f}", flush=True)
        return distance(into[key])

    descend(lambda setting: try_one(readings(setting)))
    best = sorted(found.tried, key=lambda key: distance(found.tried[key]))
    for change in CHECKS:
        try_one({**known[best[0]], **change}, found.checks)
    for change in FOLDING:
        try_one({**known[best[0]], **change}, found.folding)
    count = config.final_images
    for key in best[: config.finalists] if others else ():
        for model in others:
            of = f"{names[model.resolve().name]} attacked, {count} images"
            if (finalist := f"{key}; {of}") in before:
                found.finalists[key, of] = before[finalist]
                continue
            run(config, known[key], sources=[str(model)], num_images=count)
            runs = {model.resolve().name: tables.folder(config, model, num_images=count)}
            found.finalists[key, of] = nearness.rates(runs, known[key], names)
            write(config, found, names)
    run(config, known[best[0]], sources=[str(last)], num_images=config.num_images)
    whole = {searched: tables.folder(config, last)}
    unseen = _images(config, config.num_images) - _images(config, config.search_images)
    for of, chosen in (("not searched", unseen), ("all", None)):
        found.finalists[best[0], f"{names[searched]} attacked, {of}"] = nearness.rates(
            whole, known[best[0]], names, chosen=chosen
        )
    write(config, found, names)


def _images(config: Config, count: int | None) -> set[str]:
    source = data.load(config.data, "test", image_size=32, num_examples=count, seed=config.seed)
    return set(source.names)


def readings(setting: Sequence[int]) -> dict[str, Any]:
    """The options of a setting.

    Args:
      setting: which reading of each detail.

    Returns:
      Options of `bfjax.attacks.bias_field`.

    Example:
      >>> readings((1, 0, 0, 0, 0, 0))["l1_coefficients"]
      0.4
    """
    chosen = [values[i] for values, i in zip(DETAILS.values(), setting, strict=True)]
    return functools.reduce(operator.or_, chosen)


def run(
    config: Config,
    options: Options,
    *,
    sources: list[str],
    num_images: int | None,
    measure: bool = True,
) -> None:
    """Makes the attacks of one setting, of every row; the tables share those that are measured."""
    attacks = dict(nearness.attack(options, row) for row in nearness.ROWS)
    tables.run(
        config, attacks, sources=sources, num_images=num_images, measure=measure, images=True
    )


def describe(options: Options) -> str:
    """A setting in words."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def descend(distance_of: Callable[[tuple[int, ...]], float]) -> tuple[int, ...]:
    """Goes through the details in turn and takes the best reading of each, until none improves.

    Args:
      distance_of: what is lowered, of the numbers of the readings.

    Returns:
      The best setting.

    Example:
      >>> descend(lambda setting: abs(sum(setting) - 3))
      (3, 0, 0, 0, 0, 0)
    """
    best = (0,) * len(DETAILS)
    while True:
        before = best
        for place, values in enumerate(DETAILS.values()):
            options = [(*best[:place], i, *best[place + 1 :]) for i in range(len(values))]
            best = min([best, *options], key=distance_of)
        if best == before:
            return best


def earlier(config: Config) -> dict[str, Rates]:
    """What a calibration of the same weights and images has written.

    Args:
      config: the options.

    Returns:
      Settings in words, and those with what finalists were made on, to rates; empty if there was
      none.
    """
    known = storage.read_json(RESULTS / "calibrate.json")
    same = noted(config, [models.load_config(model) for model in config.models])
    images = ("data", "search_images", "final_images", "seed")
    if (
        not known
        or known["checkpoints"] != same["checkpoints"]
        or any(known["settings"].get(name) != same["settings"][name] for name in images)
    ):
        return {}
    parts = ("tried", "checks", "folding", "finalists")
    return functools.reduce(operator.or_, (known.get(part, {}) for part in parts))


def write(config: Config, found: Found, names: Mapping[str, str]) -> None:
    """Writes all that was tried, best first, and the finalists before them.

    Args:
      config: the options.
      found: so far.
      names: of the models, and how the paper calls them.
    """
    head = ("setting", "of", "distance, points")

    rows = [[key, of, f"{distance(one):.2f}"] for (key, of), one in found.finalists.items()]
    measured = {
        "search": found.tried,
        "search, a check": found.checks,
        "search, folds": found.folding,
    }
    for part, tried in measured.items():
        nearest = sorted(tried.items(), key=lambda item: distance(item[1]))
        rows += [[key, part, f"{distance(one):.2f}"] for key, one in nearest]
    results = noted(config, [models.load_config(model) for model in config.models]) | {
        "models": dict(names),
        "tried": found.tried,
        "checks": found.checks,
        "folding": found.folding,
        "finalists": {f"{key}; {of}": one for (key, of), one in found.finalists.items()},
    }
    searched = names[config.models[-1].resolve().name]
    title = (
        "Distance of our figures to the paper's, root mean square over all rows of both tables. "
        f"Search: {searched} attacked, judged by all, on {config.search_images} test images. The "
        "checks are of what must not matter, and what folds is no warp: neither are candidates."
    )
    tables.write(RESULTS / "calibrate", title, head, rows, results)


if __name__ == "__main__":
    main(tyro.cli(Config))
