"""Figure 2: the noise-like field of Eq. 3 beside the smooth one of Eq. 4, on the same X-rays.

Attacks every test image with Eq. 3 (a free log field, ten sign steps of 0.06, |B̂| ≤ 0.1) and
draws, for a few, its field and ours. Repeat with

    python -m experiments.figure2 --model CHECKPOINT --data chest_xray

The figure and a summary go to `experiments/results/figure2`; with another `--step-size` only a
summary does.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bfjax import AttackFlags, attacks, data, models, progress, records, run_batch
from bfjax.attack import cross_entropy
from bfjax.metrics import success_rate
from bfjax.summary import environment
from experiments.figures import ORANGE, save

RESULTS = Path(__file__).parent / "results" / "figure2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Eq. 3 on all test images, and a figure of a few."""

    model: Path
    """Folder of the checkpoint."""
    data: str = "chest_xray"
    """Data set, or the folder where it lies."""
    num_images: int | None = None
    """Only so many images, drawn by --seed."""
    batch_size: int = 16
    """Images attacked at once."""
    step_size: float = 0.06
    """Step of the log field: the paper's by default."""
    rows: int = 3
    """X-rays in the figure."""
    seed: int = 0
    """Seed of that drawing."""


def main(config: Config) -> None:
    """Attacks, then draws and summarises."""
    record, predict = models.load_config(config.model), models.load(config.model)
    source = data.load(
        config.data,
        "test",
        image_size=record.image_size,
        resize=record.resize,
        num_examples=config.num_images,
        seed=config.seed,
    )
    images = np.stack([data.to_float(source[i]["image"]) for i in range(len(source))])
    labels = np.asarray(source.labels)
    attack = attacks.bim(domain="log", step_size=config.step_size)
    clean, logits, flags = [], [], []
    with progress.bar() as bar:
        task = bar.add_task("Eq. 3", total=len(images))
        for at in range(0, len(images), config.batch_size):
            batch = slice(at, at + config.batch_size)
            # the last batch is filled up, so that nothing is compiled for it
            index = np.resize(np.arange(len(images))[batch], config.batch_size)
            result = run_batch(attack, predict, images[index], labels[index])
            count = len(images[batch])
            clean.append(np.asarray(result.trace.logits)[:count, 0])
            logits.append(np.asarray(result.logits)[:count])
            flags.append([np.asarray(flag)[:count].sum() for flag in result.flags or ()])
            bar.advance(task, count)
    clean, logits = np.concatenate(clean), np.concatenate(logits)
    right, wrong = clean.argmax(1) == labels, logits.argmax(1) != labels
    rate = success_rate(labels, clean.argmax(1), logits.argmax(1))
    before, after = (
        jax.vmap(cross_entropy)(jnp.asarray(z), jnp.asarray(labels)).mean() for z in (clean, logits)
    )
    summary: dict[str, Any] = {
        "attack": f"bim, domain log, epsilon 0.1, {config.step_size} x 10 steps (Eq. 3)",
        "checkpoint": {"architecture": record.architecture, "sha256": record.sha256},
        "images": len(images),
        "fooled": int(rate.fooled),
        "correct": int(rate.correct),
        "rate": float(rate.rate),
        "mean_cross_entropy": {"clean": float(before), "adversarial": float(after)},
        "flags": dict(zip(AttackFlags._fields, map(int, np.sum(flags, 0)), strict=True)),
        "run": environment(),
    }
    records.write_json(RESULTS / f"eq3-step-{config.step_size:g}.json", summary)
    print(f"Eq. 3 fools {rate.fooled} of {rate.correct}: {100 * float(rate.rate):.2f} %")
    if config.step_size != Config.step_size:
        return
    # of the first that Eq. 3 fools, those that Eq. 4 fools too
    first = np.flatnonzero(right & wrong)[: 2 * config.batch_size]
    smooth = run_batch(attacks.bias_field(images.shape[1:]), predict, images[first], labels[first])
    both = first[np.asarray(smooth.logits).argmax(1) != labels[first]]
    chosen = _choose(labels, np.isin(np.arange(len(labels)), both), config.rows)
    if not chosen:
        print("no image is fooled by both fields: no figure")
        return
    figure = draw(predict, images[chosen], labels[chosen], record.class_names)
    save(figure, RESULTS / "figure2", dpi=90)


def _choose(labels: np.ndarray, fooled: np.ndarray, rows: int) -> list[int]:
    """The first fooled images, the classes in turn."""
    by_class = [list(np.flatnonzero(fooled & (labels == c))) for c in np.unique(labels)]
    turns = [queue.pop(0) for _ in range(rows) for queue in by_class if queue]
    return [int(i) for i in turns[:rows]]


def draw(predict, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> Figure:
    """One row an image: original, Eq. 3's field and image, Eq. 4's; orange where B brightens.

    Args:
      predict: the classifier that is attacked.
      images: (n, h, w, c).
      labels: (n,).
      names: of the classes.

    Returns:
      A Matplotlib figure, not yet saved.
    """
    naive = attacks.bim(domain="log")
    smooth = attacks.bias_field(images.shape[1:])
    figure = Figure(figsize=(10.4, 2.25 * len(images) + 0.35), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(images), 5, squeeze=False)
    results = [run_batch(attack, predict, images, labels) for attack in (naive, smooth)]
    clean = jax.vmap(predict)(images)
    titles = ("original", "Eq. 3: B, ±10 %", "attacked by Eq. 3", "Eq. 4: B, ½ to 2", "by Eq. 4")
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    for i, axes in enumerate(grid):
        _image(axes[0], images[i], clean[i], labels[i], names)
        parts = zip((1, 3), (naive, smooth), (1.1, 2.0), results, strict=True)
        for column, attack, reach, result in parts:
            params = jax.tree.map(lambda p, i=i: p[i], result.params)
            log_field = attack.perturbation.log_field
            assert log_field is not None  # both are fields
            field = np.exp(np.asarray(log_field(params)))
            axes[column].imshow(field, cmap="PuOr_r", norm=LogNorm(1 / reach, reach))
            axes[column].set_xlabel(f"B from {field.min():.2f} to {field.max():.2f}", fontsize=8)
            _image(axes[column + 1], result.adversarial[i], result.logits[i], labels[i], names)
        for axis in axes:
            axis.set_xticks([])
            axis.set_yticks([])
    return figure


def _image(axis, image, logits, label: int, names: tuple[str, ...]) -> None:
    axis.imshow(np.asarray(image).squeeze(), cmap="gray", vmin=0, vmax=1)
    chance = np.asarray(jax.nn.softmax(logits))
    answer = int(chance.argmax())
    axis.set_xlabel(
        f"{names[answer]} {chance[answer]:.2f}",
        fontsize=8,
        color=ORANGE if answer != label else "black",
        fontweight="bold" if answer != label else "normal",
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
