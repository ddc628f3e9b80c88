"""What a correction before the classifier amounts to, and how much of its gain is real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from bfjax.evaluation.intervals import paired_shares
from bfjax.evaluation.standard.runner import AuditRun
from bfjax.robustness import ATTACKERS


def of_correction(
    run: AuditRun, table: pa.Table, smallest: Float[np.ndarray, " n"]
) -> list[dict[str, Any]]:
    """Accuracy of the corrected model against each attacker, beside that of the bare one.

    Args:
      run: the audit.
      table: what was stored of the correction.
      smallest: the smallest log-range at which the bare model errs on each image.

    Returns:
      For each log-range `uncorrected`, the accuracy of the bare model against the same search (not
      against one light for all, which nobody makes for the corrected one); the
      accuracy against each of `ATTACKERS`, and against whoever is worst for an image; `seeming`,
      what is gained against the oblivious attacker, and `gain`, against the worst one: mean, low
      and high, with Newcombe's 95 % interval of paired shares.
    """
    found = []
    for t, rho in enumerate(run.settings["ranges"]):
        bare = smallest > rho * (1 + 1e-5)
        right = {name: ~np.asarray(table[f"wrong_{name}"].to_pylist())[:, t] for name in ATTACKERS}
        right["worst"] = np.all(list(right.values()), axis=0)
        gains = {"seeming": right["oblivious"], "gain": right["worst"]}
        tier: dict[str, Any] = {"log_range": rho, "uncorrected": float(bare.mean())}
        tier |= {name: float(values.mean()) for name, values in right.items()}
        found.append(tier | {k: paired_shares(v, bare) for k, v in gains.items()})
    return found
