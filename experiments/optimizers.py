"""The same objective (Eq. 5) under the gradient transformations that a researcher would try.

    python -m experiments.optimizers --models RESNET50 DENSENET121 MOBILENET --data chest_xray

The last of --models is attacked, all judge. Each transformation runs for 5 to 50 steps on test
images, with the step size that is best for as many on images of the training split, both directions
counted. Success, transfer, BRISQUE and the smoothness of the field are drawn against steps and
seconds. The runs lie in `BFJAX_HOME/runs`, shared with the other experiments, and resume there;
results go to `experiments/results/optimizers`.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bfjax import data, models, run_batch, storage
from bfjax.evaluation import parse_attack
from bfjax.metrics import wilson_interval
from bfjax.storage import environment
from experiments import tables
from experiments.tuning import Score, around, best, score

RESULTS = Path(__file__).parent / "results" / "optimizers"
OPTIMIZERS = {
    "sign": "optax.sign_sgd({})",
    "sign of momentum": "optax.chain(normalize('l1'), optax.trace(1.0), optax.sign_sgd({}))",
    "Adam": "optax.adam({})",
    "Lion": "optax.lion({})",
    "normalised gradient": "optax.chain(normalize('l2'), optax.sgd({}))",
    "gradient": "optax.sgd({})",
    # The default line search tries up to twenty gradients a step, inside a loop in which XLA's
    # convolutions are slow on a CPU: a step took fifty times that of a sign. This one tries values.
    "L-BFGS": "optax.lbfgs({}, linesearch=optax.scale_by_backtracking_linesearch(5, "
    "decrease_factor=0.5))",
}
# in the units of each: those of a sign step, those of a gradient; a quasi-Newton step's own length
# is 1, and its line search shortens it (0.1 to 100 turned no more than 5 of 62 training images in
# ten steps, and at 10 a test image's field ended in NaN)
STEP_SIZES = dict.fromkeys(OPTIMIZERS, (0.01, 0.03, 0.06, 0.15, 0.3, 0.6)) | {
    "normalised gradient": (0.1, 0.3, 1.0, 3.0, 10.0),
    "gradient": (0.001, 0.01, 0.1, 1.0, 10.0),
    "L-BFGS": (1.0,),
}
STEPS = (5, 10, 20, 50)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(tables.Inputs):
    """Gradient transformations, compared."""

    num_images: int | None = 128
    """Test images, drawn by --seed."""
    tuning_images: int = 64
    """Images of the training split on which step sizes are chosen."""


def main(config: Config) -> None:
    """Tunes, runs, and writes table, figure and JSON."""
    names = tables.names(config.models)
    source = config.models[-1].resolve().name
    tried = tune(config, source)
    tuned = {
        (name, steps): best(tried[name, steps]) if len(sizes) > 1 else sizes[0]
        for name, sizes in STEP_SIZES.items()
        for steps in STEPS
    }
    attacks = dict(attack(name, steps, size) for (name, steps), size in tuned.items())
    found = tables.run(config, attacks, sources=[str(config.models[-1])])
    cells = {
        f"{name}-{steps}": found[called][source]
        for (name, steps), called in zip(tuned, attacks, strict=True)
    }
    first = next(iter(cells.values()))
    directions = first["targets"][source]["directions"]
    timed = {name: attack(name, 8, tuned[name, STEPS[-1]])[1] for name in OPTIMIZERS}
    seconds = seconds_of_a_step(config, timed)
    rows = [
        row(name, steps, cells[f"{name}-{steps}"], size, seconds[name], source, names)
        for (name, steps), size in tuned.items()
    ]
    head = ("transformation", "step size", "steps", "s / image", "white-box", *directions,
            "transfer", *_LAST)  # fmt: skip
    run = environment()
    title = (
        f"Success in % (95 % interval, k/N) on {first['images']} test images; attacked: "
        f"{names[source]}. Step sizes: the best on {config.tuning_images} training images for as "
        f"many steps, by the geometric mean of both directions. {tables.QUALITY}. Seconds: medians "
        f"of turns, in batches of {config.batch_size}, on {run['processor']}."
    )
    results = {
        "cells": cells,
        "tried": {f"{name}-{steps}": scores for (name, steps), scores in tried.items()},
        "tuned": {f"{name}-{steps}": size for (name, steps), size in tuned.items()},
        "seconds_of_a_step": seconds,
        "models": names,
        "run": run,
    }
    tables.write(RESULTS / "optimizers", title, head, rows, results)
    with storage.replacing(RESULTS / "optimizers.png") as temporary:
        draw(cells, seconds, source).savefig(temporary, format="png", dpi=120)


_LAST = ("BRISQUE", "TV of B̂", "median max |B̂|")


def attack(name: str, num_steps: int, step_size: float) -> tuple[str, str]:
    """An attack under one transformation.

    Args:
      name: of the transformation.
      num_steps: how many.
      step_size: in its units.

    Returns:
      Name and text, as `bfjax evaluate` takes them.

    Example:
      >>> attack("Adam", 5, 0.03)
      ('Adam-5-0.03', 'paper(num_steps=5, optimizer=optax.adam(0.03))')
    """
    optimizer = OPTIMIZERS[name].format(step_size)
    return f"{name}-{num_steps}-{step_size}", f"paper(num_steps={num_steps}, {optimizer=!s})"


def tune(config: Config, source: str) -> dict[tuple[str, int], dict[float, Score]]:
    """Success on other images, with step sizes up to the neighbours of the best.

    Args:
      config: the options.
      source: the name of the model that is attacked.

    Returns:
      (transformation, number of steps) to step size to score.
    """
    alone = dataclasses.replace(config, models=config.models[-1:])
    tried: dict[tuple[str, int], dict[float, Score]] = {}
    before: dict[str, dict[float, Score]] = {}
    for steps in STEPS:  # the best of fewer steps is where to begin
        scores = {name: {} for name, sizes in STEP_SIZES.items() if len(sizes) > 1}
        while left := [
            (name, size)
            for name, known in scores.items()
            for size in around(known or before.get(name, {}), STEP_SIZES[name])
            if size not in known
        ]:
            attacks = dict(attack(name, steps, size) for name, size in left)
            found = tables.run(alone, attacks, num_images=config.tuning_images, split="train",
                               measure=False)  # fmt: skip
            for (name, size), called in zip(left, attacks, strict=True):
                scores[name][size] = score(found[called][source]["targets"][source])
        tried |= {(name, steps): known for name, known in scores.items()}
        before = scores
    return tried


def seconds_of_a_step(config: Config, attacks: Mapping[str, str]) -> dict[str, float]:
    """Median seconds of a step for an image: five turns of each, on one batch, compiled before.

    Args:
      config: the models and the size of a batch.
      attacks: name to text.

    Returns:
      Name to seconds.
    """
    folder = config.models[-1]
    predict = models.load(folder)
    source = data.load(config.data, "test", image_size=models.load_config(folder).image_size,
                       num_examples=config.batch_size, seed=config.seed)  # fmt: skip
    images = np.stack([data.to_float(record["image"]) for record in source])
    made = {name: parse_attack(text, images.shape[1:]) for name, text in attacks.items()}
    seconds = {name: [] for name in attacks}
    for turn in range(6):  # the first compiles
        for name, one in made.items():
            times = []
            run_batch(one, predict, images, np.asarray(source.labels), key=jax.random.key(0),
                      on_step=lambda _, times=times: times.append(time.perf_counter()))  # fmt: skip
            seconds[name] += [*np.diff(times)] if turn else []
    return {name: statistics.median(found) / len(images) for name, found in seconds.items()}


def row(
    name: str,
    steps: int,
    cell: Mapping[str, Any],
    step_size: float,
    seconds: float,
    source: str,
    names: Mapping[str, str],
) -> list[str]:
    """One row of the table."""
    others = [tables.cell(cell["targets"][n]) for n in names if n != source]
    directions = cell["targets"][source]["directions"].values()
    return [
        name,
        f"{step_size:g}",
        str(steps),
        f"{steps * seconds:.2f}",
        tables.cell(cell["targets"][source]),
        *(f"{way['fooled']}/{way['correct']}" for way in directions),
        "; ".join(others) or "-",
        tables.quality(cell),
        f"{cell['mean_total_variation']:.0f}",
        f"{cell['median_max_log_field']:.2f}",
    ]


def draw(
    cells: Mapping[str, Mapping[str, Any]], seconds: Mapping[str, float], source: str
) -> Figure:
    """White-box success, mean transfer, BRISQUE and total variation against steps and seconds.

    Args:
      cells: `NAME-STEPS` to summary.
      seconds: of a step for an image.
      source: the model that was attacked.

    Returns:
      A Matplotlib figure.
    """
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 4, sharey="col")
    titles = ("white-box success, %", "transfer, %", "mean BRISQUE", "total variation of B̂")
    for name in OPTIMIZERS:
        found = [cells[f"{name}-{steps}"] for steps in STEPS]
        values = np.array([_values(cell, source) for cell in found]).T
        rates = [cell["targets"][source] for cell in found]
        ends = np.array([wilson_interval(r["fooled"], r["correct"]) for r in rates]).T
        for across, x in zip(panels, (STEPS, seconds[name] * np.array(STEPS)), strict=True):
            for panel, y in zip(across, values, strict=True):
                panel.plot(x, y, marker="o", ms=3, label=name)
            color = across[0].lines[-1].get_color()
            across[0].fill_between(x, *(100 * ends), color=color, alpha=0.1, lw=0)
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set(xlabel="steps", title=title)
    for panel in panels[1]:
        panel.set(xlabel="seconds for an image", xscale="log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
    clean = next(iter(cells.values()))["mean_brisque_clean"]
    for panel in panels[:, 2]:
        panel.axhline(clean, color="gray", ls=":", lw=1, label="clean")
    panels[0, 3].set(yscale="log")  # both rows share it
    figure.legend(*panels[0, 2].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _values(cell: Mapping[str, Any], source: str) -> tuple[float, ...]:
    others = [r["rate"] for name, r in cell["targets"].items() if name != source]
    transfer = 100 * statistics.mean(others) if others else float("nan")
    success = 100 * cell["targets"][source]["rate"]
    return success, transfer, cell["mean_brisque"], cell["mean_total_variation"]


if __name__ == "__main__":
    main(tyro.cli(Config))
