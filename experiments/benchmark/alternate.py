"""Times contenders in turn, each in a process of its own that sleeps while others work."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bfjax import memory

Spec = dict[str, Any]
"""A contender's name and its options, as `contenders.main` takes them, and whether its process
keeps the memory that it frees, ``kept``."""


class Timing(NamedTuple):
    """How one contender did.

    Attributes:
      seconds: of each repetition.
      facts: what it said of itself, such as `flops`, and its largest memory, `peak_mib`.
    """

    seconds: list[float]
    facts: dict[str, Any]

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds)


class UnavailableError(Exception):
    """A contender could not start, for instance because its library is not installed."""


def alternate(specs: Mapping[str, Spec], *, repetitions: int) -> dict[str, Timing]:
    """Lets contenders work in turn, all of them once before any of them again.

    Args:
      specs: label to contender.
      repetitions: of each.

    Returns:
      Label to what was found.

    Raises:
      UnavailableError: one of them did not start; the last line that it wrote says why.
    """
    with contextlib.ExitStack() as stack:
        running = {label: stack.enter_context(_started(spec)) for label, spec in specs.items()}
        facts = {label: _answer(process) for label, process in running.items()}
        seconds: dict[str, list[float]] = {label: [] for label in specs}
        for _ in range(repetitions):
            for label, process in running.items():
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                found = _answer(process)
                seconds[label].append(found.pop("seconds"))
                facts[label] |= found
    return {label: Timing(seconds[label], facts[label]) for label in specs}


@contextlib.contextmanager
def _started(spec: Spec) -> Iterator[subprocess.Popen[str]]:
    told = {name: value for name, value in spec.items() if name != "kept"}
    command = [sys.executable, "-m", "experiments.benchmark.contenders", json.dumps(told)]
    environment = os.environ | (memory.ENVIRONMENT if spec.get("kept") else {})
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of JSON; libraries may print before it."""
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    told = process.stderr.read().strip().splitlines()
    raise UnavailableError(told[-1] if told else "it ended without a word")
