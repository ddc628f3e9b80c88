"""Checkpoints: a folder with the weights (safetensors) and a JSON that says what they are.

The weights are one file, or several shards. The JSON is written last and holds the sha256 of each:
a folder is a whole checkpoint or it is refused.
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

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jax.tree_util import Partial

from bfjax import storage
from bfjax.models.layers import ConvNorm, Preactivation
from bfjax.models.registry import abstract, check_weights, name_of, weights_of, with_weights
from bfjax.types import Image, Logits

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
"""The file of a checkpoint that says what it is; the others hold its weights."""
_VERSIONED = ("bfjax", "jax", "flax", "numpy", "safetensors")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint's JSON says.

    Attributes:
      architecture: a name that `build` takes.
      config: the architecture's settings.
      sha256: of the file of weights, in hexadecimal; of shards, of their own digests in order.
      class_names: in the order of the logits; empty if it was not said.
      image_size: pixels on each side, as in training; None if it was not said.
      resize: how images were brought to that size, ``"squash"`` or ``"pad"``.
      metrics: whatever was measured.
      versions: of the packages that wrote it.
      extra: everything else that was given as metadata.
      shards: the name of each file of weights to its sha256; empty if there is but one file.
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
    shards: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def settings_digest(self) -> str:
        """Of what the answers depend on beside the weights."""
        names = ("architecture", "config", "class_names", "image_size", "resize")
        told = json.dumps({name: getattr(self, name) for name in names}, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


def save(
    model: nnx.Module,
    path: str | Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    shard_size: int | None = None,
) -> Path:
    """Writes a model into a folder, made if need be; a checkpoint that was there is replaced.

    Args:
      model: an unfolded module of one of the architectures.
      path: the folder.
      metadata: fields of `Checkpoint` from `class_names` to `metrics`; anything else that JSON can
        hold becomes its `extra`.
      dtype: what the weights are rounded to on disk, ``"float32"`` or ``"float16"``; `load` gives
        float32 back.
      shard_size: split the weights into files of at most so many bytes (a single array may be
        larger); by default they are one file.

    Returns:
      The folder.

    Raises:
      ValueError: the model is folded or of no known architecture, the metadata would overwrite
        what `save` itself writes, or a weight is not finite, or too large for `dtype`.
    """
    folder = Path(path)
    name = name_of(model)
    config = dataclasses.asdict(model.config)  # pyrefly: ignore[missing-attribute, bad-argument-type]
    weights = {n: np.asarray(w) for n, w in weights_of(model).items()}
    check_weights(weights_of(abstract(name, **config)), weights, source="a folded model")
    if broken := [n for n, w in weights.items() if not np.isfinite(w).all()]:
        raise ValueError(f"the model holds NaN or infinity in {broken[0]}: train it anew")
    weights = {n: _rounded(n, w, dtype) for n, w in weights.items()}
    metadata = dict(metadata or {})
    metadata["class_names"] = tuple(metadata.get("class_names", ()))
    if taken := {"architecture", "config", "sha256", "versions", "extra", "shards"} & set(metadata):
        raise ValueError(f"metadata cannot set {sorted(taken)}")
    known = {f.name for f in dataclasses.fields(Checkpoint)}
    parts = [weights] if shard_size is None else _split(weights, shard_size)
    count = len(parts)
    names = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    files = dict(zip(names if shard_size is not None else [WEIGHTS], parts, strict=True))
    files = {file: safetensors.numpy.save(part) for file, part in files.items()}
    digests = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    record = Checkpoint(
        architecture=name,
        config=config,
        sha256=digests[WEIGHTS] if shard_size is None else _digest_of(digests),
        shards={} if shard_size is None else digests,
        versions={package: version(package) for package in _VERSIONED},
        extra={k: v for k, v in metadata.items() if k not in known},
        **{k: v for k, v in metadata.items() if k in known},
    )
    text = json.dumps(dataclasses.asdict(record), indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        _replace(folder / file, data)
    _replace(folder / CONFIG, text.encode())
    for stale in {folder / WEIGHTS, *folder.glob("model-*-of-*.safetensors")}:
        if stale.name not in files:
            stale.unlink(missing_ok=True)
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
      ValueError: a file cannot be read, was altered, is of an unknown architecture, or a weight
        is not finite.
    """
    record = load_config(path)
    folder = Path(path)
    if record.shards and _digest_of(record.shards) != record.sha256:
        raise ValueError(f"{folder / CONFIG} was altered: its digests do not fit each other")
    digests = record.shards or {WEIGHTS: record.sha256}
    files = [_checked(folder / name, sha256) for name, sha256 in digests.items()]
    weights: dict[str, np.ndarray] = {}
    try:
        skeleton = abstract(record.architecture, **record.config)
        for data in files:
            weights |= safetensors.numpy.load(data)
    except (ValueError, TypeError, safetensors.SafetensorError) as error:
        raise ValueError(f"cannot load {path}: {error}") from error
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"{path} holds NaN or infinity in {name}: train it anew")
    return with_weights(
        skeleton, weights, source=str(folder if record.shards else folder / WEIGHTS)
    )


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
        for name in ("config", "shards"):
            if not isinstance(getattr(checkpoint, name), dict):
                raise TypeError(f"{name!r} is no object")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is not a checkpoint's JSON: {error}") from error
    return checkpoint


def freeze(model: nnx.Module, *, transform: bool | None = None) -> nnx.Module:
    """A copy for inference: each batch norm folded into the convolution before it.

    One that has none before it (DenseNet's pre-activations) becomes a scale and a shift.

    Args:
      model: any module made of `ConvNorm`s and `Preactivation`s.
      transform: keep the kernels of wide 3×3 convolutions in Winograd's form, with four times the
        numbers and a quarter of the multiplications; None: where JAX computes on a CPU.

    Returns:
      A new module, equal to rounding, that refuses to train.
    """
    if transform is None:
        transform = jax.default_backend() == "cpu"
    frozen = nnx.clone(model)
    for _, module in nnx.iter_modules(frozen):
        if isinstance(module, ConvNorm):
            module.fold(transform=transform)
        elif isinstance(module, Preactivation):
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


@jax.jit  # steps, results and verdicts on images of one size share one tracing
def _apply(graph: Any, state: Any, image: Image) -> Logits:
    model = nnx.merge(graph, state)
    return model(image).astype(jnp.float32)  # pyrefly: ignore[not-callable]


def _rounded(name: str, weight: np.ndarray, dtype: str) -> np.ndarray:
    if dtype not in ("float32", "float16"):
        raise ValueError(f"weights are stored as float32 or float16, not as {dtype!r}")
    largest = float(np.abs(weight).max(initial=0))
    if dtype == "float16" and largest > float(np.finfo(dtype).max):
        raise ValueError(f"{name} reaches {largest:.3g}, too large for {dtype}")
    return weight.astype(dtype)


def _split(weights: dict[str, np.ndarray], size: int) -> list[dict[str, np.ndarray]]:
    """Fills one part after the other, in the order of the names, up to `size` bytes."""
    parts: list[dict[str, np.ndarray]] = [{}]
    room = size
    for name, weight in weights.items():
        needed = weight.nbytes + len(name) + 128  # its entry in the file's header
        if needed > room and parts[-1]:
            parts.append({})
            room = size
        parts[-1][name] = weight
        room -= needed
    return parts


def _digest_of(digests: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(digests.values()).encode()).hexdigest()


def _checked(file: Path, sha256: str) -> bytes:
    """The contents of a file of weights, if they are what they should be."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: copy the checkpoint again, or train it anew")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(
            f"{file} is not the file that {CONFIG} describes (its sha256 differs: truncated or "
            "altered): copy the checkpoint again, or train it anew"
        )
    return data


def _replace(file: Path, data: bytes) -> None:
    """Writes a file so that its name never belongs to half of it."""
    with storage.replacing(file) as temporary, temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
