"""Classes as the records name them: one of an image, or the findings that are true of it.

Convention:
    Labels are (n,), the number of each image's class, or (n, heads) of 0 and 1 where several
    findings may be true of an image. A record says a class by its name, findings by their names
    with "|" between them, and "no finding" where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer

ANY = "any"
"""The option `--finding any`: every finding counts."""

_NONE = "no finding"


def as_text(labels: Integer[np.ndarray, "n ..."], class_names: Sequence[str]) -> list[str]:
    """What the records say of labels.

    Args:
      labels: (n,), or (n, heads).
      class_names: of the classes or heads.

    Returns:
      A text for each image.

    Example:
      >>> as_text(np.array([1, 0]), ("NORMAL", "PNEUMONIA"))
      ['PNEUMONIA', 'NORMAL']
      >>> as_text(np.array([[1, 1, 0], [0, 0, 0]]), ("Edema", "Mass", "Nodule"))
      ['Edema|Mass', 'no finding']
    """
    if labels.ndim == 1:
        return [class_names[i] for i in labels]
    rows = ([n for n, there in zip(class_names, row, strict=True) if there] for row in labels)
    return ["|".join(row) or _NONE for row in rows]


def from_text(
    texts: Sequence[str], class_names: Sequence[str], *, multi_label: bool
) -> Integer[np.ndarray, "n ..."]:
    """Labels, of what the records say of them.

    Args:
      texts: as `as_text` gives them.
      class_names: of the classes or heads.
      multi_label: whether they say findings.

    Returns:
      (n,), or (n, heads) where they say findings.

    Raises:
      ValueError: a text names none of the classes.

    Example:
      >>> from_text(["Edema|Mass"], ("Edema", "Mass", "Nodule"), multi_label=True).tolist()
      [[1, 1, 0]]
    """
    number = {name: i for i, name in enumerate(class_names)}
    said = [text.split("|") if multi_label else [text] for text in texts]
    known = {_NONE} if multi_label else set()
    if unknown := {name for row in said for name in row} - number.keys() - known:
        raise ValueError(f"{', '.join(sorted(unknown))}: none of {', '.join(class_names)}")
    if not multi_label:
        return np.array([number[name] for (name,) in said], np.int32)
    found = np.zeros((len(said), len(number)), np.int32)
    for row, names in zip(found, said, strict=True):
        row[[number[name] for name in names if name in number]] = 1
    return found


def of_classes(logits: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n classes"]:
    """Logits of two or more classes, as `bfjax.attack.of_classes`, of many images in NumPy.

    Args:
      logits: (n, outputs).

    Returns:
      (n, classes), at least two.

    Example:
      >>> of_classes(np.array([[3.0]])).tolist()
      [[-1.5, 1.5]]
    """
    return np.concatenate([-logits, logits], axis=1) / 2 if logits.shape[1] == 1 else logits


def answered(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, "n ..."]
) -> tuple[Integer[np.ndarray, "n ..."], Float[np.ndarray, " n"]]:
    """What logits say, in the form of the labels, and how probable they find these.

    The probability of a class is its softmax; that of findings is the product of the heads'
    sigmoids, each of which has to be right.

    Args:
      logits: (n, classes); one logit says class 1 against class 0.
      labels: (n,), or (n, heads).

    Returns:
      The answers, of the shape of the labels, and (n,) probabilities.

    Example:
      >>> predictions, scores = answered(np.array([[0.0, 2.0]]), np.array([[1, 1]]))
      >>> predictions.tolist(), scores.round(2).tolist()
      ([[0, 1]], [0.44])
    """
    if labels.ndim > 1:
        signed = np.where(labels > 0, logits, -logits)
        return (logits > 0).astype(np.int32), np.exp(-np.logaddexp(0, -signed).sum(1))
    logits = of_classes(logits)
    scores = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return logits.argmax(1).astype(np.int32), scores[np.arange(len(labels)), labels]
