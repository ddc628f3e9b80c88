"""The Jacobian-based saliency map attack (JSMA): a few entries of the image, changed a lot.

No composition of `bfjax.Attack`'s four pieces: each step is a discrete choice of entries, which no
gradient transformation makes.

Convention:
    An entry is one number of the image, a pixel's value in one channel. Entries are counted in the
    row-major order of (h, w, c); of equally good choices the one that comes first is taken.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Scalar

from bfjax.attack import check_class, of_classes
from bfjax.field import check_image
from bfjax.numbers import Number, check_numbers, has_numbers
from bfjax.types import AttackResult, Image, Label, Logits, Predict, PRNGKey

Variant = Literal["single", "darken", "pair"]

_ROWS = 64  # of the matrix of pairs that are held at once: 64 × 50,176 floats are 13 MB

Entries = Float[Array, " entries"]
Choice = tuple[Int[Array, " chosen"], Float[Array, " chosen"], Bool[Array, ""]]


class SaliencyInfo(NamedTuple):
    """What the attack records.

    Attributes:
      target: the class that it moved to.
      entries: the flat index of the entry (of both, for `"pair"`) that each step changed; -1 for
        the steps that were not needed.
    """

    target: Int[Array, ""]
    entries: Int[Array, "max_steps chosen"]


class _Walk(NamedTuple):
    step: Scalar
    image: Entries
    changes: Int[Array, " entries"]  # how often each entry was changed; the maximum bars it
    logits: Logits
    stopped: Scalar
    entries: Array


@has_numbers("theta", "max_changes")
@dataclasses.dataclass(frozen=True)
class SaliencyMap:
    """The attack that `saliency_map` makes, which says more of these options.

    Attributes:
      variant: which saliency map, and whose defaults.
      max_steps: steps at most.
      theta: change of a pixel in one step, as a share of the range.
      max_changes: how often one pixel may be changed.
      target: the class aimed at; `None`: the likeliest of the others.
    """

    variant: Variant
    max_steps: int
    theta: Number
    max_changes: Number
    target: int | None

    def __post_init__(self):
        if self.variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {get_args(Variant)}, got {self.variant!r}")
        if self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")
        check_numbers(above=0, at_most=1, theta=self.theta)
        check_numbers(at_least=1, max_changes=self.max_changes)

    @property
    def max_gradients(self) -> int:
        """One a change."""
        return self.max_steps

    def run(
        self, predict: Predict, image: Image, label: Label, *, key: PRNGKey | None = None
    ) -> AttackResult:
        """Attacks one image; `vmap` makes batches, in which images that are done stay as they are.

        Args:
          predict: the classifier, one image to logits.
          image: (h, w, c), float in [0, 1].
          label: the true class; with a fixed `target` it is not used.
          key: not used; nothing is random.

        Returns:
          `AttackResult`: the image on which the target became the most likely class, or the clean
          one where it never did. `params` is the adversarial image, as with `additive()`, and
          `trace` a `SaliencyInfo`.

        Raises:
          ValueError: when traced, for an image that is not one, logits that are no vector, a label
            that is no single class, or a `target` that is none of the classes.
        """
        del key
        check_image(image)
        answer = predict(image)
        clean_logits = of_classes(answer)
        check_class(label, classes=clean_logits.shape[0])
        target = self._target(clean_logits, label)
        most = jnp.asarray(self.max_changes, int)

        def step(state):
            logits, toward, against = self._gradients(
                lambda flat: of_classes(predict(flat.reshape(image.shape))), state.image, target
            )
            choose = _best_pair if self.variant == "pair" else _best_entry
            free = state.changes < most
            entries, direction, possible = choose(toward, against, state.image, free)
            go = possible & (jnp.argmax(logits) != target) & (state.step < self.max_steps)

            old = state.image[entries]
            theta = jnp.asarray(self.theta, old.dtype)
            new = jnp.clip(old + theta * direction.astype(old.dtype), 0, 1)
            changes = state.changes[entries]
            # An entry that a change put on the border has left the search for good.
            after = jnp.where((new <= 0) | (new >= 1), most, changes + 1)
            return _Walk(
                step=state.step + go,
                image=state.image.at[entries].set(jnp.where(go, new, old)),
                changes=state.changes.at[entries].set(jnp.where(go, after, changes)),
                logits=logits,
                stopped=~go,
                entries=state.entries.at[state.step].set(jnp.where(go, entries, -1), mode="drop"),
            )

        chosen = 2 if self.variant == "pair" else 1
        end = jax.lax.while_loop(
            lambda state: ~state.stopped,
            step,
            _Walk(
                step=jnp.asarray(0),
                image=image.ravel(),
                changes=jnp.zeros(image.size, int),
                logits=clean_logits,
                stopped=jnp.asarray(False),
                entries=jnp.full((self.max_steps, chosen), -1),
            ),
        )
        reached = jnp.argmax(end.logits) == target
        adversarial = jnp.where(reached, end.image.reshape(image.shape), image)
        logits = jnp.where(reached, end.logits, clean_logits)
        if answer.size == 1:  # as the classifier gave it
            logits = 2 * logits[1:]
        return AttackResult(adversarial, adversarial, logits, SaliencyInfo(target, end.entries))

    __call__ = run

    def _target(self, logits: Logits, label: Label) -> Int[Array, ""]:
        classes = logits.shape[0]
        if self.target is None:
            return jnp.argmax(jnp.where(jnp.arange(classes) == label, -jnp.inf, logits))
        if not 0 <= self.target < classes:
            raise ValueError(f"target must be one of the {classes} classes, got {self.target}")
        return jnp.asarray(self.target)

    def _gradients(self, predict, image: Entries, target) -> tuple[Logits, Entries, Entries]:
        """The logits, and the α and β of the saliency map, in at least float32."""
        logits, pullback = jax.vjp(predict, image)
        own = jax.nn.one_hot(target, logits.shape[0], dtype=logits.dtype)
        wide = jnp.promote_types(image.dtype, jnp.float32)
        if self.variant == "darken":
            (toward,) = pullback(own - jax.nn.softmax(logits))
            return logits, toward.astype(wide), jnp.ones_like(image, wide)
        (toward,), (against,) = pullback(own), pullback(1 - own)
        return logits, toward.astype(wide), against.astype(wide)


def saliency_map(
    *,
    variant: Variant = "single",
    max_steps: int = 2000,
    theta: Number = 0.1,
    max_changes: Number = 7,
    target: int | None = None,
) -> SaliencyMap:
    """The Jacobian-based saliency map attack (JSMA), with foolbox 2's numbers as defaults.

    Until the target t is the most likely class, each step changes by θ what the map holds to be
    best. With α = ∂z_t/∂x and β = Σ_{k≠t} ∂z_k/∂x:

    - `"single"`: the entry with the lowest α·β < 0, up or down as α says.
    - `"darken"`: foolbox 2 itself (`fast=True`, its default): the same with α = ∂log p_t/∂x and
      β = 1, so the entry that gains most by becoming darker; none is ever made brighter.
    - `"pair"`: Papernot's, the two entries p, q with the highest −(α_p + α_q)(β_p + β_q) where the
      first sum is positive and the second negative, both up. The search for them is exact.

    An entry is free until it was changed `max_changes` times or a change put it on the border of
    [0, 1]; one that lies there from the start can only be moved inwards. Where no entry serves, the
    attack ends.

    Args:
      variant: which map, see above.
      max_steps: after which the attack gives up.
      theta: θ, the size of a change, in units of [0, 1].
      max_changes: how often one entry may be changed.
      target: the class to reach. `None` takes the most likely one other than the label, on the
        clean image: with two classes the other one.

    Returns:
      A `SaliencyMap`, whose `run(predict, image, label)` attacks one image.

    Raises:
      ValueError: naming the option that is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> predict = lambda image: jnp.stack([1.5 - image.sum(), image.sum() - 1.5])
      >>> result = saliency_map(theta=0.2).run(predict, jnp.full((1, 2, 1), 0.5, "float32"), 0)
      >>> result.adversarial.ravel()
      Array([1. , 0.7], dtype=float32)
      >>> result.trace.entries[:4, 0].tolist()
      [0, 0, 0, 1]

    Reference: Papernot et al., *The Limitations of Deep Learning in Adversarial Settings*, IEEE
    European Symposium on Security and Privacy 2016, Algorithm 3.
    """
    return SaliencyMap(
        variant=variant,
        max_steps=max_steps,
        theta=theta,
        max_changes=max_changes,
        target=target,
    )


def _best_entry(
    toward: Entries, against: Entries, image: Entries, free: Bool[Array, " entries"]
) -> Choice:
    """The entry with the lowest α·β < 0 that has room in the direction of α."""
    room = jnp.where(toward > 0, image < 1, image > 0)
    score = jnp.where(free & room, toward * against, 0)
    entry = jnp.argmin(score)[None]
    return entry, jnp.sign(toward[entry]), score[entry[0]] < 0


def _best_pair(
    toward: Entries, against: Entries, image: Entries, free: Bool[Array, " entries"]
) -> Choice:
    """The entries p, q with the highest (α_p + α_q)·(−β_p − β_q), both factors positive.

    The product grows with every α and −β, so an entry that two others equal or exceed in both is
    not needed. Those that are left, commonly tens of 50,176, are paired with all, by the chunk.
    """
    room = free & (image < 1)
    gain = jnp.where(room, toward, -jnp.inf)
    fall = jnp.where(room, -against, -jnp.inf)
    size = gain.shape[0]

    def partner(p):
        sums = gain[p] + gain, fall[p] + fall
        value = jnp.where((sums[0] > 0) & (sums[1] > 0), sums[0] * sums[1], -jnp.inf)
        value = jnp.where(jnp.arange(size) == p, -jnp.inf, value)
        q = jnp.argmax(value)
        return value[q], jnp.stack([p, q])

    def examine(chunk, best):
        values, pairs = jax.vmap(partner)(rows[chunk])
        first = jnp.argmax(values)
        better = values[first] > best[0]
        return jnp.where(better, values[first], best[0]), jnp.where(better, pairs[first], best[1])

    needed = _not_twice_dominated(gain, fall)
    rows = jnp.nonzero(needed, size=-(-size // _ROWS) * _ROWS, fill_value=0)[0].reshape(-1, _ROWS)
    start = jnp.asarray(-jnp.inf, gain.dtype), jnp.zeros(2, rows.dtype)
    value, pair = jax.lax.fori_loop(0, -(-jnp.sum(needed) // _ROWS), examine, start)
    return pair, jnp.ones(2, gain.dtype), value > -jnp.inf


def _not_twice_dominated(gain: Entries, fall: Entries) -> Bool[Array, " entries"]:
    """False where two other entries are at least as high in both; of equal ones the first two stay.

    Ordered by falling gain, those are the entries whose fall does not exceed the second highest
    fall among the entries before them.
    """

    def highest_before(x):
        return jnp.concatenate([jnp.full_like(x, -jnp.inf, shape=1), jax.lax.cummax(x)[:-1]])

    order = jnp.lexsort((-fall, -gain))
    fall = fall[order]
    second = highest_before(jnp.minimum(fall, highest_before(fall)))
    return jnp.zeros_like(fall, bool).at[order].set(fall > second)
