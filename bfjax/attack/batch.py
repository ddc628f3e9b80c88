"""The batch runner: checks the values, then drives the vmapped `step` from the host."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key, Shaped, UInt32

from bfjax.attack import vmapped
from bfjax.numbers import check_scalars, known
from bfjax.types import Attack, AttackResult, Predict, Search, as_key, as_pytree


def run_batch(
    attack: Attack | Search,
    predict: Predict,
    images: Float[Array | np.ndarray, "batch h w c"],
    labels: Integer[Array | np.ndarray, "batch ..."],
    *,
    key: Key[Array, ...] | UInt32[Array, "... data"] | None = None,
    on_step: Callable[[int], object] | None = None,
    warn: bool = True,
) -> AttackResult:
    """Attacks a batch of images: `jax.vmap` of `run`, one step at a time from the host.

    The result is that of `jit(vmap(run))`. Driving the steps from the host keeps any network at
    full speed (see `run`), lets a caller show progress, and can be interrupted between steps.
    Weights held by `predict` as a pytree (`jax.tree_util.Partial(apply, params)`, an Equinox or
    NNX module) travel as arguments: another checkpoint of the same architecture compiles nothing.
    So do the attack's numbers: another ε compiles nothing.

    Args:
      attack: the attack; one that searches is run as a whole, without `on_step`. Each of its
        numbers is one value or an array (batch,) of one for each image, such as
        `bim(epsilon=epsilons)`: with copies of one image that is a whole strength curve.
      predict: the classifier of one image.
      images: (batch, h, w, c), float in [0, 1].
      labels: (batch,), the true classes (the targets, for a targeted attack); of a model with one
        logit 0 and 1, of multi-label heads (batch, heads) of 0 and 1.
      key: needed only where the attack is random: one key, split over the images, or
        (batch,) keys, one an image.
      on_step: called after each step with the number of steps done.
      warn: where the outputs seem to be probabilities; with a traced number nothing is known.

    Returns:
      An `AttackResult` whose leaves have a leading axis of `batch`.

    Raises:
      ValueError: for images that are no floats, hold NaN or leave [0, 1]; labels that are no
        class of `predict`; a size that is not the attack's; what is no key; a number of the attack
        of another shape. It names the first bad image.

    Warns:
      UserWarning: when `predict` seems to return probabilities instead of logits, see
        `warn_of_probabilities`.

    Example:
      >>> import jax.numpy as jnp
      >>> import bfjax
      >>> predict = lambda image: 9 * jnp.stack([image[:8].mean(), image[8:].mean()])
      >>> attack = bfjax.attacks.bias_field((16, 16), degree=4, grid_size=4)
      >>> result = bfjax.run_batch(
      ...     attack, predict, jnp.full((3, 16, 16, 1), 0.5), jnp.zeros(3, int)
      ... )
      >>> result.adversarial.shape, result.trace.loss.shape
      ((3, 16, 16, 1), (3, 10))
    """
    images, labels = (a if hasattr(a, "shape") else np.asarray(a) for a in (images, labels))
    check_batch(predict, images, labels)
    check_scalars(attack, images=len(images))
    images, labels, predict = jnp.asarray(images), jnp.asarray(labels), as_pytree(predict)
    keys = as_key(key)
    if keys is not None and keys.ndim == 0:
        keys = jax.random.split(keys, len(images))
    if keys is not None and keys.shape != (len(images),):
        raise ValueError(f"key is one key or {len(images)}, one an image; got shape {keys.shape}")
    if not isinstance(attack, Attack):
        result, seen = vmapped.search(attack, predict, images, labels, keys)
        if warn and known(result.logits) is not None:
            warn_of_probabilities(np.concatenate([seen, result.logits]), stacklevel=3)
        return result
    state, infos = vmapped.init(attack, images, keys), []
    for done in range(attack.num_steps):
        state, info = vmapped.step(attack, predict, images, labels, state)
        infos.append(info)
        if on_step is not None:
            jax.block_until_ready(info)
            on_step(done + 1)
    trace = vmapped.side_by_side(infos)
    result = vmapped.finish(attack, predict, images, labels, state, trace)
    if warn and known(result.logits) is not None:
        seen = np.concatenate([trace.logits, np.asarray(result.logits)[:, None]], axis=1)
        warn_of_probabilities(seen, stacklevel=3)
    return result


@jax.jit
def _extremes(images):
    return images.min((1, 2, 3)), images.max((1, 2, 3))


@jax.jit
def _answer(predict, image):
    """Jitted for its memory alone: to trace a large network takes a third of a second."""
    return predict(image)


def check_batch(
    predict: Predict,
    images: Shaped[Array | np.ndarray, "batch h w c"],
    labels: Shaped[Array | np.ndarray, "batch ..."],
    *,
    names: list[str] | None = None,
) -> None:
    """Raises ValueError for values that no attack can use, naming the first image that has them.

    Traced images and labels have no values to check.

    Args:
      predict: the classifier; only its output shape is looked at.
      images: (batch, h, w, c).
      labels: (batch,), or (batch, heads).
      names: what to call the images; their number in the batch by default.

    Raises:
      ValueError: see `run_batch`.

    Example:
      >>> import jax.numpy as jnp
      >>> check_batch(lambda image: image[0, :2, 0], jnp.full((1, 4, 4, 1), 2.0), jnp.zeros(1, int))
      Traceback (most recent call last):
      ...
      ValueError: image 0 leaves [0, 1]: its values run from 2 to 2; divide by the largest one...
    """
    if images.ndim != 4 or len(images) == 0 or labels.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"images (batch, h, w, c) and as many labels, got {images.shape} and {labels.shape}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are float in [0, 1], got {images.dtype}: convert with bfjax.data.to_float"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels are integers, got {labels.dtype}: class numbers (of one-hot labels the "
            "argmax), or for heads of several labels 0 and 1"
        )
    if names is not None and len(names) != len(images):
        raise ValueError(f"names must be one for each of {len(images)} images, got {len(names)}")
    low = high = np.zeros(len(images), np.float32)
    if not isinstance(images, jax.core.Tracer):
        with jax.ensure_compile_time_eval():
            low, high = (np.asarray(ends, np.float32) for ends in _extremes(images))
    bad = np.flatnonzero(~((low >= 0) & (high <= 1)))  # written so that NaN is bad
    if len(bad):
        i = int(bad[0])
        name = f"image {i}" if names is None else names[i]
        if not np.isfinite(low[i] + high[i]):
            raise ValueError(f"{name} has NaN or infinite values; repair or leave it out")
        raise ValueError(
            f"{name} leaves [0, 1]: its values run from {low[i]:g} to {high[i]:g}; "
            "divide by the largest one its format can hold"
        )
    image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    logits = _answer.eval_shape(as_pytree(predict), image)
    if getattr(logits, "ndim", 0) != 1:
        raise ValueError(f"predict must return logits of shape (classes,), got {logits}")
    if labels.ndim > 1 and labels.shape[1:] != logits.shape:
        raise ValueError(f"labels {labels.shape} do not fit heads {logits.shape}: one 0 or 1 each")
    # one logit says which of two classes, and so does each head
    classes = 2 if labels.ndim > 1 else max(logits.shape[0], 2)
    if isinstance(labels, jax.core.Tracer):
        return
    labels = np.asarray(labels).reshape(len(images), -1)
    bad = np.argwhere((labels < 0) | (labels >= classes))
    if len(bad):
        i, head = bad[0]
        name = f"image {i}" if names is None else names[i]
        raise ValueError(f"{name} has label {labels[i, head]}, the model has {classes} classes")


def warn_of_probabilities(
    outputs: Float[Array | np.ndarray, "... classes"],
    *,
    name: str = "the model",
    stacklevel: int = 2,
) -> None:
    """Warns where outputs seem to be probabilities: all of them lie in [0, 1].

    Probabilities of a softmax, of one sigmoid or of several always do; logits of real images, all
    at once, by chance alone. On probabilities a loss is wrong, and one sigmoid is judged wrong.

    Args:
      outputs: what the model said, of as many images as are at hand.
      name: of the model.
      stacklevel: as of `warnings.warn`.

    Warns:
      UserWarning: naming the model and the way out.

    Example:
      >>> import warnings
      >>> with warnings.catch_warnings(record=True) as caught:
      ...     warnings.simplefilter("always")
      ...     warn_of_probabilities(np.array([[0.9, 0.1], [0.2, 0.7]]))
      ...     warn_of_probabilities(np.array([[0.9, 0.1], [-2.0, 1.0]]))
      >>> len(caught)
      1
    """
    if seem_probabilities(outputs):
        warnings.warn(
            f"all outputs of {name} lie in [0, 1]: are they probabilities? bfjax wants logits, the "
            "values before the softmax or sigmoid; bfjax.models.from_probabilities turns them "
            "back, on the command line --outputs probabilities",
            stacklevel=stacklevel,
        )


def seem_probabilities(outputs: Float[Array | np.ndarray, "... classes"]) -> bool:
    """Whether outputs seem to be probabilities, see `warn_of_probabilities`.

    Args:
      outputs: what a model said.

    Returns:
      Whether all lie in [0, 1], but for rounding, such as that of a softmax in half precision.

    Example:
      >>> seem_probabilities(np.array([[0.2, 0.8]])), seem_probabilities(np.array([[-1.0, 0.8]]))
      (True, False)
    """
    outputs = np.asarray(outputs, np.float32)
    return bool(outputs.size and outputs.min() >= -1e-6 and outputs.max() <= 1 + 1e-3)
