"""Splits a training set by patient, so that the scores of the part held out mean something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


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
