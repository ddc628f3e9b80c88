import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from bfjax.field import control_grid, lattice, warp, warp_matrix

SHAPES = [((9, 9), 4), ((12, 7), 5), ((1, 6), 3), ((8, 8), 2)]


@pytest.mark.parametrize(("shape", "grid_size"), SHAPES)
def test_warp_is_scipys_spline_on_random_control_points(shape, grid_size):
    theta = control_grid(grid_size) + np.random.default_rng(0).normal(0, 0.3, (grid_size**2, 2))
    scipys = RBFInterpolator(control_grid(grid_size), theta, kernel="thin_plate_spline", degree=1)
    np.testing.assert_allclose(
        warp_matrix(shape, grid_size) @ theta, scipys(lattice(*shape)), atol=1e-9
    )


@pytest.mark.parametrize(("shape", "grid_size"), SHAPES)
def test_matrix_keeps_every_affine_map(shape, grid_size):
    matrix, pixels, controls = (
        warp_matrix(shape, grid_size),
        lattice(*shape),
        control_grid(grid_size),
    )
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-10)
    np.testing.assert_allclose(matrix @ controls, pixels, atol=1e-10)
    shear = np.array([[0.5, 0.2], [-0.3, 1.5]])
    np.testing.assert_allclose(matrix @ (controls @ shear + 0.1), pixels @ shear + 0.1, atol=1e-10)


def test_control_points_are_where_the_spline_sends_them():
    """Pixels that coincide with control points pick out exactly their own."""
    np.testing.assert_allclose(warp_matrix((4, 4), 4), np.eye(16), atol=1e-10)


def test_lattice_is_row_major_with_y_outer_and_y_down():
    points = lattice(2, 3)
    assert points.tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 1], [0, 1], [1, 1]]
    assert lattice(1, 1).tolist() == [[0.0, 0.0]]
    assert lattice(1, 2, low=0, high=1).tolist() == [[0, 0.5], [1, 0.5]]


def test_transposing_the_image_permutes_the_control_points():
    matrix = warp_matrix((5, 5), 3).reshape(5, 5, 3, 3)
    np.testing.assert_allclose(matrix, matrix.transpose(1, 0, 3, 2), atol=1e-10)


def test_warp_is_exact_at_the_identity_and_its_gradient_is_the_matrix():
    matrix, points = jnp.asarray(warp_matrix((6, 6), 3)), jnp.asarray(lattice(6, 6))
    still = jnp.zeros((9, 2))
    assert (warp(matrix, points, still) == points).all()
    jacobian = jax.jacobian(lambda d: jax.jit(warp)(matrix, points, d)[:, 0])(still)
    np.testing.assert_allclose(jacobian[..., 0], matrix, atol=1e-6)
    assert (jacobian[..., 1] == 0).all()


def test_matrix_is_computed_once_and_cannot_be_changed():
    matrix = warp_matrix((6, 6), 3)
    assert warp_matrix((6, 6), 3) is matrix
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1


@pytest.mark.parametrize(("shape", "grid_size", "word"), [((4, 4), 1, "1"), ((0, 4), 3, "0 x 4")])
def test_too_small_grids_are_named(shape, grid_size, word):
    with pytest.raises(ValueError, match=word):
        warp_matrix(shape, grid_size)


def test_reversed_extent_is_named():
    with pytest.raises(ValueError, match="below the last"):
        lattice(3, 3, low=1, high=-1)
