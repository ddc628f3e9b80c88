"""Figure 1: X-rays under an adversarial bias field, two for each direction of the error.

The first X-rays of each class, in the order of the test split, that the classifier gets right when
clean and wrong under the paper's attack. Repeat with

    python -m experiments.figure1 --model CHECKPOINT --data chest_xray

The figure and its numbers go to `experiments/results/figure1`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from bfjax import attacks, storage
from experiments.cases import blank, find, noted, show
from experiments.figures import save
from experiments.inputs import Inputs, load

RESULTS = Path(__file__).parent / "results" / "figure1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """Attacked X-rays of each direction."""

    batch_size: int = 16
    """Images attacked at once."""
    per_direction: int = 2
    """X-rays for each direction."""


def main(config: Config) -> None:
    """Attacks until there are enough, then draws."""
    loaded = load(config)
    names = loaded.record.class_names
    attack = attacks.paper(loaded.images.shape[1:])
    found, searched = find(
        [attack], loaded, per_class=config.per_direction, batch_size=config.batch_size
    )
    by_class = {label: [c for c in found if c.label == label] for label in range(len(names))}
    rows = {label: cases for label, cases in by_class.items() if cases}
    if not rows:
        print("the attack turns no image: no figure")
        return
    figure, grid = blank(len(rows), 2 * max(map(len, rows.values())), size=1.08)
    shown = []
    for axes, (label, cases) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(f"truth: {names[label]}", fontsize=7)
        for axis in axes[2 * len(cases) :]:
            axis.set_axis_off()
        for number, case in enumerate(cases):
            (result,) = case.results
            original, attacked = axes[2 * number : 2 * number + 2]
            original.set_title("original", fontsize=7, pad=3)
            attacked.set_title("attacked", fontsize=7, pad=3)
            shown.append(
                {
                    "image": case.index,
                    "original": show(original, case.image, case.clean, label, names),
                    "attacked": show(attacked, result.adversarial, result.logits, label, names),
                }
            )
    save(figure, RESULTS / "figure1", dpi=220)
    summary = noted(config, [loaded.record]) | {
        "attack": "bfjax.attacks.paper",
        "selection": "the first of each class that are right when clean and wrong when attacked",
        "images_attacked": searched,
        "shown": shown,
    }
    storage.write_json(RESULTS / "figure1.json", summary)


if __name__ == "__main__":
    main(tyro.cli(Config))
