"""Splits a training set by patient, so that the scores of the part held out mean something."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from bfjax import data


def split_source(
    source: data.Source, *, fraction: float, seed: int
) -> tuple[data.Source, data.Source]:
    """Splits training images by patient, with a warning where names do not tell the patient.

    Args:
      source: every image of one class.
      fraction: of the images, to be held out, in (0, 1).
      seed: of the drawing.

    Returns:
      The images to train on and those to validate on.

    Raises:
      ValueError: several classes are true of an image, there is one class alone, or it cannot be
        split (see `split_patients`).
    """
    classes, names = source.class_names, source.names
    if source.findings is not None:
        raise ValueError(
            f"several of {', '.join(classes)} are true of some images, or none: a classifier is "
            "trained on one class an image; --class-names X takes the column X alone"
        )
    if len(classes) < 2:
        raise ValueError(f"all images are of the class {', '.join(classes)}: two are needed")
    kept, held = split_patients(
        np.asarray(source.labels),
        source.groups,
        fraction=fraction,
        seed=seed,
        class_names=classes,
    )
    told = map(data.tells_patient, names, source.groups)
    if unknown := [name for name, known in zip(names, told, strict=True) if not known]:
        warnings.warn(
            f"{len(unknown)} of {len(names)} names do not tell the patient, such as "
            f"{', '.join(unknown[:3])}: the images of one may lie on both sides of the validation "
            "split; --groups file.csv says whose they are",
            stacklevel=2,
        )
    return data.Subset(source, kept), data.Subset(source, held)


def split_patients(
    labels: Int[np.ndarray, " n"],
    groups: Sequence[str],
    *,
    fraction: float,
    seed: int,
    class_names: Sequence[str] = (),
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Splits a training set so that no patient is on both sides, class by class.

    Patients count to the class of their first image. From each class patients are drawn until at
    least `fraction` of its images are taken.

    Args:
      labels: (n,), the class of each image.
      groups: (n,), its patient.
      fraction: of the images, in (0, 1).
      seed: of the drawing.
      class_names: in the order of the labels, every one of which must have images; none for the
        labels that there are.

    Returns:
      The indices to train on and those to validate on, each ascending.

    Raises:
      ValueError: the fraction is out of its range, or a class has no image, or fewer than two
        patients.

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
    names = list(class_names) or [str(i) for i in range(int(labels.max()) + 1)]
    of_class: list[list[str]] = [[] for _ in names]
    for group, mine in sorted(images.items()):
        of_class[labels[mine[0]]].append(group)
    there = range(len(names)) if class_names else np.unique(labels)
    if few := [
        f"class {names[i]} has {len(of_class[i])} patients" if (labels == i).any()
        else f"class {names[i]} has no training image"
        for i in there if len(of_class[i]) < 2
    ]:  # fmt: skip
        raise ValueError(
            f"{'; '.join(few)}: too few to split by patient, a patient counting to the class of "
            "the first image"
        )
    held: list[int] = []
    generator = np.random.default_rng(seed)
    for patients in (of_class[i] for i in there):
        wanted = fraction * sum(len(images[p]) for p in patients)
        taken = 0
        for p in generator.permutation(patients)[:-1]:
            if taken >= wanted:
                break
            held += images[p]
            taken += len(images[p])
    validation = np.sort(np.asarray(held))
    return np.setdiff1d(np.arange(len(labels)), validation), validation
