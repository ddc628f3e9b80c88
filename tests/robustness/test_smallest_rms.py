"""The smallest root mean square against its closed form, and light that is bounded by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.field import legendre
from bfjax.robustness import light, smallest_rms
from tests.robustness import log_linear

GAP = 0.3


@jax.jit
def _found(table, image):
    def predict(image):
        score = jnp.sum(table * jnp.log(image[..., 0] / log_linear.LEVEL))
        return jnp.stack([GAP + score, -score])

    return smallest_rms(predict, image, 0)


@pytest.mark.parametrize("seed", range(4))
def test_of_a_linear_margin_it_is_its_distance_over_its_slope(seed):
    """The margin is 2 Σ w B̂(c) + gap: undecided at ‖c‖₂ = gap / (2 ‖Φ w‖₂)."""
    _, weights = log_linear.classifier(seed)
    basis = np.asarray(legendre(log_linear.SHAPE, degree=4).basis(), np.float64).reshape(14, -1)
    exact = GAP / (2 * np.linalg.norm(basis @ weights.ravel()))
    found = _found(jnp.asarray(weights, jnp.float32), log_linear.image())
    assert found.wrong
    assert 0.9999 * exact < found.rms < 1.01 * exact
    log_field = np.log(np.asarray(found.adversarial, np.float64) / log_linear.LEVEL)
    assert np.sqrt(np.mean(log_field**2)) == pytest.approx(float(found.rms), rel=1e-4)


def test_what_nothing_clips_goes_beyond_white():
    """The closed form again, of a white image, which clipped light could only darken."""
    _, weights = log_linear.classifier()
    table, white = jnp.asarray(weights, jnp.float32), jnp.ones((*log_linear.SHAPE, 1))

    def predict(image):
        score = jnp.sum(table * jnp.log(image[..., 0]))
        return jnp.stack([GAP + score, -score])

    basis = np.asarray(legendre(log_linear.SHAPE, degree=4).basis(), np.float64).reshape(14, -1)
    exact = GAP / (2 * np.linalg.norm(basis @ weights.ravel()))
    found, clipped = (jax.jit(lambda x, c=c: smallest_rms(predict, x, 0, clip=c))(white)
                      for c in (False, True))  # fmt: skip
    assert 0.9999 * exact < found.rms < 1.01 * exact
    assert found.adversarial.max() > 1
    assert clipped.adversarial.max() <= 1
    assert clipped.rms > 1.2 * exact


def test_vmap_is_a_loop():
    table = jnp.asarray(log_linear.classifier()[1], jnp.float32)
    images = jnp.stack([0.8 * log_linear.image(), 1.2 * log_linear.image()])
    together = jax.vmap(_found, (None, 0))(table, images)
    for i, image in enumerate(images):
        np.testing.assert_allclose(together.rms[i], _found(table, image).rms, rtol=2e-4)


@pytest.mark.parametrize("exposure", ["fixed", "alone", "free"])
def test_light_within_a_root_mean_square(exposure):
    threat = light((10, 12), max_rms=0.2, exposure=exposure)
    image = jnp.full((10, 12, 1), 0.2)
    drawn = threat.draw(jax.random.key(0))
    for c in (drawn, threat.within(9 * drawn, image), threat.scaled(0.2).within(9 * drawn, image)):
        field = jnp.log(threat.perturbation.apply(c, image) / 0.2)
        assert float(jnp.sqrt(jnp.mean(field**2))) == pytest.approx(0.2, rel=1e-4)
        assert float(threat.size(c)) == pytest.approx(0.2, rel=1e-5)
    np.testing.assert_allclose(threat.within(0.5 * drawn, image), 0.5 * drawn, rtol=1e-6)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "bounded by max_log_range or by max_rms, got None and None"),
        ({"max_rms": 0.1, "max_log_range": 0.2}, "got 0.2 and 0.1"),
        ({"max_rms": 0.0}, "max_rms must be positive and finite, got 0"),
    ],
)
def test_bounds_that_are_none_are_named(bounds, message):
    with pytest.raises(ValueError, match=message):
        light((8, 8), **bounds)


def test_numbers_that_are_none_are_named():
    predict, _ = log_linear.classifier()
    with pytest.raises(ValueError, match="largest must be positive and finite, got -1"):
        smallest_rms(predict, log_linear.image(), 0, largest=-1)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        smallest_rms(predict, log_linear.image(), 0, num_steps=0)
