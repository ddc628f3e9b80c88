"""`bfjax certify`: options become a run for each model here, and only here."""

from __future__ import annotations

import math
from typing import Any

import jax

from bfjax import estimate, progress, storage
from bfjax.estimate import Estimate
from bfjax.evaluation.certified import figure, runner, summary
from bfjax.evaluation.certified.config import CertifyConfig
from bfjax.evaluation.certified.runner import CertifyRun
from bfjax.evaluation.standard.commands import model_runs
from bfjax.robustness import DEGREE


def certify(config: CertifyConfig) -> None:
    """The command `bfjax certify`: certifies, then prints what is proven of each model."""
    if config.dry_run:
        estimate.show(of_certificates(config))
        return
    found, ran = _complete(config)
    if not ran:
        print(f"{config.out}: finished before, nothing was run")
    summary.show(found, config.out)


def certify_models(config: CertifyConfig) -> dict[str, dict[str, Any]]:
    """Runs `config`, or what is left of it.

    Args:
      config: which models, on which images, and where the results go.

    Returns:
      For each model what its `certificates.json` holds.

    Raises:
      ValueError: for options, images or models that do not fit, naming the culprit.
      FileNotFoundError: for missing data or models.
    """
    return _complete(config)[0]


def of_certificates(config: CertifyConfig) -> list[Estimate]:
    """What `bfjax certify` would take, see `certify_models`.

    Args:
      config: its options.

    Returns:
      An estimate for each model.

    Raises:
      ValueError, FileNotFoundError: as `certify_models`.
    """
    return [runner.of_certificates(run) for run in certify_runs(config)]


def _complete(config: CertifyConfig) -> tuple[dict[str, dict[str, Any]], bool]:
    found, any_ran, radii = {}, False, sorted(config.radii)
    with progress.bar() as bar:
        for run in certify_runs(config):
            total = sum(len(run.chosen(start)) for start in run.missing())
            task = bar.add_task(f"certifying {run.target.name}", total=total)
            ran = runner.complete(run, lambda count, task=task: bar.advance(task, count))
            bar.remove_task(task)
            path = run.out / "certificates.json"
            before = storage.read_json(path)
            if ran or not before or before["radii"] != radii:
                summed = summary.summarize(run, radii)
                if before and not ran:
                    summed["run"] = before["run"]
                figure.draw(run.out, summed)
                storage.write_json(path, summed)  # last: who has it is finished
            found[run.target.name] = storage.read_json(path)
            any_ran |= ran
    return found, any_ran


def certify_runs(config: CertifyConfig) -> list[CertifyRun]:
    """What `bfjax certify` runs.

    Args:
      config: its options.

    Returns:
      A run for each model; nothing of it is written yet.

    Raises:
      ValueError, FileNotFoundError: as `certify_models`.
    """
    if jax.process_count() > 1:
        raise ValueError("bfjax certify runs in one process")
    for option in ("sigma", "gamma"):
        if not 0 < (value := getattr(config, option)) < math.inf:
            raise ValueError(f"--{option} must be positive and finite, got {value}")
    if not 0 < config.alpha < 1:
        raise ValueError(f"--alpha must be between 0 and 1, got {config.alpha}")
    if not 0 < config.headroom <= 1:
        raise ValueError(f"--headroom must be above 0 and at most 1, got {config.headroom}")
    if config.num_guess < 1:
        raise ValueError(f"--num-guess must be at least 1, got {config.num_guess}")
    least = math.floor(math.log(config.alpha, 0.5)) + 1
    if config.num_samples < least:
        raise ValueError(
            f"--num-samples {config.num_samples} can certify nothing: with --alpha {config.alpha} "
            f"at least {least}"
        )
    if not config.radii or len(set(config.radii)) < len(config.radii):
        told = ", ".join(map(str, config.radii)) or "none"
        raise ValueError(f"--radii must be one or several different ones, got {told}")
    if not 0 < min(config.radii) <= max(config.radii) < math.inf:
        raise ValueError(f"--radii must be positive root mean squares, got {config.radii}")
    kept = ("sigma", "num_samples", "num_guess", "alpha", "headroom")
    settings = {name: getattr(config, name) for name in kept} | {"degree": DEGREE}
    return model_runs(CertifyRun, config, settings, what="a certificate")
