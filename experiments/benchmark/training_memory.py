"""How much memory a training takes, beside PyTorch's on the same network.

    python -m experiments.benchmark --only "memory of training"

The largest resident memory of a process of its own: ours is `bfjax train` on phantoms, with a
running average, its validation and its saved states; PyTorch's is a bare loop of AdamW.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

# Trains on phantoms; prints the largest memory in each epoch (MiB), with its compilation and
# validation, and the seconds of CPU of the whole process.
_OURS = """
from bfjax import memory
memory.keep_freed()
import json, sys, threading, time
from pathlib import Path
from bfjax.training import TrainConfig, train_classifier
out, options = Path(sys.argv[1]), json.loads(sys.argv[2])
peaks, done = [], threading.Event()
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
def watch():
    while not done.wait(0.02):
        log = out / "log.csv"
        epoch = log.read_text().count("\\n") - 1 if log.exists() else 0
        while len(peaks) <= max(epoch, 0):
            peaks.append(0.0)
        peaks[-1] = max(peaks[-1], resident())
thread = threading.Thread(target=watch)
thread.start()
train_classifier(TrainConfig(data="phantom", out=out, average=0.99, **options))
done.set()
thread.join()
print(json.dumps({"epochs": peaks, "cpu": time.process_time()}))
"""

_TORCH = """
import json, resource, sys, time
import torch
from experiments.benchmark.torch_networks import NETWORKS
name, side, batch, steps = sys.argv[1], *map(int, sys.argv[2:])
model = NETWORKS[name](2)
optimizer = torch.optim.AdamW(model.parameters())
images, labels = torch.rand(batch, 3, side, side), torch.zeros(batch, dtype=torch.long)
for _ in range(steps):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"peak": peak, "cpu": time.process_time()}))
"""


def ours(architecture: str, *, steps: int, batch: int, **options: Any) -> dict[str, Any]:
    """A short training.

    Args:
      architecture: of the classifier.
      steps: of an epoch.
      batch: images of a step.
      **options: of `bfjax train`.

    Returns:
      The largest memory in each epoch, and after the last, in MiB; seconds of CPU.
    """
    # one image in ten, at least, is held out
    wanted = {"model": architecture, "batch_size": batch, "num_examples": steps * batch * 8 // 7}
    with tempfile.TemporaryDirectory() as folder:
        return _printed(_OURS, f"{folder}/out", json.dumps(wanted | options))


def peer(architecture: str, *, side: int, batch: int, steps: int) -> dict[str, Any]:
    """A few steps of PyTorch.

    Args:
      architecture: of the classifier.
      side: of the images.
      batch: images of a step.
      steps: how many.

    Returns:
      The largest memory in MiB; seconds of CPU.
    """
    return _printed(_TORCH, architecture, str(side), str(batch), str(steps))


def memory_of_training(
    architectures: Sequence[str] = ("mobilenet_v1", "mobilenet_v2", "resnet50", "densenet121"),
    *,
    batch: int = 32,
    steps: int = 5,
) -> dict[str, Any]:
    """The largest memory of short trainings at 224 pixels, and over growing sizes.

    Args:
      architectures: of the classifiers.
      batch: images of a step.
      steps: of an epoch.

    Returns:
      For each the memory in MiB: ours and PyTorch's, their ratio, ours with `--remat`, and ours in
      each epoch of a progressive training.
    """
    common = {"steps": steps, "batch": batch}
    found: dict[str, Any] = {}
    for name in architectures:
        plain = ours(name, epochs=2, **common)
        remat = ours(name, epochs=2, remat=True, **common)
        growing = ours(name, epochs=6, progressive=(96, 96, 128, 160), **common)
        other = peer(name, side=224, **common)
        found[name] = {
            "ours": max(plain["epochs"]),
            "torch": other["peak"],
            "ratio": max(plain["epochs"]) / other["peak"],
            "remat": max(remat["epochs"]),
            "progressive 96 96 128 160 224 224": growing["epochs"],
        }
    return found


def _printed(program: str, *arguments: str) -> dict[str, Any]:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments} ended with\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
