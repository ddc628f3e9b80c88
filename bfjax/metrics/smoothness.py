"""How smooth a log bias field is, how strong in the middle, and whether its warp folds over.

Convention:
    B̂ is (h, w); B = exp(B̂) multiplies the image. Differences are taken between neighbouring pixels,
    forwards: central ones would not see the pixelwise noise of Eq. 3. Sums run over pixels; the
    total variation of one field grows with its resolution, its gradient energy does not.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from bfjax.numbers import Number, check_numbers
from bfjax.types import LogField


def total_variation(log_field: LogField) -> Scalar:
    """Anisotropic total variation, Σ |B̂(y, x+1) − B̂(y, x)| + Σ |B̂(y+1, x) − B̂(y, x)|.

    Args:
      log_field: B̂, (h, w).

    Returns:
      The sum, ≥ 0, in units of B̂. Its gradient is zero where neighbours are equal.

    Raises:
      ValueError: when traced, for a field that is not (h, w).

    Example:
      >>> import jax.numpy as jnp
      >>> total_variation(jnp.asarray([[0.0, 1.0], [0.0, 1.0]])).item()
      2.0

    Reference: Rudin, Osher, Fatemi, Nonlinear Total Variation Based Noise Removal Algorithms,
    Physica D 60, 1992.
    """
    across, down = differences(log_field)
    # sign(d) d, not |d|: JAX gives |·| the slope 1 at 0
    return jnp.sum(jnp.sign(across) * across) + jnp.sum(jnp.sign(down) * down)


def gradient_energy(log_field: LogField) -> Scalar:
    """Dirichlet energy Σ ‖∇B̂‖², with differences between neighbouring pixels.

    Args:
      log_field: B̂, (h, w).

    Returns:
      The sum of squared differences along x and along y, ≥ 0.

    Raises:
      ValueError: when traced, for a field that is not (h, w).

    Example:
      >>> import jax.numpy as jnp
      >>> gradient_energy(jnp.asarray([[0.0, 2.0], [0.0, 2.0]])).item()
      8.0
    """
    across, down = differences(log_field)
    return jnp.sum(across**2) + jnp.sum(down**2)


def high_frequency_share(log_field: LogField, *, frequency: Number) -> Scalar:
    """The share of the field's spectral energy above a spatial frequency.

    Σ_{|f| > frequency} |F(f)|² / Σ_{f ≠ 0} |F(f)|², F the discrete Fourier transform of B̂, |f| the
    Euclidean length of (f_x, f_y). The mean, f = 0, is left out on both sides: it changes only the
    exposure. No window is applied, so a field that differs between opposite borders, as every ramp
    does, leaks some energy to all frequencies.

    Args:
      log_field: B̂, (h, w).
      frequency: in cycles per image, along x per width and along y per height; at least 0.

    Returns:
      The share in [0, 1]; 0 for a constant field, which has no energy.

    Raises:
      ValueError: when traced, for a negative frequency, or a field that is not (h, w).

    Example:
      >>> import jax.numpy as jnp
      >>> wave = jnp.sin(2 * jnp.pi * 3 * jnp.arange(16) / 16)  # 3 cycles
      >>> field = jnp.tile(wave, (16, 1))
      >>> [round(high_frequency_share(field, frequency=f).item(), 3) for f in (2, 3)]
      [1.0, 0.0]
    """
    check_numbers(at_least=0, frequency=frequency)
    field = as_field(log_field)
    height, width = field.shape
    # less one pixel's value, so that a constant field is exactly zero; it only moves the mean
    spectrum = jnp.fft.fft2(field - field[0, 0])
    energy = (spectrum.real**2 + spectrum.imag**2).at[0, 0].set(0)
    cycles = np.hypot(
        np.fft.fftfreq(height, 1 / height)[:, None], np.fft.fftfreq(width, 1 / width)[None]
    )
    total = jnp.sum(energy)
    # the tolerance: frequencies are whole numbers, of which NumPy makes 2.9999999999999996
    above = jnp.sum(jnp.where(cycles > frequency + 1e-6, energy, 0))
    return above / jnp.where(total > 0, total, 1)


def central_range(log_field: LogField) -> tuple[Scalar, Scalar]:
    """The least and the greatest B = exp(B̂) over the central half of the image.

    The central half of each axis, where the lungs are; polynomial fields are strongest at the
    borders, outside.

    Args:
      log_field: B̂, (h, w).

    Returns:
      (lowest, highest) factor by which a pixel there is multiplied, > 0; 1 means unchanged.

    Raises:
      ValueError: when traced, for a field that is not (h, w).

    Example:
      >>> import jax.numpy as jnp
      >>> [end.item() for end in central_range(jnp.zeros((8, 8)).at[0, 0].set(9.0))]
      [1.0, 1.0]
    """
    field = as_field(log_field)
    height, width = field.shape
    centre = field[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return jnp.exp(jnp.min(centre)), jnp.exp(jnp.max(centre))


def folded_share(warped: Float[Array, "h w 2"]) -> Scalar:
    """The share of pixels where a warp folds over: det ∂T/∂(x, y) ≤ 0.

    The Jacobian is taken by differences, central inside and one-sided at the border. A folded field
    shows some parts of the polynomial more than once, mirrored.

    Args:
      warped: (h, w, 2), T: the (x, y) to which each pixel is sent, x to the right, y down; at least
        2 pixels high and wide.

    Returns:
      The share in [0, 1]; a pixel whose determinant is NaN counts as folded.

    Raises:
      ValueError: when traced, for an array of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> x, y = jnp.meshgrid(jnp.linspace(-1, 1, 8), jnp.linspace(-1, 1, 8))
      >>> folded_share(jnp.stack([x, y], axis=-1)).item()
      0.0
      >>> folded_share(jnp.stack([jnp.abs(x), y], axis=-1)).item()
      0.5
    """
    shape = jnp.shape(warped)
    if len(shape) != 3 or shape[2] != 2 or min(shape) < 2:
        raise ValueError(f"warped coordinates are (h, w, 2), h and w at least 2, got {shape}")
    down, right = jnp.gradient(warped, axis=(0, 1))
    determinant = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
    return jnp.mean(~(determinant > 0))  # so that NaN counts, and 0 is exactly 0


def differences(log_field: LogField) -> tuple[Float[Array, "h across"], Float[Array, "down w"]]:
    """Between neighbouring pixels: B̂(y, x+1) − B̂(y, x), and B̂(y+1, x) − B̂(y, x).

    Args:
      log_field: B̂, (h, w).

    Returns:
      Along x (h, w − 1), along y (h − 1, w).

    Raises:
      ValueError: when traced, for a field that is not (h, w).

    Example:
      >>> [d.tolist() for d in differences(jnp.asarray([[0.0, 1.0], [0.0, 3.0]]))]
      [[[1.0], [3.0]], [[0.0, 2.0]]]
    """
    field = as_field(log_field)
    return jnp.diff(field, axis=1), jnp.diff(field, axis=0)


def as_field(log_field: LogField) -> LogField:
    """Makes sure, when traced, that a log field is one (h, w) array.

    Args:
      log_field: what should be one log field.

    Returns:
      It, in at least float32.

    Raises:
      ValueError: it is a batch, or has channels.

    Example:
      >>> as_field(jnp.zeros((2, 3), jnp.bfloat16)).dtype
      dtype('float32')
    """
    if jnp.ndim(log_field) != 2:
        raise ValueError(f"a log field is (h, w), got shape {jnp.shape(log_field)}")
    return log_field.astype(jnp.promote_types(log_field.dtype, jnp.float32))
