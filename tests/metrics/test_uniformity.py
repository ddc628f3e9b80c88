import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import bfjax
from bfjax.metrics import largest_slope, log_range, nonuniformity, root_mean_square
from tests.oracles import check_gradients


def _field(shape=(23, 31), seed=0):
    return np.random.default_rng(seed).normal(0, 0.4, shape)


def _of_field(field):
    return nonuniformity(field, pixel_mm=3, border_mm=5)


STATISTICS = [log_range, root_mean_square, largest_slope, _of_field]


def _ramp(height, width, slope):
    """B̂ rises by `slope` from the first to the last pixel of each row."""
    return jnp.tile(jnp.linspace(0, slope, width), (height, 1))


@pytest.mark.parametrize("shape", [(23, 31), (1, 7), (5, 1)])
def test_range_and_root_mean_square_are_numpys(shape):
    field = _field(shape)
    found = jnp.asarray(field, jnp.float32)
    assert log_range(found) == pytest.approx(np.ptp(field), rel=1e-5)
    assert root_mean_square(found) == pytest.approx(np.linalg.norm(field) / field.size**0.5, 1e-5)


@pytest.mark.parametrize("shape", [(9, 12), (16, 16), (2, 7), (5, 2)])
def test_the_slope_is_the_longest_gradient_of_numpys(shape):
    field = _field(shape)
    ahead = np.pad(field, ((0, 1), (0, 1)))
    across, down = ahead[:-1, 1:] - field, ahead[1:, :-1] - field
    across[:, -1], down[-1] = across[:, -2], down[-2]
    expected = (shape[1] - 1) * np.hypot(across, down).max()
    assert largest_slope(jnp.asarray(field, jnp.float32)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(10, 20), (30, 20), (2, 200)])
def test_a_plane_has_its_own_slope_at_every_resolution_and_on_both_axes(shape):
    """B̂ = 3 x + 4 y, x and y in widths: ‖(3, 4)‖ = 5."""
    height, width = shape
    y, x = (jnp.arange(n) / (width - 1) for n in (height, width))
    field = 3 * x[None] + 4 * y[:, None]
    assert largest_slope(field) == pytest.approx(5, rel=1e-4)
    assert log_range(_ramp(*shape, 3.0)) == pytest.approx(3)
    assert largest_slope(_ramp(*shape, 3.0)) == pytest.approx(3, rel=1e-4)


def test_the_slope_of_a_wave_is_its_derivatives_largest():
    for size in (64, 256):
        wave = jnp.sin(3 * jnp.linspace(-1, 1, size))
        slope = largest_slope(jnp.tile(wave, (4, 1)))
        assert slope == pytest.approx(2 * 3, rel=2e-3)  # a width is 2 of those units


def test_the_slope_sees_what_turns_from_pixel_to_pixel():
    y, x = jnp.meshgrid(jnp.arange(6), jnp.arange(9), indexing="ij")
    assert largest_slope(jnp.where((x + y) % 2, 1.0, 0.0)) == pytest.approx(8 * 2**0.5, rel=1e-6)


def _scipys(field, repeats, per_mm):
    """Means of labelled regions of 10 mm, of pixels cut into finer ones that no edge cuts."""
    light = np.exp(field).repeat(repeats, 0).repeat(repeats, 1)
    side, places = 10 * per_mm, []
    for size in light.shape:
        count = (size - 2 * side) // side
        place = (np.arange(size) - (size - count * side) // 2) // side
        places.append(np.where((place >= 0) & (place < count), place, -1))
    y, x = places
    shape = y.max() + 1, x.max() + 1
    labels = np.where((y[:, None] < 0) | (x < 0), -1, y[:, None] * shape[1] + x)
    means = ndimage.mean(light, labels, np.arange(shape[0] * shape[1])).reshape(shape)
    steps = [
        abs(means[i, j] - means[i + a, j + b])
        for i, j in np.ndindex(shape)
        for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0))
        if 0 <= i + a < shape[0] and 0 <= j + b < shape[1]
    ]
    return np.ptp(means) / means.mean(), max(steps) / means.mean()


@pytest.mark.parametrize(
    ("shape", "repeats", "per_mm"),
    [((60, 77), 2, 1), ((32, 32), 27, 2), ((64, 50), 3, 1), ((120, 90), 1, 2), ((40, 60), 3, 2)],
)
def test_regions_are_those_of_scipy(shape, repeats, per_mm):
    field = ndimage.gaussian_filter(_field(shape), 2) + 0.3
    found = nonuniformity(jnp.asarray(field, jnp.float32), pixel_mm=repeats / per_mm)
    np.testing.assert_allclose(found, _scipys(field, repeats, per_mm), rtol=1e-4)
    assert found.global_ >= found.local > 0


def test_a_ramp_of_light_has_closed_forms():
    """B = 1 + k x over 100 pixels of 1 mm: 8 means, a step of 10 k apart, about the middle."""
    k = 0.01
    light = 1 + k * jnp.arange(100.0)
    found = nonuniformity(jnp.tile(jnp.log(light), (50, 1)), pixel_mm=1)
    middle = 1 + k * 49.5
    assert found.global_ == pytest.approx(7 * 10 * k / middle, rel=1e-4)
    assert found.local == pytest.approx(10 * k / middle, rel=1e-4)


def test_a_vignette_is_darkest_in_the_corners_that_are_left():
    """B = 1 − r², sampled finely: the means of 10 mm squares have a closed form."""
    size, pixel, half = 430, 1.0, 215.0
    at = (jnp.arange(size) + 0.5) * pixel - half
    light = 1 - 0.3 * (at[:, None] ** 2 + at[None] ** 2) / half**2
    found = nonuniformity(jnp.log(light), pixel_mm=pixel)

    def mean_square(centre):  # of (centre + u)², u in the ten pixel centres of a region
        return centre**2 + np.mean((np.arange(10) - 4.5) ** 2)

    centres = np.arange(-200, 201, 10.0)
    squares = mean_square(centres)
    means = 1 - 0.3 * (squares[:, None] + squares[None]) / half**2
    assert found.global_ == pytest.approx(np.ptp(means) / means.mean(), rel=1e-3)
    step = 0.3 * (200**2 - 190**2) / half**2
    assert found.local == pytest.approx(step / means.mean(), rel=1e-3)


def test_the_border_is_dropped_and_exposure_does_not_matter():
    inner = jnp.zeros((30, 30)).at[:5].set(9.0).at[:, -5:].set(-9.0)
    assert _both(inner, pixel_mm=2) == (0, 0)
    assert _both(inner, pixel_mm=2, border_mm=0) != (0, 0)
    field = jnp.asarray(_field((30, 40)), jnp.float32)
    for exposure in (-80, 5, 80):
        np.testing.assert_allclose(
            _both(field + exposure, pixel_mm=2), _both(field, pixel_mm=2), rtol=2e-3
        )


def _both(field, **options):
    return tuple(share.item() for share in nonuniformity(field, **options))


@pytest.mark.parametrize("extreme", [80.0, 1e4])
def test_extreme_fields_are_finite(extreme):
    field = jnp.full((24, 24), -extreme).at[0, 0].set(extreme).at[12, 12].set(0)
    for found in jax.tree.leaves([statistic(field) for statistic in STATISTICS]):
        assert jnp.isfinite(found)


@pytest.mark.slow
@pytest.mark.parametrize("size", [48, 224])
def test_a_smooth_field_is_the_same_at_every_resolution(size):
    field = bfjax.polynomial_tps((size, size), degree=3, grid_size=3)
    params = field.init()
    params = params._replace(coefficients=0.1 * jnp.arange(1.0, len(params.coefficients) + 1))
    fine = bfjax.polynomial_tps((320, 320), degree=3, grid_size=3)
    here, there = field.log_field(params), fine.log_field(params)
    for statistic in (log_range, largest_slope, root_mean_square):
        assert statistic(here) == pytest.approx(statistic(there).item(), rel=0.06)
    near, exact = (nonuniformity(f, pixel_mm=430 / f.shape[0]) for f in (here, there))
    np.testing.assert_allclose(near, exact, rtol=0.06)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_jit_is_eager_and_vmap_is_a_loop(statistic):
    fields = [jnp.asarray(_field(seed=s), jnp.float32) for s in range(3)]
    loop = jax.tree.map(lambda *one: jnp.stack(one), *map(statistic, fields))
    together = jax.jit(jax.vmap(statistic))(jnp.stack(fields))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), together, loop)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_gradients_are_finite_differences(statistic, x64):
    check_gradients(jax.jit(statistic), (_field(),), order=1, modes=["rev"], eps=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_constant_field_is_even_and_has_no_gradient(statistic, value):
    field = jnp.full((23, 31), value)
    found, pullback = jax.vjp(statistic, field)
    if statistic is root_mean_square:
        assert found == pytest.approx(value)
    else:
        assert all(one == 0 for one in jax.tree.leaves(found))
    if statistic is not root_mean_square or not value:
        (slope,) = pullback(jax.tree.map(jnp.ones_like, found))
        np.testing.assert_allclose(slope, 0, atol=1e-8)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_batch_is_no_field(statistic, unchecked):
    with pytest.raises(ValueError, match=r"a log field is \(h, w\), got shape \(2, 30, 40\)"):
        statistic(jnp.zeros((2, 30, 40)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pixel_mm": 0}, "pixel_mm must be positive, got 0"),
        ({"pixel_mm": float("nan")}, "pixel_mm must be positive, got nan"),
        ({"pixel_mm": float("inf")}, "pixel_mm must be positive, got inf"),
        ({"pixel_mm": 1, "region_mm": -1}, "region_mm must be positive, got -1"),
        ({"pixel_mm": 1, "border_mm": -1}, "border_mm must not be negative, got -1"),
        (
            {"pixel_mm": 1.3},
            "30 x 40 pixels of 1.3 mm have fewer than 2 x 2 regions of 10 mm inside a border of 10",
        ),
    ],
)
def test_sizes_that_make_no_regions_are_named(options, words, unchecked):
    with pytest.raises(ValueError, match=words):
        nonuniformity(jnp.zeros((30, 40)), **options)


def test_a_slope_needs_two_pixels_each_way():
    for shape in ((1, 5), (5, 1)):
        with pytest.raises(ValueError, match=f"a slope needs 2 x 2 pixels, got \\({shape[0]}, "):
            largest_slope(jnp.zeros(shape))
