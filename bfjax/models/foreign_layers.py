"""How the layers of PyTorch and Keras become ours.

A network's table (`bfjax.models.tables`) has one row a layer: our module, their layer and its
kind. What the arrays of a kind are called, and how they become ours, is said here, once for each
library.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

Rule = Callable[[np.ndarray], np.ndarray]
Arrays = dict[str, np.ndarray]


class Entry(NamedTuple):
    """One array: our name, theirs, and how their array becomes ours."""

    ours: str
    theirs: str
    rule: Rule = lambda array: array


Names = str | tuple[str, ...]


class Row(NamedTuple):
    """One layer: our module, their layer (or the names it has had), and its kind.

    Kinds are ``"conv"``, ``"depthwise"``, ``"norm"`` and ``"dense"``.
    """

    ours: str
    theirs: Names
    kind: str


def conv_norm(ours: str, conv: Names, norm: Names, kind: str = "conv") -> Iterator[Row]:
    """The rows of one of our `ConvNorm`s."""
    yield Row(ours, conv, kind)
    yield Row(f"{ours}/norm", norm, "norm")


# A rule leaves an array alone whose shape it does not expect: the comparison with the model then
# tells the shape as it stands in the file.


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _hwio(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel


def _hwc(kernel: np.ndarray) -> np.ndarray:
    return kernel[:, 0].transpose(1, 2, 0) if kernel.shape[1:2] == (1,) else kernel


def drop_last(kernel: np.ndarray) -> np.ndarray:
    """Drops the last axis of a depthwise kernel, the one filter of each channel."""
    return kernel[..., 0] if kernel.shape[-1:] == (1,) else kernel


def grey(model: Any) -> Rule:
    """Sums a stem's kernel over RGB where the model's stem takes one plane.

    The model's normalisation is then the same for the three channels, and the sum exact.
    """

    def rule(kernel: np.ndarray) -> np.ndarray:
        one = model.stem.kernel.shape[2] == 1 and kernel.ndim == 4
        return kernel.sum(axis=2, keepdims=True) if one else kernel

    return rule


_TORCH: dict[str, dict[str, tuple[str, Rule]]] = {
    "conv": {"kernel": ("weight", _hwio)},
    "depthwise": {"kernel": ("weight", _hwc)},
    "dense": {"kernel": ("weight", np.transpose), "bias": ("bias", _same)},
    "norm": {
        "scale": ("weight", _same),
        "bias": ("bias", _same),
        "mean": ("running_mean", _same),
        "var": ("running_var", _same),
    },
}

# in the order of a .weights.h5, which numbers a layer's arrays
_KERAS: dict[str, dict[str, tuple[str, Rule]]] = {
    "conv": {"kernel": ("kernel", _same)},
    "depthwise": {"kernel": ("kernel", drop_last)},
    "dense": {"kernel": ("kernel", _same), "bias": ("bias", _same)},
    "norm": {
        "scale": ("gamma", _same),
        "bias": ("beta", _same),
        "mean": ("moving_mean", _same),
        "var": ("moving_variance", _same),
    },
}
_KERAS_CLASSES = {
    "conv": "conv2d",
    "depthwise": "depthwise_conv2d",
    "norm": "batch_normalization",
    "dense": "dense",
}


def torch_entries(model: Any, rows: Iterable[Row], arrays: Arrays) -> Iterator[Entry]:
    """The entries of a PyTorch state dict."""
    for row in rows:
        layer = _present(row.theirs, arrays, ".")
        for name, (theirs, rule) in _TORCH[row.kind].items():
            rule = _after(rule, grey(model)) if row.ours == "stem" else rule
            yield Entry(f"{row.ours}/{name}", f"{layer}.{theirs}", rule)


def keras_entries(
    model: Any, rows: Iterable[Row], arrays: Arrays, *, numbered: bool, bgr: bool = False
) -> Iterator[Entry]:
    """The entries of a Keras file: by the layers' names, or by class and order of appearance.

    A convolution's bias before a batch normalisation only shifts its running mean,
    (w·x + b) − μ = w·x − (μ − b): it is taken out of `arrays` and put there.
    """
    count: Counter[str] = Counter()
    ours = conv = ""
    for row in rows:
        if numbered:
            layer = _KERAS_CLASSES[row.kind]
            count[layer] += 1
            layer = f"{layer}_{count[layer] - 1}" if count[layer] > 1 else layer
        else:
            layer = _present(row.theirs, arrays, "/")
        bias = None
        if row.ours == f"{ours}/norm":
            bias = arrays.pop(f"{conv}/{1 if numbered else 'bias'}", None)
        ours, conv = row.ours, layer
        for i, (name, (theirs, rule)) in enumerate(_KERAS[row.kind].items()):
            if row.ours == "stem":
                rule = _after(_flip if bgr else rule, grey(model))
            if name == "mean" and bias is not None:
                rule = _less(bias)
            key = f"{layer}/{i if numbered else theirs}"
            if row.kind == "depthwise" and f"{layer}/depthwise_kernel" in arrays:
                key = f"{layer}/depthwise_kernel"  # before Keras 3
            yield Entry(f"{row.ours}/{name}", key, rule)


def _present(names: Names, arrays: Arrays, separator: str) -> str:
    """The name of a layer that the file has, the first one if it has none."""
    names = (names,) if isinstance(names, str) else names
    layers = (n for n in names if any(array.startswith(n + separator) for array in arrays))
    return next(layers, names[0])


def _after(first: Rule, then: Rule) -> Rule:
    return lambda array: then(first(array))


def _flip(kernel: np.ndarray) -> np.ndarray:
    """A stem's kernel for RGB, from one for BGR."""
    return kernel[:, :, ::-1] if kernel.ndim == 4 else kernel


def _less(bias: np.ndarray) -> Rule:
    return lambda mean: mean - bias if mean.shape == bias.shape else mean
