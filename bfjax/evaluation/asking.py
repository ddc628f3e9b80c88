"""What is asked of which models about which images: brought together before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bfjax import data, progress
from bfjax.evaluation import heads, identity, matching, skipping
from bfjax.evaluation.classes import ANY
from bfjax.evaluation.targets import Target, class_names


class Asked(NamedTuple):
    """Images among the classes of models.

    Attributes:
      targets: the models, as they answer what is asked.
      source: the images.
      settings: of both, on which results depend; absent are those that nobody asked for, which
        results of before there were these options have not either.
      fingerprint: of the images.
      models: what tells each model from others, by its name.
      image_shape: (h, w, c) of the images.
    """

    targets: list[Target]
    source: data.Source
    settings: dict[str, Any]
    fingerprint: data.Fingerprint
    models: dict[str, dict[str, Any]]
    image_shape: tuple[int, ...]


def ask(
    targets: Sequence[Target],
    *,
    data_set: str,
    split: str,
    num_images: int | None,
    seed: int,
    label: str | None,
    labels: Path | None,
    given: Sequence[str],
    finding: str | None,
    skipped_in: Path | None,
    write: bool,
) -> Asked:
    """Opens the images, and makes sure that the models tell their classes apart.

    Args:
      targets: the models, of which the first says how images are resized.
      data_set: name or path of the images.
      split: which of them.
      num_images: how many; `None` for all.
      seed: which.
      label: the class of all images that lie in no class folders.
      labels: a CSV file of their classes.
      given: the classes in the order of the models' outputs, where these do not say it.
      finding: which of the outputs is asked for, where these are findings.
      skipped_in: the list of files that cannot be read, which are left out; `None` where they end
        the run.
      write: that list is written.

    Returns:
      What can be attacked.

    Raises:
      ValueError: for what does not fit, naming it.
      FileNotFoundError: for missing data.
      ImageError: files cannot be read.
    """
    first = targets[0]
    trained, model = first.config, first.name
    names = matching.agreed_classes(trained.class_names, given, model=model)
    if finding is not None:
        finding = heads.finding_name(finding, names)
    columns = tuple(names if finding == ANY else (finding,)) if finding else tuple(given)
    source = data.load(
        data_set,
        split,
        image_size=trained.image_size,
        resize=trained.resize,
        num_examples=num_images,
        seed=seed,
        unlabelled=True,
        labels=labels,
        class_names=columns if labels or not finding else (),
    )
    skipped: list[str] = []
    outputs: Sequence[str] = ()
    if skipped_in is not None:
        source, skipped = skipping.without_bad_files(source, skipped_in, write=write)
    with skipping.all_bad_files(source):
        image = data.to_float(source[0]["image"])
    shape = image.shape
    if finding is not None:
        known = names or (source.class_names if labels and finding == ANY else ())
        outputs = heads.head_names(first, known, shape)
        targets = [heads.asked(t, finding, heads.head_names(t, outputs, shape)) for t in targets]
        names = targets[0].config.class_names
        told = finding in (ANY, *source.class_names) or len(source.class_names) < 2
        if told:
            source = heads.of_finding(source, finding)
        elif label is None:
            raise ValueError(
                f"the folders of {data_set}, {', '.join(source.class_names)}, do not tell of "
                f"{finding}: --labels FILE.csv says it of each image, --label of all"
            )
    elif source.findings is not None:
        raise ValueError(
            f"{labels} says several findings of an image: attack one of them with --finding, such "
            f"as --finding {source.class_names[0]}, or all with --finding {ANY}"
        )
    elif labels and len(given) == 1:  # one column is two classes
        names = source.class_names
    folders = len(source.class_names) < 2 or (
        label is not None and not labels and matching.none_known(source.class_names, names)
    )
    if folders and source.findings is None:
        names = names or class_names(first, shape)
        source = _labelled(source, label, names, where=data_set, model=model)
    elif label is None:
        source = matching.among_classes(source, names, where=data_set, model=model)
    else:
        raise ValueError(
            f"--label {label}: it is for images in no class folders, and {data_set} has the "
            f"classes {', '.join(source.class_names)}"
        )
    if finding == ANY and isinstance(source, data.Labelled) and source.label is not None:
        raise ValueError(f"--label {source.label} says nothing of all other findings: use --labels")
    predicts = {target.name: target.predict for target in targets}
    matching.check_outputs(predicts, source, shape, multi_label=finding == ANY)
    asked_for = {
        "labels": labels and str(Path(source.public(str(labels.parent)), labels.name)),
        "classes": list(given),
        "finding": finding,
        "columns": list(columns) if labels and finding else [],
        "heads": list(outputs),
        "skip_bad": skipped_in is not None,
        "skipped": skipped,
    }
    settings = {name: value for name, value in asked_for.items() if value}
    settings |= {
        "label": (source.label or "predicted") if isinstance(source, data.Labelled) else None,
        "num_images": len(source) + len(skipped),
        "class_names": list(source.class_names),
        "image_size": trained.image_size,
        "resize": trained.resize,
    }
    with skipping.all_bad_files(source):
        found = _fingerprint(source)
    models = {target.name: identity.of_target(target, shape, image) for target in targets}
    return Asked(list(targets), source, settings, found, models, shape)


def without_class(asked: Asked, index: int) -> Asked:
    """Without the images of one class, at which the others are aimed.

    Args:
      asked: images with labels.
      index: of the class.

    Returns:
      The rest.

    Raises:
      ValueError: the labels are not known, or there is no other image.
    """
    labels, name = np.asarray(asked.source.labels), asked.source.class_names[index]
    if (labels < 0).any():
        raise ValueError(f"--target-class {name} leaves out the images of that class: label them")
    kept = np.flatnonzero(labels != index).tolist()
    if not kept:
        raise ValueError(f"--target-class {name}: all images are of that class")
    fingerprint = data.Fingerprint(*([column[i] for i in kept] for column in asked.fingerprint))
    return asked._replace(source=data.Subset(asked.source, kept), fingerprint=fingerprint)


def _fingerprint(source: data.Source) -> data.Fingerprint:
    with progress.bar() as bar:
        task = bar.add_task("looking through the images", total=len(source))
        return data.fingerprint(source, lambda: bar.advance(task))


def _labelled(
    source: data.Source, label: str | None, names: Sequence[str], *, where: str, model: str
) -> data.Source:
    """Images in no class folders, or in one alone, among the classes of the attacked model."""
    if label is None:  # the folder's name may be a class, or mean nothing
        label = next((matching.alike_class(n, names) for n in source.class_names), None)
        if label is None:
            matching.say_predicted(source, names, where=where, model=model)
    if label in names:
        return data.Labelled(source, names, label)
    if label in (None, "predicted"):
        return data.Labelled(source, names)
    if label.isdecimal() and int(label) < len(names):
        return data.Labelled(source, names, names[int(label)])
    raise ValueError(
        f"--label {label} is no class of {model}, which tells apart {', '.join(names)}"
    )
