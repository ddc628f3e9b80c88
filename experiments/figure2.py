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
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bfjax import Attack, AttackFlags, attacks, progress, run_batch, storage
from bfjax.attack import cross_entropy
from bfjax.metrics import success_rate
from bfjax.storage import environment
from experiments.cases import Case, blank, find, show
from experiments.figures import save
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
    loaded = load(config)
    record, predict, images, labels, _ = loaded
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
    storage.write_json(RESULTS / f"eq3-step-{config.step_size:g}.json", summary)
    print(f"Eq. 3 fools {rate.fooled} of {rate.correct}: {100 * float(rate.rate):.2f} %")
    if config.step_size != Config.step_size:
        return
    both = attack, attacks.paper(images.shape[1:])
    per_class = -(-config.rows // len(record.class_names))
    found, _ = find(both, loaded, per_class=per_class, batch_size=config.batch_size)
    if not found:
        print("no image is fooled by both fields: no figure")
        return
    save(draw(found[: config.rows], both, record.class_names), RESULTS / "figure2", dpi=90)


def draw(cases: list[Case], fields: tuple[Attack, Attack], names: tuple[str, ...]) -> Figure:
    """One row an X-ray: original, Eq. 3's field and image, Eq. 4's; orange where B brightens.

    Args:
      cases: turned by both.
      fields: the attacks of Eq. 3 and of Eq. 4.
      names: of the classes.

    Returns:
      A Matplotlib figure, not yet saved.
    """
    figure, grid = blank(len(cases), 5, size=2.0, margin=0)
    titles = ("original", "Eq. 3: B, ±10 %", "attacked by Eq. 3", "Eq. 4: B, ½ to 2", "by Eq. 4")
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    for axes, case in zip(grid, cases, strict=True):
        show(axes[0], case.image, case.clean, case.label, names, size=8)
        parts = zip((1, 3), fields, (1.1, 2.0), case.results, strict=True)
        for column, attack, reach, result in parts:
            log_field = attack.perturbation.log_field
            assert log_field is not None  # both are fields
            field = np.exp(np.asarray(log_field(jax.tree.map(jnp.asarray, result.params))))
            axes[column].imshow(field, cmap="PuOr_r", norm=LogNorm(1 / reach, reach))
            limits = f"B from {field.min():.2f} to {field.max():.2f}"
            axes[column].set_xlabel(limits, fontsize=8, labelpad=2)
            show(axes[column + 1], result.adversarial, result.logits, case.label, names, size=8)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config))
