"""Figure 3: what ours and every baseline make of the same X-rays.

Rows are the attacks, columns X-rays, a block of columns for each classifier: the first X-rays, the
classes in turn, that it gets right when clean and wrong under the bias field. The baselines have
an ε of 0.1, or search (C&W, saliency map). Repeat with

    python -m experiments.figure3 --models CHECKPOINT [CHECKPOINT ...] --data chest_xray

The figure and its numbers go to `experiments/results/figure3`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from bfjax import AttackResult, attacks, progress, run_batch, storage
from bfjax.models import Checkpoint
from experiments.cases import Case, blank, find, noted, show
from experiments.figures import save
from experiments.inputs import Inputs, load

RESULTS = Path(__file__).parent / "results" / "figure3"
NAMES = {
    "bim": "BIM",
    "carlini_wagner_l2": "C&W L2",
    "saliency_map": "saliency map",
    "fgsm": "FGSM",
    "mi_fgsm": "MI-FGSM",
}
_PIXELS = 500_000  # of all panels: the PNG stays below 500 kB though noise hardly compresses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attacked X-rays of every method."""

    models: tuple[Path, ...]
    """Folders of the checkpoints."""
    data: str = "chest_xray"
    """Data set, or the folder where it lies."""
    num_images: int | None = None
    """Only so many test images, drawn by --seed; none: all."""
    seed: int = 0
    """Seed of that drawing."""
    batch_size: int = 16
    """Images attacked at once while X-rays are chosen."""
    columns: int = 6
    """X-rays in the figure, shared by the classifiers: two of each show both directions."""


class Block(NamedTuple):
    """A classifier's columns.

    Attributes:
      name: of its folder.
      record: what the checkpoint says.
      cases: its X-rays, attacked by ours.
      searched: how many images were attacked to find them.
      made: what each baseline makes of them.
    """

    name: str
    record: Checkpoint
    cases: list[Case]
    searched: int
    made: dict[str, AttackResult]


def main(config: Config) -> None:
    """Attacks, then draws."""
    blocks = [block for model in config.models if (block := attack(config, model)).cases]
    if not blocks:
        print("ours turns no image: no figure")
        return
    columns = sum(len(block.cases) for block in blocks)
    titles = ["original", "ours", *(NAMES[name] for name in blocks[0].made)]
    figure, grid = blank(len(titles), columns, size=0.95)
    for axis, title in zip(grid[:, 0], titles, strict=True):
        axis.set_ylabel(title, fontsize=7)
    shown, column = {}, 0
    for block in blocks:
        names = block.record.class_names
        grid[0, column].set_title(block.record.architecture, fontsize=7, loc="left", pad=3)
        for number, case in enumerate(block.cases):
            (ours,) = case.results
            others = (
                (made.adversarial[number], made.logits[number]) for made in block.made.values()
            )
            pictures = [(case.image, case.clean), (ours.adversarial, ours.logits), *others]
            answers = [
                show(axis, *picture, case.label, names, size=6)
                for axis, picture in zip(grid[:, column], pictures, strict=True)
            ]
            found = dict(zip(titles, answers, strict=True)) | {"image": case.index}
            shown.setdefault(block.name, []).append(found)
            column += 1
    panel = (_PIXELS / grid.size) ** 0.5
    save(figure, RESULTS / "figure3", dpi=round(panel * columns / figure.get_figwidth()))
    summary = noted(config, [block.record for block in blocks]) | {
        "attacks": "ours: bfjax.attacks.paper; baselines: bfjax.attacks.fixed()",
        "selection": "of each classifier the first, the classes in turn, that are right when clean "
        "and wrong under ours",
        "images_attacked": {block.name: block.searched for block in blocks},
        "shown": shown,
    }
    storage.write_json(RESULTS / "figure3.json", summary)


def attack(config: Config, model: Path) -> Block:
    """Finds the X-rays of a classifier, and attacks them with every baseline.

    Args:
      config: how many, and of what.
      model: the checkpoint.

    Returns:
      Its columns.
    """
    loaded = load(
        Inputs(model=model, data=config.data, num_images=config.num_images, seed=config.seed)
    )
    count = max(1, config.columns // len(config.models))
    per_class = -(-count // len(loaded.record.class_names))
    ours = attacks.paper(loaded.images.shape[1:])
    cases, searched = find([ours], loaded, per_class=per_class, batch_size=config.batch_size)
    cases, made = cases[:count], {}
    if cases:
        images = np.stack([case.image for case in cases])
        labels = np.array([case.label for case in cases])
        with progress.bar() as bar:
            for name, baseline in bar.track(attacks.fixed().items(), description=model.name):
                made[name] = run_batch(baseline, loaded.predict, images, labels)
    return Block(model.name, loaded.record, cases, searched, made)


if __name__ == "__main__":
    main(tyro.cli(Config))
