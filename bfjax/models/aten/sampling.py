"""Sampling of images at coordinates: `torch.nn.functional.grid_sample` and `affine_grid`.

Convention:
  A grid is (n, h, w, 2), of pairs (x, y) in [-1, 1]: between the outer pixels' centres with
  `align_corners`, else between the image's edges.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from bfjax.models.aten.activations import hardtanh
from bfjax.models.aten.resizing import cubic

_BILINEAR, _NEAREST, _BICUBIC = range(3)
_ZEROS, _BORDER, _REFLECTION = range(3)


def _to_pixels(coordinate: Array, length: int, align_corners: bool) -> Array:
    if align_corners:
        return (coordinate + 1) / 2 * (length - 1)
    return ((coordinate + 1) * length - 1) / 2


def _padded(pixel: Array, length: int, padding_mode: int, align_corners: bool) -> Array:
    """Coordinates outside are moved to the border, or reflected there."""
    if padding_mode == _ZEROS:
        return pixel
    if padding_mode == _REFLECTION:
        low, span = (0.0, length - 1.0) if align_corners else (-0.5, float(length))
        if span == 0:
            return jnp.zeros_like(pixel)
        distance = jnp.abs(pixel - low)
        rest = jnp.remainder(distance, span)
        turned = jnp.remainder(jnp.floor(distance / span), 2) == 1
        pixel = jnp.where(turned, span - rest, rest) + low
    return hardtanh(pixel, 0, length - 1)


def _taps(pixel: Array, mode: int) -> list[tuple[Array, Array]]:
    """The pixels that are looked at along one axis, and their weights."""
    if mode == _NEAREST:
        return [(jnp.round(pixel), jnp.ones_like(pixel))]
    first = jnp.floor(pixel)
    if mode == _BILINEAR:
        return [(first, first + 1 - pixel), (first + 1, pixel - first)]
    return [(first + tap, cubic(pixel - first - tap)) for tap in range(-1, 3)]


def _grid_sampler(
    x: Array, grid: Array, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Array:
    height, width = x.shape[-2:]

    def pixels(coordinate: Array, length: int) -> list[tuple[Array, Array]]:
        pixel = _to_pixels(coordinate, length, align_corners)
        if interpolation_mode == _BICUBIC:  # each of its taps is moved by itself
            taps = _taps(pixel, interpolation_mode)
            return [(_padded(p, length, padding_mode, align_corners), w) for p, w in taps]
        return _taps(_padded(pixel, length, padding_mode, align_corners), interpolation_mode)

    def value(image: Array, row: Array, column: Array) -> Array:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        places = (jnp.clip(p, 0, n - 1).astype(int) for p, n in ((row, height), (column, width)))
        found = image[(slice(None), *places)]
        return jnp.where(inside[None], found, 0)

    def sample(image: Array, grid: Array) -> Array:
        columns, rows = pixels(grid[..., 0], width), pixels(grid[..., 1], height)
        parts = [
            value(image, row, column) * (of_row * of_column)[None]
            for row, of_row in rows
            for column, of_column in columns
        ]
        return functools.reduce(jnp.add, parts)

    return jax.vmap(sample)(x, grid)


def _affine_grid(theta: Array, size: Sequence[int], align_corners: bool) -> Array:
    """Coordinates of each pixel (n, c, h, w), by matrices (n, 2, 3)."""
    axes = [jnp.linspace(-1, 1, n) if n > 1 else jnp.zeros(1) for n in size[:1:-1]]
    if not align_corners:
        axes = [axis * ((n - 1) / n) for axis, n in zip(axes, size[:1:-1], strict=True)]
    x, y = jnp.meshgrid(*axes)
    points = jnp.stack([x, y, jnp.ones_like(x)], axis=-1).astype(theta.dtype)
    return jnp.einsum("hwk,nck->nhwc", points, theta)


OPERATORS: dict[str, Callable] = {
    "aten.affine_grid_generator.default": _affine_grid,
    "aten.grid_sampler.default": _grid_sampler,
    "aten.grid_sampler_2d.default": _grid_sampler,
}
