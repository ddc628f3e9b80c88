"""What a training run would take: a few of its own steps are timed, nothing is assumed."""

from __future__ import annotations

import collections
import functools
import time

import jax
from flax import nnx

from bfjax import data, models
from bfjax.data import feed
from bfjax.estimate import Estimate, seconds
from bfjax.training.plan import Plan
from bfjax.training.step import TrainState
from bfjax.training.validation import validate

_STEPS = 3  # that are timed


def of_training(plan: Plan, state: TrainState, *, done: int | None = 0) -> Estimate:
    """Takes a few steps at each size of the images, and validates a batch.

    Args:
      plan: of the run, from its start; nothing of it is written.
      state: before the first step; it is used up.
      done: how many epochs were trained before; `None` where the training is finished.

    Returns:
      The estimate; its disk is what the saved states take while it runs.

    Raises:
      ValueError: the running average cannot be.
    """
    if done is None:
        return Estimate(str(plan.out), "nothing", 0.0, 0)
    split = feed.split_batches(plan.batch_size)
    whole = feed.on_every(split)
    state = jax.device_put(state, whole)
    first = next(iter(feed.shuffled(plan.training, plan.batch_size, seed=plan.seed)))
    images, labels = (jax.make_array_from_process_local_data(split, x) for x in first)
    few = data.Subset(plan.validation, range(min(plan.batch_size, len(plan.validation))))
    took = 0.0
    for side, epochs in collections.Counter(map(plan.side, range(done, plan.epochs))).items():
        step = plan.step_at(side, whole)
        times = []
        for _ in range(_STEPS):
            started = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, images, labels, plan.class_weights))
            times.append(time.perf_counter() - started)
        predict = models.as_predict(nnx.merge(plan.graph, *state.kept))
        judge = functools.partial(
            validate,
            predict,
            few,
            batch_size=plan.batch_size,
            size=side,
            shifted=plan.select == "shifted",
        )
        batches = len(plan.validation) / plan.batch_size
        took += epochs * (plan.steps * times[-1] + batches * seconds(judge))
    # the newest two stay while one is written, each with the best weights so far
    kept = 3 * sum(x.nbytes for x in jax.tree.leaves((state, state.kept)))
    left = max(plan.epochs - done, 0)
    return Estimate(str(plan.out), f"{left} epochs of {plan.steps} steps", took, kept)
