"""How is a bound on the field best held, and how is the most found within it?

    python -m experiments.bounds --model MOBILENET --data chest_xray --num-images 64

Fields of low degree, orthonormal Legendre polynomials without a constant, within a log-range ρ
(largest B̂ less the smallest), moved by what follows and judged by the network that is attacked; and
beside them the paper's field, of degree 10 with a warp that does not fold. The steepest slope says
whether a field is still smooth light: 1 is a factor of e over the width of the image. Every line is
written as soon as it is known, and not made again for the same weights, images and settings.
Results go to `experiments/results/bounds`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bfjax import (
    Attack,
    Field,
    LinearField,
    Search,
    attacks,
    bias_field,
    metrics,
    progress,
    run_batch,
    storage,
)
from bfjax import attack as pieces
from bfjax.field import legendre, limit_log_range, onto_sampled_bounds
from bfjax.storage import environment
from experiments import tables
from experiments.inputs import Inputs, Loaded, load

RESULTS = Path(__file__).parent / "results" / "bounds"
RANGES = (0.1, 0.2, 0.4, 0.7, 1.4)
DEGREE, STEPS, RESTARTS = 4, 30, 3
Made = Callable[..., Attack | Search]


def _ascent(field: Field, log_range: float, **pieces_of: Any) -> Attack:
    """The first method; the others differ from it in one piece."""
    usual: dict[str, Any] = {
        "perturbation": bias_field(field),
        "loss": pieces.margin,
        "optimizer": pieces.annealed("l2", 0.15 * log_range, num_steps=STEPS),
        "project": limit_log_range(field, maximum=log_range),
        "num_steps": STEPS,
        "iterate": "best",
    }
    return Attack(**usual | pieces_of)


def _restarted(field: Field, log_range: float) -> Search:
    start = bias_field(field, start_noise=log_range / 4)
    return pieces.restarts(_ascent(field, log_range, perturbation=start), RESTARTS)


def _halving(field: Field, log_range: float) -> Attack:
    steps = pieces.step_halving("l2", log_range / 2, num_steps=STEPS)
    return _ascent(field, log_range, optimizer=steps)


def _signs(field: Field, log_range: float) -> Attack:
    count = jax.eval_shape(field.init).shape[0]
    steps = pieces.steepest("linf", 0.15 * log_range / count**0.5)  # as long as the first method's
    return _ascent(field, log_range, optimizer=steps)


def _tanh(field: Field, log_range: float) -> Attack:
    bent = bias_field(field, max_log_field=log_range / 2, saturation="tanh")
    return _ascent(field, log_range, perturbation=bent, project=None)


def _clipped(field: Field, log_range: float) -> Attack:
    cut = bias_field(field, max_log_field=log_range / 2)
    return _ascent(field, log_range, perturbation=cut, project=None)


def _nearest(field: LinearField, log_range: float, *, longer: float = 1.0) -> Attack:
    steps = pieces.annealed("l2", 0.15 * longer * log_range, num_steps=STEPS)
    project = onto_sampled_bounds(field, max_log_range=log_range)
    return _ascent(field, log_range, optimizer=steps, project=project)


def _papers(field: Field, log_range: float) -> Attack:
    """Eq. 4 to 7, ten sign steps, bounded by scaling."""
    shape = jax.eval_shape(field.log_field, field.init()).shape
    return attacks.paper(
        shape,
        min_degree=0,
        terms="total",
        border="clamp",
        max_warp_gradient=0.9,
        max_change=None,
        max_log_range=log_range,
        log_field_bound="project",
        loss=pieces.margin,
    )


def _papers_normalised(field: Field, log_range: float) -> Attack:
    shape = jax.eval_shape(field.log_field, field.init()).shape
    return attacks.bias_field(shape, min_degree=0, terms="total", max_log_range=log_range)


METHODS: dict[str, Made] = {
    "normalised steps, scaled": _ascent,
    f"... from {RESTARTS} random starts": _restarted,
    "... halving their length (Auto-PGD)": _halving,
    "sign steps, scaled": _signs,
    "normalised steps, nearest field within the bound": _nearest,
    "... first step twice as long": functools.partial(_nearest, longer=2.0),
    "... first step four times as long": functools.partial(_nearest, longer=4.0),
    "normalised steps, tanh at each pixel": _tanh,
    "normalised steps, clipped at each pixel": _clipped,
    "the paper's field, ten sign steps of 0.06, scaled": _papers,
    "the paper's field, normalised steps, scaled": _papers_normalised,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """Bounds on the field, compared."""

    num_images: int | None = 64
    """Test images, drawn by --seed."""
    batch_size: int = 16
    """Images attacked at once."""


def main(config: Config) -> None:
    """Runs what is missing, and writes the table after each line."""
    loaded = load(config)
    settings = {
        "checkpoint": loaded.record.sha256,
        "images": [loaded.sha256, config.num_images, config.seed, config.batch_size],
        "field": f"legendre, degree {DEGREE}",
        "encoding": "linear",
        "steps": STEPS,
    }
    path = RESULTS / "bounds.json"
    before = storage.read_json(path)
    found = before.get("found", {}) if before.get("settings") == settings else {}
    height, width = loaded.images.shape[1:3]
    field = legendre((height, width), degree=DEGREE)
    for name, make in METHODS.items():
        for log_range in RANGES:
            key = f"{name}; {log_range}"
            if key not in found:
                found[key] = measure(make(field, log_range), loaded, config)
                print(key, found[key], flush=True)
                write(found, settings, len(loaded.images))


def measure(attack: Attack | Search, loaded: Loaded, config: Config) -> dict[str, Any]:
    """Success of an attack by direction, and how smooth its fields are.

    Args:
      attack: any, on a field.
      loaded: the classifier and the images.
      config: the options.

    Returns:
      What JSON holds.
    """
    wrong, right, fields = [], [], []
    inner: Any = getattr(attack, "attack", attack)  # that restarts start anew
    log_field = inner.perturbation.log_field
    quality = jax.jit(jax.vmap(lambda params: _quality(log_field(params))))
    size = config.batch_size
    with progress.bar() as bar:
        for start in bar.track(range(0, len(loaded.images), size)):
            images = jnp.asarray(loaded.images[start : start + size])
            labels = jnp.asarray(loaded.labels[start : start + size])
            key = jax.random.fold_in(jax.random.key(config.seed), start)
            result = run_batch(attack, loaded.predict, images, labels, key=key)
            clean = jax.vmap(loaded.predict)(images)
            right.append(np.asarray(clean.argmax(-1) == labels))
            wrong.append(np.asarray(result.logits.argmax(-1) != labels))
            fields.append(jax.tree.map(np.asarray, quality(result.params)))
    correct = np.concatenate(right)
    fooled, names = np.concatenate(wrong) & correct, loaded.record.class_names
    ways = {
        f"{names[c]}→{names[1 - c]}": _rate(fooled[loaded.labels == c], correct[loaded.labels == c])
        for c in (0, 1)
    }
    means = jax.tree.map(lambda *parts: float(np.concatenate(parts).mean()), *fields)
    return _rate(fooled, correct) | {"directions": ways} | means


def _rate(fooled: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    k, n = int(fooled.sum()), int(correct.sum())
    return {"fooled": k, "correct": n, "rate": k / n if n else None}


def _quality(log_field: jax.Array) -> dict[str, jax.Array]:
    return {
        "log_range": metrics.log_range(log_field),
        "rms": metrics.root_mean_square(log_field),
        "slope": metrics.largest_slope(log_field),
    }


def write(found: dict[str, Any], settings: dict[str, Any], count: int) -> None:
    """Writes the table of what is known so far.

    Args:
      found: method and log-range to what was measured.
      settings: what it depends on.
      count: of the images.
    """
    rows = []
    for name in METHODS:
        there = {rho: found[f"{name}; {rho}"] for rho in RANGES if f"{name}; {rho}" in found}
        if there:
            rows.append([name, *(_cell(there[rho]) if rho in there else "-" for rho in RANGES)])
    title = (
        f"Success in % (95 % interval) on {count} test images within a log-range, and the mean of "
        "the fields' steepest slopes per image width."
    )
    head = ("method", *(f"{rho:g}" for rho in RANGES))
    results = {"settings": settings, "found": found, "run": environment()}
    tables.write(RESULTS / "bounds", title, head, rows, results)


def _cell(one: dict[str, Any]) -> str:
    return f"{tables.cell(one)}; slope {one['slope']:.1f}"


if __name__ == "__main__":
    main(tyro.cli(Config))
