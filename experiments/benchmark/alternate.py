"""Times contenders in turn, each in a process of its own that sleeps while others work."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any, NamedTuple

from bfjax import memory

ROOT = Path(__file__).parent.parent.parent
PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"
Spec = dict[str, Any]
"""A contender's name and its options, as `contenders.serve` takes them, whether its process keeps
the memory that it frees, ``kept``, the checkout that it is of, ``path``, where not this one, and
the module that serves it, ``module``, where not `experiments.benchmark.contenders`."""


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
    """A contender could not start or go on, for instance because its library is not installed."""


class _Running(NamedTuple):
    process: subprocess.Popen[str]
    errors: IO[str]


def alternate(
    specs: Mapping[str, Spec], *, repetitions: int, deadline: float = math.inf
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Lets contenders work in turn, all of them once before any of them again.

    Args:
      specs: label to contender.
      repetitions: of each.
      deadline: of `time.monotonic`; what has not started then is left out, and the turns end, but
        not before the first.

    Returns:
      Label to what was found, and label to the last line of those that did not start or failed.
    """
    found: dict[str, Timing] = {}
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        running = {label: stack.enter_context(_started(spec)) for label, spec in specs.items()}
        pool = stack.enter_context(ThreadPoolExecutor(len(running)))
        answers = {label: pool.submit(_answer, one) for label, one in running.items()}
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        late = wait(answers.values(), timeout=left).not_done
        for label, answer in answers.items():
            if answer in late:
                running[label].process.kill()
                missing[label] = "it had not started when the time was up"
            elif error := answer.exception():
                missing[label] = str(error)
            else:
                found[label] = Timing([], answer.result())
        for turn in range(repetitions):
            if turn and time.monotonic() >= deadline:
                break
            for label in tuple(found):
                try:
                    answer = _told(running[label])
                except UnavailableError as error:
                    missing[label] = str(error)
                    del found[label]
                    continue
                found[label].seconds.append(answer.pop("seconds"))
                found[label].facts.update(answer)
    return found, missing


@contextlib.contextmanager
def _started(spec: Spec) -> Iterator[_Running]:
    told = {name: value for name, value in spec.items() if name not in ("kept", "path", "module")}
    module = spec.get("module", "experiments.benchmark.contenders")
    command = [sys.executable, "-m", module, json.dumps(told)]
    # several JAX processes share a GPU only where none takes all of its memory
    environment = os.environ | {PREALLOCATE: "false"}
    environment |= memory.ENVIRONMENT if spec.get("kept") else {}
    folder = str(spec.get("path", ROOT))
    environment["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as errors,  # a pipe that nobody empties would stop it
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=environment, cwd=folder
        ) as process,
    ):
        try:
            yield _Running(process, errors)
        finally:
            process.kill()


def _told(one: _Running) -> dict[str, Any]:
    """Tells it to work, and returns its answer."""
    assert one.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # where it has ended, the answer says why
        os.write(one.process.stdin.fileno(), b"go\n")
    return _answer(one)


def _answer(one: _Running) -> dict[str, Any]:
    """The next line of JSON; libraries may print before it."""
    assert one.process.stdout is not None
    for line in one.process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    one.process.wait()
    one.errors.seek(0)
    told = one.errors.read().strip().splitlines()
    raise UnavailableError(told[-1] if told else "it ended without a word")
