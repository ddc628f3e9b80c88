"""One light for a whole data set: what fools most images at once, without knowing the next one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer

from bfjax.attack import annealed, check_batch
from bfjax.field import Encoding
from bfjax.numbers import Number, check_numbers, check_scalars
from bfjax.robustness.random_search import margin_of
from bfjax.robustness.threat import Exposure, light
from bfjax.types import Attack, Params, Predict, PRNGKey, as_key, as_pytree


class Universal(NamedTuple):
    """One perturbation for all images.

    Attributes:
      params: of the perturbation.
      trace: (num_steps,), the mean capped loss of each step's batch, before the step.
    """

    params: Params
    trace: Float[Array, " steps"]


def universal(
    predict: Predict,
    images: Float[Array | np.ndarray, "n h w c"],
    labels: Integer[Array | np.ndarray, "n ..."],
    *,
    max_log_range: Number = 0.4,
    exposure: Exposure = "fixed",
    encoding: Encoding = "linear",
    gamma: Number = 0.29,
    attack: Attack | None = None,
    num_steps: int = 200,
    batch_size: int = 16,
    cap: Number = 2.0,
    key: PRNGKey,
    on_step: Callable[[int], object] | None = None,
) -> Universal:
    """One light under which the classifier errs on as many images as possible.

    argmax_c Σ_i min(L(f(X_i·exp(B̂(c))), y_i), κ) by stochastic projected ascent: each step takes
    the gradient of the mean over a batch, and the batches go through the images in an order drawn
    anew each time. The cap κ keeps a few images that err by far from outweighing those that do not
    yet. It should be fitted on other images than it is judged on.

    Args:
      predict: the classifier.
      images: (n, h, w, c) in [0, 1], on which it is fitted.
      labels: (n,), or (n, heads) of findings.
      max_log_range: ρ of the light.
      exposure: see `light`.
      encoding: of the grey values, see `bfjax.bias_field`.
      gamma: γ of `"log"`, likewise.
      attack: in place of a light any other perturbation, loss, optimizer, projection and number of
        steps; the last iterate is returned. Its params and its projection must not depend on the
        image: they are those of the first.
      num_steps: K, of a light.
      batch_size: images of a step.
      cap: κ, in units of the loss, of a light the margin.
      key: of the order.
      on_step: called after each step with the number of steps done.

    Returns:
      The perturbation's params, and how it was found.

    Raises:
      ValueError: for a cap that is no positive number, a number of steps or a batch size below 1,
        an attack with a penalty, a transform or a stop, images at none of which the classifier has
        a finite gradient, and as `bfjax.run_batch`.

    Example:
      >>> predict = lambda x: 9 * jnp.stack([x[:8].mean() - 0.02, x[8:].mean()])
      >>> images = jnp.linspace(0.4, 0.6, 4).reshape(4, 1, 1, 1) * jnp.ones((1, 16, 16, 1))
      >>> found = universal(
      ...     predict, images, jnp.ones(4, int), num_steps=8, batch_size=2, key=jax.random.key(0)
      ... )
      >>> threat = light((16, 16, 1), max_log_range=0.4)
      >>> under = jax.vmap(lambda x: predict(threat.perturbation.apply(found.params, x)))(images)
      >>> under.argmax(-1).tolist()
      [0, 0, 0, 0]

    Reference: Shafahi et al., *Universal Adversarial Training*, AAAI 2020, algorithm 2 and Eq. 4.
    """
    check_numbers(above=0, cap=cap)
    for name, value in (("num_steps", num_steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    check_batch(predict, images, labels)
    if attack is None:
        threat = light(
            images.shape[1:],
            max_log_range=max_log_range,
            exposure=exposure,
            encoding=encoding,
            gamma=gamma,
        )
        attack = Attack(
            perturbation=threat.perturbation,
            loss=margin_of,
            optimizer=annealed("l2", 0.15 * max_log_range, num_steps=num_steps),
            project=threat.within,
            num_steps=num_steps,
        )
    for name in ("penalty", "transform", "stop"):
        if getattr(attack, name) is not None:
            raise ValueError(f"a universal light has no {name}: leave it out of the attack")
    check_scalars(attack)
    predict, first = as_pytree(predict), jnp.asarray(images[0])
    params = attack.perturbation.init(first, None)
    state, trace, fitted = (params, attack.optimizer.init(params)), [], []
    order = batches(as_key(key), len(images), batch_size)
    for done, chosen in enumerate(itertools.islice(order, attack.num_steps)):
        batch = jnp.asarray(images[chosen]), jnp.asarray(labels[chosen])
        state, raised, known = _step(attack, predict, first, *batch, state, cap)
        trace.append(raised)
        fitted.append(known)
        if on_step is not None:
            jax.block_until_ready(raised)
            on_step(done + 1)
    if not any(map(bool, fitted)):
        raise ValueError(
            "one light cannot be fitted: the classifier's gradient is NaN or infinite at all images"
        )
    return Universal(state[0], jnp.stack(trace))


def batches(key: PRNGKey, count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Numbers of images, all of them in an order drawn anew each time, without end.

    Args:
      key: of the order.
      count: of the images.
      batch_size: how many at once, at most; what does not fill a batch waits for the next time.

    Yields:
      (batch_size,) numbers.

    Example:
      >>> order = batches(jax.random.key(0), 4, 2)
      >>> sorted(np.concatenate([next(order), next(order)]).tolist())
      [0, 1, 2, 3]
    """
    size = min(batch_size, count)
    for epoch in itertools.count():
        drawn = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), count))
        yield from drawn[: count // size * size].reshape(-1, size)


@jax.jit
def _step(attack: Any, predict: Any, first: Any, images: Any, labels: Any, state: Any, cap: Any):
    params, opt_state = state

    def raised(params, image, label):
        logits = predict(attack.perturbation.apply(params, image))
        return jnp.minimum(attack.loss(logits, label), cap)

    def lowered(params):
        return -jax.vmap(raised, (None, 0, 0))(params, images, labels).mean()

    values, slopes = jax.vmap(jax.value_and_grad(raised), (None, 0, 0))(params, images, labels)
    # an image without a finite gradient says nothing of where to go
    finite = [jnp.isfinite(g).reshape(len(g), -1).all(1) for g in jax.tree.leaves(slopes)]
    known = jnp.stack(finite).all(0)

    def mean(g):
        told = jnp.where(known.reshape(-1, *[1] * (g.ndim - 1)), g, 0)
        return -told.sum(0) / jnp.maximum(known.sum(), 1)

    gradient, value = jax.tree.map(mean, slopes), -values.mean()
    updates, opt_state = optax.with_extra_args_support(attack.optimizer).update(
        gradient, opt_state, params, value=value, grad=gradient, value_fn=lowered
    )
    params = optax.apply_updates(params, updates)
    if attack.project is not None:
        params = attack.project(params, first)
    return (params, opt_state), -value, known.any()
