"""Exposure alone is one number: all of its values are tried, as finely as queries allow."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bfjax.robustness.random_search import Queries, margin_of
from bfjax.robustness.threat import Threat
from bfjax.types import AttackResult, Image, Label, Params, Predict, PRNGKey


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExposureScan(Queries):
    """See `scan_exposures`."""

    def run(
        self, predict: Predict, image: Image, label: Label, *, key: PRNGKey | None = None
    ) -> AttackResult:
        """Attacks one image, see `scan_exposures`."""
        del key  # nothing is random
        # a drawn exposure is the largest one, up or down
        largest = jnp.abs(self.threat.draw(jax.random.key(0)))
        lights = jnp.linspace(-largest, largest, self.num_queries)

        def asked(params: Params) -> tuple[Array, Array]:
            logits = predict(self.threat.perturbation.apply(params, image))
            return logits, margin_of(logits, label)

        logits, margins = jax.lax.map(asked, lights)
        best = jnp.where(jnp.isnan(margins), -jnp.inf, margins).argmax()
        found = self.threat.perturbation.apply(lights[best], image)
        return AttackResult(found, lights[best], logits[best], margins)


def scan_exposures(threat: Threat, *, num_queries: int = 60) -> ExposureScan:
    """The exposure that harms most, of values that lie evenly from the darkest to the brightest.

    argmax_c margin(f(X·e^c), y) over num_queries values of c in [−ρ/2, ρ/2], both ends included.

    Args:
      threat: of exposure alone, see `light`.
      num_queries: forward passes.

    Returns:
      A `Search`, whose result's `trace` is the margin at each value, from dark to bright.

    Raises:
      ValueError: for a number below 2, or a threat of more than exposure.

    Example:
      >>> import bfjax
      >>> from bfjax.robustness import light
      >>> predict = lambda x: 9 * jnp.stack([x.mean() - 0.52, 0.0])
      >>> threat = light((16, 16, 1), max_log_range=0.4, exposure="alone")
      >>> result = bfjax.run(scan_exposures(threat), predict, jnp.full((16, 16, 1), 0.5), 1)
      >>> [round(float(c), 2) for c in result.params]
      [0.2]
    """
    if not is_exposure_alone(threat):
        raise ValueError('scan_exposures is of exposure alone: light(..., exposure="alone")')
    return ExposureScan(threat, num_queries)


def is_exposure_alone(threat: Threat) -> bool:
    """Whether a threat has one number, the exposure.

    Args:
      threat: of `light`.

    Returns:
      Whether it has.

    Example:
      >>> from bfjax.robustness import light
      >>> is_exposure_alone(light((8, 8, 1), max_log_range=0.4, exposure="alone"))
      True
    """
    return jax.eval_shape(threat.draw, jax.random.key(0)).shape == (1,)
