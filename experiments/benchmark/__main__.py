"""How fast bfjax is, beside PyTorch, foolbox and torchattacks on the same networks.

    python -m experiments.benchmark

Needs the `[bench]` extra. Contenders work in turn, each in a process of its own; ratios are those
of medians, and the peak of a matrix product is measured in the same turns. The table and all
timings go to `experiments/results/benchmark/`, under the name of the platform. Run it on a machine
that does nothing else.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import tyro

from bfjax import storage
from bfjax.storage import environment
from experiments.benchmark.alternate import Timing, UnavailableError, alternate
from experiments.benchmark.rows import KEPT, OURS, Row, rows
from experiments.benchmark.whole import WHOLE

RESULTS = Path(__file__).parent.parent / "results" / "benchmark"
PEERS = ("torch", "foolbox", "torchattacks", "opencv-contrib-python-headless")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Ratios of bfjax to its peers."""

    batch_size: int = 8
    """Images at once."""
    repetitions: int = 7
    """Turns of each contender."""
    only: str = ""
    """Run the rows whose names hold this, and keep what is known of the others."""
    bfloat16: bool = False
    """Also time input gradients in bfloat16."""


def main(config: Config) -> None:
    """Runs the rows, and draws up the table after each."""
    path = RESULTS / f"{jax.default_backend()}.json"
    results: dict[str, Any] = {"rows": {}, "whole": {}}
    if path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
    dtypes = ("float32", "bfloat16") if config.bfloat16 else ("float32",)
    for row in rows(batch=config.batch_size, dtypes=dtypes):
        if config.only in row.name:
            found = results["rows"][row.name] = timed(row, repetitions=config.repetitions)
            print(line(row.name, found), flush=True)
            _write(path, results, config)
    for name, measure in WHOLE.items():
        if config.only in name:
            results["whole"][name] = measure()
            print(name, results["whole"][name], flush=True)
            _write(path, results, config)


def _write(path: Path, results: dict[str, Any], config: Config) -> None:
    results["run"] = environment() | {
        "date": datetime.date.today().isoformat(),
        "peers": {name: version(name) for name in PEERS},
        "settings": dataclasses.asdict(config),
    }
    storage.write_json(path, results)
    with storage.replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")


def timed(row: Row, *, repetitions: int) -> dict[str, Any]:
    """One row, without the contenders that are not there.

    Args:
      row: the comparison.
      repetitions: turns of each contender.

    Returns:
      Each contender's seconds and facts, the ratio, and whether it is what was aimed at.
    """
    specs, missing = dict(row.contenders), {}
    found: dict[str, Timing] = {}
    while len(specs) > 1 and not found:
        try:
            found = alternate(specs | {"peak": {"name": "peak"}}, repetitions=repetitions)
        except UnavailableError as error:
            label = absent(specs)
            if label is None or label == OURS:
                raise
            missing[label] = str(error)
            del specs[label]
    result = summary(row, found) if found else {}
    return result | {"goal": row.goal, "cost": row.cost, "missing": missing}


def absent(specs: dict[str, Any]) -> str | None:
    """The first contender that cannot start.

    Args:
      specs: label to contender.

    Returns:
      Its label, if there is one.
    """
    for label, spec in specs.items():
        try:
            alternate({label: spec}, repetitions=1)
        except UnavailableError:
            return label
    return None


def summary(row: Row, found: dict[str, Timing]) -> dict[str, Any]:
    """What the timings of a row amount to.

    Args:
      row: the comparison.
      found: label to timing, that of the peak among them.

    Returns:
      What JSON can hold.
    """
    peak = found["peak"].facts["flops"] / found["peak"].median
    ours = found[OURS]
    peers = {k: t.median for k, t in found.items() if k not in (OURS, "peak")}
    kept = {k: seconds for k, seconds in peers.items() if k.endswith(KEPT)}
    others = {k: seconds for k, seconds in peers.items() if k not in kept}
    best = min(others, key=lambda k: others[k])
    ratio = ours.median / others[best] if row.cost else others[best] / ours.median
    flops = ours.facts.get("flops")
    return {
        "timings": {k: {"median": t.median, **t._asdict()} for k, t in found.items()},
        "best_other": best,
        "ratio": ratio,
        "ratio_kept": min(kept.values()) / ours.median if kept else None,
        "met": ratio <= row.goal if row.cost else ratio >= row.goal,
        "peak_gflops": peak / 1e9,
        "share_of_peak": flops / ours.median / peak if flops else None,
    }


def markdown(results: dict[str, Any]) -> str:
    """All rows as a table.

    Args:
      results: rows and what they ran on.

    Returns:
      Markdown.
    """
    run = results["run"]
    lines = [
        f"{run['processor']}, {run['device']}; batches of {run['settings']['batch_size']}, "
        f"224 x 224, three channels, two classes, random weights; medians of "
        f"{run['settings']['repetitions']} turns; {run['date']}.",
        "",
        "Our process keeps freed memory (`bfjax.memory`), as `bfjax` commands do. Peers run as",
        "they come; the second ratio is to the best of them when they keep it too.",
        "",
        "| what | ours (s) | others (s) | ratio | all keep memory | goal | share of the peak |",
        "|---|---|---|---|---|---|---|",
        *(line(name, row) for name, row in results["rows"].items() if "ratio" in row),
        "",
        *(f"{name}: {json.dumps(rounded(found))}\n" for name, found in results["whole"].items()),
    ]
    return "\n".join(lines) + "\n"


def rounded(found: Any) -> Any:
    """The same with three digits after the point, for people."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return round(found, 3) if isinstance(found, float) else found


def line(name: str, row: dict[str, Any]) -> str:
    """One row of the table.

    Args:
      name: of the row.
      row: as `timed` returns it.

    Returns:
      Markdown.
    """
    if "ratio" not in row:
        return f"| {name} | - | no other could start: {row['missing']} | - | - | - | - |"
    timings = row["timings"]
    seconds = {k: t["median"] for k, t in timings.items() if k not in (OURS, "peak")}
    peers = ", ".join(f"{k} {seconds[k]:.3f}" for k in sorted(seconds, key=lambda k: seconds[k]))
    goal = f"{'≤' if row['cost'] else '≥'} {row['goal']:g}{'' if row['met'] else ', missed'}"
    share, same = row["share_of_peak"], row.get("ratio_kept")
    return (
        f"| {name} | {timings[OURS]['median']:.3f} | {peers} | "
        f"{row['ratio']:.2f} | {'-' if same is None else f'{same:.2f}'} | {goal} | "
        f"{'-' if share is None else f'{share:.0%}'} |"
    )


def version(name: str) -> str | None:
    """The version of a library, if it is installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main(tyro.cli(Config))
