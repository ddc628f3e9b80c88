"""Figure 4: through which regions the attack works (Eq. 8), single X-rays and the mean map.

For each classifier: attacks the test images with the paper's attack, maps every image that it
turned, and draws a few maps on their X-rays, and the mean of all with the shares of its thirds and
of the lungs. Lungs are segmented (experiments/lungs.py) and outlined. Repeat with

    python -m experiments.figure4 --models CHECKPOINT [CHECKPOINT ...] --data chest_xray

Attacks and maps lie in `BFJAX_HOME/runs`, shared with the other experiments, and resume there; the
figure and its numbers go to `experiments/results/figure4`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.patheffects
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bfjax import models, storage
from bfjax.evaluation import gallery, load_run
from bfjax.evaluation.maps import (
    COLOURS,
    ExplainConfig,
    as_maps,
    blended,
    draw_thirds,
    explain_attack,
)
from experiments import tables
from experiments.cases import noted
from experiments.figures import ORANGE, save
from experiments.lungs import lungs, relate

RESULTS = Path(__file__).parent / "results" / "figure4"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tables.Inputs):
    """Maps of Eq. 8, single ones and their mean."""

    split: str = "test"
    """Which split is attacked."""
    num_maps: int | None = None
    """Explain at most so many of the images that are turned, drawn by --seed; none: all."""
    num_steps: int = 150
    """Iterations of each map."""
    columns: int = 3
    """X-rays of each classifier in the figure."""


class Explained(NamedTuple):
    """What is drawn of one classifier.

    Attributes:
      summary: of `bfjax explain`.
      relation: of the maps and the lungs.
      rows: the records of the images explained.
      images: clean and attacked, (n, 2, h, w, c).
      shown: which of them are drawn.
      maps: (n, h, w).
      masks: (n, h, w), the lungs.
    """

    summary: dict[str, Any]
    relation: dict[str, Any]
    rows: list[dict[str, Any]]
    images: np.ndarray
    shown: list[int]
    maps: np.ndarray
    masks: np.ndarray


def main(config: Config) -> None:
    """Attacks, explains, draws; what was done before is not done again."""
    cells = tables.run(config, dict([tables.attack()]), split=config.split, images=True)["ours"]
    folders = {model.resolve().name: model for model in config.models}
    turned = {name: cell["targets"][name]["fooled"] for name, cell in cells.items()}
    found = {name: explain(config, folders[name], n) for name, n in turned.items() if n}
    if not found:
        print("no image is turned: no figure")
        return
    checkpoints = {name: models.load_config(model) for name, model in folders.items()}
    architectures = {name: checkpoints[name].architecture for name in found}
    width = max(3.9, 1.15 * max(len(one.shown) for one in found.values()) + 0.35)
    figure = Figure(figsize=(width * len(found), 5.9), layout="constrained")
    FigureCanvasAgg(figure)
    blocks = figure.subfigures(1, len(found), squeeze=False)[0]
    for block, (name, one) in zip(blocks, found.items(), strict=True):
        draw(block, architectures[name], one)
    save(figure, RESULTS / "figure4", dpi=180)
    summary = noted(config, list(checkpoints.values())) | {
        "attack": "bfjax.attacks.paper",
        "selection": "the first turned, the classes in turn",
        "models": {
            name: {what: one.summary[what] for what in _KEPT}
            | {"lungs": one.relation, "shown": [one.rows[i] for i in one.shown]}
            for name, one in found.items()
        },
    }
    storage.write_json(RESULTS / "figure4.json", summary)


_KEPT = (
    "images",
    "fooled",
    "flips",
    "mean_score",
    "mean_map",
    "thirds",
    "thirds_of_change",
    "areas",
    "run",
)


def explain(config: Config, model: Path, fooled: int) -> Explained:
    """Maps the images that are turned, and finds their lungs.

    Args:
      config: of the figure.
      model: the checkpoint.
      fooled: how many there are.

    Returns:
      What is drawn.
    """
    folder = tables.folder(config, model, split=config.split) / "ours" / model.resolve().name
    few = ExplainConfig(
        dir=folder,
        model=str(model),
        data=config.data,
        batch_size=config.batch_size,
        num_images=min(fooled, config.num_maps or fooled),
        num_steps=config.num_steps,
        seed=config.seed,
    )
    summary = explain_attack(few)
    table = storage.read_shards(folder / "explain" / "shards")
    maps = as_maps(table)
    run, indices = load_run(folder, where=config.data), table["index"].to_pylist()
    made = [run.rebuild(row) for row in indices]
    images = np.array([(one.image, one.adversarial) for one in made])
    masks = np.stack([lungs(clean) for clean, _ in images])
    # a map can lie only where the attack changes the image: the change itself is its control
    changes = np.abs(images[:, 1] - images[:, 0]).mean(-1)
    relation = relate(maps, masks) | {"change_inside": relate(changes, masks)["inside"]}
    rows = [run.rows[row] for row in indices]
    shown = gallery.choose(rows, config.columns)
    return Explained(summary, relation, rows, images, shown, maps, masks)


def draw(figure: Any, title: str, found: Explained) -> None:
    """One classifier: the mean map and what it says; attacked, mapped, mean-mapped X-rays.

    Args:
      figure: where.
      title: the classifier.
      found: what is drawn.
    """
    head, body = figure.subfigures(2, 1, height_ratios=[2.1, 3.8])
    left, right = head.subplots(1, 2)
    grid = body.subplots(3, len(found.shown), squeeze=False)
    for axis in (left, *grid.flat):
        axis.set_xticks([])
        axis.set_yticks([])
    mean = found.maps.mean(0, dtype=np.float64)
    scale = Normalize(float(mean.min()), max(float(mean.max()), float(mean.min()) + 1e-6))
    left.imshow(mean, cmap=COLOURS, norm=scale)
    left.set_title(f"{title}: mean of {len(found.maps)} maps", fontsize=7, pad=3)
    draw_thirds(left, found.summary["thirds"], size=7)
    _outline(left, found.masks.mean(0))
    bar = head.colorbar(ScalarMappable(scale, COLOURS), ax=left, location="bottom", pad=0.02)
    bar.ax.tick_params(labelsize=7)
    right.set_axis_off()
    right.text(0, 1, _note(found), fontsize=7, va="top", transform=right.transAxes)
    for axis, label in zip(grid[:, 0], ("attacked", "its map M, 0 to 1", "mean map"), strict=True):
        axis.set_ylabel(label, fontsize=7)
    for axes, at in zip(grid.T, found.shown, strict=True):
        record, (clean, adversarial) = found.rows[at], found.images[at]
        axes[0].imshow(adversarial.squeeze(), cmap="gray", vmin=0, vmax=1)
        caption = f"{record['adversarial_prediction']} {1 - record['adversarial_score']:.2f}"
        axes[0].set_xlabel(caption, fontsize=7, color=ORANGE, fontweight="bold", labelpad=2)
        axes[1].imshow(blended(clean, found.maps[at]))
        axes[2].imshow(blended(clean, mean, scale=scale))
        for axis in axes[1:]:
            _outline(axis, found.masks[at])


def _outline(axis: Axes, mask: np.ndarray) -> None:
    """The border of the lungs, or of what is lung in half of the X-rays."""
    if not (mask >= 0.5).any():
        return
    lines = axis.contour(mask.astype(float), levels=[0.5], colors="white", linewidths=0.5)
    dark = matplotlib.patheffects.withStroke(linewidth=1.1, foreground="black")
    lines.set_path_effects([dark])


def _note(found: Explained) -> str:
    flips, relation = found.summary["flips"], found.relation
    lines = [
        f"M of {found.summary['images']} of the {found.summary['fooled']}",
        "X-rays turned; attacked only",
        f"through M {100 * flips['rate']:.0f} % still are.",
        "Left: thirds of M.",
    ]
    changed = [third["value"] for third in found.summary["thirds_of_change"].values()]
    if None not in changed:
        top, middle, bottom = (100 * part for part in changed)
        lines += ["Thirds of |X_a - X|:", f"{top:.0f} %, {middle:.0f} %, {bottom:.0f} %."]
    parts = [relation[name] for name in ("inside", "change_inside", "area")]
    if all(part[end] is not None for part in parts for end in ("value", "low", "high")):
        lines.append("In the lungs (outlined):")
        for part, name in zip(parts, ("of M", "of |X_a - X|", "of the area"), strict=True):
            value, low, high = (100 * part[end] for end in ("value", "low", "high"))
            lines.append(f"{value:.0f} % [{low:.0f}, {high:.0f}] {name}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Config))
