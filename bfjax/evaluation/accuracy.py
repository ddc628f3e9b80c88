"""How right a classifier is on a data set: accuracy, AUC, calibration, each with its interval."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bfjax import data
from bfjax.attack import warn_of_probabilities
from bfjax.data import feed
from bfjax.evaluation.classes import of_classes
from bfjax.evaluation.intervals import Interval, calibration_error, mean_auc
from bfjax.metrics import wilson_interval
from bfjax.types import Image, Predict, PRNGKey, as_pytree


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
      calibration_error: the expected one, see `bfjax.evaluation.intervals.calibration_error`.
      loss: mean cross-entropy, in nats.
      confusion: rows are true classes, columns answers.
      intervals: 95 % intervals of accuracy, AUC, sensitivity, specificity (where there are two
        classes) and calibration error, by those names: Wilson's of shares, DeLong's of the AUC,
        the bootstrap's of the calibration error.
    """

    count: int
    accuracy: float
    auc: float
    sensitivity: float | None
    specificity: float | None
    balanced_accuracy: float
    calibration_error: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]
    intervals: dict[str, Interval]


def evaluate_classifier(
    predict: Predict,
    source: data.Source,
    *,
    batch_size: int = 32,
    transform: Callable[[PRNGKey, Image], Image] | None = None,
    warn: bool = True,
) -> Metrics:
    """Runs a classifier over a data set, once.

    The last, smaller batch is padded: nothing is compiled for it.

    Args:
      predict: one image (h, w, c) to logits.
      source: records with ``image`` and ``label``, all images of one shape.
      batch_size: images at once.
      transform: a random change that each image goes through first, the same whenever it is
        evaluated: its key is made of the image's number.
      warn: where outputs seem to be probabilities, which a network of ours does not return.

    Returns:
      The metrics.

    Raises:
      ValueError: the source is empty, has no labels, or has more classes than there are logits.

    Warns:
      UserWarning: when `predict` seems to return probabilities instead of logits.
    """
    if not len(source):
        raise ValueError("no image to evaluate")
    predict, transform = as_pytree(predict), as_pytree(transform)
    logits, labels = [], []
    for images, truth in feed.in_order(source, batch_size):
        padded = np.zeros((batch_size, *images.shape[1:]), np.float32)
        padded[: len(images)] = images
        first = len(logits) * batch_size
        logits.append(np.asarray(_predict_batch(predict, transform, first, padded))[: len(images)])
        labels.append(truth)
    answers = np.concatenate(logits)
    if warn:
        warn_of_probabilities(answers, stacklevel=3)
    return measure(answers, np.concatenate(labels))


@jax.jit
def _predict_batch(predict, transform, first, images) -> Float[Array, "n k"]:
    if transform is not None:
        numbers = first + jnp.arange(len(images))
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(0)))(numbers)
        images = jax.vmap(transform)(keys, images)
    return jax.vmap(predict)(images)


def measure(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Metrics:
    """The metrics of logits.

    Args:
      logits: (n, classes); one logit says class 1 against class 0.
      labels: (n,), the true classes.

    Returns:
      The metrics.

    Raises:
      ValueError: labels are no classes, or a label is not one of them.

    Example:
      >>> metrics = measure(np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 1]))
      >>> metrics.confusion, metrics.sensitivity, metrics.auc
      (((1, 0), (1, 1)), 0.5, 0.5)
      >>> [round(end, 2) for end in metrics.intervals["sensitivity"]]
      [0.09, 0.91]
    """
    if labels.shape != logits.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels are the numbers of one class each, got {labels.dtype}{list(labels.shape)} for "
            f"{len(logits)} images; of one-hot labels take argmax(-1)"
        )
    logits = of_classes(logits)
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
    difference = logits - logits[:, ::-1]
    scores = log_p - np.log1p(-np.minimum(np.exp(log_p), 1 - 1e-12)) if k > 2 else difference
    area, area_interval = mean_auc(scores, labels)
    right = answers == labels
    calibration, calibration_interval = calibration_error(np.exp(log_p.max(axis=1)), right)
    intervals = {
        "accuracy": wilson_interval(int(right.sum()), n),
        "auc": area_interval,
        "calibration_error": calibration_interval,
    }
    two = k == 2
    if two:
        for c, name in enumerate(("specificity", "sensitivity")):
            if present[c]:
                intervals[name] = wilson_interval(int(confusion[c, c]), int(confusion[c].sum()))
    return Metrics(
        count=n,
        accuracy=float(right.mean()),
        auc=area,
        sensitivity=float(recall[1]) if two and present[1] else None,
        specificity=float(recall[0]) if two and present[0] else None,
        calibration_error=calibration,
        balanced_accuracy=float(recall[present].mean()),
        loss=float(-log_p[np.arange(n), labels].mean()),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        intervals=intervals,
    )


def describe(metrics: Metrics) -> str:
    """Metrics as a line of text.

    Args:
      metrics: of any classifier.

    Returns:
      Accuracy, AUC and, for two classes, sensitivity and specificity.
    """
    text = f"accuracy {metrics.accuracy:.2%} of {metrics.count}, AUC {metrics.auc:.4f}"
    if metrics.sensitivity is None or metrics.specificity is None:
        return text
    return f"{text}, sensitivity {metrics.sensitivity:.2%}, specificity {metrics.specificity:.2%}"


def tabulate(metrics: Metrics) -> str:
    """Metrics as a table of text, each with its 95 % interval.

    Args:
      metrics: on the test split.

    Returns:
      A line for each metric that there is.
    """
    lines = [f"test, {metrics.count} images".ljust(38) + "95 % interval"]
    for name in ("accuracy", "auc", "sensitivity", "specificity", "calibration_error"):
        if name in metrics.intervals:
            form = "8.4f" if name in ("auc", "calibration_error") else "8.2%"
            value, ends = getattr(metrics, name), metrics.intervals[name]
            low, high = (f"{end:{form}}".strip() for end in ends)
            label = "AUC" if name == "auc" else name.replace("_", " ")
            lines.append(f"  {label:24}{value:{form}}    {low} to {high}")
    return "\n".join(lines)
