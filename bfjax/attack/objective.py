"""What an attack raises: losses on the logits of one image, and what they say (Eq. 5)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Scalar

from bfjax.types import Attack, Label, Logits, Loss, Search


def cross_entropy(logits: Logits, label: Label) -> Scalar:
    """J(X_a, y) = −log softmax(z)[y] = log(1 + Σ_{k≠y} exp(z_k − z_y)), the loss of Eq. 5.

    In the second form neither the value nor the gradient cancels: a classifier that is as good as
    certain still has a slope, down to margins of about 100, where softmax(z)[y] − 1 is only noise
    from 16 on.

    Args:
      logits: z, (classes,), of any float type; computed in at least float32. One logit z tells two
        classes apart, as (−z/2, z/2) do.
      label: y, the true class, 0 ≤ y < classes. Raising the loss leaves it.

    Returns:
      The cross-entropy in nats, ≥ 0.

    Raises:
      ValueError: when traced, for logits that are no vector, or a label that is no single class.

    Example:
      >>> import jax.numpy as jnp
      >>> cross_entropy(jnp.zeros(2), 0).item()
      0.6931...

    Reference: Tian et al., ICME 2021, Eq. 5.
    """
    others = _others(logits, label)
    return jax.nn.softplus(jax.nn.logsumexp(others))


def margin(logits: Logits, label: Label) -> Scalar:
    """max_{k≠y} z_k − z_y: positive exactly where another class wins; it never saturates.

    Args:
      logits: (classes,); one logit z tells two classes apart, as (−z/2, z/2) do.
      label: y, the true class.

    Returns:
      The margin, in units of the logits.

    Raises:
      ValueError: when traced, for logits that are no vector, or a label that is no single class.

    Example:
      >>> import jax.numpy as jnp
      >>> margin(jnp.asarray([1.0, 3.0, 2.0]), 1).item()
      -1.0

    Reference: Carlini and Wagner, Towards Evaluating the Robustness of Neural Networks, 2017, f6.
    """
    return _largest(_others(logits, label))


def binary_cross_entropy(logits: Logits, label: Label) -> Scalar:
    """Σ_k log(1 + exp(−s_k z_k)), s = ±1: for one logit, or a head of several labels.

    Args:
      logits: (heads,), one for a classifier whose only logit says class 1.
      label: 0 or 1; for several heads (heads,) of 0 and 1.

    Returns:
      The cross-entropy in nats, summed over the heads.

    Raises:
      ValueError: when traced, for labels of another shape than the logits, or that are no integers.

    Example:
      >>> import jax.numpy as jnp
      >>> binary_cross_entropy(jnp.zeros(1), 1).item()
      0.6931...
    """
    return jnp.sum(jax.nn.softplus(-_signed(logits, label)))


def binary_margin(logits: Logits, label: Label) -> Scalar:
    """max_k −s_k z_k, s = ±1: positive exactly where at least one head is wrong.

    Args:
      logits: (heads,), as for `binary_cross_entropy`.
      label: 0 or 1; for several heads (heads,) of 0 and 1.

    Returns:
      The margin, in units of the logits.

    Raises:
      ValueError: when traced, for labels of another shape than the logits, or that are no integers.

    Example:
      >>> import jax.numpy as jnp
      >>> binary_margin(jnp.asarray([2.0, -1.0]), jnp.asarray([1, 0])).item()
      -1.0
    """
    return _largest(-_signed(logits, label))


@dataclasses.dataclass(frozen=True)  # equal losses are equal, and share a compilation
class Targeted:
    """See `targeted`.

    Attributes:
      loss: what is lowered.
    """

    loss: Loss

    def __call__(self, logits: Logits, label: Label) -> Scalar:
        """−loss."""
        return -self.loss(logits, label)


def targeted(loss: Loss) -> Targeted:
    """−loss: raising it moves towards the label given, instead of away from it.

    Args:
      loss: for instance `margin`, whose targeted version is z_t − max_{k≠t} z_k.

    Returns:
      A loss.

    Example:
      >>> import jax.numpy as jnp
      >>> targeted(margin)(jnp.asarray([1.0, 3.0]), 1).item()
      2.0
    """
    return Targeted(loss)


def is_wrong(logits: Logits, label: Label) -> Bool[Array, ""]:
    """Whether the classifier errs: the largest logit is another class's, or a head's sign is wrong.

    Where a logit is NaN it is neither wrong nor right.

    Args:
      logits: (classes,); a single logit says class 1 where it is positive.
      label: the true class; (heads,) of 0 and 1 for several labels.

    Returns:
      A boolean, for `Attack.stop`.

    Raises:
      ValueError: when traced, for labels of another shape than the logits, or that are no integers.

    Example:
      >>> import jax.numpy as jnp
      >>> bool(is_wrong(jnp.asarray([1.0, 3.0]), 1)), bool(is_wrong(jnp.asarray([1.0]), 0))
      (False, True)
    """
    return _known(logits) & _errs(logits, label)


def is_right(logits: Logits, label: Label) -> Bool[Array, ""]:
    """Whether the classifier gives this label: whether a targeted attack has arrived.

    Neither right nor wrong where a logit is NaN: that breaks a classifier, and fools none.

    Args:
      logits: (classes,).
      label: the target.

    Returns:
      A boolean, for `Attack.stop`.

    Raises:
      ValueError: when traced, for labels of another shape than the logits, or that are no integers.

    Example:
      >>> import jax.numpy as jnp
      >>> bool(is_right(jnp.asarray([1.0, 3.0]), 1))
      True
    """
    return _known(logits) & ~_errs(logits, label)


def _known(logits: Logits) -> Bool[Array, ""]:
    return ~jnp.any(jnp.isnan(logits))


def _errs(logits: Logits, label: Label) -> Bool[Array, ""]:
    if logits.shape == (1,) or np.ndim(label):
        return jnp.any((logits > 0) != _heads(logits, label))
    return jnp.argmax(logits) != label


def is_targeted(attack: Attack | Search) -> bool:
    """Whether an attack moves towards the label that it is given, and not away from it.

    Args:
      attack: a composition is targeted where its loss is from `targeted`; a search where it has an
        attribute `targeted` that says so.

    Returns:
      True for targeted attacks.

    Example:
      >>> import bfjax
      >>> [is_targeted(bfjax.attacks.bim(targeted=t)) for t in (True, False)]
      [True, False]
    """
    if isinstance(attack, Attack):
        return isinstance(attack.loss, Targeted)
    return bool(getattr(attack, "targeted", False))


def of_classes(logits: Logits) -> Float[Array, " two_or_more"]:
    """Logits of two or more classes: one logit z says class 1 against class 0, as (−z/2, z/2) do.

    Args:
      logits: (classes,).

    Returns:
      (classes,), at least two.

    Raises:
      ValueError: when traced, for logits that are no vector.

    Example:
      >>> import jax.numpy as jnp
      >>> of_classes(jnp.asarray([3.0])).tolist()
      [-1.5, 1.5]
    """
    if logits.ndim != 1 or not logits.shape[0]:
        raise ValueError(f"logits must be (classes,), got shape {logits.shape}")
    return jnp.concatenate([-logits, logits]) / 2 if logits.shape[0] == 1 else logits


def check_class(label: Label, *, classes: int | None = None) -> None:
    """Makes sure that a label is one class.

    Args:
      label: the true class.
      classes: how many there are; `None` where that is not known.

    Raises:
      ValueError: when traced, for one-hot and other vectors of labels, and for what is no integer;
        for a label whose value is known, where it is none of the classes.

    Example:
      >>> check_class(2)
      >>> check_class(jnp.asarray([0, 0, 1]))
      Traceback (most recent call last):
      ...
      ValueError: a label is the number of one class here, got shape (3,): of one-hot labels take...
    """
    found = _as_array(label)
    if found.ndim:
        raise ValueError(
            f"a label is the number of one class here, got shape {found.shape}: of one-hot "
            "labels take argmax(-1); heads of several labels go with binary_cross_entropy or "
            "binary_margin"
        )
    if not jnp.issubdtype(found.dtype, jnp.integer):  # True as an index is no 1
        raise ValueError(f"a label is the number of a class, an integer, got {found.dtype}")
    if classes is not None and isinstance(found, np.ndarray) and not 0 <= found < classes:
        raise ValueError(f"label {label} is none of {classes} classes, counted from 0")


def _as_array(label: object) -> np.ndarray | Array:
    """A label with a shape and a type; of NumPy where its value is known."""
    return label if isinstance(label, jax.core.Tracer) else np.asarray(label)


def _heads(logits: Logits, label: Label) -> Bool[Array, " heads"]:
    """Whether each head should say yes."""
    found = _as_array(label).reshape(-1)
    if logits.shape != found.shape:
        raise ValueError(f"one label of 0 or 1 a logit, got {found.shape} for {logits.shape}")
    if not jnp.issubdtype(found.dtype, jnp.integer):
        raise ValueError(f"labels of heads are integers, 0 or 1, got {found.dtype}")
    if isinstance(found, np.ndarray) and ((found < 0) | (found > 1)).any():
        raise ValueError(f"labels of heads are 0 or 1, got {found.tolist()}")
    return jnp.asarray(found) > 0


def _others(logits: Logits, label: Label) -> Float[Array, " two_or_more"]:
    """Each z_k − z_y, and −∞ for y itself."""
    logits = of_classes(logits)
    check_class(label, classes=logits.shape[0])
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    own = jnp.arange(logits.shape[0]) == label
    return jnp.where(own, -jnp.inf, logits - logits[label])


def _signed(logits: Logits, label: Label) -> Logits:
    """Each head's logit, positive where it is right."""
    there = _heads(logits, label)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jnp.where(there, logits, -logits)


def _largest(values: Float[Array, " n"]) -> Scalar:
    """The first of the largest, of which alone there is a slope.

    `jnp.max` finds it again in the backward pass by comparing for equality. A compiler may round
    the values otherwise there: none is then equal, and the slope 0.
    """
    return values[jnp.argmax(values)]
