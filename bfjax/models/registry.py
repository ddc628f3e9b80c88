"""The classifiers by name, and their weights by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from bfjax.models.convnet import ConvNet, ConvNetConfig
from bfjax.models.densenet import DenseNet121, DenseNet121Config
from bfjax.models.mobilenet_v1 import MobileNetV1, MobileNetV1Config
from bfjax.models.mobilenet_v2 import MobileNetV2, MobileNetV2Config
from bfjax.models.resnet import ResNet50, ResNet50Config

ARCHITECTURES: dict[str, tuple[type, Callable[..., nnx.Module]]] = {
    "convnet": (ConvNetConfig, ConvNet),
    "densenet121": (DenseNet121Config, DenseNet121),
    "mobilenet_v1": (MobileNetV1Config, MobileNetV1),
    "mobilenet_v2": (MobileNetV2Config, MobileNetV2),
    "resnet50": (ResNet50Config, ResNet50),
}
"""Name: (frozen config dataclass, module class taking the config and `rngs`)."""


def build(
    name: str,
    *,
    num_classes: int = 2,
    channels: int = 1,
    seed: int = 0,
    **config: Any,
) -> nnx.Module:
    """A classifier with freshly drawn weights.

    Args:
      name: one of `ARCHITECTURES`.
      num_classes: how many logits.
      channels: 1 (grey) or 3 (RGB).
      seed: of the weights.
      **config: further fields of the architecture's config.

    Returns:
      The module: images (..., h, w, c) in [0, 1] to logits (..., classes).

    Raises:
      ValueError: no such architecture, no such field, or a field out of its range.

    Example:
      >>> model = build("mobilenet_v1", width=0.25)
      >>> jax.eval_shape(model, jax.numpy.zeros((5, 32, 32, 1))).shape
      (5, 2)
    """
    model = abstract(name, num_classes=num_classes, channels=channels, **config)
    return with_weights(model, draw_weights(weights_of(model), seed=seed), source="the drawing")


def abstract(name: str, **config: Any) -> nnx.Module:
    """A classifier's skeleton: shapes and types in place of weights.

    Args:
      name: one of `ARCHITECTURES`.
      **config: fields of the architecture's config.

    Returns:
      The module, its weights `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: no such architecture, no such field, or a field out of its range.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}; there are {sorted(ARCHITECTURES)}")
    kind, module = ARCHITECTURES[name]
    fields = [field.name for field in dataclasses.fields(kind)]
    if unknown := sorted(set(config) - set(fields)):
        raise ValueError(f"{name} has no setting {unknown}; it has {fields}")
    try:
        settings = kind(**config)
    except TypeError as error:  # a value of the wrong type, compared with a number
        raise ValueError(f"{name}: {error}") from error
    return nnx.eval_shape(lambda: module(settings))


def name_of(model: nnx.Module) -> str:
    """The name of a module's architecture.

    Args:
      model: a module of one of the `ARCHITECTURES`.

    Returns:
      Its name.

    Raises:
      ValueError: it is none of them.
    """
    for name, (_, module) in ARCHITECTURES.items():
        if type(model) is module:
            return name
    raise ValueError(f"{type(model).__name__} is none of the architectures {list(ARCHITECTURES)}")


def weights_of(model: nnx.Module) -> dict[str, Any]:
    """A module's weights by name, parameters and running averages alike.

    Args:
      model: any module, or a skeleton.

    Returns:
      Name, such as ``blocks/0/depthwise/kernel``, to array.
    """
    state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    return {"/".join(map(str, path)): v.get_value() for path, v in nnx.to_flat_state(state)}


def check_weights(
    expected: Mapping[str, Any], given: Mapping[str, np.ndarray], *, source: str
) -> None:
    """Compares names and shapes, and tells every difference at once.

    Args:
      expected: name to something with a shape.
      given: name to array.
      source: where `given` comes from, for the message.

    Raises:
      ValueError: names are missing or unexpected, or shapes differ.
    """
    wrong = [f"missing {name}" for name in expected if name not in given]
    wrong += [f"unexpected {name}" for name in given if name not in expected]
    wrong += [
        f"{name} is {tuple(given[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if name in given and tuple(given[name].shape) != tuple(expected[name].shape)
    ]
    if wrong:
        raise ValueError(f"{source} does not fit the model: " + "; ".join(wrong))


def draw_weights(shapes: Mapping[str, Any], *, seed: int) -> dict[str, np.ndarray]:
    """Initial weights by He's rule: kernels N(0, 2 / fan-in) cut at two standard deviations.

    All kernels are cut from one drawing, since XLA compiles the generator anew for each shape.

    Args:
      shapes: name to something with a shape; a kernel's last axis is its outputs, all others are
        its fan-in (a depthwise kernel has three axes, and one input a filter).
      seed: of the drawing.

    Returns:
      Name to array: drawn kernels, scales and variances 1, biases and means 0.
    """
    kernels = {n: s.shape for n, s in shapes.items() if n.split("/")[-1] == "kernel"}
    total = sum(map(math.prod, kernels.values()))
    # 0.8796 is the standard deviation of a normal variable cut at ±2
    draw = jax.random.truncated_normal(jax.random.key(seed), -2.0, 2.0, (total,)) / 0.87962566
    ends = np.cumsum([math.prod(shape) for shape in kernels.values()])
    pieces = np.split(np.asarray(draw), ends[:-1])
    weights = {}
    for (name, shape), piece in zip(kernels.items(), pieces, strict=True):
        fan_in = math.prod(shape[:2] if len(shape) == 3 else shape[:-1])
        weights[name] = piece.reshape(shape) * np.float32(math.sqrt(2 / fan_in))
    for name, array in shapes.items():
        one = name.split("/")[-1] in ("scale", "var")
        weights.setdefault(name, np.full(array.shape, one, np.float32))
    return weights


def with_weights(
    model: nnx.Module, weights: Mapping[str, np.ndarray], *, source: str
) -> nnx.Module:
    """The same module with other weights.

    Args:
      model: a module or a skeleton.
      weights: one array for each name of `weights_of(model)`.
      source: where they come from, for messages.

    Returns:
      A new module, its weights float32.

    Raises:
      ValueError: names or shapes differ.
    """
    check_weights(weights_of(model), weights, source=source)
    graph, state = nnx.split(model)
    arrays = {name: jax.numpy.asarray(w, jax.numpy.float32) for name, w in weights.items()}
    return nnx.merge(graph, _fill(state, arrays))


def _fill(state: Any, weights: Mapping[str, Array]) -> Any:
    flat = nnx.to_flat_state(state)
    filled = {path: v.replace(weights["/".join(map(str, path))]) for path, v in flat}
    return nnx.from_flat_state(filled)
