"""The training step: augmentation, the weighted loss, AdamW along a cycle of rates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Scalar

from bfjax.config import TrainConfig
from bfjax.field import polynomial_tps
from bfjax.types import Image, LogField, PRNGKey


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


def start(config: TrainConfig, params: Any, statistics: Any, opt_state: Any) -> TrainState:
    """The state before the first step.

    Args:
      config: whether the weights are averaged.
      params: of the network.
      statistics: of its batch normalisations.
      opt_state: the optimiser's.

    Returns:
      The state.

    Raises:
      ValueError: `config.average` is not in [0, 1).
    """
    if not 0 <= config.average < 1:
        raise ValueError(f"average is a decay, in [0, 1), got {config.average}")
    average = jax.tree.map(jnp.copy, (params, statistics)) if config.average else None
    return TrainState(params, statistics, opt_state, jnp.zeros((), jnp.int32), average)


Step = Callable[[TrainState, Any, Any, Any], tuple[TrainState, Scalar]]


def make_optimizer(config: TrainConfig, steps: int) -> optax.GradientTransformation:
    """AdamW after gradient clipping, its rate one cycle; only kernels decay.

    Args:
      config: the rates.
      steps: of the whole run.

    Returns:
      The gradient transformation. Gradients are clipped by the norm of all of them, whether or
      not the head has a rate of its own.

    Raises:
      ValueError: `config.warmup` is not in [0, 1).
    """
    if not 0 <= config.warmup < 1:
        raise ValueError(f"warmup is a share of the steps, in [0, 1), got {config.warmup}")
    decays = functools.partial(jax.tree.map, lambda array: array.ndim > 1)

    def adamw(peak: float) -> optax.GradientTransformation:
        rate = make_schedule(config, steps, peak=peak)
        return optax.adamw(rate, weight_decay=config.weight_decay, mask=decays)

    clip = optax.clip_by_global_norm(config.clip_norm)
    if config.head_learning_rate is None:
        return optax.chain(clip, adamw(config.learning_rate))
    body, head = adamw(config.learning_rate), adamw(config.head_learning_rate)
    return optax.chain(clip, optax.partition({"body": body, "head": head}, _parts))


def make_schedule(config: TrainConfig, steps: int, *, peak: float) -> optax.Schedule:
    """From a 25th of the peak up to it, then down along half a cosine to a thousandth.

    Args:
      config: its shape.
      steps: of the whole run.
      peak: the highest rate.

    Returns:
      Step to rate.

    Example:
      >>> rate = make_schedule(TrainConfig(schedule="one_cycle", warmup=0.5), 100, peak=1.0)
      >>> [round(float(rate(step)), 3) for step in (0, 25, 50, 100)]
      [0.04, 0.52, 1.0, 0.001]
    """
    rise = round(config.warmup * steps)
    if config.schedule == "one_cycle" and rise:
        # optax counts the final division from the first rate, and cuts the product to an integer
        return optax.cosine_onecycle_schedule(
            steps, peak, pct_start=(rise + 0.5) / steps, div_factor=25, final_div_factor=40
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=peak / 25,
        peak_value=peak,
        warmup_steps=rise,
        decay_steps=steps,
        end_value=peak / 1000,
    )


def _parts(params: Any) -> Any:
    """Each parameter's part of the network: the architectures call their last layer `head`."""

    def part(path: tuple[Any, ...], _: Any) -> str:
        return "head" if any(getattr(k, "key", None) == "head" for k in path) else "body"

    return jax.tree_util.tree_map_with_path(part, params)


def make_step(
    graph: Any,
    optimizer: optax.GradientTransformation,
    config: TrainConfig,
    *,
    size: int | None = None,
    placed: jax.sharding.Sharding | None = None,
) -> Step:
    """The jitted training step, augmentation inside.

    Args:
      graph: the model's `nnx.GraphDef`.
      optimizer: of the parameters.
      config: augmentation, smoothing, averaging, type of the activations and seed.
      size: side to which the images are brought first; None for the one they have.
      placed: how the new state lies on the devices; by default as the compiler likes.

    Returns:
      `(state, images (n, h, w, c), labels (n,), class weights (k,)) -> (state, loss)`.
    """
    dtype = compute_dtype(config)

    def loss(
        params: Any, statistics: Any, images: Array, labels: Array, weights: Array, key: Array
    ):
        model = nnx.merge(graph, params, statistics, copy=True)
        # each layer computes in the type of its input; parameters and loss stay float32
        logits = model(images.astype(dtype), training=True, key=key)  # pyrefly: ignore[not-callable]
        logits = logits.astype(jnp.float32)
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        targets = optax.smooth_labels(targets, config.label_smoothing)
        each = optax.softmax_cross_entropy(logits, targets)
        return (weights[labels] * each).mean(), nnx.state(model, nnx.BatchStat)

    @functools.partial(jax.jit, **({} if placed is None else {"out_shardings": placed}))
    def step(state: TrainState, images: Array, labels: Array, weights: Array):
        key, dropout = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state.step))
        keys = jax.random.split(key, len(images))
        images = jax.vmap(lambda k, x: augment(k, resized(x, size), config=config))(keys, images)
        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        (value, statistics), gradient = value_and_grad(
            state.params, state.statistics, images, labels, weights, dropout
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            # at first a plain mean: the weights drawn at the start should not linger
            new = jnp.maximum(1 - config.average, 1 / (state.step + 1))
            average = optax.incremental_update((params, statistics), average, new)
        return TrainState(params, statistics, opt_state, state.step + 1, average), value

    return step


def resized(image: Image, size: int | None) -> Float[Array, "new_h new_w c"]:
    """An image brought to another side, each new pixel the mean of what it covers.

    Args:
      image: (h, w, c).
      size: the side; None, or the one it has, for the image itself.

    Returns:
      (size, size, c).

    Example:
      >>> resized(jnp.asarray([[[0.0], [1.0]], [[1.0], [0.0]]]), 1).item()
      0.5
    """
    if size is None or image.shape[:2] == (size, size):
        return image
    return jax.image.resize(image, (size, size, image.shape[-1]), "linear")


def compute_dtype(config: TrainConfig) -> str:
    """The type of the activations in training; evaluation is always in float32.

    Args:
      config: what was asked for.

    Returns:
      ``"bfloat16"`` or ``"float32"``; left to itself, the former wherever there is an accelerator.
    """
    if config.compute_dtype != "auto":
        return config.compute_dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def random_field(key: PRNGKey, shape: tuple[int, int], *, strength: float) -> LogField:
    """A random smooth log bias field: the polynomial of Eq. 4 up to degree 3, unwarped.

    Its coefficients are drawn from N(0, 1), then the field is scaled so that its largest absolute
    value is drawn evenly from [0, strength].

    Args:
      key: of the drawing.
      shape: (h, w).
      strength: bound of the absolute log field.

    Returns:
      (h, w).

    Example:
      >>> drawn = random_field(jax.random.key(0), (8, 8), strength=0.5)
      >>> drawn.shape, bool(0 < abs(drawn).max() <= 0.5)
      ((8, 8), True)
    """
    shade, size = jax.random.split(key)
    field = polynomial_tps(shape, degree=3, grid_size=2, terms="total")
    identity = field.init()
    coefficients = jax.random.normal(shade, identity.coefficients.shape)
    drawn = field.log_field(identity._replace(coefficients=coefficients))
    return drawn * (strength * jax.random.uniform(size) / jnp.abs(drawn).max())


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

    ``x ↦ clip(c (x B − mean) + mean + b, 0, 1)``, c in 1 ± contrast, b in ± brightness, B a
    `random_field`; what a movement uncovers repeats the border.

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
    if config.bias_field:
        # folded in, and not a sixth of the split: without it the other draws stay what they were
        height, width, _ = image.shape
        shade = jax.random.fold_in(key, 5)
        log_field = random_field(shade, (height, width), strength=config.bias_field)
        image = image * jnp.exp(log_field)[..., None]
    c = 1 + config.contrast * jax.random.uniform(contrast, minval=-1.0)
    b = config.brightness * jax.random.uniform(bright, minval=-1.0)
    mean = image.mean()
    return jnp.clip(c * (image - mean) + mean + b, 0, 1)
