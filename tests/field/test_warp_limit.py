"""A warp that does not fold: the spline's slopes by hand, and determinants on a fine lattice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

import bfjax
from bfjax.field import chunked_polynomial_tps, control_grid, lattice, limit_warp
from bfjax.field.tps import spline_gradient, spline_matrix
from tests.oracles import check_gradients

IMAGE = jnp.ones((8, 8, 1))


def _field(grid_size, **options):
    return bfjax.polynomial_tps((8, 8), degree=2, grid_size=grid_size, **options)


def _params(field, seed, size, dtype=np.float64):
    start = field.init()
    away = np.random.default_rng(seed).normal(0, size, start.control_points.shape)
    return start._replace(control_points=start.control_points + jnp.asarray(away, dtype))


def _largest_slope(controls, theta, side, step=1e-6):
    """Of SciPy's spline, by central differences, and the smallest determinant of the warp."""
    spline = RBFInterpolator(controls, theta - controls, kernel="thin_plate_spline", degree=1)
    points = lattice(side, side) * (controls.max() - step) + 0.0
    slopes = np.stack(
        [(spline(points + step * e) - spline(points - step * e)) / (2 * step) for e in np.eye(2)],
        axis=-1,
    )
    norms = np.linalg.norm(slopes, 2, axis=(1, 2))
    return norms.max(), np.linalg.det(np.eye(2) + slopes).min()


@pytest.mark.parametrize("grid_size", [2, 3, 5])
def test_the_slopes_are_those_of_scipys_spline(grid_size):
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    slopes = spline_gradient(points, grid_size)
    for k, e in enumerate(np.eye(2)):
        difference = spline_matrix(points + 1e-6 * e, grid_size) - spline_matrix(
            points - 1e-6 * e, grid_size
        )
        np.testing.assert_allclose(slopes[k], difference / 2e-6, atol=1e-7)


def test_at_a_control_point_the_slope_is_finite():
    slopes = spline_gradient(control_grid(4), 4)
    near = spline_gradient(control_grid(4) + 1e-9, 4)
    np.testing.assert_allclose(slopes, near, atol=1e-5)


@pytest.mark.parametrize("grid_size", [2, 3, 4, 8, 12, 16])
@pytest.mark.parametrize("size", [0.06, 0.3, 3.0])
def test_no_random_warp_folds(grid_size, size, x64):
    field = _field(grid_size, dtype=np.float64)
    for seed in range(3):
        params = limit_warp(field)(_params(field, seed, size), IMAGE)
        norm, determinant = _largest_slope(
            control_grid(grid_size), np.asarray(params.control_points), 8 * (grid_size - 1) + 1
        )
        assert determinant > 0
        assert norm < 1


@pytest.mark.parametrize("extent", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0)])
def test_the_displacement_is_scaled_onto_the_bound(extent, x64):
    """‖∇u‖ by NumPy on the lattice; the extent changes the units, not the warp."""
    field = _field(5, extent=extent, dtype=np.float64)
    start = np.asarray(field.init().control_points)
    params = _params(field, 0, 0.4 * (extent[1] - extent[0]) / 2)
    found = np.asarray(limit_warp(field, maximum=0.5)(params, IMAGE).control_points)
    away = np.asarray(params.control_points) - start
    half = (extent[1] - extent[0]) / 2
    slopes = np.einsum("dpk,kc->pcd", spline_gradient(lattice(17, 17), 5), away / half)
    scale = 0.5 / np.linalg.norm(slopes, 2, axis=(1, 2)).max()
    assert scale < 1
    np.testing.assert_allclose(found, start + scale * away, atol=1e-12)


def test_within_the_bound_nothing_changes():
    field = _field(4)
    for params in (field.init(), _params(field, 0, 1e-3, np.float32)):
        found = limit_warp(field)(params, IMAGE)
        np.testing.assert_array_equal(found.control_points, params.control_points)
        np.testing.assert_array_equal(found.coefficients, params.coefficients)


def test_what_was_limited_is_left_alone():
    field = _field(6)
    once = limit_warp(field)(_params(field, 0, 0.5, np.float32), IMAGE)
    twice = limit_warp(field)(once, IMAGE)
    np.testing.assert_allclose(twice.control_points, once.control_points, atol=1e-6)


def test_a_chunked_field_has_the_same_warp():
    field = chunked_polynomial_tps((8, 8), degree=2, grid_size=4)
    params = _params(field, 0, 0.5, np.float32)
    found, same = (limit_warp(f)(params, IMAGE).control_points for f in (field, _field(4)))
    np.testing.assert_array_equal(found, same)


def test_jit_is_eager_and_vmap_is_a_loop():
    field = _field(4)
    project = limit_warp(field)
    several = [_params(field, seed, 0.3, np.float32) for seed in range(3)]
    loop = jnp.stack([project(p, IMAGE).control_points for p in several])
    batch = jax.tree.map(lambda *p: jnp.stack(p), *several)
    found = jax.jit(jax.vmap(lambda p: project(p, IMAGE)))(batch)
    np.testing.assert_allclose(found.control_points, loop, atol=1e-6)


@pytest.mark.slow
def test_gradients_are_finite_differences_and_finite_at_the_identity(x64):
    field = _field(3, dtype=np.float64)
    inside, outside = (_params(field, 0, size) for size in (0.02, 0.5))
    for at in (inside, outside):
        check_gradients(lambda p: limit_warp(field)(p, IMAGE), (at,), order=1, eps=1e-6)
    slopes = jax.grad(lambda p: limit_warp(field)(p, IMAGE).control_points.sum())(field.init())
    np.testing.assert_array_equal(slopes.control_points, 1)


def test_the_maximum_is_a_leaf_and_may_be_mapped():
    field = _field(4)
    params = _params(field, 0, 0.5, np.float32)
    bounds = jnp.asarray([0.2, 0.8])
    found = jax.vmap(lambda m: limit_warp(field, maximum=m)(params, IMAGE).control_points)(bounds)
    for bound, one in zip(bounds, found, strict=True):
        expected = limit_warp(field, maximum=float(bound))(params, IMAGE).control_points
        np.testing.assert_allclose(one, expected, atol=1e-6)


@pytest.mark.parametrize("maximum", [0, 1, -0.1, float("nan")])
def test_a_maximum_that_lets_it_fold_is_named(maximum):
    with pytest.raises(ValueError, match="maximum must be in"):
        limit_warp(_field(3), maximum=maximum)


def test_other_fields_have_no_warp():
    with pytest.raises(ValueError, match="this field has none"):
        limit_warp(bfjax.pixelwise((3, 3)))
