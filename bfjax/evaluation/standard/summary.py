"""What an audit amounts to: `audit.json`, and the two tables."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from bfjax import storage
from bfjax.evaluation.accuracy import measure
from bfjax.evaluation.classes import as_text
from bfjax.evaluation.standard import lights
from bfjax.evaluation.standard.corrections import of_correction
from bfjax.evaluation.standard.runner import AuditRun
from bfjax.evaluation.standard.testing import MACHINE, UNIVERSAL
from bfjax.evaluation.standard.universal import OneLight, one_answer, one_light
from bfjax.evaluation.standard.worst import Worst, as_free, of_table, with_one_light, worse_of
from bfjax.robustness import DEGREE, FLAGS
from bfjax.storage import environment

SCHEMA = 1
"""Of `audit.json`, raised when its entries change meaning."""
_SHARE = 0.9
_THREAT = {
    "field": f"bfjax.field.legendre, degree {DEGREE}",
    "bound": "log-range: the largest log field less the smallest",
    "exposures": {
        "fixed": "no constant",
        "alone": "the constant alone, within half the log-range",
        "free": "both",
    },
    "machine": "bfjax.field.radiographic, each parameter within its listed range",
}
METRICS = ("accuracy", "sensitivity", "specificity", "auc")
"""Those that are reported."""


def summarize(run: AuditRun) -> dict[str, Any]:
    """What all parts say together; also writes `records.csv` and `lights.csv`.

    Args:
      run: all of whose parts are there.

    Returns:
      What `audit.json` holds.
    """
    tables = {row: storage.read_shards(run.out / "shards" / row) for row in run.rows}
    exposure = run.settings["exposures"][0]
    first = tables[exposure]
    clean = _array(first, "clean")
    one = one_light(tables[UNIVERSAL]) if UNIVERSAL in tables else None
    columns = {"file": first["file"], "label": as_text(run.truth, run.source.class_names)}
    rows: dict[str, Any] = {}
    lit = {row: one if row == exposure else None for row in run.settings["exposures"]}
    found = {row: _worst(run, tables[row], lit[row]) for row in lit}
    if "free" in found:  # whose light may be that of any other exposure
        others = [as_free(worst, row) for row, worst in found.items() if row != "free"]
        found["free"] = worse_of(run.truth, found["free"], *others)
    measured = {row: lights.of_exposure(run, row, worst) for row, worst in found.items()}
    measured[MACHINE] = lights.of_machine(run, tables[MACHINE])
    for row, of_row in lit.items():
        smallest = found[row].smallest
        columns[f"smallest_range_{row}"] = smallest
        rows[row] = {
            "tiers": _tiers(run, tables[row], found[row].logits, of_row),
            "curve": curve(smallest),
            "smallest": _quantiles(smallest),
            "lights": lights.medians(measured[row]),
            "takes": range_taken(smallest, max(run.settings["ranges"])),
            "gradients": _spent(tables[row]),
            "flags": _flags(tables[row]),
        }
    storage.write_csv(run.out / "records.csv", pa.table(columns))
    lit = pa.concat_tables(measured.values(), promote_options="permissive")
    storage.write_csv(run.out / "lights.csv", lit)
    summed = {
        "schema": SCHEMA,
        "model": {"name": run.target.name, **run.settings["model"]},
        "settings": run.settings,
        "threat": _THREAT,
        "images": len(run.source),
        "clean": metrics_of(clean, run.truth),
        "rows": rows,
        "machine": metrics_of(_array(tables[MACHINE], "worst"), run.truth)
        | {"lights": lights.medians(measured[MACHINE]), "gradients": _spent(tables[MACHINE])},
    }
    if one:
        spent = 2 * len(run.settings["ranges"]) * run.settings["universal_steps"]
        summed["universal"] = {
            "fitted": one.images,
            "gradients": spent * min(run.batch_size, one.images),
            "tiers": [
                {"log_range": rho}
                | metrics_of(one.logits[:, t], run.truth)
                | {"one_answer": one_answer(run, clean, one.logits[:, t])}
                for t, rho in enumerate(run.settings["ranges"])
            ],
        }
    if run.settings["corrections"]:
        summed["corrections"] = {
            name: {
                "clean": metrics_of(_array(tables[name], "clean"), run.truth),
                "tiers": of_correction(run, tables[name], _array(first, "smallest")),
                "gradients": float(np.mean(_array(tables[name], "gradients"))),
                "flags": _flags(tables[name]),
            }
            for name in run.settings["corrections"]
        }
    return summed | {"run": environment()}


def _worst(run: AuditRun, table: pa.Table, one: OneLight | None) -> Worst:
    """What was found for each image, and what one light for all does where that is worse."""
    worst = of_table(table, len(run.settings["ranges"]))
    return with_one_light(run.truth, worst, one) if one else worst


def _tiers(
    run: AuditRun, table: pa.Table, worst: Float[np.ndarray, "n t k"], one: OneLight | None
) -> list[dict[str, Any]]:
    random, found = _array(table, "random_right"), []
    for t, rho in enumerate(run.settings["ranges"]):
        tier = {"log_range": rho, "random_accuracy": float(random[:, t].mean())}
        if one:
            tier["universal_accuracy"] = measure(one.logits[:, t], run.truth).accuracy
        found.append(tier | metrics_of(worst[:, t], run.truth))
    return found


def metrics_of(logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """The metrics that are reported, with their intervals, as JSON takes them.

    Args:
      logits: (n, k).
      truth: (n,), the classes.

    Returns:
      By name; None where there is none, such as the AUC where a class has no image.

    Example:
      >>> metrics_of(np.array([[0.0, 1.0]]), np.array([1]))["auc"] is None
      True
    """
    found = dataclasses.asdict(measure(logits, truth))
    told = {name: ends for name, ends in found["intervals"].items() if name in METRICS}
    intervals = {name: list(map(_known, ends)) for name, ends in told.items()}
    return {name: _known(found[name]) for name in METRICS} | {"intervals": intervals}


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


def _array(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table[name].to_pylist())


def _known_of(table: pa.Table, name: str) -> np.ndarray:
    """A column but for what older shards lack."""
    if name not in table.column_names:
        return np.zeros(0)
    return np.asarray(table[name].drop_null().to_pylist())


def _quantiles(smallest: Float[np.ndarray, " n"]) -> dict[str, float | None]:
    """Of the images that are right without light; None is beyond what was searched."""
    right = smallest[smallest > 0]
    if not len(right):
        return {"quarter": None, "half": None}
    ranks = {"quarter": 0.25, "half": 0.5}
    found = {k: float(np.quantile(right, q, method="inverted_cdf")) for k, q in ranks.items()}
    return {k: v if np.isfinite(v) else None for k, v in found.items()}


def curve(smallest: Float[np.ndarray, " n"]) -> dict[str, list[float]]:
    """Accuracy in the worst case against the log-range, from each image's smallest one.

    Args:
      smallest: (n,), 0 where the image is wrong without light.

    Returns:
      `log_range`, where accuracy falls, and `accuracy` from there on.

    Example:
      >>> curve(np.array([0.0, 0.2, 0.5, np.inf]))
      {'log_range': [0.0, 0.2, 0.5], 'accuracy': [0.75, 0.5, 0.25]}
    """
    places, falls = np.unique(smallest[np.isfinite(smallest)], return_counts=True)
    places, falls = np.concatenate([[0.0], places]), np.concatenate([[0], falls])
    left = 1 - np.cumsum(falls) / len(smallest)
    kept = np.append(np.diff(places) > 0, True)  # the last of equal places
    return {"log_range": places[kept].tolist(), "accuracy": left[kept].tolist()}


def range_taken(smallest: Float[np.ndarray, " n"], searched: float) -> float | None:
    """The log-range up to which nine in ten of the right answers stay right.

    Args:
      smallest: (n,), 0 where the image is wrong without light.
      searched: the largest range that was.

    Returns:
      The range; None where it lies beyond what was searched, 0 where no answer is right.

    Example:
      >>> range_taken(np.array([0.0, *np.linspace(0.1, 1.0, 10)]), 2.0)
      0.2
    """
    right = np.sort(smallest[smallest > 0])
    if not len(right):
        return 0.0
    first_too_many = right[min(int(np.floor((1 - _SHARE) * len(right) + 1e-9)), len(right) - 1)]
    return float(first_too_many) if first_too_many <= searched * (1 + 1e-5) else None


def _spent(table: pa.Table) -> dict[str, float]:
    """Gradients on an image."""
    spent = _known_of(table, "gradients")
    return {"mean": float(np.mean(spent)), "most": float(np.max(spent))} if len(spent) else {}


def _flags(table: pa.Table) -> dict[str, Any]:
    """How many images have each flag, and what it means."""
    found = {name: int(np.sum(_known_of(table, f"flag_{name}"))) for name in FLAGS}
    return {name: {"images": count, "means": FLAGS[name]} for name, count in found.items() if count}
