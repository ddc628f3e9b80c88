"""How good a classifier is, and how patients are split so that the answer means something."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, cast

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from bfjax import data
from bfjax.types import Predict, as_pytree


@dataclasses.dataclass(frozen=True)
class Metrics:
    """A classifier's answers against the truth.

    Attributes:
      count: how many images.
      accuracy: the share on which the largest logit is the true class.
      auc: area under the ROC curve of the last class against the first; for more than two
        classes the mean of each against the rest. NaN where a class has no image.
      sensitivity: the share of the last class that is found, of two; otherwise None.
      specificity: the share of the first class that is found, of two; otherwise None.
      balanced_accuracy: the mean over classes of the share that is found.
      loss: mean cross-entropy, in nats.
      confusion: rows are true classes, columns answers.
    """

    count: int
    accuracy: float
    auc: float
    sensitivity: float | None
    specificity: float | None
    balanced_accuracy: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]


def evaluate_classifier(predict: Predict, source: data.Source, *, batch_size: int = 32) -> Metrics:
    """Runs a classifier over a data set, once.

    The last, smaller batch is padded: nothing is compiled for it.

    Args:
      predict: one image (h, w, c) to logits.
      source: records with ``image`` and ``label``, all images of one shape.
      batch_size: images at once.

    Returns:
      The metrics.

    Raises:
      ValueError: the source is empty, or has more classes than there are logits.
    """
    if not len(source):
        raise ValueError("no image to evaluate")
    predict = as_pytree(predict)
    logits, labels = [], []
    for images, truth in batches(source, batch_size):
        padded = np.zeros((batch_size, *images.shape[1:]), np.float32)
        padded[: len(images)] = images
        logits.append(np.asarray(_predict_batch(predict, padded))[: len(images)])
        labels.append(truth)
    return measure(np.concatenate(logits), np.concatenate(labels))


@jax.jit
def _predict_batch(predict: Predict, images: Float32[Array, "n h w c"]) -> Float[Array, "n k"]:
    return jax.vmap(predict)(images)


def measure(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Metrics:
    """The metrics of logits.

    Args:
      logits: (n, classes).
      labels: (n,), the true classes.

    Returns:
      The metrics.

    Raises:
      ValueError: a label is not one of the classes.

    Example:
      >>> metrics = measure(np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 1]))
      >>> metrics.confusion, metrics.sensitivity, metrics.auc
      (((1, 0), (1, 1)), 0.5, 0.5)
    """
    n, k = logits.shape
    if not 0 <= labels.min() <= labels.max() < k:
        raise ValueError(f"labels {labels.min()} to {labels.max()}, but there are {k} logits")
    log_p = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)), np.float64)
    answers = logits.argmax(axis=1)
    confusion = np.zeros((k, k), int)
    np.add.at(confusion, (labels, answers), 1)
    present = confusion.sum(axis=1) > 0
    recall = np.diag(confusion) / np.maximum(confusion.sum(axis=1), 1)
    # for two classes the difference of logits ranks as the probability does, and cannot saturate
    scores = log_p - np.log1p(-np.minimum(np.exp(log_p), 1 - 1e-12)) if k > 2 else logits
    ranked = [auc(scores[:, c], labels == c) for c in range(k)] if k > 2 else []
    two = k == 2
    return Metrics(
        count=n,
        accuracy=float((answers == labels).mean()),
        auc=auc(logits[:, 1] - logits[:, 0], labels == 1) if two else float(np.mean(ranked)),
        sensitivity=float(recall[1]) if two else None,
        specificity=float(recall[0]) if two else None,
        balanced_accuracy=float(recall[present].mean()),
        loss=float(-log_p[np.arange(n), labels].mean()),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )


def auc(scores: Float[np.ndarray, " n"], positive: Any) -> float:
    """The probability that a positive scores above a negative, ties counting half.

    Args:
      scores: (n,), higher is more positive.
      positive: (n,), boolean.

    Returns:
      In [0, 1]; NaN where either kind is missing.

    Example:
      >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
      0.875
    """
    above, below = scores[positive], np.sort(scores[~positive])
    if not len(above) or not len(below):
        return float("nan")
    less = np.searchsorted(below, above, "left")
    equal = np.searchsorted(below, above, "right") - less
    return float((less + equal / 2).sum() / (len(above) * len(below)))


def split_patients(
    labels: Int[np.ndarray, " n"], groups: Sequence[str], *, fraction: float, seed: int
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Splits a training set so that no patient is on both sides, class by class.

    Patients count to the class of their first image. From each class patients are drawn until at
    least `fraction` of its images are taken.

    Args:
      labels: (n,), the class of each image.
      groups: (n,), its patient.
      fraction: of the images, in (0, 1).
      seed: of the drawing.

    Returns:
      The indices to train on and those to validate on, each ascending.

    Raises:
      ValueError: the fraction is out of its range, or a class has fewer than two patients.

    Example:
      >>> train, held = split_patients(
      ...     np.array([0, 0, 0, 1, 1]), ["a", "a", "b", "c", "d"], fraction=0.2, seed=0)
      >>> len(train) + len(held)
      5
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the validation fraction must be in (0, 1), got {fraction}")
    images: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        images.setdefault(group, []).append(i)
    held: list[int] = []
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        patients = sorted(group for group, mine in images.items() if labels[mine[0]] == label)
        if len(patients) < 2:
            raise ValueError(f"class {label} has {len(patients)} patients: too few to split")
        wanted = fraction * sum(len(images[p]) for p in patients)
        taken = 0
        for p in generator.permutation(patients)[:-1]:
            if taken >= wanted:
                break
            held += images[p]
            taken += len(images[p])
    validation = np.sort(np.asarray(held))
    return np.setdiff1d(np.arange(len(labels)), validation), validation


def batches(
    source: data.Source, batch_size: int, *, shuffle: int | None = None
) -> Iterator[tuple[Float32[np.ndarray, "n h w c"], Int[np.ndarray, " n"]]]:
    """One pass over a data set with Grain, decoding in threads.

    Args:
      source: records with ``image`` and ``label``.
      batch_size: images at once.
      shuffle: a seed for a random order without the last, smaller batch; None for the order of
        the source, and all of it.

    Yields:
      Images as float32 in [0, 1], (n, h, w, c), and labels (n,).
    """
    dataset = grain.MapDataset.source(cast(Any, source))
    if shuffle is not None:
        dataset = dataset.shuffle(seed=shuffle)
    dataset = dataset.map(lambda r: (data.to_float(r["image"]), np.int32(r["label"])))
    dataset = dataset.batch(batch_size, drop_remainder=shuffle is not None)
    reading = grain.ReadOptions(num_threads=4, prefetch_buffer_size=16)
    yield from dataset.to_iter_dataset(reading)
