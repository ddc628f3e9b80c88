"""What a start of `bfjax attack` takes, by its parts: the first compiles, the second reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bfjax import models

# JAX reports each tracing, lowering and compilation (or reading from the cache); what these take
# within a step or a verdict is not counted there.
_RUN = """
import time; started = time.perf_counter()
import collections, functools, json, resource, sys
from pathlib import Path
import jax
from bfjax.attack import vmapped
from bfjax.evaluation import AttackConfig, commands, runner
parts = collections.Counter(imports=time.perf_counter() - started)
programs = []
events = {"jaxpr_trace_duration": "tracing", "jaxpr_to_mlir_module_duration": "lowering",
    "backend_compile_duration": "compiling or loading"}
def listen(event, seconds, **kwargs):
    part = events.get(event.rsplit("/", 1)[-1])
    if part:
        parts[part] += seconds
        programs.append(part == "compiling or loading")
jax.monitoring.register_event_duration_secs_listener(listen)
def preparing():
    return sum(parts[part] for part in events.values())
def timed(part, function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        before, begun = preparing(), time.perf_counter()
        result = jax.block_until_ready(function(*args, **kwargs))
        parts[part] += time.perf_counter() - begun - (preparing() - before)
        return result
    return call
model, out, count = sys.argv[1:]
vmapped.step = timed("steps", vmapped.step)
runner.verdicts.judge = timed("judging", runner.verdicts.judge)
commands.load_target = timed("reading the model", commands.load_target)
commands.attack_dataset(AttackConfig(model=model, out=Path(out), data="phantom",
    num_images=int(count), batch_size=int(count), measure=False, gallery=0))
total = time.perf_counter() - started
parts["rest"] = total - sum(parts.values())
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"process": total, "CPU": used.ru_utime + used.ru_stime,
    "programs": sum(programs), "parts": parts}))
"""


def checkpoint(folder: Path, architecture: str = "convnet", *, side: int) -> Path:
    """An untrained classifier of phantoms: what it answers does not matter to the clock."""
    known = {"class_names": ("NORMAL", "PNEUMONIA"), "image_size": side, "resize": "squash"}
    return models.save(models.build(architecture, num_classes=2), folder, metadata=known)


def run(folder: Path, model: Path, *, count: int, cache: Path) -> dict[str, Any]:
    """Attacks phantoms in a process of its own.

    Args:
      folder: new, for the results.
      model: the checkpoint.
      count: how many phantoms, one batch.
      cache: of compiled programs.

    Returns:
      Seconds of the whole process, of the processors, and of each part; how many programs.
    """
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-c", _RUN, str(model), str(folder), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a start on {model} ended with\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def second_start(
    architectures: Sequence[str], *, side: int = 224, count: int = 4
) -> dict[str, dict[str, dict[str, Any]]]:
    """A first process, which compiles, and a second one, up to the end of their one batch.

    Args:
      architectures: of the classifiers.
      side: of the images.
      count: of the phantoms.

    Returns:
      For each, what `run` measures of the "first" and of the "second".
    """
    found = {}
    for architecture in architectures:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            model = checkpoint(root / "model", architecture, side=side)
            found[architecture] = {
                turn: run(root / turn, model, count=count, cache=root / "cache")
                for turn in ("first", "second")
            }
    return found
