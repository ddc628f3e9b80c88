"""What is measured of the lights that an audit found, as of the fields of every other attack."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Integer

from bfjax import storage
from bfjax.evaluation import measures
from bfjax.evaluation.model_run import batches
from bfjax.evaluation.standard.runner import AuditRun
from bfjax.evaluation.standard.testing import MACHINE
from bfjax.evaluation.standard.worst import Worst
from bfjax.robustness import light, misuse
from bfjax.types import Params, Perturbation

MEASURES = (
    *("log_range", "log_field_rms", "largest_slope", "clipped_share"),
    *("global_nonuniformity", "local_nonuniformity"),
)
"""Those that are reported; no light here folds over."""


def of_exposure(run: AuditRun, exposure: Any, worst: Worst) -> pa.Table:
    """Of the least uneven light that turns each image which is right without light.

    Args:
      run: the audit.
      exposure: of the light.
      worst: what was found for each image.

    Returns:
      A row for each of these images.
    """
    chosen = np.flatnonzero((worst.smallest > 0) & np.isfinite(worst.smallest))
    largest = max(run.settings["ranges"])
    threat = light(_shape(run), max_log_range=largest, exposure=exposure, **_grey(run))
    return _table(run, exposure, threat.perturbation, worst.params[chosen], chosen)


def of_machine(run: AuditRun, table: pa.Table) -> pa.Table:
    """Of the worst set-up of a machine for each image.

    Args:
      run: the audit.
      table: the shards of that row.

    Returns:
      A row for each image.
    """
    shape = _shape(run)
    perturbation = misuse(shape, **_grey(run)).perturbation
    like = jax.eval_shape(perturbation.init, jnp.zeros(shape), jax.random.key(0))
    each = [storage.read_params(table, i, like) for i in range(len(table))]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    return _table(run, MACHINE, perturbation, params, np.arange(len(table)))


def medians(table: pa.Table) -> dict[str, float]:
    """Of each measure, over the images.

    Args:
      table: a row for each.

    Returns:
      By name; none where no image is there.
    """
    there = [name for name in MEASURES if name in table.column_names and len(table)]
    return {name: float(np.median(table[name].to_numpy())) for name in there}


def _shape(run: AuditRun) -> tuple[int, ...]:
    return run.source[0]["image"].shape


def _grey(run: AuditRun) -> dict[str, Any]:
    return {name: run.settings[name] for name in ("encoding", "gamma")}


def _table(
    run: AuditRun,
    kind: str,
    perturbation: Perturbation,
    params: Params,
    chosen: Integer[np.ndarray, " n"],
) -> pa.Table:
    files = [run.source.names[i] for i in chosen]
    columns = {"file": pa.array(files, pa.string()), "light": pa.array([kind] * len(files))}
    return pa.table(columns | (_measured(run, perturbation, params, chosen) if files else {}))


def _measured(
    run: AuditRun, perturbation: Perturbation, params: Params, chosen: Integer[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """By name; of images too small, what can be measured of them."""
    found: list[dict[str, np.ndarray]] = []
    at = 0
    for images in batches(run, chosen):
        filled = np.resize(np.arange(len(images)), run.batch_size)
        few = jax.tree.map(lambda leaf, s=at, f=filled: jnp.asarray(leaf[s:][f]), params)
        log_fields, lit, free = map(np.asarray, _under(perturbation, few, images[filled]))
        told = measures.of_fields(log_fields, few) | measures.of_clips(free, lit)
        found.append({k: told[k][: len(images)] for k in MEASURES if k in told})
        at += len(images)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


@jax.jit
def _under(perturbation: Any, params: Any, images: Any) -> Any:
    def one(params: Any, image: Any) -> Any:
        lit, free = perturbation.apply(params, image), perturbation.unclipped(params, image)
        return perturbation.log_field(params), lit, free

    return jax.vmap(one)(params, images)
