"""What is measured of whole runs: images, devices, a second start, steps that are not taken."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmark.alternate import alternate
from experiments.benchmark.start import checkpoint, second_start
from experiments.benchmark.sweeps import compilations
from experiments.benchmark.training_memory import memory_of_training

SIDE = 64
# Attacks phantoms and prints the seconds of the attack, those since the start of the process, and
# its largest memory.
_RUN = """
import time; started = time.perf_counter()
import json, resource, sys
from pathlib import Path
from bfjax.evaluation import AttackConfig, attack_dataset
model, out, count, batch = sys.argv[1:]
found = attack_dataset(AttackConfig(model=model, out=Path(out), data="phantom",
    num_images=int(count), batch_size=int(batch), measure=False, gallery=0))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"attack": found["run"]["seconds_of_this_run"],
    "process": time.perf_counter() - started, "peak_mib": peak}))
"""


def run(
    folder: Path, model: Path, *, count: int, batch: int, devices: int = 1, cache: Path
) -> dict[str, float]:
    """Attacks phantoms in a process of its own.

    Args:
      folder: new, for the results.
      model: the checkpoint.
      count: how many phantoms.
      batch: images of each device.
      devices: the host pretends to have.
      cache: of compiled programs.

    Returns:
      Seconds of the attack and of the whole process, and its largest memory in MiB.
    """
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-c", _RUN, str(model), str(folder), str(count), str(batch)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a run of {count} phantoms ended with\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def scaling(counts: Sequence[int] = (10, 100, 1000, 10000)) -> dict[str, Any]:
    """Seconds and memory against the number of images.

    Args:
      counts: of phantoms.

    Returns:
      For each, the seconds of the attack and the largest memory.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model, cache = checkpoint(root / "model", side=SIDE), root / "cache"
        run(root / "warm", model, count=16, batch=16, cache=cache)
        found = {n: run(root / str(n), model, count=n, batch=16, cache=cache) for n in counts}
    return {str(n): one for n, one in found.items()}


def devices(*, count: int = 512, repetitions: int = 5) -> dict[str, Any]:
    """The same images on one device and on two that the host pretends to have, in turn.

    Args:
      count: of phantoms.
      repetitions: of each.

    Returns:
      All seconds, and the ratio of the medians.
    """
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model, cache = checkpoint(root / "model", side=SIDE), root / "cache"
        for turn in range(repetitions + 1):
            for n, times in seconds.items():
                folder = root / f"{n}-{turn}"
                one = run(folder, model, count=count, batch=32 // n, devices=n, cache=cache)
                if turn:  # the first compiled
                    times.append(one["attack"])
    ratio = statistics.median(seconds[2]) / statistics.median(seconds[1])
    return {"one": seconds[1], "two": seconds[2], "ratio": ratio}


def steps_not_taken(*, network: str, repetitions: int = 5) -> dict[str, Any]:
    """A stream of images with and without early stop: does time fall with the steps?

    Args:
      network: that is attacked.
      repetitions: of each.

    Returns:
      The share of the steps that were taken, the share of the time, and their ratio.
    """
    common = {"name": "stream", "network": network, "batch": 8}
    specs = {"early": common | {"early_stop": True}, "all": common | {"early_stop": False}}
    found, missing = alternate(specs, repetitions=repetitions)
    if missing:
        raise RuntimeError(f"a stream did not run: {missing}")
    steps = found["early"].facts["steps"] / found["all"].facts["steps"]
    time = found["early"].median / found["all"].median
    return {"share_of_steps": steps, "share_of_time": time, "ratio": time / steps}


WHOLE: dict[str, Callable[[], dict[str, Any]]] = {
    "images": scaling,
    "devices": devices,
    "programs of a sweep": compilations,
    "second start": lambda: second_start(("resnet50", "mobilenet_v1")),
    "memory of training": memory_of_training,
    "steps not taken": lambda: steps_not_taken(network="mobilenet_v1"),
}
