"""`bfjax audit`: options become a run for each model here, and only here."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax
import numpy as np

from bfjax import estimate, progress, storage
from bfjax.estimate import Estimate
from bfjax.evaluation.classes import ANY
from bfjax.evaluation.commands import ask_about, load_model, normalization
from bfjax.evaluation.config import ModelsConfig
from bfjax.evaluation.model_run import ModelRun, clean_logits
from bfjax.evaluation.standard import figure, printed, runner, summary, threshold, universal
from bfjax.evaluation.standard.config import AuditConfig
from bfjax.evaluation.standard.runner import AuditRun
from bfjax.evaluation.standard.testing import UNIVERSAL
from bfjax.evaluation.targets import check_together

Run = TypeVar("Run", bound=ModelRun)


def audit(config: AuditConfig) -> None:
    """The command `bfjax audit`: tests, then prints what each model takes."""
    if config.dry_run:
        estimate.show(of_audits(config))
        return
    found, ran = _complete(audit_runs(config))
    if not ran:
        print(f"{config.out}: finished before, nothing was run")
    transfer = storage.read_json(config.out / "universal.json") if config.universal_steps else {}
    if transfer.get("models") != list(found):  # of others, which were tested before
        transfer = {}
    printed.show(found, transfer, config.out)


def audit_models(config: AuditConfig) -> dict[str, dict[str, Any]]:
    """Runs `config`, or what is left of it.

    Args:
      config: which models, on which images, and where the results go.

    Returns:
      For each model what its `audit.json` holds.

    Raises:
      ValueError: for options, images or models that do not fit, naming the culprit.
      FileNotFoundError: for missing data or models.
    """
    return _complete(audit_runs(config))[0]


def of_audits(config: AuditConfig) -> list[Estimate]:
    """What `bfjax audit` would take, see `audit_models`.

    Args:
      config: its options.

    Returns:
      An estimate for each model.

    Raises:
      ValueError, FileNotFoundError: as `audit_models`.
    """
    return [runner.of_audit(run) for run in audit_runs(config)]


def _complete(runs: list[AuditRun]) -> tuple[dict[str, dict[str, Any]], bool]:
    found, any_ran = {}, False
    with progress.bar() as bar:
        for run in runs:
            total = sum(run.gradients(*part) for part in run.missing())
            task = bar.add_task(f"gradients of {run.target.name}", total=round(total))
            ran = runner.complete(run, lambda spent, task=task: bar.advance(task, spent))
            bar.remove_task(task)
            before = storage.read_json(run.out / "audit.json")
            if ran or not before or not (run.out / "lights.csv").exists():
                summed = summary.summarize(run)
                figure.draw(run.out, summed)
                storage.write_json(run.out / "audit.json", summed)  # last: who has it is finished
            found[run.target.name] = storage.read_json(run.out / "audit.json")
            any_ran |= ran
    path = runs[0].out.parent / "universal.json"
    # it may lie there of other models, where a run was killed before it was written
    digests = [run.settings["model"] for run in runs]
    missing = any_ran or storage.read_json(path).get("digests") != digests
    if missing and len(runs) > 1 and UNIVERSAL in runs[0].rows:
        storage.write_json(path, universal.transfer(runs) | {"digests": digests})
    return found, any_ran


def audit_runs(config: AuditConfig) -> list[AuditRun]:
    """What `bfjax audit` runs.

    Args:
      config: its options.

    Returns:
      A run for each model; nothing of it is written yet.

    Raises:
      ValueError, FileNotFoundError: as `audit_models`.
    """
    if jax.process_count() > 1:
        raise ValueError("bfjax audit runs in one process")
    for option, values in (("ranges", config.ranges), ("exposures", config.exposures)):
        if not values or len(set(values)) < len(values):
            told = ", ".join(map(str, values)) or "none"
            raise ValueError(f"--{option} must be one or several different ones, got {told}")
    if min(config.ranges) <= 0:
        raise ValueError(f"--ranges must be positive log-ranges, got {config.ranges}")
    for option, least in (("num_random", 1), ("universal_steps", 0), ("fit_images", 1)):
        if (value := getattr(config, option)) < least:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if len(set(config.corrections)) < len(config.corrections):
        raise ValueError(f"--corrections must differ, got {', '.join(config.corrections)}")
    kept = ("batch_size", "num_random", "universal_steps", "fit_images")
    settings = {name: getattr(config, name) for name in kept} | {
        "ranges": sorted(config.ranges),
        "exposures": list(config.exposures),
        "corrections": list(config.corrections),
    }
    return model_runs(AuditRun, config, settings, what="an audit")


def model_runs(
    kind: type[Run], config: ModelsConfig, settings: dict[str, Any], *, what: str
) -> list[Run]:
    """A run of some kind for each model.

    Args:
      kind: of the runs.
      config: the options that all kinds have.
      settings: what its results depend on besides.
      what: it is, in words.

    Returns:
      The runs, of the models as they answer at their thresholds; nothing of them is written yet.

    Raises:
      ValueError: for options, images or models that do not fit, naming the culprit.
      FileNotFoundError: for missing data or models.
    """
    if not config.model:
        raise ValueError(f"{what} is of a model: name one or several, --model")
    if config.finding == ANY:
        raise ValueError(f"{what} is of one finding: --finding {ANY} names none")
    targets = [load_model(config, text) for text in config.model]
    check_together(targets)
    asked = ask_about(config, targets, out=config.out, dry_run=config.dry_run)
    truth = np.asarray(asked.source.labels, np.int32)
    if (truth < 0).any():
        raise ValueError(
            f"{what} needs the images' classes: class folders, --labels FILE or --label CLASS"
        )
    if config.sensitivity is not None and config.threshold != type(config).threshold:
        raise ValueError(
            f"--threshold {config.threshold:g} and --sensitivity {config.sensitivity:g} both say "
            "from where on the last class is the answer: give one of them"
        )
    kept = ("split", "seed", "encoding", "gamma", "threshold", "sensitivity", "outputs")
    settings = asked.settings | {name: getattr(config, name) for name in kept} | settings
    settings |= normalization(config) | {
        "data": asked.source.public(config.data),
        "images": asked.fingerprint.sha256,
    }
    runs = [
        kind(
            target=target,
            source=asked.source,
            truth=truth,
            fingerprint=asked.fingerprint,
            out=config.out / target.name,
            settings=settings | {"model": asked.models[target.name]},
            batch_size=config.batch_size,
        )
        for target in asked.targets
    ]
    return [_at_threshold(run, config) for run in runs]


def _at_threshold(run: Run, config: ModelsConfig) -> Run:
    """The same run of the model as it answers at its threshold."""
    value = config.threshold
    if config.sensitivity is not None:
        before = storage.read_json(run.out / "settings.json")
        if before and before.get("sensitivity") == config.sensitivity:
            value = before["threshold"]
        else:
            value = threshold.keeping(clean_logits(run), run.truth, config.sensitivity)
    moved = threshold.at_threshold(run.target.predict, value)
    return dataclasses.replace(
        run,
        target=dataclasses.replace(run.target, predict=moved),
        settings=run.settings | {"threshold": value},
    )
