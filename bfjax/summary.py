"""What a run amounts to: success rates for `summary.json`, and as a table for the terminal."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bfjax.metrics import success_rate


def show(summary: dict[str, Any], out: Path) -> None:
    """Prints the success rates of a summary, k / N and percent, for each model and direction.

    Args:
      summary: from `attack_dataset`.
      out: where the details lie.
    """
    table = Table(title=f"success of the attack on {summary['images']} images")
    for heading in ("model", "direction"):
        table.add_column(heading, overflow="fold")
    for heading in ("fooled", "of correct", "success"):
        table.add_column(heading, justify="right")
    for name, judged in summary["targets"].items():
        for direction, rate in [("all", judged), *judged["directions"].items()]:
            percent = "-" if rate["rate"] is None else f"{100 * rate['rate']:.1f} %"
            table.add_row(name, direction, str(rate["fooled"]), str(rate["correct"]), percent)
            name = ""
    console = Console()
    console.print(table)
    console.print(f"details in {out}: summary.json, records.csv, gallery/", highlight=False)


def summarize(
    table: pa.Table, class_names: Sequence[str], targets: Sequence[str]
) -> dict[str, Any]:
    """The success rates of a run, per target model and per direction, and the mean changes.

    Args:
      table: the records, without the parameters of the attacks.
      class_names: of the data, in the order of the logits.
      targets: names of the models that judged; the first is the one that was attacked.

    Returns:
      What JSON can hold.
    """
    columns = {name: np.array(table[name]) for name in table.column_names}
    labels = np.searchsorted(class_names, columns["label"])
    judged = {}
    for target in targets:
        prefix = "" if target == targets[0] else f"{target}:"
        clean, adversarial = (
            np.searchsorted(class_names, columns[f"{prefix}{kind}_prediction"])
            for kind in ("clean", "adversarial")
        )
        judged[target] = _as_json(success_rate(labels, clean, adversarial)) | {
            "directions": {
                f"{name}→{_others(class_names, i)}": _as_json(
                    success_rate(labels[labels == i], clean[labels == i], adversarial[labels == i])
                )
                for i, name in enumerate(class_names)
            }
        }
    return {
        "images": len(labels),
        "targets": judged,
        "mean_max_change": float(columns["max_change"].mean()),
        "mean_change": float(columns["mean_change"].mean()),
        "median_max_log_field": float(np.median(columns["max_log_field"])),
    }


def _others(class_names, index: int) -> str:
    others = [name for i, name in enumerate(class_names) if i != index]
    return others[0] if len(others) == 1 else "other"


def _as_json(rate) -> dict[str, Any]:
    return rate._asdict() | {"rate": None if math.isnan(rate.rate) else rate.rate}


def environment() -> dict[str, Any]:
    """When, on what and with which versions: what a result needs to be believed.

    Returns:
      What JSON can hold.
    """
    device = jax.devices()[0]
    packages = ("bfjax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.device_count()} x {device.platform} ({device.device_kind})",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
