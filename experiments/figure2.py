"""Figure 2: the noise-like field of Eq. 3 beside the smooth one of Eq. 4, on the same X-rays.

Attacks every test image with Eq. 3 (a free log field, ten sign steps of 0.06, |B̂| ≤ 0.1) and
draws, for a few, its field and ours. Repeat with

    python -m experiments.figure2 --model CHECKPOINT --data chest_xray

The figure and a summary go to `experiments/results/figure2`; with another `--step-size` only a
summary does.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bfjax import Attack, AttackFlags, AttackResult, attacks, progress, records, run_batch
from bfjax.attack import cross_entropy
from bfjax.metrics import success_rate
from bfjax.summary import environment
from experiments.figures import ORANGE, save
from experiments.inputs import Inputs, load

RESULTS = Path(__file__).parent / "results" / "figure2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """Eq. 3 on all test images, and a figure of a few."""

    batch_size: int = 16
    """Images attacked at once."""
    step_size: float = 0.06
    """Step of the log field: the paper's by default."""
    rows: int = 3
    """X-rays in the figure."""


def main(config: Config) -> None:
    """Attacks, then draws and summarises."""
    record, predict, images, labels = load(config)
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
    # of those that Eq. 3 fools, in turn by class, the first that Eq. 4 fools too
    tried = _in_turn(labels, right & wrong)[: 2 * config.batch_size]
    cases = Cases(images[tried], labels[tried], clean[tried])
    results = [run_batch(a, predict, cases.images, cases.labels) for a in _fields(images.shape[1:])]
    both = [np.asarray(result.logits).argmax(1) != cases.labels for result in results]
    chosen = _in_turn(cases.labels, both[0] & both[1])[: config.rows]
    if not chosen:
        print("no image is fooled by both fields: no figure")
        return
    cases, results = jax.tree.map(lambda x: x[np.array(chosen)], (cases, results))
    figure = draw(cases, results, record.class_names)
    save(figure, RESULTS / "figure2", dpi=90)


class Cases(NamedTuple):
    """Images, their labels, and the classifier's answers to them, all with a leading axis."""

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def _fields(image_shape: tuple[int, ...]) -> tuple[Attack, Attack]:
    return attacks.bim(domain="log"), attacks.bias_field(image_shape)


def _in_turn(labels: np.ndarray, wanted: np.ndarray) -> list[int]:
    """The indices of the images that are wanted, the classes in turn."""
    by_class = [np.flatnonzero(wanted & (labels == c)) for c in np.unique(labels)]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_class))
    return [int(i) for i in turns if i is not None]


def draw(cases: Cases, results: list[AttackResult], names: tuple[str, ...]) -> Figure:
    """One row an image: original, Eq. 3's field and image, Eq. 4's; orange where B brightens.

    Args:
      cases: the clean images.
      results: of Eq. 3 and of Eq. 4 on them.
      names: of the classes.

    Returns:
      A Matplotlib figure, not yet saved.
    """
    images, labels, clean = cases
    figure = Figure(figsize=(10.4, 2.25 * len(images) + 0.35), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(images), 5, squeeze=False)
    titles = ("original", "Eq. 3: B, ±10 %", "attacked by Eq. 3", "Eq. 4: B, ½ to 2", "by Eq. 4")
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    for i, axes in enumerate(grid):
        _image(axes[0], images[i], clean[i], labels[i], names)
        parts = zip((1, 3), _fields(images.shape[1:]), (1.1, 2.0), results, strict=True)
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
