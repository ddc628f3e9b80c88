"""Do PyTorch's classifiers work here, and how fast are they?

    python -m experiments.pytorch_networks
    python -m experiments.pytorch_networks --time

Networks of torchvision, timm, MONAI, torchxrayvision and transformers (`zoo.NETWORKS`), with random
weights; nothing is downloaded. The first command compares each, as `bfjax.models.from_torch` reads
it, with PyTorch in float64. The second one also times its input gradients, in turns with PyTorch's;
let it run on a machine that does nothing else. What is there for the same versions and seed is not
made again, but with `--again`. An environment for all of them:

    python3 -m venv zoo
    zoo/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 monai==1.6.1 \
        torchxrayvision==1.5.7 transformers==5.24.0 -e .

Results go to `experiments/results/pytorch_networks`, after each network.
"""

from __future__ import annotations

import dataclasses
import gc
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import tyro

from bfjax import storage
from bfjax.storage import environment
from experiments import tables
from experiments.pytorch_networks import checks, timing, zoo

RESULTS = Path(__file__).parent.parent / "results" / "pytorch_networks"
COLUMNS = {
    "logits": "logits",
    "gradient": "gradient",
    "torch_gradient": "PyTorch's own",
    "vmap": "vmap",
    "attack": "attack",
    "torch_attack": "PyTorch's own attack",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """PyTorch's classifiers in bfjax, compared and timed."""

    networks: tuple[str, ...] = ()
    """Those whose names hold one of these; none: all."""
    time: bool = False
    """Also time input gradients, on a machine that does nothing else."""
    batch_size: int = 8
    """Images at once, when timed."""
    repetitions: int = 5
    """Timed turns of each contender."""
    seed: int = 0
    """Of the weights; that of the images is the next one."""
    again: bool = False
    """Make anew what is there."""
    out: Path = RESULTS
    """Folder of the results."""


def main(config: Config) -> None:
    """Runs what is missing, and writes the table after each network.

    Args:
      config: what to run.

    Raises:
      ValueError: no network has such a name.
    """
    chosen = [
        name
        for name in zoo.NETWORKS
        if not config.networks or any(part in name for part in config.networks)
    ]
    if not chosen:
        raise ValueError(f"--networks {config.networks} names none of {', '.join(zoo.NETWORKS)}")
    path = config.out / "pytorch_networks.json"
    found = storage.read_json(path).get("found", {})
    for name in chosen:
        library = name.split()[0]
        try:
            made_with = {"seed": config.seed, "versions": _versions(library)}
        except metadata.PackageNotFoundError:
            print(f"{name}: left out, {library} is not installed", flush=True)
            continue
        one = found.get(name, {})
        for part, measure in _parts(config, name).items():
            there = one.get(part, {})
            if part == "speed":
                made_with = made_with | {k: getattr(config, k) for k in _TIMED}
            if config.again or there.get("made_with") != made_with or "error" in there:
                one[part] = _tried(measure) | {"made_with": made_with, "run": environment()}
                found[name] = one
                print(name, part, _line(one[part]), flush=True)
                write(found, config)


_TIMED = ("batch_size", "repetitions")


def _parts(config: Config, name: str) -> dict[str, Any]:
    parts: dict[str, Any] = {"parity": lambda: checks.check(name, seed=config.seed)}
    if config.time:
        options = {k: getattr(config, k) for k in _TIMED}
        parts["speed"] = lambda: timing.measure(name, seed=config.seed, **options)
    return parts


def _tried(measure: Any) -> dict[str, Any]:
    """What was measured, or why it was not, which is a result too."""
    try:
        return measure()
    except Exception as error:  # libraries raise many kinds
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
    finally:
        jax.clear_caches()
        gc.collect()


def _versions(library: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in ("bfjax", "jax", "torch", library)}


def _line(one: dict[str, Any]) -> str:
    shown = {k: v for k, v in one.items() if k not in ("made_with", "run", "timings")}
    return str(shown)


def write(found: dict[str, dict[str, Any]], config: Config) -> None:
    """Writes the table of what is known so far.

    Args:
      found: network to what was measured.
      config: the options.
    """
    rows = [[name, *_cells(found[name])] for name in zoo.NETWORKS if name in found]
    works = sum(found[row[0]]["parity"].get("works", False) for row in rows)
    title = (
        f"{works} of {len(rows)} PyTorch networks with random weights work. Errors of logits and "
        "input gradients against PyTorch in float64, of vmap against single images, of an attack "
        "against that through a callback in float64; beside them those of PyTorch in float32. "
        "Seconds for an input gradient of a batch."
    )
    head = ("network", "works", *COLUMNS.values(), "seconds", "PyTorch", "ours ÷ PyTorch")
    results = {"limits": {"kinks": checks.LIMITS, "smooth": checks.SMOOTH}, "found": found}
    tables.write(config.out / "pytorch_networks", title, head, rows, results)


def _cells(one: dict[str, Any]) -> list[str]:
    parity, speed = one["parity"], one.get("speed", {})
    if "error" in parity:
        return [f"no: {parity['error']}", *"-" * 9]
    works = "yes" if parity["works"] else "no"
    if parity["works"] and "ours_by_differences" in parity:
        works = "yes; PyTorch's gradient is wrong"
    cells = [works, *(f"{parity[key]:.1e}" for key in COLUMNS)]
    if not speed.get("ratio"):
        return [*cells, *"---"]
    best, medians = speed["best"], speed["medians"]
    seconds = [f"{medians[timing.OURS]:.3f}", f"{medians[best]:.3f} ({best})"]
    return [*cells, *seconds, f"{speed['ratio']:.2f}"]


if __name__ == "__main__":
    main(tyro.cli(Config))
