"""What certificates amount to: `certificates.json`, `records.csv`, and lines for each model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table

from bfjax import storage
from bfjax.evaluation.certified.runner import CertifyRun
from bfjax.evaluation.classes import answered, as_text
from bfjax.evaluation.standard.summary import curve, metrics_of
from bfjax.field import LOG_RANGE_TIERS
from bfjax.metrics import wilson_interval
from bfjax.storage import environment

SCHEMA = 1
"""Of `certificates.json`, raised when its entries change meaning."""
KINDS = ("radius", "safe_radius")
"""R, for light that nothing clips, and R_safe, where no pixel saturates, for clipped light too."""
ABSTAINS = "(abstains)"
"""In place of a class, where no answer is certain."""
RMS_AND_RANGE = (
    "A radius R is a root mean square of the log field: it certifies log-ranges up to 2R of light "
    "whose exposure is fixed, and none where the exposure may change too."
)
NOT_COVERED = (
    "Not covered are the bare model, whose single answers may change; light outside the span of "
    "the field, so also an exposure that changes as a whole; a cut-off at white, or with a "
    "logarithmic encoding at black, beyond the safe radius; rounding to 8 or 16 bits, which "
    "changes the log field by up to 0.002 or 0.00001 divided by the grey value (the smaller of "
    "those before and after) or, with a logarithmic encoding, by gamma; and whatever else an image "
    "undergoes."
)
_SECOND = ("also clipped", "", "", "")
_RANGES = list(LOG_RANGE_TIERS.values())[:2]  # of a calibrated and of a misused machine


def summarize(run: CertifyRun, radii: Sequence[float]) -> dict[str, Any]:
    """What all certificates say together; also writes `records.csv`.

    Args:
      run: all of whose parts are there.
      radii: root mean squares that are reported.

    Returns:
      What `certificates.json` holds.
    """
    table = storage.read_shards(run.out / "shards")
    told = {name: np.asarray(table[name].to_pylist()) for name in table.column_names}
    label, found = told["certified"], {kind: told[kind] for kind in KINDS}
    right = label == run.truth
    _write_records(run, told)

    def rates(hits: Bool[np.ndarray, " n"]) -> dict[str, Any]:
        names = enumerate(run.source.class_names)
        classes = {name: hits[run.truth == c] for c, name in names if c in run.truth}
        return _rate(hits) | {"by_class": {name: _rate(one) for name, one in classes.items()}}

    # ranges grow with radii in one proportion, which is 2 but for rounding
    ratio = np.divide(told["log_range"], told["radius"], where=right, out=np.zeros(len(right)))
    counted = {kind: np.where(right, values, 0.0) for kind, values in found.items()}
    curves = {kind: curve(values) for kind, values in counted.items()}
    alpha, sigma, number = (run.settings[name] for name in ("alpha", "sigma", "num_samples"))
    return {
        "schema": SCHEMA,
        "model": {"name": run.target.name, **run.settings["model"]},
        "settings": run.settings,
        "images": len(run.source),
        "radii": list(radii),
        "clean": metrics_of(told["clean"], run.truth),
        "smoothed": rates(right) | {"abstains": rates(label < 0)},
        "rms": [
            {"rms": r} | {kind: rates(right & (found[kind] >= r)) for kind in KINDS} for r in radii
        ],
        "log_range": [
            {"log_range": rho}
            | {kind: rates(right & (found[kind] * ratio >= rho)) for kind in KINDS}
            for rho in _RANGES
        ],
        "of_right_answers": {kind: _middle(found[kind][right]) for kind in KINDS},
        "average_radius": {kind: float(counted[kind].mean()) for kind in KINDS},
        "curve": {
            kind: {"rms": one["log_range"], "accuracy": one["accuracy"]}
            for kind, one in curves.items()
        },
        "reach": sigma * NormalDist().inv_cdf(alpha ** (1 / number)),
        "chance": (
            f"Each certificate may be wrong with a probability of at most {alpha:g}, of the lights "
            f"that are drawn; of {len(label)} images that is {alpha * len(label):.2g} in the mean, "
            "at most."
        ),
        "means": RMS_AND_RANGE,
        "not_covered": NOT_COVERED,
        "run": environment(),
    }


def _write_records(run: CertifyRun, told: dict[str, np.ndarray]) -> None:
    names = run.source.class_names
    clean, _ = answered(told["clean"], run.truth)
    columns = {
        "index": told["index"],
        "file": told["file"],
        "label": as_text(run.truth, names),
        "clean_prediction": as_text(clean, names),
        "certified": as_text(told["certified"], (*names, ABSTAINS)),  # of which -1 is the last
        **{k: told[k] for k in ("radius", "safe_radius", "log_range", "lower_bound")},
        **{f"count_{name}": told["counts"][:, c] for c, name in enumerate(names)},
    }
    storage.write_csv(run.out / "records.csv", pa.table(columns))


def _rate(hits: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    count, images = int(hits.sum()), len(hits)
    interval = [float(end) for end in wilson_interval(count, images)]
    return {"count": count, "images": images, "rate": count / images, "interval": interval}


def _middle(values: Float[np.ndarray, " n"]) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "median": None}
    return {"mean": float(values.mean()), "median": float(np.median(values))}


def show(found: dict[str, dict[str, Any]], out: Path) -> None:
    """Prints a table of models, the one first that is certified most.

    Args:
      found: model to what its `certificates.json` holds.
      out: where the details lie.
    """
    one = next(iter(found.values()))
    sigma, alpha = one["settings"]["sigma"], one["settings"]["alpha"]
    table = Table(
        title=f"certified accuracy, {one['images']} images, random light of sigma {sigma:g}"
    )
    table.add_column("model", overflow="fold")
    for head in ("clean", "smoothed", "abstains", *(f"{r:g}" for r in one["radii"]), "mean"):
        table.add_column(head, justify="right")
    for name, told in sorted(found.items(), key=lambda item: -item[1]["average_radius"]["radius"]):
        smoothed = told["smoothed"]
        rates = (told["clean"]["accuracy"], smoothed["rate"], smoothed["abstains"]["rate"])
        rows = zip(KINDS, ((name, *(f"{rate:.1%}" for rate in rates)), _SECOND), strict=True)
        for kind, first in rows:
            certified = [f"{at[kind]['rate']:.1%}" for at in told["rms"]]
            table.add_row(*first, *certified, f"{told['average_radius'][kind]:.3f}")
    console = Console()
    console.print(table)
    print(
        "columns: the bare model without light; its most frequent answer under random light; where "
        "none is certain;\nroot mean squares of the light; the certified one, 0 of wrong answers: "
        f"at most {one['reach']:.3f}"
    )
    for name, told in found.items():
        ranges = (f"{at['radius']['rate']:.1%} at {at['log_range']:g}" for at in told["log_range"])
        print(f"{name}, certified in terms of the log-range: {', '.join(ranges)}")
    print(f"Each certificate may be wrong with a probability of at most {alpha:g}.")
    print(RMS_AND_RANGE)
    print(NOT_COVERED)
    names = "MODEL/certificates.json, certificates.png, records.csv"
    console.print(f"details in {out}: {names}", highlight=False)
