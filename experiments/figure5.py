"""Figure 5: what the lowest degree D0 of the polynomial does to the field.

The first X-rays, the classes in turn, that the classifier gets right when clean and wrong under the
attack with each D0. Repeat with

    python -m experiments.figure5 --model CHECKPOINT --data chest_xray

The figure and its numbers go to `experiments/results/figure5`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from bfjax import attacks, metrics, storage
from experiments.cases import blank, find, noted, show
from experiments.figures import save
from experiments.inputs import Inputs, load

RESULTS = Path(__file__).parent / "results" / "figure5"
_SCALE = LogNorm(0.5, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """Fields of several D0 on the same X-rays."""

    batch_size: int = 16
    """Images attacked at once."""
    min_degrees: tuple[int, ...] = (0, 3)
    """D0, the lowest degree of each."""
    rows: int = 3
    """X-rays in the figure."""


def main(config: Config) -> None:
    """Attacks until there are enough X-rays, then draws."""
    loaded = load(config)
    names = loaded.record.class_names
    made = [attacks.paper(loaded.images.shape[1:], min_degree=d) for d in config.min_degrees]
    per_class = -(-config.rows // len(names))
    found, searched = find(made, loaded, per_class=per_class, batch_size=config.batch_size)
    found = found[: config.rows]
    if not found:
        print("no image is turned with every D0: no figure")
        return
    figure, grid = blank(1 + 2 * len(made), len(found), size=1.1)
    titles = [f"{what}, D0 = {d}" for d in config.min_degrees for what in ("B", "attacked")]
    for axis, title in zip(grid[:, 0], ["original", *titles], strict=True):
        axis.set_ylabel(title, fontsize=7)
    shown = []
    for axes, case in zip(grid.T, found, strict=True):
        axes[0].set_title(f"truth: {names[case.label]}", fontsize=7, pad=3)
        original = show(axes[0], case.image, case.clean, case.label, names)
        numbers: dict[str, Any] = {"image": case.index, "original": original}
        shown.append(numbers)
        for number, (attack, result) in enumerate(zip(made, case.results, strict=True)):
            above, below = axes[2 * number + 1 : 2 * number + 3]
            assert attack.perturbation.log_field is not None  # it is a field
            log_field = attack.perturbation.log_field(jax.tree.map(jnp.asarray, result.params))
            b = np.exp(np.asarray(log_field, np.float64))
            above.imshow(b, cmap="PuOr_r", norm=_SCALE)
            ends = " to ".join(f"{x:.2f}" if x < 100 else f"{x:.0e}" for x in (b.min(), b.max()))
            above.set_xlabel(f"B {ends}", fontsize=7, labelpad=2)
            answer = show(below, result.adversarial, result.logits, case.label, names)
            high = metrics.high_frequency_share(log_field, frequency=8.0)
            numbers[f"D0={config.min_degrees[number]}"] = answer | {
                "field": [float(b.min()), float(b.max())],
                "high_frequency_share": float(high),
                "mean_change": float(np.abs(result.adversarial - case.image).mean()),
            }
    scale = ScalarMappable(_SCALE, "PuOr_r")
    bar = figure.colorbar(scale, ax=grid, location="bottom", shrink=0.7, pad=0.01, aspect=40)
    bar.set_ticks([0.5, 1, 2], labels=["½ (darker)", "1", "2 (brighter)"])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    save(figure, RESULTS / "figure5", dpi=190)
    summary = noted(config, [loaded.record]) | {
        "attack": "bfjax.attacks.paper but for D0",
        "selection": "the first, the classes in turn, that are right when clean and wrong with "
        "every D0",
        "images_attacked": searched,
        "shown": shown,
    }
    storage.write_json(RESULTS / "figure5.json", summary)


if __name__ == "__main__":
    main(tyro.cli(Config))
