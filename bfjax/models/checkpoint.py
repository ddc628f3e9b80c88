"""Checkpoints: a folder with the weights (safetensors) and a JSON that says what they are.

The JSON is written last and holds the weights' sha256: a folder is a whole checkpoint or it is
refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jax.tree_util import Partial

from bfjax.models.layers import ConvNorm, Preactivation
from bfjax.models.registry import abstract, check_weights, name_of, weights_of, with_weights
from bfjax.types import Image, Logits

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_VERSIONED = ("bfjax", "jax", "flax", "numpy", "safetensors")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint's JSON says.

    Attributes:
      architecture: a name that `build` takes.
      config: the architecture's settings.
      sha256: of the file of weights, in hexadecimal.
      class_names: in the order of the logits; empty if it was not said.
      image_size: pixels on each side, as in training; None if it was not said.
      resize: how images were brought to that size, ``"squash"`` or ``"pad"``.
      metrics: whatever was measured.
      versions: of the packages that wrote it.
      extra: everything else that was given as metadata.
    """

    architecture: str
    config: dict[str, Any]
    sha256: str
    class_names: tuple[str, ...] = ()
    image_size: int | None = None
    resize: str = "squash"
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


def save(model: nnx.Module, path: str | Path, *, metadata: Mapping[str, Any] | None = None) -> Path:
    """Writes a model into a folder, made if need be; what was there is replaced.

    Args:
      model: an unfolded module of one of the architectures.
      path: the folder.
      metadata: fields of `Checkpoint` from `class_names` to `metrics`; anything else that JSON can
        hold becomes its `extra`.

    Returns:
      The folder.

    Raises:
      ValueError: the model is folded or of no known architecture, or the metadata would overwrite
        what `save` itself writes.
    """
    folder = Path(path)
    name = name_of(model)
    config = dataclasses.asdict(model.config)  # pyrefly: ignore[missing-attribute, bad-argument-type]
    weights = {n: np.asarray(w) for n, w in weights_of(model).items()}
    check_weights(weights_of(abstract(name, **config)), weights, source="a folded model")
    metadata = dict(metadata or {})
    metadata["class_names"] = tuple(metadata.get("class_names", ()))
    if taken := {"architecture", "config", "sha256", "versions", "extra"} & set(metadata):
        raise ValueError(f"metadata cannot set {sorted(taken)}")
    known = {f.name for f in dataclasses.fields(Checkpoint)}
    data = safetensors.numpy.save(weights)
    record = Checkpoint(
        architecture=name,
        config=config,
        sha256=hashlib.sha256(data).hexdigest(),
        versions={package: version(package) for package in _VERSIONED},
        extra={k: v for k, v in metadata.items() if k not in known},
        **{k: v for k, v in metadata.items() if k in known},
    )
    text = json.dumps(dataclasses.asdict(record), indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / WEIGHTS, data)
    _replace(folder / CONFIG, text.encode())
    return folder


def load(path: str | Path, *, fold: bool = True) -> Partial:
    """Reads a checkpoint as a `Predict`.

    The weights are leaves of the `Partial`, so under `jax.jit` they are arguments: two checkpoints
    of one architecture share one compilation.

    Args:
      path: the folder.
      fold: fold the batch norms into the convolutions before them, which is exact and faster.

    Returns:
      One image (h, w, c) in [0, 1] to float32 logits (classes,). It computes in the image's type.

    Raises:
      FileNotFoundError: the folder or one of its files is missing.
      ValueError: a file cannot be read, was altered, or is of an unknown architecture.
    """
    model = load_model(path)
    return as_predict(freeze(model) if fold else model)


def load_model(path: str | Path) -> nnx.Module:
    """Reads a checkpoint as the module that was saved, to train it further.

    Args:
      path: the folder.

    Returns:
      The module.

    Raises:
      FileNotFoundError: the folder or one of its files is missing.
      ValueError: a file cannot be read, was altered, or is of an unknown architecture.
    """
    record = load_config(path)
    file = Path(path) / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: copy the checkpoint again, or train it anew")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise ValueError(
            f"{file} is not the file that {CONFIG} describes (its sha256 differs: truncated or "
            "altered): copy the checkpoint again, or train it anew"
        )
    try:
        skeleton = abstract(record.architecture, **record.config)
        weights = safetensors.numpy.load(data)
    except (ValueError, TypeError, safetensors.SafetensorError) as error:
        raise ValueError(f"cannot load {path}: {error}") from error
    return with_weights(skeleton, weights, source=str(file))


def load_config(path: str | Path) -> Checkpoint:
    """Reads what a checkpoint says of itself.

    Args:
      path: the folder.

    Returns:
      The contents of its JSON.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: the JSON is not one that `save` writes.
    """
    file = Path(path) / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path} ({file} is missing): name a folder written by `bfjax train`"
        )
    try:
        record = json.loads(file.read_text())
        record["class_names"] = tuple(record["class_names"])
        checkpoint = Checkpoint(**record)
        if not isinstance(checkpoint.config, dict):
            raise TypeError("'config' is no object")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is not a checkpoint's JSON: {error}") from error
    return checkpoint


def freeze(model: nnx.Module) -> nnx.Module:
    """A copy for inference: each batch norm folded into the convolution before it.

    One that has none before it (DenseNet's pre-activations) becomes a scale and a shift.

    Args:
      model: any module made of `ConvNorm`s and `Preactivation`s.

    Returns:
      A new module, equal to rounding, that refuses to train.
    """
    frozen = nnx.clone(model)
    for _, module in nnx.iter_modules(frozen):
        if isinstance(module, ConvNorm | Preactivation):
            module.fold()
    return frozen


def as_predict(model: nnx.Module) -> Partial:
    """A module as a `Predict`, its weights the leaves of the pytree.

    Args:
      model: images (h, w, c) to logits (classes,).

    Returns:
      One image in [0, 1] to float32 logits.

    Example:
      >>> import jax
      >>> from bfjax.models import build
      >>> predict = as_predict(build("mobilenet_v1", width=0.25))
      >>> jax.eval_shape(predict, jnp.zeros((32, 32, 1))).shape
      (2,)
    """
    return Partial(_apply, *nnx.split(model))


def _apply(graph: Any, state: Any, image: Image) -> Logits:
    model = nnx.merge(graph, state)
    return model(image).astype(jnp.float32)  # pyrefly: ignore[not-callable]


def _replace(file: Path, data: bytes) -> None:
    """Writes a file so that its name never belongs to half of it."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
