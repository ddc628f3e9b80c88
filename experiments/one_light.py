"""On how many images must one light for all be fitted?

    python -m experiments.one_light --model MOBILENET --judges RESNET50 DENSENET121

One light for a whole data set (`bfjax.robustness.universal`), fitted on more and more test images
that the seed draws and judged on --num-images others, perhaps of the same patients: success, by
class, the share of the images that get the answer that most get, and success on --judges, to which
it transfers. Half an hour of two cores for MobileNet V1. Every line is written as soon as it is
known, and not made again for the same weights, images and settings. Results go to
`experiments/results/one_light`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from bfjax import models, storage
from bfjax.attack import logits_of
from bfjax.robustness import light, universal
from bfjax.storage import environment
from bfjax.types import Predict
from experiments import tables
from experiments.inputs import Inputs, Loaded, load, names_differ

RESULTS = Path(__file__).parent / "results" / "one_light"
RANGES, COUNTS = (0.2, 0.4, 0.7), (4, 16, 64, 256)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Inputs):
    """One light, fitted on more and more images."""

    num_images: int | None = 128
    """Test images that it is judged on; those that it is fitted on are others."""
    num_steps: int = 100
    """Steps of each fit."""
    batch_size: int = 16
    """Images of a step."""
    judges: tuple[Path, ...] = ()
    """Checkpoints that the same light is put to, of images of the same size."""


def main(config: Config) -> None:
    """Fits what is missing, and writes the table after each line."""
    if (judged := config.num_images) is None:
        raise ValueError("--num-images must leave images to fit the light on, got none")
    loaded = load(dataclasses.replace(config, num_images=judged + max(COUNTS)))
    mixed = np.random.default_rng(config.seed).permutation(len(loaded.labels))
    loaded = loaded._replace(images=loaded.images[mixed], labels=loaded.labels[mixed])
    names_differ(config.judges)
    judges = {path.resolve().name: models.load_config(path) for path in config.judges}
    for name, record in judges.items():
        for what in ("image_size", "resize", "class_names"):
            mine, others = getattr(loaded.record, what), getattr(record, what)
            if mine != others:
                raise ValueError(f"{what} of {name} is {others}, of the model {mine}")
    settings = {
        "checkpoint": loaded.record.sha256,
        "judges": {name: record.sha256 for name, record in judges.items()},
        "images": [loaded.sha256, judged, config.seed],
        "steps": [config.num_steps, config.batch_size],
    }
    path = RESULTS / "one_light.json"
    before = storage.read_json(path)
    found = before.get("found", {}) if before.get("settings") == settings else {}
    for rho in RANGES:
        for count in COUNTS:
            key = f"{rho}; {count}"
            if key not in found:
                found[key] = measure(loaded, config, rho, count, judged=judged)
                print(key, found[key], flush=True)
                write(found, settings, judged, loaded.record.class_names)


def measure(
    loaded: Loaded, config: Config, rho: float, count: int, *, judged: int
) -> dict[str, Any]:
    """Fits one light and judges it.

    Args:
      loaded: the classifier, and the images: first those that are judged.
      config: the options.
      rho: the log-range.
      count: images that it is fitted on.
      judged: images that it is judged on.

    Returns:
      What JSON holds.
    """
    fitted = slice(judged, judged + count)
    found = universal(
        loaded.predict,
        loaded.images[fitted],
        loaded.labels[fitted],
        max_log_range=rho,
        num_steps=config.num_steps,
        batch_size=min(config.batch_size, count),
        key=jax.random.key(config.seed),
    )
    images, labels = loaded.images[:judged], loaded.labels[:judged]
    threat = light(images.shape[1:], max_log_range=rho)
    lit = jax.jit(jax.vmap(threat.perturbation.apply, (None, 0)))

    def judged_by(predict: Predict) -> dict[str, Any]:
        told: dict[str, list[np.ndarray]] = {"clean": [], "lit": []}
        for start in range(0, judged, config.batch_size):
            part = jnp.asarray(images[start : start + config.batch_size])
            for name, shown in (("clean", part), ("lit", lit(found.params, part))):
                told[name].append(np.asarray(logits_of(predict, shown)).argmax(-1))
        answers = {name: np.concatenate(parts) for name, parts in told.items()}
        right = answers["clean"] == labels
        fooled = right & (answers["lit"] != labels)
        ways = [[int(fooled[labels == c].sum()), int(right[labels == c].sum())] for c in (0, 1)]
        same = {name: float(np.bincount(one).max() / judged) for name, one in answers.items()}
        return {
            "fooled": int(fooled.sum()),
            "correct": int(right.sum()),
            "by_class": ways,
            "one_answer": same["lit"],
            "clean_one_answer": same["clean"],
        }

    others = {path.resolve().name: judged_by(models.load(path)) for path in config.judges}
    own = judged_by(loaded.predict)
    return {"fitted": len(loaded.labels[fitted]), **own, "judges": others}


def write(found: dict[str, Any], settings: dict[str, Any], judged: int, names: Any) -> None:
    """Writes the table of what is known so far.

    Args:
      found: log-range and number of images to what was measured.
      settings: what it depends on.
      judged: images that it is judged on.
      names: of the classes.
    """
    rows = []
    for key, one in found.items():
        rho, _ = key.split("; ")
        rates = [(one["fooled"], one["correct"]), *one["by_class"]]
        told = [tables.share(k, n) for k, n in rates]
        others = [tables.share(by["fooled"], by["correct"]) for by in one["judges"].values()]
        rows.append([rho, str(one["fitted"]), *told, f"{one['one_answer']:.0%}", *others])
    ways = [f"{names[c]}→{names[1 - c]}" for c in (0, 1)]
    title = (
        f"Success in % (95 % interval) of one light for all images on {judged} test images that it "
        "was not fitted on, the share of them that get the same answer, and success on other "
        "classifiers."
    )
    judges = (f"→ {name}" for name in settings["judges"])
    head = ("log-range", "fitted on", "success", *ways, "one answer", *judges)
    results = {"settings": settings, "found": found, "run": environment()}
    tables.write(RESULTS / "one_light", title, head, rows, results)


if __name__ == "__main__":
    main(tyro.cli(Config))
