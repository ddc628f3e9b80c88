"""Bounds on the field: the nearest point by an active-set method of SciPy is the oracle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

import bfjax
from bfjax.field import (
    cosine,
    legendre,
    limit_log_field,
    limit_log_range,
    onto_sampled_bounds,
)
from tests.networks import images, smooth_network
from tests.oracles import check_gradients, jittered

SHAPE = (9, 11)
IMAGE = jnp.ones((*SHAPE, 1))


def polynomial_tps(**options):
    return bfjax.polynomial_tps(SHAPE, degree=4, grid_size=4, **options)


def found(field, scale=1.0, seed=0):
    return jittered(field.init(), scale, seed)


def largest(log_field):
    return float(jnp.max(jnp.abs(log_field)))


def spread(log_field):
    return float(jnp.ptp(log_field))


MEASURES = {limit_log_field: largest, limit_log_range: spread}
LINEAR = {
    "legendre": functools.partial(legendre, SHAPE, degree=3),
    "with a constant": functools.partial(legendre, SHAPE, degree=2, constant=True),
    "cosine": functools.partial(cosine, SHAPE, frequencies=3),
}
SAMPLED = [
    {"max_log_field": 0.4},
    {"max_log_range": 0.6},
    {"max_log_field": 0.4, "max_log_range": 0.5},
]


def violation(field, c, *, max_log_field=None, max_log_range=None):
    """How many times too large the field is."""
    log_field = field.log_field(c)
    pairs = ((largest(log_field), max_log_field), (spread(log_field), max_log_range))
    return max(size / bound for size, bound in pairs if bound is not None)


def nearest(basis, c, *, max_log_field=None, max_log_range=None):
    """By Lawson and Hanson's least distance programming; a range bounds every pair of pixels."""
    rows, bounds = [], []
    if max_log_field is not None:
        rows += [basis, -basis]
        bounds += [np.full(2 * len(basis), max_log_field)]
    if max_log_range is not None:
        pairs = basis[:, None] - basis[None]
        rows += [pairs.reshape(-1, basis.shape[1])]
        bounds += [np.full(len(basis) ** 2, max_log_range)]
    table, bound = np.concatenate(rows), np.concatenate(bounds)
    system = np.vstack([-table.T, table @ c - bound])
    goal = np.append(np.zeros_like(c), 1.0)
    residual = system @ nnls(system, goal)[0] - goal
    return c - residual[:-1] / residual[-1]


@pytest.mark.parametrize("limit", MEASURES)
@pytest.mark.parametrize("make", [*LINEAR.values(), polynomial_tps], ids=[*LINEAR, "polynomial"])
def test_what_is_linear_is_scaled(limit, make):
    field = make()
    params = found(field, 3.0)
    limited = limit(field, 0.5)(params, IMAGE)
    before, after = field.log_field(params), field.log_field(limited)
    assert MEASURES[limit](after) == pytest.approx(0.5, rel=1e-5)
    np.testing.assert_allclose(after, before * (0.5 / MEASURES[limit](before)), atol=1e-6)
    small = found(field, 1e-3)
    jax.tree.map(np.testing.assert_array_equal, limit(field, 0.5)(small, IMAGE), small)


def test_the_warp_of_the_polynomial_stays():
    params = found(polynomial_tps(), 3.0)
    limited = limit_log_range(polynomial_tps(), 0.1)(params, IMAGE)
    np.testing.assert_array_equal(limited.control_points, params.control_points)


def test_a_free_field_is_clipped():
    free, image = bfjax.pixelwise((1, 3)), jnp.ones((1, 3, 1))
    values = jnp.asarray([[2.0, 0.4, -0.2]])
    np.testing.assert_allclose(limit_log_field(free, 0.5)(values, image), [[0.5, 0.4, -0.2]])
    # about 0.9, the middle of -0.2 and 2
    np.testing.assert_allclose(limit_log_range(free, 0.6)(values, image), [[1.2, 0.6, 0.6]])
    np.testing.assert_array_equal(limit_log_range(free, 2.5)(values, image), values)


def test_a_constant_has_no_range():
    field = legendre(SHAPE, degree=2, constant=True)
    c = field.init().at[0].set(3.0)
    np.testing.assert_allclose(limit_log_range(field, 0.1)(c, IMAGE), c, rtol=1e-5)
    nearest = onto_sampled_bounds(field, max_log_range=0.1)
    np.testing.assert_allclose(nearest(c, IMAGE), c, rtol=1e-5)


@pytest.mark.parametrize("bounds", SAMPLED, ids=["field", "range", "both"])
@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0])
def test_the_nearest_field_is_that_of_an_active_set_method(make, bounds, scale):
    """An image smaller than the lattice is sampled at every pixel."""
    field = make()
    basis = np.asarray(field.basis(), np.float64).reshape(len(field.init()), -1).T
    project = jax.jit(onto_sampled_bounds(field, **bounds))
    for seed in range(3):
        c = found(field, scale, seed)
        expected = nearest(basis, np.asarray(c, np.float64), **bounds)
        # in single precision: 2e-5 in the median of such cases, 4e-3 in the worst of 180
        tolerance = 5e-3 * np.linalg.norm(expected)
        assert np.linalg.norm(project(c, IMAGE) - expected) <= max(tolerance, 1e-5)


@pytest.mark.parametrize("bounds", SAMPLED, ids=["field", "range", "both"])
@pytest.mark.parametrize("shape", [(50, 41), (7, 70)])
def test_bounds_hold_at_all_pixels_and_scaling_is_never_nearer(bounds, shape):
    field = legendre(shape, degree=4)
    project = jax.jit(onto_sampled_bounds(field, size=9, **bounds))
    limits = {"max_log_field": limit_log_field, "max_log_range": limit_log_range}
    image = jnp.ones((*shape, 1))
    for seed in range(10):
        c = found(field, 10 ** np.random.default_rng(seed).uniform(-2, 2), seed)
        moved, scaled = project(c, image), c
        for name, maximum in bounds.items():
            scaled = limits[name](field, maximum)(scaled, image)
        assert violation(field, moved, **bounds) <= 1 + 1e-5
        assert jnp.linalg.norm(moved - c) <= jnp.linalg.norm(scaled - c) * (1 + 1e-6)
        if violation(field, c, **bounds) <= 1:
            np.testing.assert_array_equal(moved, c)
        again = project(moved, image)
        np.testing.assert_allclose(again, moved, atol=1e-5 * float(jnp.linalg.norm(moved)))


def test_it_keeps_more_of_a_field_than_scaling():
    """Of random fields that are twice too large, in the mean half as much again."""
    field, image = legendre((40, 40), degree=4), jnp.ones((40, 40, 1))
    project, scale = onto_sampled_bounds(field, max_log_field=0.4), limit_log_field(field, 0.4)
    batch = jnp.stack([found(field, seed=seed) for seed in range(10)])
    largest_of = jnp.max(jnp.abs(jax.vmap(field.log_field)(batch)), axis=(1, 2))
    batch = 0.8 * batch / largest_of[:, None]
    moved = (jax.vmap(limit, (0, None))(batch, image) for limit in (project, scale))
    kept, scaled = (jnp.linalg.norm(c, axis=1) for c in moved)
    assert (kept > 1.2 * scaled).all()
    assert jnp.mean(kept / scaled) > 1.4


def onto_field(field, maximum):
    return onto_sampled_bounds(field, max_log_field=maximum)


def onto_range(field, maximum):
    return onto_sampled_bounds(field, max_log_range=maximum)


of_each = pytest.mark.parametrize(
    "make",
    [
        limit_log_field,
        limit_log_range,
        *(pytest.param(make, marks=pytest.mark.slow) for make in (onto_field, onto_range)),
    ],
)


@of_each
def test_a_bound_is_a_leaf_that_is_traced_mapped_and_differentiated(make):
    field = legendre(SHAPE, degree=2)
    one, other = (make(field, maximum) for maximum in (0.2, 0.3))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    numbers = [leaf for leaf in jax.tree.leaves(one) if isinstance(leaf, float)]
    assert numbers == [0.2]

    def moved(maximum, c):
        return make(field, maximum)(c, IMAGE)

    c, maxima = found(field), jnp.asarray([0.1, 0.2, 0.3])
    loop = jnp.stack([moved(float(maximum), c) for maximum in maxima])
    mapped = jax.jit(jax.vmap(moved, in_axes=(0, None)))(maxima, c)
    np.testing.assert_allclose(mapped, loop, atol=1e-4)
    batch = jnp.stack([found(field, seed=seed) for seed in range(3)])
    loop = jnp.stack([moved(0.2, c) for c in batch])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(moved, in_axes=(None, 0)))(0.2, batch), loop, atol=1e-4
    )
    for at in (field.init(), c, 1e-3 * c):
        slopes = jax.jacrev(moved, argnums=(0, 1))(0.2, at)
        assert all(jnp.isfinite(slope).all() for slope in slopes)


@of_each
def test_gradients_are_finite_differences(make, x64):
    field = legendre((4, 5), degree=2, dtype=jnp.float64)
    image = jnp.ones((4, 5, 1))
    for c in (found(field), 0.01 * found(field)):
        check_gradients(
            lambda maximum, c: make(field, maximum)(c, image),
            (0.2, c),
            order=1,
            modes=["rev"],
            eps=1e-6,
        )


def test_a_wider_number_leaves_the_type_of_the_params(x64):
    maximum = jnp.asarray(0.2, jnp.float64)
    for field in (legendre(SHAPE, degree=2), bfjax.pixelwise(SHAPE), polynomial_tps()):
        for limit in (limit_log_field, limit_log_range):
            for leaf in jax.tree.leaves(limit(field, maximum)(found(field), IMAGE)):
                assert leaf.dtype == jnp.float32
    field = legendre(SHAPE, degree=2)
    project = onto_sampled_bounds(field, max_log_field=maximum, max_log_range=maximum)
    assert project(found(field), IMAGE).dtype == jnp.float32


@pytest.mark.parametrize("name", ["max_log_field", "max_log_range"])
def test_an_attack_of_a_batch_with_a_bound_for_each_image(name):
    shape = (12, 12)
    field = legendre(shape, degree=2)
    maxima = np.asarray([0.05, 0.1, 0.2], np.float32)
    predict, batch = smooth_network(shape=(*shape, 1)), images(3, (*shape, 1), low=0.3, high=0.6)
    attack = bfjax.Attack(
        perturbation=bfjax.bias_field(field),
        loss=bfjax.attack.cross_entropy,
        optimizer=bfjax.attack.steepest("l2", 0.3),
        num_steps=3,
        project=onto_sampled_bounds(field, **{name: maxima}),
    )
    result = bfjax.run_batch(attack, predict, batch, jax.vmap(predict)(batch).argmax(-1))
    for c, maximum in zip(result.params, maxima, strict=True):
        assert violation(field, c, **{name: maximum}) == pytest.approx(1, abs=1e-3)


def test_no_table_of_the_projection_is_as_large_as_its_image():
    field = legendre((90, 80), degree=3)
    project = onto_sampled_bounds(field, max_log_field=0.2, size=9)
    assert max(np.size(leaf) for leaf in jax.tree.leaves(project)) == 2 * 81 * 10


def _gain():
    return bfjax.Field(
        init=lambda: {"gain": jnp.zeros(())}, log_field=lambda p: jnp.full(SHAPE, p["gain"])
    )


def _squared():
    return bfjax.Field(init=lambda: jnp.zeros(SHAPE), log_field=lambda p: p**2)


@pytest.mark.parametrize("limit", MEASURES)
def test_other_fields_are_refused_when_the_projection_is_made(limit):
    for field, word in [(_gain(), "dict"), (_squared(), "one array")]:
        with pytest.raises(ValueError, match=f"bounded by scaling, got a Field .* {word}"):
            limit(field, 1.0)
    with pytest.raises(ValueError, match="maximum must be positive and finite, got -1"):
        limit(_gain(), -1)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "nothing is bounded"),
        ({"max_log_field": 0}, "max_log_field must be positive and finite, got 0"),
        ({"max_log_range": float("nan")}, "max_log_range"),
        ({"max_log_field": 1, "size": 1}, "size must be at least 2, got 1"),
        ({"max_log_field": 1, "num_iterations": 0}, "num_iterations must be at least 1, got 0"),
    ],
)
def test_bad_options_are_named(options, word):
    with pytest.raises(ValueError, match=word):
        onto_sampled_bounds(legendre(SHAPE, degree=1), **options)


def test_the_nearest_field_is_one_of_linear_fields():
    with pytest.raises(ValueError, match=r"needs a bfjax.LinearField.* got Field"):
        onto_sampled_bounds(polynomial_tps(), max_log_field=1)
    pointless = bfjax.LinearField(lambda: jnp.zeros((2, 2)), lambda params: params)
    with pytest.raises(ValueError, match=r"are one \(n,\), got"):
        onto_sampled_bounds(pointless, max_log_field=1)
