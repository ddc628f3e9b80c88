import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.field.tps import control_grid, lattice, warp_matrix
from bfjax.metrics import (
    central_range,
    folded_share,
    gradient_energy,
    high_frequency_share,
    total_variation,
)
from tests.oracles import check_gradients

SHAPES = [(9, 12), (16, 16), (1, 7), (5, 1)]


def _field(shape=(9, 12), seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape)


def _high(field):
    return high_frequency_share(field, frequency=2.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_differences_are_numpys(shape):
    field = _field(shape)
    differences = [np.diff(field, axis=axis) for axis in (0, 1)]
    field = jnp.asarray(field, jnp.float32)
    assert total_variation(field) == pytest.approx(sum(abs(d).sum() for d in differences), 1e-5)
    assert gradient_energy(field) == pytest.approx(sum((d**2).sum() for d in differences), 1e-5)


def test_sums_over_a_plane_have_closed_forms():
    """B̂ = 2 x + 3 y on 8 x 10 pixels: 8 · 9 steps along x, 7 · 10 along y."""
    y, x = jnp.meshgrid(jnp.arange(8.0), jnp.arange(10.0), indexing="ij")
    field = 2 * x + 3 * y
    assert total_variation(field) == 8 * 9 * 2 + 7 * 10 * 3
    assert gradient_energy(field) == 8 * 9 * 4 + 7 * 10 * 9


def test_the_energy_of_a_smooth_field_does_not_depend_on_its_resolution():
    """∫ ‖∇ cos(πx) cos(πy)‖² over the unit square is π²/2."""

    def field(size):
        wave = jnp.cos(jnp.pi * (jnp.arange(size) + 0.5) / size)
        return wave[:, None] * wave[None]

    for size in (64, 128):
        assert jax.jit(lambda n=size: gradient_energy(field(n)))() == pytest.approx(
            np.pi**2 / 2, rel=0.03
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("frequency", [0, 1, 2.5, 4])
def test_spectral_share_is_numpys(shape, frequency):
    field = _field(shape)
    energy = abs(np.fft.fft2(field - field.mean())) ** 2
    y, x = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
    high = energy[np.hypot(y[:, None], x[None]) > frequency].sum() / energy.sum()
    found = high_frequency_share(jnp.asarray(field + 5, jnp.float32), frequency=frequency)
    assert found == pytest.approx(high, abs=1e-5)


def test_spectral_share_of_two_waves():
    """Amplitudes 2 at 3 cycles across and 1 at (4, 3) cycles, |f| = 5: 4 parts to 1."""
    y, x = np.meshgrid(np.arange(20) / 20, np.arange(30) / 30, indexing="ij")
    field = 2 * np.cos(2 * np.pi * 3 * x) + np.cos(2 * np.pi * (4 * y + 3 * x)) + 7
    shares = [
        high_frequency_share(jnp.asarray(field, jnp.float32), frequency=f)
        for f in (0, 2.9, 3, 4.9, 5)
    ]
    np.testing.assert_allclose(shares, [1, 1, 0.2, 0.2, 0], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.7, -1e4])
def test_a_constant_field_has_no_energy(value):
    assert _high(jnp.full((13, 17), value)) == 0


def test_central_range_sees_the_central_half_only():
    y, x = np.meshgrid(np.arange(8), np.arange(12), indexing="ij")
    inside = (y >= 2) & (y < 6) & (x >= 3) & (x < 9)
    field = np.where(inside, 0.01 * (x - 5) + 0.1 * (y - 4), 9 * (-1) ** (x + y))
    expected = np.exp([0.01 * -2 + 0.1 * -2, 0.01 * 3 + 0.1 * 1])
    np.testing.assert_allclose(central_range(jnp.asarray(field, jnp.float32)), expected, rtol=1e-6)
    np.testing.assert_allclose(central_range(jnp.full((1, 3), 0.5)), np.exp(0.5), rtol=1e-6)


def _lattice(shape):
    return lattice(*shape).reshape(*shape, 2)


def test_an_affine_map_folds_where_its_determinant_says():
    points = _lattice((7, 9))
    for seed in range(6):
        matrix = _field((2, 2), seed)
        warped = jnp.asarray(points @ matrix.T + [3.0, -2.0], jnp.float32)
        assert folded_share(warped) == (np.linalg.det(matrix) <= 0)
    flat = points @ np.array([[1.0, 0.0], [2.0, 0.0]])  # onto a line
    assert folded_share(jnp.asarray(flat, jnp.float32)) == 1


def test_a_folded_map_folds_on_its_far_side():
    """X → x² turns back left of 0; swapped axes mirror everything."""
    points = _lattice((6, 20))
    folded = jnp.asarray(np.stack([points[..., 0] ** 2, points[..., 1]], -1), jnp.float32)
    assert folded_share(folded) == 0.5
    assert folded_share(jnp.asarray(points[..., ::-1], jnp.float32)) == 1


def test_folds_are_those_of_numpys_jacobian():
    points = _lattice((11, 13)) + 0.2 * _field((11, 13, 2))
    (x_down, x_right), (y_down, y_right) = (np.gradient(points[..., i]) for i in (0, 1))
    expected = np.mean(x_right * y_down - x_down * y_right <= 0)
    assert 0.05 < expected < 0.95
    assert folded_share(jnp.asarray(points, jnp.float32)) == pytest.approx(expected, abs=1e-6)


def test_the_spline_folds_when_a_control_point_is_dragged_past_its_neighbour():
    matrix, theta = warp_matrix((24, 24), 4), control_grid(4)
    assert folded_share(jnp.asarray((matrix @ theta).reshape(24, 24, 2), jnp.float32)) == 0
    theta[5] = theta[6] + 0.5
    share = folded_share(jnp.asarray((matrix @ theta).reshape(24, 24, 2), jnp.float32))
    assert 0.02 < share < 0.5


def test_nan_coordinates_count_as_folded():
    assert folded_share(jnp.full((4, 4, 2), jnp.nan)) == 1


@pytest.mark.parametrize(
    "statistic", [total_variation, gradient_energy, _high, central_range, folded_share]
)
def test_jit_is_eager_and_vmap_is_a_loop(statistic):
    shape = (8, 10, 2) if statistic is folded_share else (8, 10)
    fields = [jnp.asarray(_field(shape, seed=s), jnp.float32) for s in range(3)]
    loop = jax.tree.map(lambda *one: jnp.stack(one), *map(statistic, fields))
    together = jax.jit(jax.vmap(statistic))(jnp.stack(fields))
    np.testing.assert_allclose(together, loop, rtol=1e-5)


@pytest.mark.parametrize("statistic", [total_variation, gradient_energy, _high])
def test_gradients_are_finite_differences(statistic, x64):
    check_gradients(jax.jit(statistic), (_field(),), order=1, modes=["rev"], eps=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("statistic", [total_variation, gradient_energy, _high])
def test_a_constant_field_has_no_gradient(statistic):
    np.testing.assert_array_equal(jax.grad(statistic)(jnp.full((6, 7), 0.3)), 0)


@pytest.mark.parametrize("statistic", [total_variation, gradient_energy, _high, central_range])
def test_a_batch_is_no_field(statistic, unchecked):
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        statistic(jnp.zeros((2, 3, 4)))


def test_bad_options_and_warps_are_named(unchecked):
    with pytest.raises(ValueError, match="frequency must not be negative, got -1"):
        high_frequency_share(jnp.zeros((4, 4)), frequency=-1)
    for shape in ((4, 4), (4, 4, 3), (1, 4, 2)):
        with pytest.raises(ValueError, match=f"got \\({shape[0]}, {shape[1]}"):
            folded_share(jnp.zeros(shape))
