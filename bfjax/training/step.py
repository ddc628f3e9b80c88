"""The training step: augmentation, the weighted loss, the update, the running average."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int, Scalar

from bfjax import memory
from bfjax.training.augmentation import Augmentation, augment, resized
from bfjax.training.hardening import Hardening, divergence, lit


class TrainState(NamedTuple):
    """What one step hands to the next.

    Attributes:
      params: of the network.
      statistics: the running averages of its batch normalisations.
      opt_state: the optimiser's.
      step: how many there have been.
      average: running averages of `params` and `statistics`; None where they are not asked for.
    """

    params: Any
    statistics: Any
    opt_state: Any
    step: Int[Array, ""]
    average: Any = None

    @property
    def kept(self) -> tuple[Any, Any]:
        """Parameters and statistics as they are evaluated: averaged, where that was asked for."""
        return self.average or (self.params, self.statistics)


def start(params: Any, statistics: Any, opt_state: Any, *, average: float = 0.0) -> TrainState:
    """The state before the first step.

    Args:
      params: of the network.
      statistics: of its batch normalisations.
      opt_state: the optimiser's.
      average: the decay of the running average of the weights; 0 for none.

    Returns:
      The state.

    Raises:
      ValueError: `average` is not in [0, 1).
    """
    if not 0 <= average < 1:
        raise ValueError(f"average is a decay, in [0, 1), got {average}")
    mean = jax.tree.map(jnp.copy, (params, statistics)) if average else None
    return TrainState(params, statistics, opt_state, jnp.zeros((), jnp.int32), mean)


@jax.jit
def copied(tree: Any) -> Any:
    """Arrays of their own, which stay when those of a state are used up.

    Args:
      tree: of arrays.

    Returns:
      The same arrays, elsewhere in memory.
    """
    return jax.tree.map(jnp.copy, tree)


Step = Callable[[TrainState, Any, Any, Any], tuple[TrainState, Scalar]]


def make_step(
    graph: Any,
    optimizer: optax.GradientTransformation,
    *,
    augmentation: Augmentation = Augmentation(),  # noqa: B008  a constant
    hardening: Hardening = Hardening(),  # noqa: B008  likewise
    label_smoothing: float = 0.0,
    average: float = 0.0,
    dtype: str = "float32",
    remat: bool = False,
    seed: int = 0,
    size: int | None = None,
    placed: jax.sharding.Sharding | None = None,
) -> Step:
    """The jitted training step, augmentation and hardening inside.

    Args:
      graph: the model's `nnx.GraphDef`.
      optimizer: of the parameters.
      augmentation: of the images.
      hardening: under which light the augmented images are learnt, found for the network as the
        step before left it.
      label_smoothing: share of the target spread over all classes.
      average: the decay of the running average of the weights; 0 for none.
      dtype: of the activations.
      remat: compute the activations of a `Classifier`'s blocks once more for their gradients.
      seed: of augmentation and dropout.
      size: side to which the images are brought first; None for the one they have.
      placed: how the new state lies on the devices; by default as the compiler likes.

    Returns:
      `(state, images (n, h, w, c), labels (n,), class weights (k,)) -> (state, loss)`. The state
      that it is given is used up: the new one takes its memory.
    """

    def loss(
        params: Any, statistics: Any, images: Array, labels: Array, weights: Array, key: Array
    ):
        model = nnx.merge(graph, params, statistics, copy=True)
        model.remat = remat
        # each layer computes in the type of its input; parameters and loss stay float32
        logits = model(images.astype(dtype), training=True, key=key)  # pyrefly: ignore[not-callable]
        logits = logits.astype(jnp.float32)
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        targets = optax.smooth_labels(targets, label_smoothing)
        if hardening.consistency:
            clean, changed = logits[:, 0], logits[:, 1]
            apart = jax.vmap(divergence)(clean, changed)
            each = optax.softmax_cross_entropy(clean, targets) + hardening.consistency * apart
        else:
            each = optax.softmax_cross_entropy(logits, targets)
        return (weights[labels] * each).mean(), nnx.state(model, nnx.BatchStat)

    def prepared(key, image):
        return augment(key, resized(image, size), augmentation=augmentation)

    def hardened(state, images, labels, keys):
        def predict(image):
            model = nnx.merge(graph, state.params, state.statistics)
            return model(image.astype(dtype)).astype(jnp.float32)  # pyrefly: ignore[not-callable]

        # folded in, as bias_field is: without it the other draws stay what they were
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 6))(keys)
        changed = lit(hardening, predict, images, labels, keys)
        if not hardening.consistency:
            return changed
        # in one pass: batch norms see the mixture whose averages they keep
        return jnp.stack([images, changed], axis=1)

    where = {} if placed is None else {"out_shardings": placed}

    @functools.partial(jax.jit, donate_argnames="state", **where)
    def step(state: TrainState, images: Array, labels: Array, weights: Array):
        key, dropout = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        keys = jax.random.split(key, len(images))
        images = jax.vmap(prepared)(keys, images)
        if hardening:
            images = hardened(state, images, labels, keys)
        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        (value, statistics), gradient = value_and_grad(
            state.params, state.statistics, images, labels, weights, dropout
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        mean = state.average
        if mean is not None:
            # at first a plain mean: the weights drawn at the start should not linger
            new = jnp.maximum(1 - average, 1 / (state.step + 1))
            mean = optax.incremental_update((params, statistics), mean, new)
        return TrainState(params, statistics, opt_state, state.step + 1, mean), value

    return step


def compiled(step: Any, *arguments: Any) -> Step:
    """A step compiled for arguments of these shapes; on a CPU it runs where the last one ran.

    There a step takes the memory of all its intermediate results as soon as it is called, be the
    one before it done or not. So it is waited for, and called where that much is free in one piece.

    Args:
      step: from `make_step`.
      *arguments: its own.

    Returns:
      The step.
    """
    program = step.lower(*arguments).compile()
    if jax.default_backend() != "cpu":
        return program
    takes = program.memory_analysis().temp_size_in_bytes

    def call(*arguments: Any) -> tuple[TrainState, Scalar]:
        memory.make_room(takes)
        return jax.block_until_ready(program(*arguments))

    return call


def compute_dtype(wanted: Literal["auto", "float32", "bfloat16"]) -> str:
    """The type of the activations in training; evaluation is always in float32.

    Args:
      wanted: what was asked for.

    Returns:
      ``"bfloat16"`` or ``"float32"``; left to itself, the former wherever there is an accelerator.
    """
    if wanted != "auto":
        return wanted
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"
