"""The nearest point of a polytope against an active-set method of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from bfjax.field.nearest import nearest_within
from tests.oracles import check_gradients


def polytope(size=4, walls=30, seed=0):
    rng = np.random.default_rng(seed)
    rows, limits = rng.normal(size=(walls, size)), rng.uniform(0.5, 1.5, walls)
    return 3 * rng.normal(size=size), rng.uniform(0.5, 2, size), rows, limits


def active_set(point, weights, rows, limits):
    """Lawson and Hanson's least distance programming, of coordinates with weights of 1."""
    root = np.sqrt(weights)
    system = np.vstack([-(rows / root).T, rows @ point - limits])
    goal = np.append(np.zeros_like(point), 1.0)
    residual = system @ nnls(system, goal)[0] - goal
    return point - residual[:-1] / residual[-1] / root


@pytest.mark.parametrize("seed", range(5))
def test_it_is_that_of_an_active_set_method(seed, x64):
    problem = polytope(seed=seed)
    found = nearest_within(*map(jnp.asarray, problem), num_iterations=25)
    np.testing.assert_allclose(found, active_set(*problem), atol=1e-6)
    single = nearest_within(*(jnp.asarray(v, jnp.float32) for v in problem), num_iterations=15)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, found, atol=1e-3)


def test_what_is_inside_stays():
    _, weights, rows, limits = (jnp.asarray(v, jnp.float32) for v in polytope())
    inside = jnp.full_like(weights, 0.02)
    found = nearest_within(inside, weights, rows, limits, num_iterations=15)
    np.testing.assert_allclose(found, inside, atol=1e-5)


@pytest.mark.parametrize("number", [1, 15, 200])
def test_no_number_of_iterations_makes_nan(number):
    point, weights, rows, limits = (jnp.asarray(v, jnp.float32) for v in polytope())
    for scale in (0.0, 1e-6, 1.0, 1e6):
        function = jax.value_and_grad(
            lambda p: nearest_within(p, weights, rows, limits, num_iterations=number).sum()
        )
        assert all(jnp.isfinite(v).all() for v in function(scale * point)), scale


def test_jit_is_eager_and_vmap_is_a_loop():
    problems = [[jnp.asarray(v, jnp.float32) for v in polytope(seed=seed)] for seed in range(3)]
    loop = jnp.stack([nearest_within(*problem, num_iterations=10) for problem in problems])
    batch = [jnp.stack(parts) for parts in zip(*problems, strict=True)]
    together = jax.jit(jax.vmap(lambda *problem: nearest_within(*problem, num_iterations=10)))
    np.testing.assert_allclose(together(*batch), loop, atol=1e-4)


def test_its_derivative_is_that_of_the_solution(x64):
    point, weights, rows, limits = map(jnp.asarray, polytope())
    check_gradients(
        lambda point, limits: nearest_within(point, weights, rows, limits, num_iterations=25),
        (point, limits),
        order=1,
        eps=1e-5,
        rtol=1e-4,
    )
