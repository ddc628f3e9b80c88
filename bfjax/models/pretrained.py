"""Imports ImageNet weights: Google's (TF-slim names, .npz), PyTorch's, Keras' (.h5), and our own.

One table per source, our name to theirs with a rule for the array, over the model's skeleton; all
mismatches are told at once. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from bfjax.models import densenet, hub, mobilenet_v2, resnet
from bfjax.models.checkpoint import load_config, load_model
from bfjax.models.foreign_layers import Entry, drop_last, grey
from bfjax.models.mobilenet_v1 import MobileNetV1
from bfjax.models.registry import check_weights, name_of, weights_of, with_weights
from bfjax.models.tables import TABLES


def load_pretrained(model: nnx.Module, path: str | Path, *, head: bool = True) -> nnx.Module:
    """A model with the weights of a file.

    Weights of RGB images are taken by a grey model too. Where its normalisation is the same for
    the three channels, its stem's kernel is theirs summed over them; else its stem keeps three
    planes. Both are exact for grey images.

    Args:
      model: the module whose architecture the file is for; it is left as it is.
      path: Google's TF-slim weights (``.npz``), torchvision's or timm's state dict
        (``.safetensors`` or ``.npz``), Keras' (``.weights.h5`` or ``.h5``), the folder of one of
        our checkpoints or its ``.safetensors``, or ``"hf:owner/repository"`` on Hugging Face. The
        settings that belong to them (`settings_for`) are the model's, not the file's.
      head: also take the classifier; False leaves it at its initialisation, for another number
        of classes.

    Returns:
      A new module.

    Raises:
      FileNotFoundError: there is no such file.
      ImportError: `path` is on a hub, and the `[hub]` extra is not installed.
      ValueError: the file cannot be read, or its arrays do not fit; the message has all of them.
    """
    path = hub.fetch(str(path)) if str(path).startswith(hub.PREFIX) else Path(path)
    if path.is_dir():
        arrays, layout = _read_checkpoint(path), "ours"
    elif path.is_file():
        arrays, layout = _read(path)
    else:
        raise FileNotFoundError(f"no weights at {path}")
    tables = {"ours": _ours, **_TABLES.get(name_of(model), {})}
    if layout not in tables:
        raise ValueError(f"{name_of(model)} cannot take the {layout} weights of {path}")
    table = list(tables[layout](model, arrays))
    own = weights_of(model)
    is_head = {entry.theirs for entry in table if entry.ours.startswith("head/")}
    if not head:
        table = [entry for entry in table if entry.theirs not in is_head]
    known = {entry.theirs for entry in table} | is_head
    given = {e.ours: e.rule(arrays[e.theirs]) for e in table if e.theirs in arrays}
    given |= {name: array for name, array in arrays.items() if name not in known}
    expected = {entry.ours: own[entry.ours] for entry in table}
    check_weights(expected, given, source=str(path))
    kept = {name: np.asarray(array) for name, array in own.items() if name not in given}
    return with_weights(model, {**kept, **given}, source=str(path))


def settings_for(name: str, path: str | Path) -> dict[str, Any]:
    """The settings of an architecture that a file's weights were trained with.

    Args:
      name: of the architecture.
      path: as for `load_pretrained`.

    Returns:
      Fields of its config for `build`, the number of classes and channels left out: those of the
      checkpoint, Keras' for an ``.h5``, and none (its defaults) for everything else.

    Raises:
      FileNotFoundError: it is a folder without a checkpoint.
      ValueError: it is a checkpoint of another architecture.

    Example:
      >>> settings_for("resnet50", "weights.h5")["strided"]
      '1x1'
    """
    if not str(path).startswith(hub.PREFIX) and Path(path).is_dir():
        record = load_config(path)
        if record.architecture != name:
            raise ValueError(f"{path} is a {record.architecture}, not a {name}")
        return {k: v for k, v in record.config.items() if k not in ("num_classes", "channels")}
    return dict(_KERAS_SETTINGS.get(name, {})) if Path(path).suffix == ".h5" else {}


def _read_checkpoint(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in weights_of(load_model(folder)).items()}


def _read(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of a file and the name of its layout."""
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return _by_separator({name: archive[name] for name in archive.files}, "slim")
        if path.suffix == ".safetensors":
            return _by_separator(load_file(path), "ours")
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                return _read_keras(file)
    except Exception as error:  # of a damaged file the readers raise many kinds
        raise ValueError(f"cannot read weights from {path}: {error}") from error
    if path.suffix in _PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is read: convert its state dict "
            "to safetensors where you trust it (safetensors.torch.save_file)"
        )
    raise ValueError(f"weights are .npz, .h5 or .safetensors files, got {path}")


def _by_separator(arrays: dict[str, np.ndarray], layout: str) -> tuple[dict[str, np.ndarray], str]:
    """Arrays with their layout: a PyTorch state dict where no name has a slash."""
    if any("/" in name for name in arrays):
        return arrays, layout
    # a counter of training steps, which no layer uses
    unused = ".num_batches_tracked"
    return {name: a for name, a in arrays.items() if not name.endswith(unused)}, "torch"


def _read_keras(file: h5py.File) -> tuple[dict[str, np.ndarray], str]:
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        parts = name.split("/")
        if isinstance(item, h5py.Dataset) and parts[0] not in ("optimizer", "optimizer_weights"):
            # layers/conv2d_1/vars/0, or [model_weights/]conv1/[conv1/]kernel[:0]
            layer = parts[-3] if parts[-2] == "vars" else _repeated(parts[:-1])
            arrays[f"{layer}/{parts[-1].split(':')[0]}"] = item[()]

    file.visititems(visit)
    return arrays, "keras_numbered" if "layers" in file else "keras_named"


def _repeated(parts: list[str]) -> str:
    """The name of a layer, which may hold slashes, from its groups: mostly said twice."""
    parts = parts[1:] if parts[0] == "model_weights" else parts
    half = len(parts) // 2
    return "/".join(parts[:half]) if half and parts[:half] == parts[half:] else parts[-1]


def _dense(kernel: np.ndarray) -> np.ndarray:
    return kernel[0, 0] if kernel.shape[:2] == (1, 1) else kernel


_KERAS_SETTINGS = {
    "densenet121": densenet.KERAS,
    "mobilenet_v2": mobilenet_v2.KERAS,
    "resnet50": resnet.KERAS,
}
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar"}
_SLIM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


def _mobilenet_v1_slim(model: MobileNetV1, _: dict) -> Iterator[Entry]:
    def norm(ours: str, theirs: str) -> Iterator[Entry]:
        for mine, name in _SLIM.items():
            yield Entry(f"{ours}/norm/{mine}", f"{theirs}/BatchNorm/{name}")

    yield Entry("stem/kernel", "Conv2d_0/weights", grey(model))
    yield from norm("stem", "Conv2d_0")
    for i in range(len(model.blocks)):
        for half, name in (("depthwise", "depthwise_weights"), ("pointwise", "weights")):
            ours, theirs = f"blocks/{i}/{half}", f"Conv2d_{i + 1}_{half}"
            rule = drop_last if half == "depthwise" else Entry._field_defaults["rule"]
            yield Entry(f"{ours}/kernel", f"{theirs}/{name}", rule)
            yield from norm(ours, theirs)
    yield Entry("head/kernel", "Logits/Conv2d_1c_1x1/weights", _dense)
    yield Entry("head/bias", "Logits/Conv2d_1c_1x1/biases")


def _mobilenet_v1_keras(model: MobileNetV1, arrays: dict, *, numbered: bool) -> Iterator[Entry]:
    """Keras' layers, by their names, or in a .weights.h5 by class and order of appearance."""

    def kernel(layer: str, kind: str) -> str:
        if numbered:
            return f"{layer}/0"
        # before Keras 3 a depthwise layer's kernel had a name of its own
        return f"{layer}/{kind}" if f"{layer}/{kind}" in arrays else f"{layer}/kernel"

    def norm(ours: str, layer: str) -> Iterator[Entry]:
        for i, (mine, name) in enumerate(_SLIM.items()):
            yield Entry(f"{ours}/norm/{mine}", f"{layer}/{i if numbered else name}")

    def count(name: str, i: int) -> str:
        return f"{name}_{i}" if i else name

    n = len(model.blocks)
    yield Entry("stem/kernel", kernel("conv2d" if numbered else "conv1", "kernel"), grey(model))
    yield from norm("stem", "batch_normalization" if numbered else "conv1_bn")
    for i in range(n):
        dw = count("depthwise_conv2d", i) if numbered else f"conv_dw_{i + 1}"
        pw = count("conv2d", i + 1) if numbered else f"conv_pw_{i + 1}"
        dw_norm = count("batch_normalization", 2 * i + 1) if numbered else f"{dw}_bn"
        pw_norm = count("batch_normalization", 2 * i + 2) if numbered else f"{pw}_bn"
        dw_kernel = kernel(dw, "depthwise_kernel")
        yield Entry(f"blocks/{i}/depthwise/kernel", dw_kernel, drop_last)
        yield from norm(f"blocks/{i}/depthwise", dw_norm)
        yield Entry(f"blocks/{i}/pointwise/kernel", kernel(pw, "kernel"))
        yield from norm(f"blocks/{i}/pointwise", pw_norm)
    head = count("conv2d", n + 1) if numbered else "conv_preds"
    yield Entry("head/kernel", kernel(head, "kernel"), _dense)
    yield Entry("head/bias", f"{head}/1" if numbered else f"{head}/bias")


def _ours(model: nnx.Module, _: dict) -> Iterator[Entry]:
    for name in weights_of(model):
        yield Entry(name, name, grey(model)) if name == "stem/kernel" else Entry(name, name)


_TABLES: dict[str, dict[str, Callable[..., Iterator[Entry]]]] = {
    "mobilenet_v1": {
        "slim": _mobilenet_v1_slim,
        "keras_named": lambda m, a: _mobilenet_v1_keras(m, a, numbered=False),
        "keras_numbered": lambda m, a: _mobilenet_v1_keras(m, a, numbered=True),
    },
    **TABLES,
}
