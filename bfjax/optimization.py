"""The training step: augmentation, the weighted loss, AdamW along one cycle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int, Scalar

from bfjax.config import TrainConfig
from bfjax.types import Image, PRNGKey


class TrainState(NamedTuple):
    """What one step hands to the next: parameters, running averages, the optimiser's state."""

    params: Any
    statistics: Any
    opt_state: Any
    step: Int[Array, ""]


Step = Callable[[TrainState, Any, Any, Any], tuple[TrainState, Scalar]]


def make_optimizer(config: TrainConfig, steps: int) -> optax.GradientTransformation:
    """AdamW after gradient clipping, its rate one cycle; only kernels decay.

    Args:
      config: the rates.
      steps: of the whole run.

    Returns:
      The gradient transformation.
    """
    rate = optax.warmup_cosine_decay_schedule(
        init_value=config.learning_rate / 25,
        peak_value=config.learning_rate,
        warmup_steps=round(config.warmup * steps),
        decay_steps=steps,
        end_value=config.learning_rate / 1000,
    )
    decays = functools.partial(jax.tree.map, lambda array: array.ndim > 1)
    adamw = optax.adamw(rate, weight_decay=config.weight_decay, mask=decays)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def make_step(graph: Any, optimizer: optax.GradientTransformation, config: TrainConfig) -> Step:
    """The jitted training step, augmentation inside.

    Args:
      graph: the model's `nnx.GraphDef`.
      optimizer: of the parameters.
      config: augmentation, smoothing and seed.

    Returns:
      `(state, images (n, h, w, c), labels (n,), class weights (k,)) -> (state, loss)`.
    """

    def loss(
        params: Any, statistics: Any, images: Array, labels: Array, weights: Array, key: Array
    ):
        model = nnx.merge(graph, params, statistics, copy=True)
        logits = model(images, training=True, key=key)  # pyrefly: ignore[not-callable]
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        targets = optax.smooth_labels(targets, config.label_smoothing)
        each = optax.softmax_cross_entropy(logits, targets)
        return (weights[labels] * each).mean(), nnx.state(model, nnx.BatchStat)

    @jax.jit
    def step(state: TrainState, images: Array, labels: Array, weights: Array):
        key, dropout = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state.step))
        keys = jax.random.split(key, len(images))
        images = jax.vmap(functools.partial(augment, config=config))(keys, images)
        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        (value, statistics), gradient = value_and_grad(
            state.params, state.statistics, images, labels, weights, dropout
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, statistics, opt_state, state.step + 1), value

    return step


def _turned(image: Image, angle: Scalar, tall: Scalar, wide: Scalar) -> Image:
    """The image turned about its centre and stretched, bilinearly, its border repeated."""
    centre = (jnp.asarray(image.shape[:2]) - 1) / 2
    y, x = (jnp.arange(n) - c for n, c in zip(image.shape[:2], centre, strict=True))
    y, x = jnp.meshgrid(y, x, indexing="ij")
    y, x = y / tall, x / wide
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    source = [cos * y + sin * x + centre[0], cos * x - sin * y + centre[1]]
    sample = functools.partial(
        jax.scipy.ndimage.map_coordinates, coordinates=source, order=1, mode="nearest"
    )
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def augment(key: PRNGKey, image: Image, *, config: TrainConfig) -> Image:
    """A random variant of an image: mirrored, turned, scaled, shifted, of other contrast.

    ``x ↦ clip(c (x − mean) + mean + b, 0, 1)``, c in 1 ± contrast, b in ± brightness; what a
    movement uncovers repeats the border.

    Args:
      key: of the drawing.
      image: (h, w, c) in [0, 1].
      config: how far each change may go; all zero and no flip gives the image itself.

    Returns:
      (h, w, c) in [0, 1].

    Example:
      >>> config = TrainConfig(
      ...     flip=False, rotation=0, scale=0, shift=0, brightness=0, contrast=0
      ... )
      >>> image = jax.numpy.ones((4, 4, 1)) / 2
      >>> augment(jax.random.key(0), image, config=config).max().item()
      0.5
    """
    flip, turn, shift, bright, contrast = jax.random.split(key, 5)
    if config.flip:
        image = jnp.where(jax.random.bernoulli(flip), image[:, ::-1], image)
    if config.rotation or config.scale:
        angle, *scales = jax.random.uniform(turn, (3,), minval=-1.0)
        angle = jnp.deg2rad(config.rotation) * angle
        image = _turned(image, angle, *(1 + config.scale * s for s in scales))
    if reach := round(config.shift * image.shape[0]):
        padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        y, x = jax.random.randint(shift, (2,), 0, 2 * reach + 1)
        image = jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)
    c = 1 + config.contrast * jax.random.uniform(contrast, minval=-1.0)
    b = config.brightness * jax.random.uniform(bright, minval=-1.0)
    mean = image.mean()
    return jnp.clip(c * (image - mean) + mean + b, 0, 1)
