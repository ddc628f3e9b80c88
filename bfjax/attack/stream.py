"""The stream runner: images that an attack is done with leave the batch, and others enter."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from bfjax.attack import vmapped
from bfjax.attack.batch import check_batch, warn_of_probabilities
from bfjax.numbers import check_scalars
from bfjax.types import (
    Attack,
    AttackInfo,
    AttackResult,
    AttackState,
    Predict,
    PRNGKey,
    as_key,
    as_pytree,
)

Example = tuple[int, Any, Any]
"""The number of an image, the image (h, w, c), its label."""


class Done(NamedTuple):
    """Images that the attack is done with, in the order in which that came about.

    Attributes:
      numbers: of the images, as they came with them.
      images: (n, h, w, c), clean.
      labels: (n, ...).
      result: with a leading axis of n; in its trace the last info stands for the steps that an
        image no longer needed.
    """

    numbers: list[int]
    images: Float[np.ndarray, "n h w c"]
    labels: Integer[np.ndarray, "n ..."]
    result: AttackResult


def run_stream(
    attack: Attack,
    predict: Predict,
    examples: Iterable[Example],
    *,
    batch_size: int,
    key: PRNGKey | None = None,
    place: Callable[[np.ndarray], Array] = jnp.asarray,
    on_step: Callable[[int], object] = lambda active: None,
    warn: bool = True,
) -> Iterator[Done]:
    """Attacks a stream of images, `batch_size` at a time.

    An image for which `attack.stop` held leaves the batch at that step, and the next one takes its
    place: time goes by in proportion to the steps that are taken. Of an attack without `stop` every
    image takes all steps, as in `run_batch`. One compilation serves every batch, the last too.

    Args:
      attack: the attack.
      predict: the classifier of one image.
      examples: triples of a number, an image (h, w, c) in [0, 1], and its label.
      batch_size: images that are attacked at once.
      key: needed only where the attack is random; folded with an image's number, so that no result
        depends on what else is attacked.
      place: puts a batch on the devices.
      on_step: called after each step with how many images took it.
      warn: where the outputs seem to be probabilities.

    Yields:
      `Done`, of `batch_size` images, in the end of fewer.

    Raises:
      ValueError: as `run_batch`, for a batch size below 1, or a number with several values.

    Warns:
      UserWarning: as `run_batch`, once.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> import bfjax
      >>> predict = lambda image: 9 * jnp.stack([image[:8].mean(), image[8:].mean()])
      >>> attack = bfjax.attacks.bias_field((16, 16), degree=4, grid_size=4, early_stop=True)
      >>> examples = ((i, np.full((16, 16, 1), 0.5, np.float32), 0) for i in range(5))
      >>> [done.numbers for done in run_stream(attack, predict, examples, batch_size=2)]
      [[0, 1], [2, 3], [4]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    check_scalars(attack)
    found = _stream(
        attack, as_pytree(predict), iter(examples), batch_size, as_key(key), place, on_step
    )
    for count, done in enumerate(found):
        if warn and not count:  # what does not hold of the first images does not hold
            result = done.result
            seen = np.concatenate([result.trace.logits, result.logits[:, None]], axis=1)
            warn_of_probabilities(seen, stacklevel=3)
        yield done


def _stream(
    attack: Attack,
    predict: Predict,
    waiting: Iterator[Example],
    batch_size: int,
    key: PRNGKey | None,
    place: Callable[[np.ndarray], Array],
    on_step: Callable[[int], object],
) -> Iterator[Done]:
    slots: dict[int, _Slot] = {}  # by their place in the batch
    ripe: list[tuple[_Slot, Any]] = []
    batch: Any = None
    state: Any = None
    while True:
        free = [i for i in range(batch_size) if i not in slots]
        entering = dict(zip(free, itertools.islice(waiting, len(free)), strict=False))
        if entering:
            slots |= {i: _Slot(*example, []) for i, example in entering.items()}
            _check(predict, [slots[i] for i in entering])
            # a place that stays empty holds some image too
            whole = [slots.get(i) or slots[min(slots)] for i in range(batch_size)]
            batch = tuple(place(np.stack([one[k] for one in whole])) for k in (1, 2))
            numbers = place(np.array([one.number for one in whole], np.int32))
            keys = None if key is None else _keys(key, numbers)
            new = place(np.isin(np.arange(batch_size), list(entering)))
            state = _enter(attack, batch[0], keys, new, state)
        if not slots:
            break
        state, info = vmapped.step(attack, predict, *batch, state)
        info = jax.device_get(info)
        on_step(len(slots))
        for i, slot in slots.items():
            slot.infos.append(jax.tree.map(lambda leaf, i=i: leaf[i], info))
        over = [i for i, slot in slots.items() if _is_over(attack, slot.infos)]
        kept = jax.device_get((state.params, state.best)) if over else None
        for i in over:
            ripe.append((slots.pop(i), jax.tree.map(lambda leaf, i=i: leaf[i], kept)))
        if len(ripe) >= batch_size:
            yield _finished(attack, predict, ripe[:batch_size], batch_size, place)
            del ripe[:batch_size]
    if ripe:
        yield _finished(attack, predict, ripe, batch_size, place)


class _Slot(NamedTuple):
    number: int
    image: np.ndarray
    label: np.ndarray
    infos: list[AttackInfo]


def _is_over(attack: Attack, infos: list[AttackInfo]) -> bool:
    return len(infos) == attack.num_steps or bool(infos[-1].stopped)


def _check(predict: Predict, slots: list[_Slot]) -> None:
    images, labels = (np.stack([np.asarray(one[k]) for one in slots]) for k in (1, 2))
    check_batch(predict, images, labels, names=[f"image {one.number}" for one in slots])


def _finished(
    attack: Attack,
    predict: Predict,
    ripe: list[tuple[_Slot, Any]],
    batch_size: int,
    place: Callable[[np.ndarray], Array],
) -> Done:
    """The results of some images, by one forward pass of a whole batch."""

    def stacked(*rows: Any) -> Any:
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def trace(infos: list[AttackInfo]) -> AttackInfo:
        return stacked(*infos, *infos[-1:] * (attack.num_steps - len(infos)))

    rows = [(one.image, one.label, kept, trace(one.infos)) for one, kept in ripe]
    full = jax.tree.map(place, stacked(*rows, *rows[-1:] * (batch_size - len(rows))))
    images, labels, (params, best), traces = full
    state = AttackState(params, None, None, best)
    result = vmapped.finish(attack, predict, images, labels, state, traces)
    return Done(
        [one.number for one, _ in ripe],
        np.stack([one.image for one, _ in ripe]),
        np.stack([one.label for one, _ in ripe]),
        jax.tree.map(lambda leaf: leaf[: len(ripe)], result),
    )


@jax.jit
def _keys(key, numbers):
    return jax.vmap(functools.partial(jax.random.fold_in, key))(numbers)


@jax.jit
def _enter(attack, images, keys, new, state):
    """The state with the images that are new at their start."""
    begun = vmapped.init(attack, images, keys)
    if state is None:
        return begun
    choose = jax.vmap(jnp.where)
    return jax.tree.map(lambda start, now: choose(new, start, now), begun, state)
