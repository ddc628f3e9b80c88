"""What `bfjax audit` prints: the models in their order, each light by light, and all doubts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bfjax.evaluation.standard.summary import METRICS
from bfjax.evaluation.standard.universal import ONE_ANSWER
from bfjax.robustness import ATTACKERS

_ROWS = {"fixed": "uneven light", "alone": "exposure alone", "free": "both at once"}


def show(found: dict[str, dict[str, Any]], transfer: dict[str, Any], out: Path) -> None:
    """Prints a table of models, the one first that takes most, and what there is of each.

    Args:
      found: model to what its `audit.json` holds.
      transfer: what `universal.json` holds; empty of one model.
      out: where the details lie.
    """
    one, console = next(iter(found.values())), Console()
    exposure = one["settings"]["exposures"][0]

    def taken(audit: dict[str, Any]) -> float:
        takes = audit["rows"][exposure]["takes"]
        return np.inf if takes is None else takes

    found = dict(sorted(found.items(), key=lambda item: -taken(item[1])))
    console.print(_ranking(found, exposure, one))
    print("columns: log-ranges; takes: up to which nine in ten right answers stay right")
    for name, audit in found.items():
        console.print(_rates(name, audit))
        for line in _doubts(name, audit):
            print(line)
    _show_corrections(found, console)
    _show_transfer(transfer, console)
    files = "audit.json, audit.png, records.csv, lights.csv"
    console.print(f"details in {out}: MODEL/ holds {files}", highlight=False)


def _ranking(found: dict[str, dict[str, Any]], exposure: str, one: dict[str, Any]) -> Table:
    title = f"robust accuracy: worst found, {_ROWS[exposure]}, {one['images']} images"
    table = Table(title=title)
    table.add_column("model", overflow="fold")
    ranges = [f"{rho:g}" for rho in one["settings"]["ranges"]]
    for head in ("clean", *ranges, "a machine's", "takes"):
        table.add_column(head, justify="right")
    for name, audit in found.items():
        tiers = [f"{tier['accuracy']:.1%}" for tier in audit["rows"][exposure]["tiers"]]
        takes = audit["rows"][exposure]["takes"]
        last = f"> {max(audit['settings']['ranges']):g}" if takes is None else f"{takes:.2f}"
        machine = f"{audit['machine']['accuracy']:.1%}"
        table.add_row(name, f"{audit['clean']['accuracy']:.1%}", *tiers, machine, last)
    return table


def _rates(name: str, audit: dict[str, Any]) -> Table:
    """All rates of one model in %, with their 95 % intervals."""
    table = Table(title=f"{name}, worst found, in % (95 % interval)")
    table.add_column("light")
    known = [metric for metric in METRICS if audit["clean"][metric] is not None]
    for metric in known:
        table.add_column("AUC" if metric == "auc" else metric, justify="right")
    table.add_row("none", *(_rate(audit["clean"], metric) for metric in known))
    for row, of_row in audit["rows"].items():
        table.add_section()
        table.add_row(_ROWS[row])
        for tier in of_row["tiers"]:
            rates = (_rate(tier, metric) for metric in known)
            table.add_row(f"  {tier['log_range']:g}", *rates)
    table.add_section()
    table.add_row("a machine's", *(_rate(audit["machine"], metric) for metric in known))
    return table


def _rate(rates: dict[str, Any], metric: str) -> str:
    value, interval = rates[metric], rates["intervals"].get(metric)
    if value is None:
        return "-"
    if interval is None or None in interval:
        return f"{100 * value:.1f}"
    low, high = (f"{100 * end:.0f}" for end in interval)
    return f"{100 * value:.1f} ({low}-{high})"


def _doubts(name: str, audit: dict[str, Any]) -> list[str]:
    """How uneven a machine's set-ups are, and what speaks against the test."""
    lines = []
    if uneven := audit["machine"].get("lights", {}).get("log_range"):  # not in older ones
        lines += [f"{name}, a machine's: set-ups whose log-range is {uneven:.2f} in the median"]
    tested = {f"exposure {row}": of_row for row, of_row in audit["rows"].items()}
    tested |= {f"{c} correction": one for c, one in audit.get("corrections", {}).items()}
    lines += [
        f"{name}, {what}, {flag['images']} images: {flag['means']}"
        for what, one in tested.items()
        for flag in one.get("flags", {}).values()  # not in older corrections
    ]
    for tier in audit.get("universal", {"tiers": []})["tiers"]:
        if "means" in tier["one_answer"]:
            share = f"{tier['one_answer']['share']:.0%} {tier['one_answer']['answer']}"
            lines.append(f"{name}, log-range {tier['log_range']:g}, {share}: {ONE_ANSWER}")
    return lines


def _show_corrections(found: dict[str, dict[str, Any]], console: Console) -> None:
    for model, audit in found.items():
        for name, judged in audit.get("corrections", {}).items():
            clean = f"{100 * judged['clean']['accuracy']:.1f}"
            title = f"{model} behind the {name} correction: {clean} % right without light, under it"
            table = Table(title=title)
            for head in ("log-range", "without it", *ATTACKERS, "real gain"):
                table.add_column(head.replace("_", " "), justify="right")
            for tier in judged["tiers"]:
                rates = [f"{100 * tier[key]:.1f}" for key in ("uncorrected", *ATTACKERS)]
                table.add_row(f"{tier['log_range']:g}", *rates, gain_in_points(tier["gain"]))
            console.print(table)


def gain_in_points(gain: dict[str, float | None]) -> str:
    """What is gained, with its interval, in percentage points.

    Args:
      gain: mean, low and high, as shares; `None` where one is not known.

    Returns:
      The text.

    Example:
      >>> gain_in_points({"mean": 0.05, "low": -0.01, "high": 0.11})
      '+5.0 (-1.0 to +11.0)'
    """
    mean, low, high = (gain[name] for name in ("mean", "low", "high"))
    if mean is None:
        return "-"
    text = f"{100 * mean:+.1f}"
    if low is None or high is None:
        return text
    return f"{text} ({100 * low:+.1f} to {100 * high:+.1f})"


def _show_transfer(transfer: dict[str, Any], console: Console) -> None:
    if not transfer:
        return
    table = Table(title="accuracy under the universal light that was made for each model")
    for head in ("made for", "log-range", *(f"of {name}" for name in transfer["models"])):
        table.add_column(head, justify="right")
    for source, of_source in zip(transfer["models"], transfer["accuracy"], strict=True):
        for rho, rates in zip(transfer["ranges"], of_source, strict=True):
            table.add_row(source, f"{rho:g}", *(f"{rate:.1%}" for rate in rates))
    console.print(table)
