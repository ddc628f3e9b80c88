"""Which options of Eq. 8 give maps that mean most?

    python -m experiments.map_options --models CHECKPOINT [CHECKPOINT ...] --data chest_xray

Attacks training images, whom no figure shows, with the paper's attack, and maps those that were
turned with the default options of `bfjax explain` and with one of them changed at a time. A map
means the more, the larger the area between its insertion and its deletion curve is than that of
random maps as smooth: how fast the attack works when its pixels come in the map's order. All that
was tried goes to `experiments/results/map_options`; the maps lie in `BFJAX_HOME/runs`, shared with
the other experiments, and resume there.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from bfjax import models
from bfjax.evaluation import maps
from bfjax.evaluation.maps import CONTROLS, ExplainConfig
from experiments import tables

RESULTS = Path(__file__).parent / "results" / "map_options"
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    *({"mask_size": size} for size in (7, 14, 56)),
    *({"start": start} for start in (0.0, 0.5)),
    {"score": "logit"},
    {"reduction": "sum"},
    *({"tv_exponent": exponent} for exponent in (1.0, 2.0)),
    *({"step_size": step} for step in (0.01, 0.03)),
    {"l1": 0.5},
    {"l1": 0.0, "tv": 0.0},
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tables.Inputs):
    """Maps of Eq. 8 with one option changed at a time."""

    num_images: int | None = 256
    """Training images attacked, drawn by --seed."""
    num_maps: int = 48
    """At most so many of those that were turned are mapped."""


def main(config: Config) -> None:
    """Attacks, maps, and writes the table."""
    names = tables.names(config.models)
    cells = tables.run(config, dict([tables.attack()]), split="train", images=True)["ours"]
    found, rows = {}, []
    for model in config.models:
        name = model.resolve().name
        if name not in cells:
            continue
        few = min(cells[name]["targets"][name]["fooled"], config.num_maps)
        for options in OPTIONS if few else ():
            told = ", ".join(f"{key}={value}" for key, value in options.items()) or "default"
            one = explain(config, model, few, options)
            found[f"{names[name]}, {told}"] = one
            rows.append([names[name], told, *_cells(one)])
    title = (
        "Maps of Eq. 8 by option. Gap: the area between the insertion and the deletion curve, less "
        "that of random maps as smooth (95 % interval over images): larger is better. Turned: by "
        "the attack through the map alone."
    )
    head = ("classifier", "option", "gap", "against a centre blob", "turned, %", "mean M", "maps")
    sha256 = {model.resolve().name: models.load_config(model).sha256 for model in config.models}
    results = {"cells": found, "checkpoint_sha256": sha256, "seed": config.seed}
    tables.write(RESULTS / "map_options", title, head, rows, results)


def explain(config: Config, model: Path, few: int, options: dict[str, Any]) -> dict[str, Any]:
    """The maps of one model with some options.

    Args:
      config: of the experiment.
      model: the checkpoint.
      few: how many maps.
      options: of `bfjax explain` that are not the default.

    Returns:
      The summary of `bfjax explain`, with `gaps`: control to ratio.
    """
    folder = tables.folder(config, model, split="train") / "ours" / model.resolve().name
    defaults = {field.name: field.default for field in dataclasses.fields(ExplainConfig)}
    # named by what all options were, so that another default is another folder
    whole = {key: options.get(key, defaults[key]) for key in sorted(set().union(*OPTIONS))}
    out = folder / f"explain-{few}-{'-'.join(map(str, whole.values()))}"
    summary = maps.explain_attack(
        ExplainConfig(
            dir=folder,
            model=str(model),
            data=config.data,
            out=out,
            batch_size=config.batch_size,
            num_images=few,
            gallery=0,
            seed=config.seed,
            **options,
        )
    )
    attacked = summary["settings"]["attacked"]
    attacked["data"] = Path(attacked["data"]).name  # not where it lies here
    columns = maps.gather(out / "shards").columns
    gaps = {
        control: maps.ratio(_gap(columns, "map") - _gap(columns, control), np.ones(few))
        for control in CONTROLS
    }
    return {**summary, "gaps": gaps}


def _gap(columns: dict[str, np.ndarray], kind: str) -> np.ndarray:
    # the better map turns early when its pixels are attacked first, and turns back early when
    # they are restored first
    return columns[f"insertion_{kind}"] - columns[f"deletion_{kind}"]


def _cells(found: dict[str, Any]) -> list[str]:
    gaps = [
        f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
        for gap in (found["gaps"][control] for control in CONTROLS)
    ]
    turned = f"{100 * found['flips']['rate']:.0f}"
    return [*gaps, turned, f"{found['mean_map']:.2f}", str(found["images"])]


if __name__ == "__main__":
    main(tyro.cli(Config))
