"""A search that asks the classifier only, and no gradient: what it finds, no masking hides."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Scalar

from bfjax.attack import binary_margin, margin
from bfjax.robustness.threat import Threat
from bfjax.types import AttackResult, Image, Label, Logits, Params, Predict, PRNGKey, as_key

_GROWTH, _DECAY = 1.5, 0.9  # of the steps: as long as one in four finds more


class _Found(NamedTuple):
    params: Params
    logits: Logits
    margin: Scalar


@dataclasses.dataclass(frozen=True)
class Queries:
    """A search that asks the classifier and follows no gradient.

    Attributes:
      threat: what light is allowed.
      num_queries: forward passes.
    """

    threat: Threat
    num_queries: int = dataclasses.field(metadata={"static": True})

    def __post_init__(self):
        if self.num_queries < 2:
            raise ValueError(f"num_queries must be at least 2, got {self.num_queries}")

    @property
    def max_gradients(self) -> int:
        """As many as its forward passes take as long as."""
        return -(-self.num_queries // 3)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RandomSearch(Queries):
    """See `random_search`."""

    def run(
        self, predict: Predict, image: Image, label: Label, *, key: PRNGKey | None = None
    ) -> AttackResult:
        """Attacks one image, see `random_search`."""
        if key is None:
            raise ValueError("random_search is random: pass key=jax.random.key(...)")
        threat, num_draws = self.threat, max(1, self.num_queries // 4)
        perturb = threat.perturbation.apply

        def asked(params: Params) -> _Found:
            logits = predict(perturb(params, image))
            return _Found(params, logits, margin_of(logits, label))

        def better(best: _Found, new: _Found) -> tuple[_Found, Any]:
            more = new.margin > best.margin
            return jax.tree.map(lambda n, b: jnp.where(more, n, b), new, best), more

        def draw(best: _Found, key: PRNGKey) -> tuple[_Found, Scalar]:
            best, _ = better(best, asked(threat.draw(key)))
            return best, best.margin

        def near(carry: Any, key: PRNGKey) -> tuple[Any, Scalar]:
            best, length = carry
            step = length * jax.random.normal(key, best.params.shape, best.params.dtype)
            best, more = better(best, asked(threat.within(best.params + step, image)))
            return (best, length * jnp.where(more, _GROWTH, _DECAY)), best.margin

        keys = jax.random.split(as_key(key), self.num_queries)
        best, drawn = jax.lax.scan(
            draw, asked(threat.perturbation.init(image, None)), keys[:num_draws]
        )
        # a drawn light is as uneven as is allowed
        first = jnp.asarray(0.1 * threat.size(threat.draw(keys[0])), best.params.dtype)
        (best, _), later = jax.lax.scan(near, (best, first), keys[num_draws:])
        found = perturb(best.params, image)
        return AttackResult(found, best.params, best.logits, jnp.concatenate([drawn, later]))


def random_search(threat: Threat, *, num_queries: int = 60) -> RandomSearch:
    """Random lights, and then steps at random from the best of them, longer where they find more.

    A quarter of the queries draws lights as uneven as is allowed. The others are an evolution
    strategy, (1 + 1): c' = P(c + σ n), n ~ N(0, I), is kept where the margin rises, and σ grows by
    1.5, or shrinks to 0.9.

    Args:
      threat: what light is allowed.
      num_queries: forward passes.

    Returns:
      A `Search`, whose result's `trace` is the highest margin after each query.

    Raises:
      ValueError: for a number below 2; when traced, for a missing key.

    Example:
      >>> import bfjax
      >>> from bfjax.robustness import light
      >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> search = random_search(light((16, 16, 1), max_log_range=0.4))
      >>> image = jnp.full((16, 16, 1), 0.5)
      >>> result = bfjax.run(search, predict, image, 1, key=jax.random.key(0))
      >>> int(result.logits.argmax())
      0

    Reference: Rechenberg, *Evolutionsstrategie*, 1973, for the length of the steps.
    """
    return RandomSearch(threat, num_queries)


def margin_of(logits: Logits, label: Label) -> Scalar:
    """How far the classifier is wrong, whatever its head.

    Args:
      logits: (classes,), or (heads,) of findings.
      label: the true class; of findings (heads,) of 0 and 1.

    Returns:
      `bfjax.attack.margin`, or of findings `binary_margin`.

    Example:
      >>> margin_of(jnp.asarray([2.0, -1.0]), jnp.asarray([1, 0])).item()
      -1.0
    """
    return binary_margin(logits, label) if jnp.ndim(label) else margin(logits, label)
