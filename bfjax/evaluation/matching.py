"""The classes of the images and those of the models, brought together before the first step."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence

from bfjax import data, progress
from bfjax.evaluation.targets import num_outputs
from bfjax.types import Predict


def agreed_classes(known: Sequence[str], given: Sequence[str], *, model: str) -> tuple[str, ...]:
    """The classes in the order of a model's outputs.

    Args:
      known: what the model says of itself; none where it does not.
      given: what its user says; none where nothing is said.
      model: its name.

    Returns:
      One of the two, perhaps none.

    Raises:
      ValueError: they differ.

    Example:
      >>> agreed_classes((), ("cat", "dog"), model="net")
      ('cat', 'dog')
    """
    if known and given and tuple(known) != tuple(given):
        raise ValueError(
            f"--class-names {' '.join(given)}: {model} was trained on {', '.join(known)}, in this "
            "order"
        )
    return tuple(known or given)


def among_classes(
    source: data.Source, class_names: Sequence[str], *, where: str, model: str
) -> data.Source:
    """Images with labels among the classes of a model, in its order.

    Names that differ in case or signs alone are taken for the same, with a warning. Classes of
    which there is no image stay.

    Args:
      source: with at least two classes.
      class_names: of the model, in the order of its outputs; none where it does not say them.
      where: the images are from.
      model: its name.

    Returns:
      The same images.

    Raises:
      ValueError: the model does not know a class, or it is not clear which it is.
    """
    found = tuple(source.class_names)
    if not class_names or found == tuple(class_names):
        say_empty_classes(source, where)
        return source
    renamed = data.renamings(found, class_names)
    if len(class_names) == len(found) == 2 and found[0] == f"no {found[1]}":  # a single column
        others = [name for name in class_names if name != found[1]]
        renamed |= {found[0]: others[0]} if len(others) == 1 else {}
    now = [renamed.get(name, name) for name in found]
    if unknown := [name for name in now if name not in class_names]:
        empty = ", which holds no image" if _count(source, found.index(unknown[0])) == 0 else ""
        way = "; if the folders are no classes, --label says one" if unknown == now else ""
        raise ValueError(
            f"{where} has the classes {', '.join(found)}, {model} was trained on "
            f"{', '.join(class_names)}: it does not know {unknown[0]}{empty}{way}"
        )
    if len({*now}) < len(now):
        raise ValueError(
            f"{where} has the classes {', '.join(found)}: two of them may be one of those that "
            f"{model} was trained on, {', '.join(class_names)}"
        )
    ordered = data.Ordered(source, class_names, renamed)
    if renamed:
        pairs = ", ".join(f"{name} for {other}" for name, other in renamed.items())
        warnings.warn(f"classes of {where} are taken for those of {model}: {pairs}", stacklevel=2)
    say_empty_classes(ordered, where)
    return ordered


def none_known(found: Sequence[str], class_names: Sequence[str]) -> bool:
    """Whether folders mean nothing to a model that says its classes.

    Args:
      found: names of the folders.
      class_names: of the model.

    Returns:
      Whether none of them is one of its classes, in any spelling.

    Example:
      >>> none_known(["series1", "series2"], ["NORMAL"]), none_known(["x", "normal"], ["NORMAL"])
      (True, False)
    """
    return bool(class_names) and not any(data.spelled_alike(name, class_names) for name in found)


def alike_class(name: str, class_names: Sequence[str]) -> str | None:
    """The class that a name means, with a warning where it is written otherwise.

    Args:
      name: of a folder.
      class_names: of a model.

    Returns:
      One of them, or `None`.
    """
    found = data.spelled_alike(name, class_names)
    if len(found) != 1:
        return None
    if found == [name]:
        return name
    warnings.warn(f"the folder {name} is taken for the class {found[0]}", stacklevel=2)
    return found[0]


def say_predicted(source: data.Source, class_names: Sequence[str], *, where: str, model: str):
    """Says on stderr that predictions stand in for labels.

    Args:
      source: without labels, or with one class that the model does not know.
      class_names: of the model.
      where: the images are from.
      model: its name.
    """
    why = f"{where} says no classes"
    if source.class_names:
        folder = source.class_names[0]
        near = difflib.get_close_matches(folder, class_names, n=1)
        why = f"the folder {folder} is none of the classes {', '.join(class_names)}"
        why += f" (did you mean {near[0]}?)" if near else ""
    progress.note(f"{why}: what {model} predicts stands in for the labels; --label says the class")


def check_outputs(
    predicts: Mapping[str, Predict],
    source: data.Source,
    image_shape: tuple[int, ...],
    *,
    multi_label: bool = False,
) -> None:
    """Makes sure that every model has an output a class; one output alone tells two apart.

    Nothing is computed.

    Args:
      predicts: the models by name.
      source: the images.
      image_shape: (h, w, c) of each.
      multi_label: the outputs are findings, each for itself.

    Raises:
      ValueError: naming a model of which this is not so.
    """
    names = source.class_names
    for model, predict in predicts.items():
        count = num_outputs(predict, image_shape, model=model)
        if (count if multi_label else max(count, 2)) != len(names):
            empty = [name for i, name in enumerate(names) if _count(source, i) == 0]
            raise ValueError(
                f"{model} has {count} logits, the data {len(names)} classes "
                f"({', '.join(names)})" + (f"; of {', '.join(empty)} no image" if empty else "")
            )


def say_empty_classes(source: data.Source, where: str) -> None:
    """Says on stderr of which classes there is no image.

    Args:
      source: the images.
      where: they are from.
    """
    names = source.class_names
    if empty := [name for i, name in enumerate(names) if _count(source, i) == 0]:
        progress.note(f"{where} holds no image of the class {', '.join(empty)}")


def _count(source: data.Source, index: int) -> int:
    if source.findings is not None:
        return int(source.findings[:, index].sum())
    return int((source.labels == index).sum())
