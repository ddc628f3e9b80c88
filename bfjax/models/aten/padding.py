"""Padding by a constant, by reflection, by replication, and around."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # torch's and NumPy's


def _widths(x: Array, pad: Sequence[int]) -> list[tuple[int, int]]:
    """PyTorch names pairs from the last axis on; here one for each axis, in their order."""
    pairs = [(before, after) for before, after in zip(pad[::2], pad[1::2], strict=True)]
    return [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]


def _constant(x: Array, pad: Sequence[int], value: float | None = 0) -> Array:
    """A negative width takes away."""
    widths = [(before, after, 0) for before, after in _widths(x, pad)]
    return lax.pad(x, jnp.asarray(value or 0, x.dtype), widths)


def _padded(mode: str) -> Callable:
    def pad_with_values(x: Array, padding: Sequence[int]) -> Array:
        taken = [min(0, width) for width in padding]
        if mode == "circular":  # around what is left
            x, taken = _constant(x, taken), []
        widths = [(max(0, before), max(0, after)) for before, after in _widths(x, padding)]
        return _constant(jnp.pad(x, widths, mode=_MODES[mode]), taken)

    return pad_with_values


OPERATORS: dict[str, Callable] = {
    "aten._pad_circular.default": _padded("circular"),
    "aten.constant_pad_nd.default": _constant,
    "aten.reflection_pad1d.default": _padded("reflect"),
    "aten.reflection_pad2d.default": _padded("reflect"),
    "aten.replication_pad1d.default": _padded("replicate"),
    "aten.replication_pad2d.default": _padded("replicate"),
}
