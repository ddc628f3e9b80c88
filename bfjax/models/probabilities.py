"""Classifiers that end in a softmax or a sigmoid, as the logits that bfjax wants."""

from __future__ import annotations

import jax.numpy as jnp
from jax.tree_util import Partial

from bfjax.types import Image, Logits, Predict, as_pytree


def from_probabilities(predict: Predict, *, multi_label: bool = False) -> Partial:
    """The logits of a classifier that returns probabilities p.

    - A softmax over two or more classes: z_k = log p_k, whose softmax is p again.
    - One sigmoid, or with `multi_label` several: the logit z_k = log p_k − log(1 − p_k), whose
      sigmoid is p_k again.

    Better is to leave out the last layer: where it has rounded to 0 or 1, the slope is lost. There
    the result stays finite, and says which class, but no attack that follows gradients gets on: p
    is first cut to at least the smallest normal number of its type, for a sigmoid also to at most
    the largest below 1.

    Args:
      predict: one image (h, w, c) to probabilities (classes,), in [0, 1].
      multi_label: several outputs are heads of their own, not the classes of one softmax.

    Returns:
      A `Predict`; the weights of the classifier stay leaves.

    Raises:
      ValueError: when traced, for outputs that are no vector.

    Example:
      >>> import jax
      >>> predict = from_probabilities(lambda image: jax.nn.softmax(image[0, :3, 0]))
      >>> logits = predict(jnp.asarray([[[0.1], [0.2], [0.7]]]))
      >>> jax.nn.softmax(logits) - jax.nn.softmax(jnp.asarray([0.1, 0.2, 0.7])) < 1e-6
      Array([ True,  True,  True], dtype=bool)

    Reference: Bishop, Pattern Recognition and Machine Learning, 2006, Eq. 4.61 and 4.62.
    """
    return Partial(_logits_of_heads if multi_label else _logits, as_pytree(predict))


def _logits(predict: Predict, image: Image) -> Logits:
    p = _probabilities(predict, image)
    return _logit(p) if p.shape == (1,) else jnp.log(_at_least_tiny(p))


def _logits_of_heads(predict: Predict, image: Image) -> Logits:
    return _logit(_probabilities(predict, image))


def _probabilities(predict: Predict, image: Image) -> Logits:
    p = jnp.asarray(predict(image))
    if p.ndim != 1:
        raise ValueError(f"predict must return probabilities of shape (classes,), got {p.shape}")
    return p.astype(jnp.promote_types(p.dtype, jnp.float32))


def _logit(p: Logits) -> Logits:
    p = jnp.minimum(_at_least_tiny(p), 1 - jnp.finfo(p.dtype).epsneg)
    return jnp.log(p) - jnp.log1p(-p)


def _at_least_tiny(p: Logits) -> Logits:
    return jnp.maximum(p, jnp.finfo(p.dtype).tiny)
