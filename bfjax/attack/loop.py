"""The one loop of every attack: `init`, `step`, `run`, all on one image; `vmap` makes batches."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Scalar

from bfjax.numbers import check_scalars
from bfjax.types import (
    Attack,
    AttackFlags,
    AttackInfo,
    AttackResult,
    AttackState,
    Image,
    Label,
    Logits,
    Params,
    Predict,
    PRNGKey,
    Search,
    as_key,
)


def init(attack: Attack, image: Image, *, key: PRNGKey | None = None) -> AttackState:
    """Where the attack starts.

    Args:
      attack: the attack.
      image: (h, w, c) in [0, 1].
      key: needed only where the attack is random (its start, or its `transform`).

    Returns:
      The state before the first step.

    Raises:
      ValueError: when the attack is random and `key` is `None`, `key` is none, the image is not
        one, or a number of the attack has several values.

    Example:
      >>> import jax.numpy as jnp
      >>> import bfjax
      >>> attack = bfjax.attacks.bias_field((8, 8), degree=2, grid_size=2)
      >>> bfjax.init(attack, jnp.full((8, 8, 1), 0.5)).params.coefficients
      Array([0.], dtype=float32)
    """
    check_scalars(attack)
    key = as_key(key)
    if attack.transform is not None and key is None:
        raise ValueError("this attack draws random transforms: pass key=jax.random.key(...)")
    start_key, key = (None, None) if key is None else jax.random.split(key)
    params = attack.perturbation.init(image, start_key)
    if attack.project is not None:
        params = as_before(params, attack.project(params, image))  # a random start: outside?
    best = (jnp.asarray(-jnp.inf), params) if attack.iterate == "best" else None
    key = None if attack.transform is None else key  # else each step would compile its generator
    return AttackState(params, attack.optimizer.init(params), key, best)


def step(
    attack: Attack, predict: Predict, image: Image, label: Label, state: AttackState
) -> tuple[AttackState, AttackInfo]:
    """One step of the ascent: gradient of the objective, optax update, projection (Eq. 5–7).

    Args:
      attack: the attack.
      predict: the classifier, one image to logits.
      image: (h, w, c), the clean image X.
      label: the true class y (the target class, for a targeted loss).
      state: from `init` or the step before.

    Returns:
      The next state, and what was seen at the parameters that this step started from.

    Example:
      >>> import jax.numpy as jnp
      >>> import bfjax
      >>> predict = lambda image: jnp.stack([0.0, image.mean()])
      >>> attack = bfjax.attacks.bias_field((8, 8), degree=2, min_degree=0, grid_size=2)
      >>> image = jnp.full((8, 8, 1), 0.5)
      >>> state, info = bfjax.step(attack, predict, image, 1, bfjax.init(attack, image))
      >>> info.logits
      Array([0. , 0.5], dtype=float32)

    Reference: Tian et al., ICME 2021, Eq. 5, 6 and 7.
    """
    key: Any = None
    draw: Any = None
    if state.key is not None:
        key, draw = jax.random.split(state.key)

    def lowered(params):
        seen = attack.perturbation.apply(params, image)
        if attack.transform is None:
            logits = predict(seen)
            return _lowered(attack, attack.loss(logits, label), logits, params)
        draws = jax.random.split(draw, attack.num_draws)
        logits = jax.vmap(lambda k: predict(attack.transform(k, seen)))(draws)
        losses = jax.vmap(lambda z: attack.loss(z, label))(logits)
        return _lowered(attack, losses.mean(), logits.mean(0), params)

    (value, info), gradient = jax.value_and_grad(lowered, has_aux=True)(state.params)
    updates, opt_state = optax.with_extra_args_support(attack.optimizer).update(
        gradient,
        state.opt_state,
        state.params,
        value=value,
        grad=gradient,
        value_fn=lambda params: lowered(params)[0],
    )
    params = optax.apply_updates(state.params, updates)
    if attack.project is not None:
        params = attack.project(params, image)
    old, new = (state.params, state.opt_state), (params, opt_state)
    params, opt_state = as_before(old, new)
    best = _better(state.best, info.objective, state.params)
    of_loss = gradient
    if attack.penalty is not None:  # whose gradient would hide that the classifier's is zero
        of_loss = jax.tree.map(jnp.subtract, gradient, jax.grad(attack.penalty)(state.params))
    info = info._replace(gradient=optax.tree.norm(of_loss, ord=jnp.inf).astype(jnp.float32))
    if attack.stop is not None:
        logits = info.logits
        if attack.transform is not None:
            logits = predict(attack.perturbation.apply(state.params, image))
        info = info._replace(stopped=attack.stop(logits, label))
        keep = functools.partial(jnp.where, info.stopped)
        params, opt_state = jax.tree.map(keep, old, (params, opt_state))
    return AttackState(params, opt_state, key, best), info


def finish(
    attack: Attack,
    predict: Predict,
    image: Image,
    label: Label,
    state: AttackState,
    trace: AttackInfo,
) -> AttackResult:
    """The result after the last step: perturbs the image once more and asks the classifier.

    Args:
      attack: the attack.
      predict: the classifier.
      image: (h, w, c), the clean image.
      label: as in `step`.
      state: after the last step.
      trace: the steps' infos, stacked.

    Returns:
      The `AttackResult` of the last iterate, or of the best one, as `attack.iterate` says.

    Example: see `run`.
    """
    adversarial = attack.perturbation.apply(state.params, image)
    logits = predict(adversarial)
    params, flags = decided(attack, label, state, trace, logits)
    if attack.iterate == "best":
        adversarial = attack.perturbation.apply(params, image)
        logits = predict(adversarial)
    return AttackResult(adversarial, params, logits, trace, flags)


def decided(
    attack: Attack, label: Label, state: AttackState, trace: AttackInfo, logits: Logits
) -> tuple[Params, AttackFlags]:
    """What is known when the classifier has answered for the last iterate.

    Args:
      attack: the attack.
      label: as in `step`.
      state: after the last step.
      trace: the steps' infos, stacked.
      logits: of the last iterate.

    Returns:
      The parameters of the iterate that is the result, and the flags.
    """
    _, info = _lowered(attack, attack.loss(logits, label), logits, state.params)
    flags = _flags(trace, info.objective, label)
    if attack.iterate == "last":
        return state.params, flags
    best = _better(state.best, info.objective, state.params)[1]
    if attack.stop is None:
        return best, flags
    # where it stopped it arrived, which an iterate of higher objective before it had not
    arrived = attack.stop(logits, label)
    return jax.tree.map(lambda p, b: jnp.where(arrived, p, b), state.params, best), flags


def run(
    attack: Attack | Search,
    predict: Predict,
    image: Image,
    label: Label,
    *,
    key: PRNGKey | None = None,
) -> AttackResult:
    """Attacks one image: argmax over the parameters of loss − penalty, by `num_steps` steps.

    Batches are `jax.jit(jax.vmap(lambda x, y: run(attack, predict, x, y)))`. The loop is a
    `lax.scan`, in which XLA runs the backward convolutions of some networks slowly on CPU;
    `run_batch` drives the same steps from the host.

    Args:
      attack: the attack, for instance `bfjax.attacks.bias_field((h, w))`, or one that searches,
        for instance `bfjax.attacks.carlini_wagner_l2()`.
      predict: the classifier, one image to logits.
      image: (h, w, c), float in [0, 1].
      label: the true class, or the target of a targeted attack.
      key: needed only where the attack is random.

    Returns:
      `AttackResult`.

    Raises:
      ValueError: when traced, for a missing key, or an image that does not fit the attack.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import bfjax
      >>> predict = lambda image: jnp.stack([image[:4].mean(), image[4:].mean()])
      >>> attack = bfjax.attacks.bias_field((8, 8), degree=2, min_degree=0, grid_size=2)
      >>> result = jax.jit(lambda x: bfjax.run(attack, predict, x, 0))(jnp.full((8, 8, 1), 0.5))
      >>> bool(result.trace.objective[-1] > result.trace.objective[0])
      True

    Reference: Tian et al., ICME 2021, Eq. 3 and 5–7.
    """
    if not isinstance(attack, Attack):
        check_scalars(attack)
        return attack.run(predict, image, label, key=as_key(key))
    state = init(attack, image, key=key)
    state, trace = jax.lax.scan(
        lambda state, _: step(attack, predict, image, label, state),
        state,
        length=attack.num_steps,
    )
    return finish(attack, predict, image, label, state, trace)


def _lowered(
    attack: Attack, loss: Scalar, logits: Logits, params: Params
) -> tuple[Scalar, AttackInfo]:
    """(penalty − loss, info): what the optimiser lowers, and what the step records."""
    objective = loss if attack.penalty is None else loss - attack.penalty(params)
    return -objective, AttackInfo(objective, loss, logits, jnp.float32(0), jnp.asarray(False))


def as_before(old: Any, new: Any) -> Any:
    """In the types of before: a number of a wider type must not widen what is carried."""

    def cast(o: Any, n: Any) -> Any:
        same = getattr(o, "dtype", None) == getattr(n, "dtype", None)
        return n if same else jnp.asarray(n, getattr(o, "dtype", None))

    return jax.tree.map(cast, old, new)


def is_saturated(logits: Float[Array, "*batch classes"], label: Label) -> Bool[Array, " *batch"]:
    """Whether the probability of the answer is 1 in float32: cross-entropies then have no slope.

    Args:
      logits: (..., classes); a single logit tells two classes apart by its sign.
      label: the true class; (heads,) of 0 and 1 for several findings, each a head of its own.

    Returns:
      (...), booleans; of findings whether all are.

    Example:
      >>> is_saturated(jnp.asarray([[0.0, 10.0], [0.0, 1e5]]), 1).tolist()
      [False, True]
    """
    logits = logits.astype(jnp.float32)
    if logits.shape[-1] == 1 or np.ndim(label):  # heads of their own
        return jax.nn.sigmoid(jnp.abs(logits)).min(-1) == 1
    return jax.nn.softmax(logits).max(-1) == 1


def _flags(trace: AttackInfo, objective: Scalar, label: Label) -> AttackFlags:
    return AttackFlags(
        zero_gradient=jnp.any(~(trace.gradient > 0) | ~jnp.isfinite(trace.gradient)),
        saturated=jnp.any(is_saturated(trace.logits, label)),
        not_raised=~(objective > trace.objective[0]),
    )


def _better(best: Any, objective: Scalar, params: Params) -> Any:
    if best is None:
        return None
    better = objective > best[0]
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), (objective, params), best)
