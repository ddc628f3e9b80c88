"""Interpolation to another size, as `torch.nn.functional.interpolate` does it.

It is linear and separable: one matrix (new length, old length) for each axis, built by NumPy. The
coordinates are computed in single precision, as PyTorch does, since nearest neighbours depend on
it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

single = np.float32


class Side(NamedTuple):
    """How one axis is resized: lengths, the factor where one was named, whether ends meet."""

    old: int
    new: int
    factor: float | None = None
    align_corners: bool = False

    def step(self) -> single:
        """Old pixels per new one."""
        if self.align_corners:
            return single((self.old - 1) / (self.new - 1)) if self.new > 1 else single(0)
        return single(1 / self.factor) if self.factor else single(self.old) / single(self.new)

    def sources(self) -> np.ndarray:
        """Where the new pixels' centres lie, counted in old pixels."""
        new = np.arange(self.new, dtype=single)
        return self.step() * new if self.align_corners else self.step() * (new + 0.5) - single(0.5)


def cubic(distance: Any, a: float = -0.75) -> Any:
    """Keys, Cubic Convolution Interpolation (1981): (a + 2) d³ − (a + 3) d² + 1 for d ≤ 1."""
    d = abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return near * (d <= 1) + far * ((d > 1) & (d < 2))


def triangle(distance: np.ndarray) -> np.ndarray:
    """The kernel of linear interpolation."""
    return np.maximum(0, 1 - np.abs(distance))


def _places(side: Side, offset: float) -> np.ndarray:
    """The nearest old pixel of each new one; 0 as PyTorch first had it, 1/2 as it should be."""
    new = np.arange(side.new, dtype=single) + single(offset)
    return np.minimum(np.floor(new * side.step()).astype(int), side.old - 1)


def _matrix(side: Side, kernel: Callable, reach: int) -> np.ndarray:
    """Weights of the old pixels that are nearer than `reach`; those outside are the last inside."""
    sources = side.sources()
    if reach == 1:
        sources = np.maximum(sources, 0)
    first = np.floor(sources).astype(int) - reach + 1
    matrix = np.zeros((side.new, side.old))
    for tap in range(2 * reach):
        place = first + tap
        weights = kernel(sources - place)
        np.add.at(matrix, (np.arange(side.new), np.clip(place, 0, side.old - 1)), weights)
    return matrix


def _smooth_matrix(side: Side, kernel: Callable, reach: int) -> np.ndarray:
    """Antialiased, as Pillow does it: when shrinking, the kernel is as wide as the step."""
    step = float(side.step())
    width = max(step, 1.0)
    centres = step * (np.arange(side.new) + 0.5)[:, None]
    old = np.arange(side.old)
    first = np.maximum(np.floor(centres - reach * width + 0.5), 0)
    last = np.minimum(np.floor(centres + reach * width + 0.5), side.old)
    weights = kernel((old - centres + 0.5) / width) * ((old >= first) & (old < last))
    return weights / weights.sum(axis=1, keepdims=True)


def _apply(x: Array, axis: int, matrix: np.ndarray) -> Array:
    # half the bits, as accelerators would have it, would show in the image
    product = lax.dot_general(
        x,
        jnp.asarray(matrix, x.dtype),
        (((axis,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,
    )
    return jnp.moveaxis(product, -1, axis)


def _nearest(x: Array, axis: int, side: Side, *, offset: float) -> Array:
    if side.old == side.new:
        return x
    places = _places(side, offset)
    whole = side.new // side.old
    if whole and np.array_equal(places, np.arange(side.new) // whole):
        return jnp.repeat(x, whole, axis=axis)  # whose gradient is a sum, not a scatter
    return jnp.take(x, places, axis=axis)


def _by_matrix(x: Array, axis: int, side: Side, *, build: Callable, always: bool) -> Array:
    """PyTorch copies what keeps its length, whatever the factor, but for plain cubic kernels."""
    if side.old == side.new and not (always and side.factor):
        return x
    return _apply(x, axis, build(side))


def _resize(
    x: Array,
    output_size: Sequence[int] | None,
    factors: Sequence[float | None],
    align_corners: bool,
    along: Callable,
) -> Array:
    """Each of the last axes, as many as there are factors, by itself."""
    first = x.ndim - len(factors)
    if output_size is None:
        sides = zip(x.shape[first:], factors, strict=True)
        output_size = [math.floor(length * (factor or 1)) for length, factor in sides]
    for axis, (new, factor) in enumerate(zip(output_size, factors, strict=True), start=first):
        x = along(x, axis, Side(x.shape[axis], new, factor, align_corners))
    return x


def _forms(name: str, axes: int, along: Callable, *, aligns: bool) -> dict[str, Callable]:
    """An operator's two forms: factors for each axis, or a list of them."""

    def default(x: Array, output_size: Sequence[int], *args: float | None) -> Array:
        align, *factors = args if aligns else (False, *args)
        factors = [*factors, *[None] * (axes - len(factors))]
        return _resize(x, output_size, factors, bool(align), along)

    def vec(x: Array, output_size: Sequence[int] | None, *args: Any) -> Array:
        align, factors = args if aligns else (False, *args)
        return _resize(x, output_size, factors or [None] * axes, bool(align), along)

    return {f"aten.{name}.default": default, f"aten.{name}.vec": vec}


def _built(build: Callable, kernel: Callable, reach: int, *, always: bool = False) -> Callable:
    made = functools.partial(_by_matrix, build=lambda side: build(side, kernel, reach))
    return functools.partial(made, always=always)


_LINEAR = _built(_matrix, triangle, 1)
_NEAREST = functools.partial(_nearest, offset=0)
_NEAREST_EXACT = functools.partial(_nearest, offset=0.5)
_SMOOTH_CUBIC = functools.partial(cubic, a=-0.5)

OPERATORS: dict[str, Callable] = {
    **_forms("upsample_nearest1d", 1, _NEAREST, aligns=False),
    **_forms("upsample_nearest2d", 2, _NEAREST, aligns=False),
    **_forms("_upsample_nearest_exact1d", 1, _NEAREST_EXACT, aligns=False),
    **_forms("_upsample_nearest_exact2d", 2, _NEAREST_EXACT, aligns=False),
    **_forms("upsample_linear1d", 1, _LINEAR, aligns=True),
    **_forms("upsample_bilinear2d", 2, _LINEAR, aligns=True),
    **_forms("upsample_bicubic2d", 2, _built(_matrix, cubic, 2, always=True), aligns=True),
    **_forms("_upsample_bilinear2d_aa", 2, _built(_smooth_matrix, triangle, 1), aligns=True),
    **_forms("_upsample_bicubic2d_aa", 2, _built(_smooth_matrix, _SMOOTH_CUBIC, 2), aligns=True),
}
