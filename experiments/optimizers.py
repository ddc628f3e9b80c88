"""The same objective (Eq. 5) under the gradient transformations that a researcher would try.

    python -m experiments.optimizers --models RESNET50 DENSENET121 MOBILENET --data chest_xray

The last of --models is attacked, all judge. Each transformation's step size is the one with the
highest success on images of the training split; then it runs for 5 to 50 steps on test images.
Success, transfer, BRISQUE and the smoothness of the field are drawn against steps and seconds. The
runs lie in `BFJAX_HOME/runs`, shared with the other experiments, and resume there; results go to
`experiments/results/optimizers`.
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

from bfjax import data, models, records, run_batch
from bfjax.metrics import wilson_interval
from bfjax.specification import parse
from experiments import tables

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
# in the units of each: those of a sign step, and those of a gradient
STEP_SIZES = dict.fromkeys(OPTIMIZERS, (0.01, 0.03, 0.06, 0.15)) | {
    "normalised gradient": (0.1, 0.3, 1.0, 3.0),
    "gradient": (0.001, 0.01, 0.1, 1.0),
    "L-BFGS": (0.1, 1.0),
}
STEPS = (5, 10, 20, 50)
_TUNED_AT = 10


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
    tuned = tune(config, source)
    attacks = {
        f"{name}-{steps}": text(name, tuned[name], steps) for name in OPTIMIZERS for steps in STEPS
    }
    found = tables.run(config, attacks, sources=[str(config.models[-1])])
    cells = {name: found[name][source] for name in attacks}
    seconds = {name: seconds_of_a_step(config, name, tuned[name]) for name in OPTIMIZERS}
    rows = [row(name, steps, cells[f"{name}-{steps}"], tuned[name], seconds[name], source, names)
            for name in OPTIMIZERS for steps in STEPS]  # fmt: skip
    head = ("transformation", "step size", "steps", "s / image", "white-box", "transfer", *_LAST)
    count = next(iter(cells.values()))["images"]
    title = f"Success in % (95 % interval, k/N) on {count} test images; attacked: {names[source]}."
    results = {"cells": cells, "tuned": tuned, "seconds_of_a_step": seconds, "models": names}
    tables.write(RESULTS / "optimizers", title, head, rows, results)
    with records.replacing(RESULTS / "optimizers.png") as temporary:
        draw(cells, seconds, source).savefig(temporary, format="png", dpi=120)


_LAST = ("BRISQUE", "TV of B̂", "median max |B̂|")


def text(name: str, step_size: float, num_steps: int) -> str:
    """An attack under one transformation.

    Args:
      name: of the transformation.
      step_size: in its units.
      num_steps: how many.

    Returns:
      As `bfjax evaluate` takes it.

    Example:
      >>> text("Adam", 0.03, 5)
      'bias_field(num_steps=5, optimizer=optax.adam(0.03))'
    """
    return f"bias_field(num_steps={num_steps}, optimizer={OPTIMIZERS[name].format(step_size)})"


def tune(config: Config, source: str) -> dict[str, float]:
    """The step size of each transformation with the highest success on other images.

    Args:
      config: the options.
      source: the name of the model that is attacked.

    Returns:
      Name to step size; of equal ones the smaller.
    """
    attacks = {
        f"{name}-{size}": text(name, size, _TUNED_AT)
        for name, sizes in STEP_SIZES.items()
        for size in sizes
    }
    attacked = [str(config.models[-1])]
    found = tables.run(config, attacks, sources=attacked, num_images=config.tuning_images,
                       split="train", measure=False)  # fmt: skip
    return {
        name: max(sizes, key=lambda s, n=name: found[f"{n}-{s}"][source]["targets"][source]["rate"])
        for name, sizes in STEP_SIZES.items()
    }


def seconds_of_a_step(config: Config, name: str, step_size: float) -> float:
    """Median seconds of a step for an image, in one batch, compiled before.

    Args:
      config: the models and the size of a batch.
      name: of the transformation.
      step_size: in its units.

    Returns:
      Seconds.
    """
    folder = config.models[-1]
    source = data.load(config.data, "test", image_size=models.load_config(folder).image_size,
                       num_examples=config.batch_size, seed=config.seed)  # fmt: skip
    images = np.stack([data.to_float(record["image"]) for record in source])
    made, times = parse(text(name, step_size, 8), images.shape[1:]), []
    run_batch(made, models.load(folder), images, np.asarray(source.labels), key=jax.random.key(0),
              on_step=lambda _: times.append(time.perf_counter()))  # fmt: skip
    return statistics.median(np.diff(times)[1:]) / len(images)


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
    return [
        name,
        f"{step_size:g}",
        str(steps),
        f"{steps * seconds:.2f}",
        tables.cell(cell["targets"][source]),
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
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _values(cell: Mapping[str, Any], source: str) -> tuple[float, ...]:
    others = [r["rate"] for name, r in cell["targets"].items() if name != source]
    transfer = 100 * statistics.mean(others) if others else float("nan")
    success = 100 * cell["targets"][source]["rate"]
    return success, transfer, cell["mean_brisque"], cell["mean_total_variation"]


if __name__ == "__main__":
    main(tyro.cli(Config))
