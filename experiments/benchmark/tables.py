"""What timings amount to, as tables for people."""

from __future__ import annotations

import json
from typing import Any

from experiments.benchmark.alternate import Timing
from experiments.benchmark.rows import BEFORE, KEPT, OURS, Row

NOT_PEERS = (OURS, BEFORE, "peak")


def summary(row: Row, found: dict[str, Timing], missing: dict[str, str]) -> dict[str, Any]:
    """What the timings of a row amount to.

    Args:
      row: the comparison.
      found: label to timing, that of the peak among them.
      missing: label to why it is not there.

    Returns:
      What JSON can hold.
    """
    timings = {k: {"median": t.median, **t._asdict()} for k, t in found.items()}
    result = {"timings": timings, "goal": row.goal, "cost": row.cost, "missing": missing}
    if OURS not in row.contenders:
        rates = {k: int(k) / t.median for k, t in found.items() if k != "peak"}
        return result | {"images_per_second": rates}
    if OURS not in found:
        return result
    ours = found[OURS]
    if "peak" in found:
        peak = found["peak"].facts["flops"] / found["peak"].median
        flops = ours.facts.get("flops")
        share = flops / ours.median / peak if flops else None
        result |= {"peak_gflops": peak / 1e9, "share_of_peak": share}
    if BEFORE in found:
        result["before"] = found[BEFORE].median / ours.median
    peers = {k: t.median for k, t in found.items() if k not in NOT_PEERS}
    kept = {k: seconds for k, seconds in peers.items() if k.endswith(KEPT)}
    others = {k: seconds for k, seconds in peers.items() if k not in kept}
    if not others:
        return result
    best = min(others, key=lambda k: others[k])
    ratio = ours.median / others[best] if row.cost else others[best] / ours.median
    return result | {
        "best_other": best,
        "ratio": ratio,
        "ratio_kept": min(kept.values()) / ours.median if kept else None,
        "met": ratio <= row.goal if row.cost else ratio >= row.goal,
    }


def markdown(results: dict[str, Any]) -> str:
    """All rows as tables.

    Args:
      results: rows and what they ran on.

    Returns:
      Markdown.
    """
    run, rows, measured = results["run"], results["rows"], results.get("measured", {})
    before = sorted({one["before"] for one in measured.values() if one["before"]})
    curves = {name: row for name, row in rows.items() if "images_per_second" in row}
    timed = {name: row for name, row in rows.items() if name not in curves}
    lines = [
        f"{run['processor']}, {run['device']}; {run['batches']}, "
        f"{run['settings'].get('side', 224)} x {run['settings'].get('side', 224)}, three channels, "
        f"two classes, random weights; medians of {_turns(timed)} turns; {run['date']}.",
        "",
        "Our process keeps freed memory (`bfjax.memory`), as `bfjax` commands do. Peers run as",
        "they come; the second ratio is to the best of them when they keep it too.",
        *([f"Before is ours at {', '.join(before)}.", ""] if before else [""]),
        "| what | ours (s) | others (s) | ratio | all keep memory | goal | share of the peak | "
        "before ÷ now |",
        "|---|---|---|---|---|---|---|---|",
        *(line(name, row) for name, row in timed.items()),
        "",
    ]
    for name, row in curves.items():
        rates = ", ".join(f"{size}: {rate:.0f}" for size, rate in row["images_per_second"].items())
        lines += [f"{name}: {rates or '-'}", ""]
    lines += [f"{name}: {json.dumps(rounded(found))}\n" for name, found in results["whole"].items()]
    for name, row in rows.items():
        lines += [f"{name}, without {who}: {why}\n" for who, why in row["missing"].items()]
    now = f"{run['processor']}, {run['date']}"
    other = [f"{name} ({one['on']})" for name, one in measured.items() if one["on"] != now]
    if other:
        lines.append(f"Measured elsewhere or earlier: {'; '.join(other)}.\n")
    known = {
        f"{k} {v}" for one in measured.values() for k, v in one.get("versions", {}).items() if v
    }
    if known:
        lines.append(f"Versions: {', '.join(sorted(known))}.\n")
    if results.get("left_out"):
        lines.append(f"Left out, as the time was up: {'; '.join(results['left_out'])}.")
    return "\n".join(lines).rstrip("\n") + "\n"


def _turns(rows: dict[str, Any]) -> str:
    counts = {len(one["seconds"]) for row in rows.values() for one in row["timings"].values()}
    return " to ".join(str(n) for n in sorted({min(counts), max(counts)})) if counts else "no"


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
      row: as `summary` returns it.

    Returns:
      Markdown.
    """
    if "images_per_second" in row:
        return f"| {name} | {rounded(row['images_per_second'])} |"
    seconds = {k: t["median"] for k, t in row["timings"].items() if k not in NOT_PEERS}
    peers = ", ".join(f"{k} {seconds[k]:.3g}" for k in sorted(seconds, key=lambda k: seconds[k]))
    goal = f"{'≤' if row['cost'] else '≥'} {row['goal']:g}"
    goal += ", missed" if not row.get("met", True) else ""
    ours = row["timings"].get(OURS, {}).get("median")
    cells = [
        _number(ours, ".3g"),
        peers or "-",
        _number(row.get("ratio"), ".2f"),
        _number(row.get("ratio_kept"), ".2f"),
        goal,
        _number(row.get("share_of_peak"), ".0%"),
        _number(row.get("before"), ".2f"),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
