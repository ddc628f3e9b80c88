"""How fast bfjax is, beside PyTorch, foolbox and torchattacks on the same networks.

    python -m experiments.benchmark

Needs the `[bench]` extra; peers that are not installed are left out. Contenders work in turn, each
in a process of its own; ratios are those of medians, and the peak of a matrix product is measured
in the same turns. The table and all timings go to `experiments/results/benchmark/`, under the name
of the platform, after each row. Run it on a machine that does nothing else. On a GPU it takes five
minutes, and what does not fit is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from bfjax import storage
from bfjax.storage import environment
from experiments.benchmark import gpu, readme
from experiments.benchmark.alternate import PREALLOCATE, Spec, alternate
from experiments.benchmark.rows import OURS, Row, beside_before, fastest, rows
from experiments.benchmark.tables import line, markdown, summary
from experiments.benchmark.whole import WHOLE

RESULTS = Path(__file__).parent.parent / "results" / "benchmark"
PEERS = ("torch", "foolbox", "torchattacks", "opencv-contrib-python-headless")
GPU_MINUTES = 5
SHARE = 0.4
"""Of the minutes, what one group of rows may take at most, lest one that hangs takes all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Ratios of bfjax to its peers."""

    batch_size: int = 8
    """Images at once, on a CPU."""
    repetitions: int = 7
    """Turns of each contender."""
    only: str = ""
    """Run the rows whose names hold this, and keep what is known of the others."""
    bfloat16: bool = False
    """Also time input gradients in bfloat16, on a CPU."""
    before: Path | None = None
    """Another checkout of bfjax, an older one: the table has its seconds over ours."""
    fastest_peers: bool = False
    """Of the peers, time those only that were the fastest in the results so far."""
    whole: bool = True
    """Also run what takes whole runs: many images, two devices, a second start."""
    minutes: float | None = None
    """Rows that do not fit are left out. Without it, five on a GPU, no limit on a CPU."""
    platform: Literal["cpu", "gpu"] | None = None
    """Whose rows. Without it, those of the platform that JAX has."""
    batches: tuple[int, ...] = gpu.BATCHES
    """Batch sizes that are tried on a GPU."""
    networks: tuple[str, ...] = gpu.NETWORKS
    """That are timed on a GPU."""
    side: int = 224
    """Of the images, on a GPU."""
    matrix: int = gpu.MATRIX
    """Side of the matrices whose product is the peak of a GPU."""
    out: Path = RESULTS
    """Folder of the results."""


def main(config: Config) -> None:
    """Runs the rows, and draws up the table after each.

    Args:
      config: what to run.

    Raises:
      ValueError: for a checkout without this benchmark.
    """
    if config.before and not (config.before / "experiments" / "benchmark").is_dir():
        raise ValueError(f"{config.before} is no checkout with experiments/benchmark")
    os.environ[PREALLOCATE] = "false"  # this process would take most of a GPU's memory for itself
    platform = config.platform or jax.default_backend()
    on_gpu = platform == "gpu"
    path = config.out / f"{platform}.json"
    results: dict[str, Any] = {"rows": {}, "whole": {}}
    if path.exists() and not on_gpu:
        results = json.loads(path.read_text(encoding="utf-8"))
    minutes = config.minutes or (GPU_MINUTES if on_gpu else math.inf)
    deadline = time.monotonic() + 60 * minutes
    with _compiled_once() if on_gpu else contextlib.nullcontext():
        left_out = results["left_out"] = []
        for group in _groups(config, results["rows"], on_gpu=on_gpu):
            now = time.monotonic()
            if now >= deadline:
                left_out += [row.name for row in group]
                continue
            until = min(deadline, now + 60 * minutes * SHARE) if on_gpu else deadline
            for name, found in timed(group, config.repetitions, until).items():
                results["rows"][name] = found
                results.setdefault("measured", {})[name] = stamp(config)
                print(line(name, found), flush=True)
            write(path, results, config)
        write(path, results, config)
    for name, measure in WHOLE.items():
        if config.whole and not on_gpu and config.only in name:
            results["whole"][name] = measure()
            results.setdefault("measured", {})[name] = stamp(config)
            print(name, results["whole"][name], flush=True)
            write(path, results, config)
    if config.out == RESULTS and not on_gpu:
        readme.write(results)


def _groups(config: Config, known: dict[str, Any], *, on_gpu: bool) -> Iterator[list[Row]]:
    if on_gpu:
        groups: Iterable[list[Row]] = gpu.groups(
            known,
            batches=config.batches,
            networks=config.networks,
            side=config.side,
            matrix=config.matrix,
        )
    else:
        dtypes = ("float32", "bfloat16") if config.bfloat16 else ("float32",)
        groups = ([row] for row in rows(batch=config.batch_size, dtypes=dtypes))
    for group in groups:
        chosen = [row for row in group if config.only in row.name]
        if config.fastest_peers:
            chosen = [fastest(row, known.get(row.name, {})) for row in chosen]
        if config.before:
            path = str(config.before.resolve())
            chosen = [beside_before(row, path) if OURS in row.contenders else row for row in chosen]
        if chosen:
            yield chosen


def timed(group: Sequence[Row], repetitions: int, deadline: float) -> dict[str, dict[str, Any]]:
    """Some rows at once, without the contenders that are not there.

    Args:
      group: the comparisons. What is the same contender in several of them runs once.
      repetitions: turns of each contender.
      deadline: of `time.monotonic`, for all of them to start.

    Returns:
      For each row its name, and what `summary` makes of it.
    """
    wanted = {row.name: row.contenders | {"peak": row.peak} for row in group}
    specs: dict[str, Spec] = {_key(s): s for some in wanted.values() for s in some.values()}
    found, missing = alternate(specs, repetitions=repetitions, deadline=deadline)

    def of(row: Row, known: dict[str, Any]) -> dict[str, Any]:
        return {label: known[_key(s)] for label, s in wanted[row.name].items() if _key(s) in known}

    return {row.name: summary(row, of(row, found), of(row, missing)) for row in group}


def _key(spec: Spec) -> str:
    return json.dumps(spec, sort_keys=True)


def stamp(config: Config) -> dict[str, Any]:
    """When, on what, and of what a row was measured: rows of several runs are kept together."""
    return {
        "on": f"{environment()['processor']}, {datetime.date.today().isoformat()}",
        "before": commit(config.before) if config.before else None,
        "batch_size": config.batch_size,
        "repetitions": config.repetitions,
        "versions": environment()["versions"] | {name: version(name) for name in PEERS},
    }


def write(path: Path, results: dict[str, Any], config: Config) -> None:
    """The results so far, as JSON and as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.asdict(config)
    for name in ("before", "out"):  # paths of one machine; a commit says what was before
        del settings[name]
    on_gpu = path.stem == "gpu"
    results["run"] = environment() | {
        "date": datetime.date.today().isoformat(),
        "peers": {name: version(name) for name in PEERS},
        "settings": settings,
        "batches": "the best of several batch sizes"
        if on_gpu
        else f"batches of {config.batch_size}",
    }
    storage.write_json(path, results)
    with storage.replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")


def commit(checkout: Path) -> str:
    """The commit of a checkout, or its name."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or checkout.name


def version(name: str) -> str | None:
    """The version of a library, if it is installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@contextlib.contextmanager
def _compiled_once() -> Iterator[None]:
    """What one process compiles, the next one loads."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        yield


if __name__ == "__main__":
    main(tyro.cli(Config))
