"""A procedural chest phantom: X-rays of nobody, drawn with NumPy alone.

Convention:
    Coordinates are [-1, 1] from the first to the last pixel centre, x to the right, y down; as in
    a clinic the patient's left is the image's right, so the heart lies at x > 0. The anatomy is
    the same at every size. Bright is dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8

_Map = Float32[np.ndarray, "h w"]


class Phantom(NamedTuple):
    """One phantom and the truth about it.

    Attributes:
      image: (size, size, 1), the X-ray.
      lungs: (size, size), where the lungs project, the part behind the heart left out.
      heart: (size, size), where the heart projects.
      opacities: (size, size), where disease adds to the lungs; nowhere in a negative.
    """

    image: UInt8[np.ndarray, "size size 1"]
    lungs: Bool[np.ndarray, "size size"]
    heart: Bool[np.ndarray, "size size"]
    opacities: Bool[np.ndarray, "size size"]


def phantom(seed: int | Sequence[int], *, size: int = 224, positive: bool = False) -> Phantom:
    """Draws one chest.

    Anatomy, posture, exposure, contrast and noise vary with the seed. A positive chest has soft
    patches within its lungs, a few dense ones or many faint ones; as the exposure varies far more
    than they add, the mean brightness of an image says little about them.

    Args:
      seed: any non-negative integers; the same ones give the same phantom.
      size: side of the square in pixels, at least 16.
      positive: whether the lungs have opacities; all else stays as it is without them, but for
        the exposure, which the image as a whole decides.

    Returns:
      The image and its masks.

    Raises:
      ValueError: the size is below 16.

    Example:
      >>> chest = phantom(7, size=64, positive=True)
      >>> chest.image.shape, chest.image.dtype.name
      ((64, 64, 1), 'uint8')
      >>> bool((chest.opacities & ~chest.lungs).any())
      False
    """
    if size < 16:
        raise ValueError(f"size must be at least 16, got {size}")
    # one stream for each part, so that a positive differs from its negative by disease alone
    body, disease, film = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    x, y = _coordinates(body, size)
    lungs, heart, density = _anatomy(body, x, y)
    patches = _opacities(disease, x, y, lungs) if positive else np.zeros_like(density)
    image = _expose(film, density + patches, x, y)
    in_lungs = lungs > 0.5
    return Phantom(image[:, :, None], in_lungs, heart > 0.5, (patches > 0.04) & in_lungs)


def _coordinates(rng: np.random.Generator, size: int) -> tuple[_Map, _Map]:
    """The body's coordinates at every pixel: the patient stands a little off, near and tilted."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    angle, zoom = rng.normal(0, 0.035), rng.uniform(0.92, 1.1)
    shift_x, shift_y = rng.normal(0, 0.035), rng.normal(0, 0.05)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    u, v = axis[None, :] - shift_x, axis[:, None] - shift_y
    x, y = cos * u - sin * v, sin * u + cos * v
    return x.astype(np.float32), y.astype(np.float32)


def _step(distance: _Map, softness: float) -> _Map:
    """0 to 1 as the distance goes from negative to positive, over about four softnesses."""
    return 0.5 + 0.5 * np.tanh(distance / np.float32(2 * softness))


def _bump(distance: _Map, width: float) -> _Map:
    return np.exp(-((distance / np.float32(width)) ** 2))


def _ellipse(x: _Map, y: _Map, center: tuple[float, float], axes: tuple[float, float]) -> _Map:
    """About the signed distance to an ellipse, positive inside."""
    radius = np.hypot((x - center[0]) / axes[0], (y - center[1]) / axes[1])
    return ((1 - radius) * min(axes)).astype(np.float32)


def _noise(rng: np.random.Generator, cells: int, u: _Map, v: _Map) -> _Map:
    """Smooth noise in [0, 1]: random values on a grid over [-1, 1]², interpolated smoothly."""
    grid = rng.random((cells + 2) ** 2, dtype=np.float32)  # row-major
    i, j = ((np.clip(w, -1, 1) + 1) * np.float32(cells / 2) for w in (v, u))
    row, column = i.astype(np.int32), j.astype(np.int32)
    i, j = i - row, j - column
    i, j = i * i * (3 - 2 * i), j * j * (3 - 2 * j)
    at = row * (cells + 2) + column
    above = grid.take(at) * (1 - j) + grid.take(at + 1) * j
    below = grid.take(at + cells + 2) * (1 - j) + grid.take(at + cells + 3) * j
    return (above * (1 - i) + below * i).astype(np.float32)


def _anatomy(rng: np.random.Generator, x: _Map, y: _Map) -> tuple[_Map, _Map, _Map]:
    """Soft masks of lungs and heart, in [0, 1], and the density of the healthy chest."""
    x = x + np.float32(rng.normal(0, 0.03)) * (y - 0.2) ** 2  # a spine that is not quite straight
    side, across = np.sign(x), np.abs(x)
    patient_left = x > 0

    # The rib cage: half as wide as the egg that runs from apex to below the diaphragm.
    width, apex = rng.uniform(0.66, 0.78), rng.uniform(-0.88, -0.76)
    height = np.clip((y - apex) / (1.5 - apex), 0, 1)
    cage = width * np.clip(np.sin(np.pi * height**0.66), 0, 1) ** rng.uniform(0.45, 0.58)
    cage *= 0.9 + 0.12 * height

    # The diaphragm: a dome on each side, the patient's right (image left) one higher.
    floor = rng.uniform(0.46, 0.64)
    leftness = _step(x, 0.03)
    dome = (
        floor
        - rng.uniform(0.02, 0.09) * (1 - leftness)
        + rng.uniform(0.8, 1.2) * (across - 0.33) ** 2
    )

    # Mediastinum, aorta and heart bound the lungs towards the middle. The heart hangs from the
    # vessels: its left border runs slanting to the apex, the right one bulges a little.
    middle = rng.uniform(0.1, 0.14) + 0.03 * _bump(y + 0.9, 0.3)
    top, apex_x = floor - rng.uniform(0.5, 0.62), rng.uniform(0.36, 0.52)
    down = np.clip((y - top) / (floor - 0.1 - top), 0, 1.35)
    left = 0.1 + (apex_x - 0.1) * np.sin(np.pi / 2 * down) ** rng.uniform(1.1, 1.6)
    right = rng.uniform(0.17, 0.24) * _bump(y - floor + 0.2, 0.33)
    heart = _step(left - x, 0.014) * _step(x + right, 0.014)
    heart *= _step(y - top, 0.03) * _step(dome + 0.07 - y, 0.025)
    knob = _step(_ellipse(x, y, (0.1, top - rng.uniform(0.08, 0.16)), (0.1, 0.11)), 0.015)
    lungs = _step(cage - across, 0.014) * _step(across - middle, 0.016) * _step(dome - y, 0.012)
    aerated = lungs * (1 - heart) * (1 - 0.8 * knob)

    # Soft tissue is thickest in the middle: thorax, shoulders and neck; air outside.
    flank = cage.max() + rng.uniform(0.12, 0.24) + 0.1 * _bump(y + 0.5, 0.3)
    shoulder = np.clip(across - rng.uniform(0.24, 0.32), 0, None) ** 0.6 * 0.5 - 1.28
    torso = _step(flank - across, 0.015) * _step(y - shoulder, 0.03)
    thick = np.sqrt(np.clip(1 - (across / (flank + 0.04)) ** 2, 0, 1))
    density = torso * (rng.uniform(0.1, 0.2) + rng.uniform(0.42, 0.52) * thick)
    abdomen = _step(y - dome, 0.02) * _step(cage + 0.06 - across, 0.05)
    density += 0.16 * abdomen * (1 - rng.uniform(0.1, 0.4) * leftness)
    if rng.random() < 0.6:  # air in the stomach, under the patient's left dome
        bubble = _ellipse(x, y, (rng.uniform(0.28, 0.42), floor + 0.2), (0.12, 0.085))
        density -= 0.2 * _step(bubble, 0.02) * abdomen

    # Air takes away, most where the lung is deepest.
    depth = np.clip((cage - across) / 0.3, 0, 1) * np.clip((dome - y) / 0.3, 0.25, 1)
    density -= rng.uniform(0.34, 0.44) * aerated * (0.55 + 0.45 * np.sqrt(depth)) * thick
    density += rng.uniform(0.06, 0.12) * heart + 0.05 * knob

    # The spine with its discs, seen through the heart; the windpipe above, dark.
    spine = _bump(x, 0.085) ** 0.7
    discs = 0.85 + 0.15 * np.cos(y * np.float32(rng.uniform(36, 42)))
    density += rng.uniform(0.1, 0.18) * spine * discs * torso
    windpipe = (
        _bump(x - rng.normal(0, 0.015), 0.055) * _step(-0.22 - y, 0.05) * _step(y + 0.95, 0.05)
    )
    density -= 0.13 * windpipe

    density += _vessels(rng, x, y, patient_left, aerated)
    density += _bones(rng, x, y, side, cage, apex) * (1 - 0.75 * abdomen) * torso
    return aerated.astype(np.float32), heart, density.astype(np.float32)


def _vessels(
    rng: np.random.Generator, x: _Map, y: _Map, patient_left: Bool[np.ndarray, "h w"], lungs: _Map
) -> _Map:
    """Hila, and vessels that leave them like rays and fade outwards."""
    root_x = np.where(patient_left, 0.2, -0.19).astype(np.float32)
    root_y = np.where(patient_left, 0.0, 0.05).astype(np.float32) + np.float32(rng.normal(0, 0.03))
    dx, dy = x - root_x, y - root_y
    radius = np.hypot(dx, dy)
    bend = 0.25 * _noise(rng, 6, x, y)
    angle = np.arctan2(dy, np.abs(dx)) / np.float32(np.pi / 2) + bend
    rays = np.zeros_like(x)
    for cells, strength in ((9, 0.6), (20, 0.4)):
        value = _noise(rng, cells, np.clip(angle, -1, 1), 2 * radius - 1)
        rays += strength * (1 - np.abs(2 * value - 1)) ** 2
    hilum = _bump(np.hypot(dx, 0.6 * dy), 0.085) * (0.6 + 0.4 * _noise(rng, 16, x, y))
    fade = np.exp(-radius / np.float32(0.32))
    return lungs * (rng.uniform(0.1, 0.22) * rays * fade) + rng.uniform(0.08, 0.15) * hilum


def _bones(rng: np.random.Generator, x: _Map, y: _Map, side: _Map, cage: _Map, apex: float) -> _Map:
    """Ribs, each family a periodic function along its own height, collar bones, shoulders."""
    across = np.abs(x)
    spacing = rng.uniform(0.15, 0.18)
    within = _step(cage + 0.045 - across, 0.012) * _step(0.85 - y, 0.1)
    # Behind, a rib leaves the spine upwards and turns down at the flank; in front it falls
    # towards the breast bone and ends in cartilage, which X-rays hardly see.
    behind = -0.34 * across + rng.uniform(0.68, 0.85) * across**2 + 0.1 * across**4
    before = rng.uniform(0.34, 0.48) - rng.uniform(0.7, 0.85) * across + 0.3 * across**2
    bones = np.zeros_like(x)
    families = ((behind, 0.3, 0.115, 0.05), (before, 0.25, 0.075, 0.42))
    for curve, half, strength, start in families:
        along = (y - apex - curve) / np.float32(spacing) + np.float32(rng.random())
        rib = np.floor(along)
        off = np.abs(along - rib - 0.5)
        profile = _step(half - off, 0.035) * (0.75 + 0.5 * _bump(off - half, 0.08))
        ribs = np.clip(rib + 8, 0, 39).astype(np.int32) + np.where(side > 0, 20, 0)
        each = rng.uniform(0.75, 1.2, 60).astype(np.float32)[ribs]
        bones += strength * each * profile * within * _step(across - start, 0.03) * (y > apex - 0.1)
    density = bones * rng.uniform(0.75, 1.15)
    # collar bones, an S each
    level, slant = rng.uniform(-0.66, -0.56), rng.uniform(0.1, 0.3)
    bow = level - slant * (across - 0.1) + 0.05 * np.sin(across * np.float32(7))
    off = np.abs(y - bow)
    ends = _step(across - 0.09, 0.015) * _step(0.86 - across, 0.03)
    density += 0.15 * _step(0.032 - off, 0.006) * (0.7 + 0.6 * _bump(off - 0.03, 0.012)) * ends
    # shoulder blades and heads of the arms at the edges
    blade = _ellipse(across, y, (rng.uniform(0.78, 0.86), -0.36), (0.13, 0.28))
    head = _ellipse(across, y, (rng.uniform(0.9, 1.0), -0.7), (0.16, 0.15))
    return density + 0.07 * _step(blade, 0.02) + 0.16 * _step(head, 0.015)


def _opacities(rng: np.random.Generator, x: _Map, y: _Map, lungs: _Map) -> _Map:
    """A few dense patches, or many faint ones, with ragged borders, inside the lungs."""
    few = rng.random() < 0.55
    count = rng.integers(1, 4) if few else rng.integers(6, 12)
    strength = rng.uniform(0.24, 0.38) if few else rng.uniform(0.15, 0.26)
    ragged = _noise(rng, 7, x, y) + 0.4 * _noise(rng, 16, x, y)
    texture = 0.8 + 0.4 * _noise(rng, 26, x, y)
    # about where lungs are; a patch in the heart's shadow would not be seen
    inside = np.argwhere(lungs > 0.75)
    patches = np.zeros_like(x)
    for _ in range(count):
        row, column = inside[rng.integers(len(inside))]
        wide = rng.uniform(0.15, 0.3) if few else rng.uniform(0.1, 0.18)
        tall = wide * rng.uniform(0.7, 1.4)
        radius = np.hypot((x - x[row, column]) / wide, (y - y[row, column]) / tall)
        patch = _step(1.42 - radius - 0.6 * ragged, 0.2)
        patches = np.maximum(patches, patch * np.float32(rng.uniform(0.7, 1.0)))
    return (strength * patches * texture * lungs).astype(np.float32)


def _expose(
    rng: np.random.Generator, density: _Map, x: _Map, y: _Map
) -> UInt8[np.ndarray, "size size"]:
    """Film and machine: uneven beam, curve, exposure, blur, noise, border, marker."""
    size = len(density)
    signal = density * (1 + rng.normal(0, 0.05) * x + rng.normal(0, 0.05) * y)
    signal = np.clip(signal, 0, None)
    low, high = np.percentile(signal[size // 8 : -size // 8, size // 8 : -size // 8], (1, 99))
    signal = np.clip((signal - 0.55 * low) / (high - 0.55 * low), 0, 1.15)
    signal = signal ** rng.uniform(0.75, 1.35)
    signal = rng.uniform(0.62, 0.95) * signal + rng.uniform(0.0, 0.06)
    signal = np.where(density < 0.02, np.minimum(signal, 0.03), signal)
    grain = rng.standard_normal((size, size), dtype=np.float32)
    grain = 0.5 * grain + 0.25 * (np.roll(grain, 1, 0) + np.roll(grain, 1, 1))
    signal = signal + rng.uniform(0.01, 0.028) * grain * np.sqrt(0.25 + signal)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    if rng.random() < 0.3:  # the collimator's blades, a little askew
        askew, open_x, open_y = rng.normal(0, 0.03), rng.uniform(0.86, 1), rng.uniform(0.88, 1)
        u, v = axis[None, :] + askew * axis[:, None], axis[:, None] - askew * axis[None, :]
        signal = signal * _step(open_x - np.abs(u), 0.004) * _step(open_y - np.abs(v), 0.004)
    if rng.random() < 0.5:  # the lead letter that marks a side
        letter = _marker(size)
        top, left = int(rng.uniform(0.03, 0.12) * size), int(rng.uniform(0.02, 0.1) * size)
        rows, columns = letter.shape
        area = signal[top : top + rows, left : left + columns]
        area[...] = np.where(letter, rng.uniform(0.85, 1), area)
    return np.clip(np.rint(signal * 255), 0, 255).astype(np.uint8)


def _marker(size: int) -> Bool[np.ndarray, "rows columns"]:
    rows = ("XXX.", "X..X", "X..X", "XXX.", "X.X.", "X..X")
    letter = np.array([[c == "X" for c in row] for row in rows])
    times = max(1, size // 90)
    return letter.repeat(times, 0).repeat(times, 1)
