"""The models of an evaluation: those that are attacked, and those that judge."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float, Integer

from bfjax import models
from bfjax.attack import ensemble, logits_of, warn_of_probabilities
from bfjax.evaluation import functions
from bfjax.evaluation.classes import answered, as_text
from bfjax.evaluation.failures import happened, own_lines
from bfjax.types import Predict

Outputs = Literal["logits", "probabilities"]
"""What a model returns: logits, or what a softmax or sigmoid makes of them."""
NORMALIZATION = ("input_range", "mean", "std")
"""The options of `bfjax.models.normalized`, as commands and settings call them."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A model on which adversarial images are made, or that judges them.

    Attributes:
      name: of its folder, file or function.
      predict: one image to its logits.
      config: what is known of it.
      parts: what belongs to it beside what `config.sha256` is of: name to sha256.
      programs: the modules of its Python functions.
    """

    name: str
    predict: Predict
    config: models.Checkpoint
    parts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    programs: tuple[str, ...] = ()

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is a checkpoint of bfjax, or one is among several that answer as one."""
        return any(part.split(": ")[-1] == models.CONFIG for part in self.parts)


def load_target(
    text: str,
    *,
    image_size: int | None = None,
    outputs: Outputs = "logits",
    multi_label: bool = False,
    normalization: Mapping[str, Any] | None = None,
) -> Target:
    """A model, or several as one.

    Args:
      text: the folder of a checkpoint, an ONNX or PyTorch file, `module:function` for a Python
        function from an image (h, w, c) in [0, 1] to its logits, or `module:net` for a PyTorch
        module; several, joined by plus signs, answer with the mean of their logits.
      image_size: side of the images in pixels where the model does not say it.
      outputs: what it returns; probabilities are turned back into logits.
      multi_label: its outputs are heads of their own, not the classes of one softmax.
      normalization: options of `bfjax.models.normalized`, for all but checkpoints of bfjax.

    Returns:
      The model, named after its folder, file or function.

    Raises:
      ValueError: a model cannot be read, or several do not fit together.
      FileNotFoundError: there is none.
      ImportError: a file needs a package that is not installed.
    """
    parts = [text] if Path(text).exists() else text.split("+")
    found = [_one(part, image_size) for part in parts]
    if normalization:
        found = [_normalized(target, normalization) for target in found]
    if outputs == "probabilities":
        back = functools.partial(models.from_probabilities, multi_label=multi_label)
        found = [dataclasses.replace(t, predict=back(t.predict)) for t in found]
    if len(found) == 1:
        return found[0]
    check_together(found)
    whole = {what: "+".join(getattr(t.config, what) for t in found) for what in _OF_ALL}
    return Target(
        "+".join(target.name for target in found),
        ensemble([target.predict for target in found]),
        dataclasses.replace(found[0].config, **whole),
        {f"{one.name}: {part}": sha256 for one in found for part, sha256 in one.parts.items()},
        tuple(name for one in found for name in one.programs),
    )


def _one(text: str, image_size: int | None) -> Target:
    path = Path(text)
    if path.suffix == ".onnx" and not path.is_dir():
        predict, side = models.load_onnx(path)
        digest, *others = map(_digest, [path, *(files := models.onnx_data(path))])
        record = models.Checkpoint("onnx", {}, digest, image_size=side or image_size)
        names = [file.relative_to(path.parent).as_posix() for file in files]
        return Target(path.stem, predict, record, dict(zip(names, others, strict=True)))
    if models.is_torch_file(path):
        predict, side = models.load_torch(path, image_size=image_size)
        return Target(
            path.stem, predict, models.Checkpoint("torch", {}, _digest(path), image_size=side)
        )
    if not path.exists() and re.fullmatch(r"[\w.]+:\w+", text):
        return _function(text, image_size)
    record = models.load_config(path)
    parts = {models.CONFIG: record.settings_digest}
    record = dataclasses.replace(record, image_size=record.image_size or image_size)
    return Target(path.resolve().name, models.load(path), record, parts)


def _normalized(target: Target, options: Mapping[str, Any]) -> Target:
    if target.is_checkpoint:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        raise ValueError(
            f"{named}: {target.name} is a checkpoint of bfjax, which normalises its images itself; "
            "leave that out, or put other models into functions of their own"
        )
    return dataclasses.replace(target, predict=models.normalized(target.predict, **options))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:  # of any size
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _function(text: str, image_size: int | None) -> Target:
    """A Python function or a PyTorch module."""
    module, found = functions.imported(text)
    if functions.is_torch(found):
        predict = functions.of_torch(text, found, image_size)
    else:
        predict = functions.of_user(text, found)
    file = getattr(module, "__file__", None)
    digest = _digest(Path(file)) if file else ""
    record = models.Checkpoint(text, {}, digest, image_size=image_size)
    return Target(text.partition(":")[2], predict, record, programs=(module.__name__,))


@contextlib.contextmanager
def named(target: Target) -> Generator[None]:
    """Names a Python function where its gradient or its callbacks fail, outside its own call.

    Args:
      target: whose function is run in the block.

    Raises:
      ValueError: in place of an error that comes from a line of the user's own.
    """
    try:
        yield
    except Exception as error:
        if not target.programs or not own_lines(error):
            raise
        raise ValueError(f"{target.config.architecture} failed: {happened(error)}") from error


def num_outputs(predict: Predict, image_shape: tuple[int, ...], *, model: str) -> int:
    """How many outputs a model has; nothing is computed.

    Args:
      predict: the model.
      image_shape: (h, w, c) of the images it takes.
      model: its name.

    Returns:
      Their number.

    Raises:
      ValueError: they are no vector.
    """
    found = jax.eval_shape(predict, jax.ShapeDtypeStruct(image_shape, np.float32))
    if getattr(found, "ndim", None) != 1:
        answer = getattr(found, "shape", type(found).__name__)
        raise ValueError(f"{model} answers with shape {answer}, not (classes,)")
    return found.shape[0]


def class_names(target: Target, image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """The classes that a model tells apart.

    Args:
      target: the model.
      image_shape: (h, w, c) of the images it takes.

    Returns:
      Their names; numbers from 0 where it does not say them.
    """
    if target.config.class_names:
        return tuple(target.config.class_names)
    count = num_outputs(target.predict, image_shape, model=target.name)
    return tuple(map(str, range(max(count, 2))))  # one logit tells two classes apart


_OF_ALL = ("sha256", "architecture")


def check_together(targets: Sequence[Target]) -> None:
    """Makes sure that models can judge the same images, and are told apart.

    Args:
      targets: the models.

    Raises:
      ValueError: naming the two that do not fit.
    """
    names = [target.name for target in targets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two models are called {twice[0]}: rename one, or name it once")
    first, *others = targets
    for other in others:
        for what in ("class_names", "image_size", "resize"):
            one, two = getattr(first.config, what), getattr(other.config, what)
            if one != two and one and two:  # not all models say it
                raise ValueError(f"{what} of {first.name} is {one}, of {other.name} {two}")


def answers(
    target: Target,
    images: Float[Array, "batch h w c"],
    labels: Integer[np.ndarray, "n ..."],
    class_names: Sequence[str],
    *,
    warn: bool = False,
) -> dict[str, Any]:
    """What a model says of some images.

    Args:
      target: the model.
      images: in [0, 1], on one device or several.
      labels: the classes of the first n of them, (n,), or (n, heads) where several findings may be
        true of an image; the rest is there to fill the batch.
      class_names: of the data; a model with one logit says by its sign which of two.
      warn: where these seem to be probabilities.

    Returns:
      The predictions as texts, and the probabilities of the truth, see `bfjax.evaluation.classes`.

    Raises:
      ValueError: its logits are not finite, or not as many as there are classes.
    """
    with named(target):
        logits = np.asarray(logits_of(target.predict, images), np.float64)[: len(labels)]
    count = logits.shape[1] if labels.ndim > 1 else max(logits.shape[1], 2)
    if count != len(class_names):
        raise ValueError(
            f"{target.name} has {logits.shape[1]} logits, the data {len(class_names)} classes "
            f"({', '.join(class_names)})"
        )
    if not np.isfinite(logits).all():
        raise ValueError(f"{target.name} gives NaN or infinite logits; its weights are bad")
    if warn:
        warn_of_probabilities(logits, name=target.name)
    predictions, scores = answered(logits, labels)
    return {"prediction": as_text(predictions, class_names), "score": scores}
