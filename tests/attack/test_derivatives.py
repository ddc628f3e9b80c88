"""Derivatives of what an attack reaches by its own numbers; optax with numbers that are leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bfjax
from bfjax import attack as pieces
from bfjax import attacks
from experiments.benchmark.sweeps import SHAPE
from tests.networks import images, smooth_network


def _field(**numbers):
    return attacks.bias_field(SHAPE, degree=3, grid_size=3, num_steps=3, **numbers)


def _objective(network, image, **numbers):
    """What an attack by plain gradient steps ends with."""
    step = numbers.pop("learning_rate", 0.5)
    optimizer = pieces.with_hyperparameters(optax.sgd, learning_rate=step)
    attack = _field(optimizer=optimizer, **numbers)
    result = bfjax.run(attack, network, image, 0)
    return attack.loss(result.logits, 0) - attack.penalty(result.params)


SMOOTH = {"max_change": None, "l1_coefficients": 0.01, "l1_warp": 0.02}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("learning_rate", 0.5),
        ("l1_coefficients", 0.01),
        ("l1_warp", 0.02),
        ("max_change", 0.02),
        ("max_log_field", 0.05),
        ("offset", 0.2),
    ],
)
def test_derivatives_are_finite_differences(number, value, x64):
    network = smooth_network(shape=SHAPE, dtype=jnp.float64)
    image = images(1, SHAPE, low=0.2, high=0.8)[0].astype(jnp.float64)

    def of(value):
        numbers = SMOOTH | {"dtype": jnp.float64, number: value}
        return _objective(network, image, **numbers)

    of, step = jax.jit(of), 1e-6
    slope = (of(value + step) - of(value - step)) / (2 * step)
    assert abs(slope) > 1e-5
    assert jax.grad(of)(value) == pytest.approx(float(slope), rel=1e-4)


def test_through_sign_steps_a_weight_moves_the_objective_by_its_norm_alone(network, batch):
    def objective(weight):
        attack = _field(l1_coefficients=weight)
        result = bfjax.run(attack, network, batch[0], 0)
        value = attack.loss(result.logits, 0) - attack.penalty(result.params)
        return value, jnp.abs(result.params.coefficients).sum()

    slope, norm = jax.grad(objective, has_aux=True)(0.1)
    assert float(norm) > 0
    np.testing.assert_allclose(slope, -norm, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_where_there_is_no_slope_derivatives_are_finite(norm):
    """A flat network, and an attack that starts at the centre of its ball."""

    def objective(epsilon, step_size):
        attack = attacks.bim(epsilon=epsilon, step_size=step_size, num_steps=2, norm=norm)
        result = bfjax.run(attack, lambda x: jnp.zeros(2) + 0 * x.sum(), jnp.full(SHAPE, 0.5), 0)
        return attack.loss(result.logits, 0) + result.adversarial.sum()

    found = jax.grad(objective, (0, 1))(0.1, 0.05)
    assert np.isfinite(found).all()


def test_optax_with_hyperparameters_is_optax(network, batch, unchecked):
    plain = _field(optimizer=optax.adam(0.03, b1=0.5))
    leaves = _field(optimizer=pieces.with_hyperparameters(optax.adam, learning_rate=0.03, b1=0.5))
    one, two = (bfjax.run(attack, network, batch[0], 0) for attack in (plain, leaves))
    np.testing.assert_allclose(one.adversarial, two.adversarial, atol=1e-6)
    for wrong in ({"nesterov": True}, {"learning_rate": optax.constant_schedule(0.1)}):
        with pytest.raises(ValueError, match="is no number: hold it by functools"):
            pieces.with_hyperparameters(optax.adam, **wrong)
    with pytest.raises(ValueError, match="learning_rate must be a number, got 'fast'"):
        pieces.with_hyperparameters(optax.adam, learning_rate="fast")
    for make, numbers in ((optax.adam, {"lr": 0.1}), (optax.adam, {}), (3, {"learning_rate": 0.1})):
        with pytest.raises(ValueError, match="cannot be called so: "):
            pieces.with_hyperparameters(make, **numbers)
    for wrong in (optax.sgd, 3, optax.MultiSteps(optax.sgd(0.1), 2)):
        with pytest.raises(ValueError, match="chain takes gradient transformations, got"):
            pieces.chain(optax.clip(1.0), wrong)


def test_a_search_that_needs_extra_arguments_is_handed_them(network, batch):
    """As `optax.scale_by_backtracking_linesearch`, which asks for the objective again."""
    line = pieces.with_hyperparameters(_line_search, decrease_factor=0.5)
    optimizer = pieces.chain(pieces.with_hyperparameters(optax.sgd, learning_rate=1.0), line)
    result = bfjax.run(_field(optimizer=optimizer), network, batch[0], 0)
    assert bool(jnp.all(jnp.diff(result.trace.objective) > -1e-4))


def _line_search(*, decrease_factor):
    return optax.scale_by_backtracking_linesearch(
        max_backtracking_steps=10, decrease_factor=decrease_factor
    )
