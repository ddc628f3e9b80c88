"""`bfjax explain`: options become a run of maps here, and only here."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bfjax import estimate
from bfjax.evaluation import heads, identity
from bfjax.evaluation.finished import Run, load_run
from bfjax.evaluation.maps import runner, summary
from bfjax.evaluation.maps.config import ExplainConfig
from bfjax.evaluation.maps.runner import MapRun
from bfjax.evaluation.targets import NORMALIZATION, Target, load_target
from bfjax.explain import MapOptions, logit, mask_attack, pair, probability

_SCORES = {"probability": probability, "logit": logit}


def explain(config: ExplainConfig) -> None:
    """The command `bfjax explain`: runs, then prints what the maps say together."""
    run = map_run(config)
    if config.dry_run:
        estimate.show([runner.of_maps(run)])
        return
    finished = (run.out / "summary.json").exists()
    found = runner.complete(run)
    if finished:
        print(f"{run.out}: finished before, nothing was run")
    summary.show(found, run.out)


def explain_attack(config: ExplainConfig) -> dict[str, Any]:
    """Runs `config`, or what is left of it.

    Args:
      config: which attack, and how its maps are found.

    Returns:
      What `summary.json` holds.

    Raises:
      ValueError: for options, images or a checkpoint that do not fit, naming the culprit; or
        nothing was fooled.
      FileNotFoundError: for missing results, data or checkpoints.
    """
    return runner.complete(map_run(config))


def map_run(config: ExplainConfig) -> MapRun:
    """What `bfjax explain` runs.

    Args:
      config: its options.

    Returns:
      The run; nothing of it is written yet.

    Raises:
      ValueError, FileNotFoundError: as `explain_attack`.
    """
    if jax.process_count() > 1:
        raise ValueError("bfjax explain runs in one process, on all devices of a machine")
    if config.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {config.batch_size}")
    attacked = load_run(config.dir, where=config.data)
    shape = attacked.source[0]["image"].shape
    target = _asked_again(config.model, attacked.settings, shape)
    name, _ = attacked.model
    known, now = attacked.settings["models"][name], identity.of_target(target, shape)
    identity.same_model(name, known, now, config.dir, way="name the model that was attacked there")
    options = _options(config, shape)
    fooled = attacked.fooled()
    rows = _drawn(config, fooled)
    settings = dataclasses.asdict(config)
    settings |= {"num_images": len(rows), "attacked": _alone(attacked)}
    for presentational in ("dir", "model", "data", "out", "gallery", "dry_run"):
        del settings[presentational]
    return MapRun(
        attacked=attacked,
        predict=target.predict,
        options=options,
        rows=rows,
        fooled=len(fooled),
        out=config.out or config.dir / "explain",
        settings=settings,
        batch_size=config.batch_size,
        num_points=config.num_points,
        gallery=config.gallery,
        seed=config.seed,
    )


def _asked_again(model: str, settings: dict[str, Any], shape: tuple[int, ...]) -> Target:
    """The model as the attack took it."""
    finding = settings.get("finding")
    outputs = settings.get("outputs", "logits")
    target = load_target(
        model,
        image_size=settings.get("image_size"),
        outputs=outputs,
        multi_label=finding is not None,
        normalization={k: settings[k] for k in NORMALIZATION if k in settings},
    )
    if finding is None:
        return target
    return heads.asked(target, finding, heads.head_names(target, settings["heads"], shape))


def _alone(attacked: Run) -> dict[str, Any]:
    """The settings of the attack without its judges: models may join them while maps are made."""
    name, _ = attacked.model
    return attacked.settings | {"models": {name: attacked.settings["models"][name]}}


def _options(config: ExplainConfig, shape: tuple[int, ...]) -> MapOptions:
    """The options of the maps, tried on an image: what is bad fails before anything is written."""
    options = MapOptions(
        num_steps=config.num_steps,
        l1=config.l1,
        tv=config.tv,
        mask_size=config.mask_size,
        start=config.start,
        score=_SCORES[config.score],
        reduction=config.reduction,
        tv_exponent=config.tv_exponent,
        step_size=config.step_size,
    )
    image = jnp.zeros(shape)
    mask_attack(**options).perturbation.init(pair(image, image), None)
    if config.num_points < 2:
        raise ValueError(f"--num-points must be at least 2, got {config.num_points}")
    return options


def _drawn(config: ExplainConfig, fooled: list[int]) -> list[int]:
    """The rows that are explained, in their order."""
    if not fooled:
        raise ValueError(f"the attack of {config.dir} fooled no image: there is nothing to explain")
    count = len(fooled) if config.num_images is None else config.num_images
    if not 1 <= count <= len(fooled):
        raise ValueError(f"--num-images must be 1 to {len(fooled)} here, got {count}")
    return sorted(np.random.default_rng(config.seed).choice(fooled, count, replace=False).tolist())
