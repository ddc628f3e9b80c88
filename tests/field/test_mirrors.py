"""The folded spline: SciPy's spline on every parity of pixels and of control points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from bfjax.field import control_grid, folded_warp, folded_warp_matrix, lattice, mirrors, warp_matrix
from tests.oracles import check_gradients

CASES = [
    *(((8, 10), 4), ((9, 10), 4), ((8, 7), 4), ((9, 7), 4)),
    *(((8, 6), 5), ((9, 7), 5), ((1, 6), 3), ((5, 1), 2), ((1, 1), 3)),
]


def bent(grid_size, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, (grid_size, grid_size, 2))


@pytest.mark.parametrize(("shape", "grid_size"), CASES)
def test_it_is_scipys_spline(shape, grid_size, x64):
    displacement = bent(grid_size)
    scipys = RBFInterpolator(
        control_grid(grid_size), displacement.reshape(-1, 2), kernel="thin_plate_spline", degree=1
    )
    matrix = jnp.asarray(folded_warp_matrix(shape, grid_size))
    found = folded_warp(matrix, shape, jnp.asarray(displacement))
    np.testing.assert_allclose(found, scipys(lattice(*shape)).T.reshape(2, *shape), atol=1e-9)


def test_it_is_the_whole_matrix_in_a_quarter_of_its_numbers():
    shape, grid_size = (24, 30), 16
    folded, plain = folded_warp_matrix(shape, grid_size), warp_matrix(shape, grid_size)
    assert 4 * folded.size == plain.size
    displacement = bent(grid_size).astype(np.float32)
    found = folded_warp(jnp.asarray(folded, jnp.float32), shape, jnp.asarray(displacement))
    expected = (plain @ displacement.reshape(-1, 2)).T.reshape(2, *shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_identity_moves_nothing_at_all():
    matrix = jnp.asarray(folded_warp_matrix((7, 8), 5), jnp.float32)
    assert (folded_warp(matrix, (7, 8), jnp.zeros((5, 5, 2))) == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "grid_size"), CASES[3:6])
def test_derivatives_are_finite_differences(shape, grid_size, x64):
    matrix = jnp.asarray(folded_warp_matrix(shape, grid_size))
    for displacement in (bent(grid_size), np.zeros((grid_size, grid_size, 2))):
        check_gradients(
            lambda d: jnp.sin(folded_warp(matrix, shape, d)), (jnp.asarray(displacement),), order=2
        )


def test_jit_is_eager_and_vmap_is_a_loop():
    shape, matrix = (9, 8), jnp.asarray(folded_warp_matrix((9, 8), 4), jnp.float32)
    many = jnp.stack([jnp.asarray(bent(4, seed), jnp.float32) for seed in range(3)])
    loop = jnp.stack([folded_warp(matrix, shape, d) for d in many])
    batch = jax.jit(jax.vmap(lambda d: folded_warp(matrix, shape, d)))(many)
    np.testing.assert_allclose(batch, loop, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_an_array_is_the_whole_of_its_parts(size):
    values = jnp.asarray(np.random.default_rng(0).normal(size=(3, size)))
    even, odd = mirrors._parts(values, 1)
    np.testing.assert_allclose(mirrors.whole(even, odd, axis=1, size=size), values, atol=1e-6)


def test_the_matrix_is_computed_once_and_cannot_be_changed():
    matrix = folded_warp_matrix((6, 6), 3)
    assert folded_warp_matrix((6, 6), 3) is matrix
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0, 0] = 1


@pytest.mark.parametrize(("shape", "grid_size", "word"), [((4, 4), 1, "1"), ((0, 4), 3, "0 x 4")])
def test_too_small_grids_are_named(shape, grid_size, word):
    with pytest.raises(ValueError, match=word):
        folded_warp_matrix(shape, grid_size)
