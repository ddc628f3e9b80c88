"""The command lines that repeat runs, from their settings."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from bfjax.evaluation import AttackConfig, EvaluateConfig, completed, in_todays_words
from bfjax.report.loading import Run


def command_lines(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """The commands that repeat some runs, with every option that the results depend on.

    They are quoted for a POSIX shell. Where the models lie is not stored: placeholders name
    them and the SHA-256 of their weights.

    Args:
      runs: of one folder.

    Returns:
      What each command makes, and the command: one for all runs of `bfjax evaluate`, or one for
      each run of `bfjax attack`.
    """
    if "attack" in runs[0].settings:
        return [("all runs", _evaluate(runs))]
    return [(f"{run.attack} on {run.source}", _attack(run)) for run in runs]


def _attack(run: Run) -> str:
    models = [_placeholder(name, run) for name in run.targets]
    chosen = {"model": models[:1], "targets": models[1:]}
    return _line("attack", chosen | _options(run, AttackConfig))


def _evaluate(runs: Sequence[Run]) -> str:
    found = {name: _placeholder(name, run) for run in runs for name in run.targets}
    sources = {run.source: found[run.source] for run in runs}
    attacks = {run.attack: in_todays_words(run.settings) for run in runs}
    chosen = {
        "sources": list(sources.values()),
        "targets": [text for name, text in found.items() if name not in sources],
        "attacks": [word for pair in attacks.items() for word in pair],
    }
    return _line("evaluate", chosen | _options(runs[0], EvaluateConfig))


def _placeholder(name: str, run: Run) -> str:
    return f"<model {name}, sha256 {run.models.get(name, {}).get('sha256', 'unknown')}>"


def _options(run: Run, config: type) -> dict[str, Any]:
    """The settings that are options; others are derived from the models and the data."""
    names = [field.name for field in dataclasses.fields(config)]
    known = completed(run.settings) | {"class_names": run.settings.get("classes", [])}
    return {name: known[name] for name in names if name in known}


def _line(command: str, options: dict[str, Any]) -> str:
    words = [_option(name.replace("_", "-"), value) for name, value in options.items()]
    return " \\\n    ".join([f"bfjax {command}", *filter(None, words)])


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, list):
        return f"--{name} {shlex.join(map(str, value))}" if value else ""
    # a value that begins with a dash would be taken for an option
    separator = "=" if str(value).startswith("-") else " "
    return f"--{name}{separator}{shlex.quote(str(value))}"
