"""An attack from several random starts: a `Search`, run like an `Attack`."""

from __future__ import annotations

import dataclasses
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Scalar

from bfjax.attack import loop
from bfjax.attack.objective import is_right, is_targeted, is_wrong
from bfjax.types import Attack, AttackResult, Image, Label, Predict, PRNGKey, as_key


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Restarts:
    """See `restarts`.

    Attributes:
      attack: one with a random start.
      number: of starts.
    """

    attack: Attack
    number: int = dataclasses.field(metadata={"static": True})

    @property
    def max_gradients(self) -> int:
        """Of all starts."""
        return self.number * self.attack.max_gradients

    @property
    def targeted(self) -> bool:
        """Whether the attack is."""
        return is_targeted(self.attack)

    def run(
        self, predict: Predict, image: Image, label: Label, *, key: PRNGKey | None = None
    ) -> AttackResult:
        """Attacks one image, see `restarts`."""
        if key is None:
            raise ValueError("restarts are random: pass key=jax.random.key(...)")

        def one(key: PRNGKey) -> tuple[AttackResult, Bool[Array, ""], Scalar]:
            result = loop.run(self.attack, predict, image, label, key=key)
            return result, stop(result.logits, label), self.attack.loss(result.logits, label)

        def again(best, key: PRNGKey):
            new = one(key)
            more = (new[2] > best[2]) | jnp.isnan(best[2])  # NaN is more than nothing
            better = (new[1] & ~best[1]) | ((new[1] == best[1]) & more)
            # what went wrong from one start alone did not keep the others from succeeding
            flags = jax.tree.map(operator.and_, best[0].flags, new[0].flags)
            result, *rest = jax.tree.map(lambda n, b: jnp.where(better, n, b), new, best)
            return (result._replace(flags=flags), *rest), None

        stop = self.attack.stop or (is_right if self.targeted else is_wrong)
        keys = jax.random.split(as_key(key), self.number)
        (best, _, _), _ = jax.lax.scan(again, one(keys[0]), keys[1:])
        return best


def restarts(attack: Attack, number: int) -> Restarts:
    """An attack from several random starts; the one that fools, else of the highest loss, is kept.

    Within a bound on the field starts add next to nothing (`experiments/results/bounds`): the
    nearest field, `bfjax.field.onto_sampled_bounds`, finds more in the time of one.

    Args:
      attack: one with a random start.
      number: of starts, at least 1.

    Returns:
      A `Search`.

    Raises:
      ValueError: for a number below 1; when traced, for a missing key.

    Example:
      >>> import bfjax
      >>> predict = lambda x: jnp.stack([x.mean() - 0.3, 0.3 - x.mean()])
      >>> search = restarts(bfjax.attacks.pgd(epsilon=0.3, step_size=0.1), 2)
      >>> result = bfjax.run(search, predict, jnp.full((2, 2, 1), 0.5), 0, key=jax.random.key(0))
      >>> int(result.logits.argmax())
      1
    """
    if number < 1:
        raise ValueError(f"number of restarts must be at least 1, got {number}")
    return Restarts(attack, number)
