"""What one light for all images amounts to, and what it does to other models."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Float

from bfjax import storage
from bfjax.attack import logits_of
from bfjax.evaluation.classes import answered
from bfjax.evaluation.standard import runner, testing
from bfjax.evaluation.standard.runner import AuditRun
from bfjax.evaluation.standard.testing import UNIVERSAL
from bfjax.robustness import Threat, light
from bfjax.types import as_pytree

ONE_ANSWER = (
    "Universal light drives the model to one answer: what it finds of the other classes is lost, "
    "and little else is learnt from its accuracy."
)
"""Said where nearly all images get the same answer under it, and did not before."""
_NEARLY_ALL = 0.95


class OneLight(NamedTuple):
    """The answers of n images at t log-ranges, each under the light fitted on the other half.

    Attributes:
      logits: (n, t, k).
      log_ranges: (n, t), of those lights.
      params: (n, t, p), c of them.
      images: how many each was fitted on, at most.
    """

    logits: Float[np.ndarray, "n t k"]
    log_ranges: Float[np.ndarray, "n t"]
    params: Float[np.ndarray, "n t p"]
    images: int


def one_light(table: pa.Table) -> OneLight:
    """Puts the halves together.

    Args:
      table: what was stored of them.

    Returns:
      The answers, in the order of the images.
    """
    table = table.sort_by("index")
    log_ranges = np.asarray(table["log_ranges"].to_pylist())
    logits = np.asarray(table["logits"].to_pylist())
    params = np.asarray(table[storage.PARAMS].to_pylist(), np.float32)
    logits, params = (values.reshape(*log_ranges.shape, -1) for values in (logits, params))
    return OneLight(logits, log_ranges, params, int(np.max(table["fitted"].to_numpy())))


def one_answer(
    run: AuditRun, clean: Float[np.ndarray, "n k"], lit: Float[np.ndarray, "n k"]
) -> dict[str, Any]:
    """How many images get the answer that most get, without light and under it.

    Args:
      run: the audit.
      clean: logits without light.
      lit: logits under it.

    Returns:
      `answer`, the class that most get under the light, `share` of the images that do, `clean`, the
      share that did before, and `means` where nearly all do and did not.
    """
    answers, before = (answered(logits, run.truth)[0] for logits in (lit, clean))
    most = int(np.bincount(answers).argmax())
    share, was = float(np.mean(answers == most)), float(np.mean(before == most))
    told = {"answer": run.source.class_names[most], "share": share, "clean": was}
    return told | ({"means": ONE_ANSWER} if share >= _NEARLY_ALL > was else {})


def transfer(runs: list[AuditRun]) -> dict[str, Any]:
    """Accuracy of each model under the light for all images of each other one.

    Args:
      runs: finished, of the same images.

    Returns:
      `models`, their names; `ranges`; `accuracy`, of (source, log-range, judge).
    """
    ranges = runs[0].settings["ranges"]
    right = np.zeros((len(runs), len(ranges), len(runs)))
    for s, source in enumerate(runs):
        for half in range(2):
            lights = storage.read_shard(source.shard(UNIVERSAL, half))
            chosen = source.chosen(UNIVERSAL, half)
            for start in range(0, len(chosen), source.batch_size):
                part = chosen[start : start + source.batch_size]
                images = jnp.asarray(runner.read(source, np.resize(part, source.batch_size)))
                threat = _threat(source, images.shape[1:])
                none = threat.perturbation.init(images[0], None)
                params = storage.read_params(lights, 0, jnp.tile(none, (len(ranges), 1)))
                for t in range(len(ranges)):
                    lit = testing.under(threat.perturbation, params[t], images)
                    for j, judge in enumerate(runs):
                        logits = np.asarray(logits_of(as_pytree(judge.target.predict), lit))
                        answers, _ = answered(logits[: len(part)], judge.truth[part])
                        right[s, t, j] += np.sum(answers == judge.truth[part])
    names = [run.target.name for run in runs]
    return {"models": names, "ranges": ranges, "accuracy": (right / len(runs[0].source)).tolist()}


def _threat(run: AuditRun, shape: tuple[int, ...]) -> Threat:
    told = {name: run.settings[name] for name in ("encoding", "gamma")}
    ranges, exposure = run.settings["ranges"], run.settings["exposures"][0]
    return light(shape, max_log_range=max(ranges), exposure=exposure, **told)
