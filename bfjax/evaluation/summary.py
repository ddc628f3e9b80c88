"""What a run amounts to: success rates for `summary.json`, and as a table for the terminal."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bfjax.evaluation import flags
from bfjax.evaluation.classes import from_text
from bfjax.evaluation.intervals import paired
from bfjax.evaluation.measures import NONUNIFORMITY, SAVED_AS
from bfjax.metrics import success_rate, wilson_interval


def show(summary: dict[str, Any], out: Path) -> None:
    """Prints the success rates of a summary, k / N and percent, for each model and direction.

    Args:
      summary: from `summarize`, with its settings.
      out: where the details lie.
    """
    title = f"success of the attack on {summary['images']} images"
    if summary["settings"].get("label") == "predicted":
        title += ", away from what the attacked model predicts"
    table = Table(title=title)
    for heading in ("model", "direction"):
        table.add_column(heading, overflow="fold")
    for heading in ("fooled", "of correct", "success"):
        table.add_column(heading, justify="right")
    for name, judged in summary["targets"].items():
        native = summary["native"]["targets"][name] if "native" in summary else None
        files = [] if native is None else [("all, native files", native)]
        for direction, rate in [("all", judged), *judged["directions"].items(), *files]:
            percent = "-" if rate["rate"] is None else f"{100 * rate['rate']:.1f} %"
            table.add_row(name, direction, str(rate["fooled"]), str(rate["correct"]), percent)
            name = ""
    console = Console()
    console.print(table)
    if line := flags.advice(summary.get("flags")):
        print(line)
    more = ", native.csv, adversarial/" if "native" in summary else ""
    console.print(f"details in {out}: summary.json, records.csv, gallery/{more}", highlight=False)


def summarize(
    table: pa.Table,
    class_names: Sequence[str],
    targets: Sequence[str],
    *,
    multi_label: bool = False,
) -> dict[str, Any]:
    """The success rates of a run, per target model and per direction, and the mean changes.

    Args:
      table: the records, without the parameters of the attacks.
      class_names: of the data, in the order of the logits.
      targets: names of the models that judged; the first is the one that was attacked.
      multi_label: the records say findings. An image is then right where all of them are, and the
        directions are those of single findings.

    Returns:
      What JSON can hold.
    """
    columns = {name: np.array(table[name]) for name in table.column_names}
    said = functools.partial(from_text, class_names=class_names, multi_label=multi_label)
    labels = said(table["label"].to_pylist())
    judged, counted = {}, None
    for target in targets:
        prefix = "" if target == targets[0] else f"{target}:"
        answers = {
            kind: said(table[f"{prefix}{kind}_prediction"].to_pylist())
            for kind in ("clean", "adversarial", *SAVED_AS)
            if f"{prefix}{kind}_prediction" in columns
        }
        clean, adversarial = answers.pop("clean"), answers.pop("adversarial")
        judged[target] = _rate_of(labels, clean, adversarial) | {
            "directions": _directions(labels, clean, adversarial, class_names),
            "saved_as": {
                kind: _rate_of(labels, clean, predictions) for kind, predictions in answers.items()
            },
        }
        if target == targets[0]:
            resisted = _all_right(clean, labels) & _all_right(adversarial, labels)
            counted = flags.count(columns, resisted)
        if "target" in columns:
            judged[target] |= _reached(
                labels, clean, adversarial, said(table["target"].to_pylist())
            )
    found = {
        "images": len(labels),
        "targets": judged,
        "mean_max_change": float(columns["max_change"].mean()),
        "mean_change": float(columns["mean_change"].mean()),
    }
    if counted is not None:
        found["flags"] = counted
    if "max_log_field" in columns:
        sizes = columns["max_log_field"]
        sizes = sizes[~np.isnan(sizes)]  # older shards lack it
        found["median_max_log_field"] = float(np.median(sizes))
        found["mean_max_log_field"] = float(sizes.mean())
        found["zero_field_share"] = float((sizes == 0).mean())
    there = [name for name in _MEANS if name in columns]
    found |= {f"mean_{name}": float(np.nanmean(columns[name])) for name in there}
    if "global_nonuniformity" in columns:
        found["nonuniformity"] = {"in_the_manner_of": "AAPM TG-150"} | NONUNIFORMITY
    if "brisque" in columns:
        found |= {
            "brisque_model": "OpenCV's, trained on LIVE release 2",
            "brisque_change": paired(columns["brisque"] - columns["brisque_clean"]),
        }
    return found


_MEANS = (
    "brisque_clean",
    "brisque",
    "ssim",
    "log_range",
    "log_field_rms",
    "largest_slope",
    "total_variation",
    "gradient_energy",
    "high_frequency_share",
    "central_min",
    "central_max",
    "folded_share",
    "clipped_share",
    "global_nonuniformity",
    "local_nonuniformity",
)


def transfer(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The transfer matrix of each attack.

    Args:
      found: name of the attack to name of the attacked model to its cell's summary.

    Returns:
      ``{"attacks": {name: {"sources", "targets", "fooled", "correct", "rate", "low", "high",
      "mean_brisque"}}}``, as JSON holds it; rows of the matrices are sources, columns targets, the
      rates' 95 % intervals are Wilson's. Of a targeted attack also "reached" and "reached_rate",
      of one that has flags also "flags", one a row.
    """
    attacks = {}
    for name, rows in found.items():
        targets = list(dict.fromkeys(t for row in rows.values() for t in row["targets"]))
        targets = [t for t in targets if all(t in row["targets"] for row in rows.values())]
        cells = [[row["targets"][t] for t in targets] for row in rows.values()]
        matrix = {k: [[cell[k] for cell in row] for row in cells] for k in _RATE}
        ends = [[_interval(cell) for cell in row] for row in cells]
        attacks[name] = {"sources": list(rows), "targets": targets} | matrix
        for i, end in enumerate(("low", "high")):
            attacks[name][end] = [[pair[i] for pair in row] for row in ends]
        attacks[name]["mean_brisque"] = [row.get("mean_brisque") for row in rows.values()]
        if any("flags" in row for row in rows.values()):
            attacks[name]["flags"] = [row.get("flags") for row in rows.values()]
        if all("reached" in cell for row in cells for cell in row):
            attacks[name] |= {k: [[c[k] for c in row] for row in cells] for k in _REACHED}
    return {"attacks": attacks}


_RATE = ("fooled", "correct", "rate")
_REACHED = ("reached", "reached_rate")


def _interval(rate: dict[str, Any]) -> tuple[float | None, float | None]:
    return wilson_interval(rate["fooled"], rate["correct"]) if rate["correct"] else (None, None)


def show_transfer(whole: dict[str, Any], out: Path) -> None:
    """Prints the transfer matrices, in percent of what each target got right when clean.

    Args:
      whole: from `transfer`.
      out: where the details lie.
    """
    console = Console()
    for name, matrix in whole["attacks"].items():
        titles = {"rate": f"success of {name}"}
        if "reached_rate" in matrix:
            titles["reached_rate"] = f"{name} reached the class that it aimed at"
        for key, title in titles.items():
            table = Table(title=f"{title} in %: made on (row), judged by (column)")
            table.add_column("", overflow="fold")
            for target in matrix["targets"]:
                table.add_column(target, overflow="fold", justify="right")
            for source, rates in zip(matrix["sources"], matrix[key], strict=True):
                table.add_row(source, *("-" if r is None else f"{100 * r:.2f}" for r in rates))
            console.print(table)
    lines = {
        f"{name} on {source}": flags.flags_in_words(counted)
        for name, matrix in whole["attacks"].items()
        for source, counted in zip(matrix["sources"], matrix.get("flags", []), strict=False)
    }
    if told := {who: words for who, words in lines.items() if words}:
        for who, words in told.items():
            print(f"{who}: {words}")
        print(flags.ADVICE)
    console.print(f"details in {out}: summary.json, ATTACK/SOURCE/records.csv", highlight=False)


def _directions(labels, clean, adversarial, class_names) -> dict[str, dict[str, Any]]:
    """The rate of each class alone; of findings, of each one that is there or is not."""
    if labels.ndim == 1:
        return {
            f"{name}→{_others(class_names, i)}": _rate_of(
                labels[labels == i], clean[labels == i], adversarial[labels == i]
            )
            for i, name in enumerate(class_names)
        }
    found = {}
    for i, name in enumerate(class_names):
        for there, direction in ((0, f"no {name}→{name}"), (1, f"{name}→no {name}")):
            mine = labels[:, i] == there
            found[direction] = _rate_of(labels[mine, i], clean[mine, i], adversarial[mine, i])
    return found


def _all_right(said, labels) -> np.ndarray:
    """Which images are right; of findings, all of them."""
    return (said == labels) if labels.ndim == 1 else (said == labels).all(1)


def _others(class_names, index: int) -> str:
    others = [name for i, name in enumerate(class_names) if i != index]
    return others[0] if len(others) == 1 else "other"


def _rate_of(labels, clean, adversarial) -> dict[str, Any]:
    """As JSON; of findings, an image is right where all of them are."""
    if labels.ndim > 1:
        clean, adversarial = ((said != labels).any(1).astype(int) for said in (clean, adversarial))
        labels = np.zeros_like(clean)
    rate = success_rate(labels, clean, adversarial)
    return rate._asdict() | {"rate": None if math.isnan(rate.rate) else rate.rate}


def _reached(labels, clean, adversarial, aims) -> dict[str, Any]:
    """Of a targeted attack: how many of the images that were right became what it aims at."""
    reached, correct = (
        int(((clean == labels) & (adversarial == aims)).sum()),
        (clean == labels).sum(),
    )
    return {"reached": reached, "reached_rate": reached / int(correct) if correct else None}
