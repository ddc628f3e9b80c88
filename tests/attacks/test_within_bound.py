"""The most within a bound: linear programs, closed forms, and what else has to hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import bfjax
from bfjax import attacks
from bfjax.field import legendre

SHAPE = (10, 12)


def _log_linear(seed=0):
    """Two classes by a linear functional of the log of the image, which a field moves linearly."""
    weights = jnp.asarray(np.random.default_rng(seed).normal(0, 0.1, SHAPE), jnp.float32)
    weights = weights - weights.mean()

    def predict(image):
        score = jnp.sum(weights * jnp.log(image[..., 0]))
        return jnp.stack([0.5 + score, -0.5 - score])

    return predict, np.asarray(weights, np.float64)


def _least(field, weights, log_range):
    """The smallest Σ w B̂ of a field whose range is bounded, by linear programming."""
    basis = np.asarray(field.basis(), np.float64).reshape(len(field.init()), -1)
    slope = basis @ weights.ravel()
    level = np.ones((basis.shape[1], 1))
    box = np.block([[basis.T, -level], [-basis.T, level]])
    found = linprog(
        np.append(slope, 0),
        A_ub=box,
        b_ub=np.full(len(box), log_range / 2),
        bounds=[(None, None)] * (len(slope) + 1),
    )
    return found.fun


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_it_finds_most_of_what_a_linear_program_finds(degree):
    predict, weights = _log_linear()
    field = legendre(SHAPE, degree=degree)
    image = jnp.full((*SHAPE, 1), 0.4)
    attack = attacks.bounded_field(field, max_log_range=0.4, num_steps=60)
    result = jax.jit(lambda x: bfjax.run(attack, predict, x, 0))(image)
    log_field = np.asarray(field.log_field(result.params), np.float64)
    assert np.ptp(log_field) <= 0.4 + 1e-5
    assert np.sum(weights * log_field) <= 0.99 * _least(field, weights, 0.4)


def test_the_best_iterate_is_kept_and_every_bound_holds():
    predict, _ = _log_linear()
    image = jnp.full((*SHAPE, 1), 0.4)
    for bounds in ({"max_log_field": 0.1}, {"max_log_range": 0.15, "max_log_field": 0.1}):
        attack = attacks.bounded_field(legendre(SHAPE, degree=3), **bounds)
        assert attack.iterate == "best"
        log_field = attack.perturbation.log_field(bfjax.run(attack, predict, image, 0).params)
        assert abs(log_field).max() <= 0.1 + 1e-6
        assert jnp.ptp(log_field) <= bounds.get("max_log_range", 1) + 1e-6


def test_the_papers_field_may_be_bounded_too_and_does_not_fold():
    predict, _ = _log_linear()
    image = jnp.full((*SHAPE, 1), 0.4)
    field = bfjax.polynomial_tps(SHAPE, degree=4, grid_size=4)
    attack = attacks.bounded_field(field, max_log_range=0.3, step_size=2.0)
    params = bfjax.run(attack, predict, image, 0).params
    warped = bfjax.field.warp_matrix(SHAPE, 4) @ np.asarray(params.control_points)
    assert bfjax.metrics.folded_share(jnp.asarray(warped).reshape(*SHAPE, 2)) == 0
    assert jnp.ptp(field.log_field(params)) <= 0.3 + 1e-5


def test_a_bound_chooses_these_steps_unless_others_are_asked_for():
    predict, _ = _log_linear()
    image = jnp.full((*SHAPE, 1), 0.4)
    options = {"degree": 3, "grid_size": 3, "l1_coefficients": None, "l1_warp": None}
    for bound in ({"max_log_range": 0.2}, {"max_log_field": 0.1}):
        made = attacks.bias_field(SHAPE, **options, **bound)
        field = bfjax.polynomial_tps(SHAPE, degree=3, grid_size=3)
        same = attacks.bounded_field(field, **bound)
        assert (made.num_steps, made.iterate, made.loss) == (30, "best", bfjax.attack.margin)
        results = [bfjax.run(one, predict, image, 0).adversarial for one in (made, same)]
        np.testing.assert_array_equal(*results)
    for other in ({"step_size": 0.06}, {"warp_step_size": 0.06}, {"decay": 1.0}):
        made = attacks.bias_field(SHAPE, **options, **bound, **other)
        signs = attacks.bias_field(SHAPE, **options, **other)
        assert (made.num_steps, made.iterate, made.loss) == (10, "last", signs.loss)
        assert jax.tree.structure(made.optimizer) == jax.tree.structure(signs.optimizer)


def test_a_constant_has_no_range():
    """Exposure alone turns what asks for brightness, at no log-range at all."""
    image = jnp.full((*SHAPE, 1), 0.4)

    def predict(x):
        return jnp.stack([x.mean() - 0.35, 0.35 - x.mean()]) * 20

    with_it = attacks.bounded_field(legendre(SHAPE, degree=1, constant=True), max_log_range=0.01)
    assert bfjax.run(with_it, predict, image, 0).logits.argmax() == 0  # too short a step
    longer = attacks.bounded_field(
        legendre(SHAPE, degree=1, constant=True), max_log_range=0.01, step_size=0.1
    )
    assert bfjax.run(longer, predict, image, 0).logits.argmax() == 1
    without = attacks.bounded_field(legendre(SHAPE, degree=1), max_log_range=0.01, step_size=0.1)
    assert bfjax.run(without, predict, image, 0).logits.argmax() == 0


def test_jit_is_eager_and_vmap_is_a_loop():
    predict, _ = _log_linear()
    images = jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.6, (3, *SHAPE, 1)), jnp.float32)
    attack = attacks.bounded_field(legendre(SHAPE, degree=2), max_log_range=0.2, num_steps=4)

    def logits(image):
        return bfjax.run(attack, predict, image, 0).logits

    loop = jnp.stack([logits(image) for image in images])
    np.testing.assert_allclose(jax.jit(jax.vmap(logits))(images), loop, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "nothing is bounded"),
        ({"max_log_range": 0}, "max_log_range must be positive and finite, got 0"),
        (
            {"max_log_range": 0.2, "max_log_field": -1},
            "max_log_field must be positive and finite, got -1",
        ),
        ({"max_log_range": 0.2, "num_steps": 0}, "num_steps must be at least 1, and whole, got 0"),
        ({"max_log_range": 0.2, "step_size": 0}, "step_size must be positive and finite, got 0"),
        ({"max_log_range": float("inf")}, "max_log_range must be positive and finite, got inf"),
        ({"max_log_range": 0.2, "encoding": "sqrt"}, "'sqrt'"),
    ],
)
def test_bad_options_are_named(options, word, unchecked):
    with pytest.raises(ValueError, match=word):
        attacks.bounded_field(legendre(SHAPE, degree=2), **options)


@pytest.mark.parametrize("field", [legendre, None, "legendre"])
def test_what_is_no_field_is_refused(field, unchecked):
    with pytest.raises(ValueError, match=r"a field is a bfjax\.Field, such as legendre"):
        attacks.bounded_field(field, max_log_range=0.2)


def test_a_field_that_cannot_be_scaled_is_refused():
    with pytest.raises(ValueError, match=r"takes a bfjax\.LinearField, such as legendre, or poly"):
        attacks.bounded_field(bfjax.pixelwise(SHAPE), max_log_range=0.2)
