"""The smallest range against linear programs, and what else has to hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.field import legendre
from bfjax.robustness import light, smallest_range
from tests.robustness import log_linear

FIELD = legendre(log_linear.SHAPE, degree=4)


@jax.jit
def _found(seed_weights, gap):
    def predict(image):
        score = jnp.sum(seed_weights * jnp.log(image[..., 0] / log_linear.LEVEL))
        return jnp.stack([gap + score, -score])

    return smallest_range(predict, log_linear.image(), 0)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_within_a_hundredth_of_a_linear_program(seed):
    _, weights = log_linear.classifier(seed)
    exact = log_linear.smallest(FIELD, weights, 0.3)
    found = _found(jnp.asarray(weights, jnp.float32), 0.3)
    assert found.wrong
    assert 0.999 * exact < found.log_range < 1.01 * exact
    assert float(jnp.ptp(FIELD.log_field(found.params))) == pytest.approx(float(found.log_range))
    assert found.logits.argmax() == 1


@pytest.mark.slow
def test_what_errs_without_light_needs_none_and_what_never_errs_has_none():
    predict, _ = log_linear.classifier()
    wrong = smallest_range(predict, log_linear.image(), 1)
    assert wrong.wrong
    assert wrong.log_range == 0
    np.testing.assert_array_equal(wrong.adversarial, log_linear.image())
    never = smallest_range(lambda x: jnp.stack([x.mean(), x.mean() - 9]), log_linear.image(), 0)
    assert not never.wrong
    assert jnp.isinf(never.log_range)
    assert not never.params.any()
    constant = smallest_range(lambda x: jnp.asarray([1.0, 0.0]) + 0 * x.sum(), never.adversarial, 0)
    assert not constant.wrong
    assert jnp.isfinite(constant.logits).all()


@pytest.mark.slow
def test_nothing_is_searched_beyond_the_largest():
    predict, weights = log_linear.classifier(gap=0.3)
    exact = log_linear.smallest(FIELD, weights, 0.3)
    search = jax.jit(lambda most: smallest_range(predict, log_linear.image(), 0, largest=most))
    assert not search(0.9 * exact).wrong
    assert search(1.1 * exact).wrong


@pytest.mark.slow
def test_vmap_is_a_loop():
    predict, _ = log_linear.classifier(gap=0.3)
    images = jnp.stack([0.8 * log_linear.image(), 1.2 * log_linear.image()])

    def search(image):
        return smallest_range(predict, image, 0, num_steps=4)

    together = jax.jit(jax.vmap(search))(images)
    for i, image in enumerate(images):
        one = jax.jit(search)(image)
        np.testing.assert_allclose(together.log_range[i], one.log_range, rtol=2e-4)


@pytest.mark.parametrize("encoding", ["linear", "log"])
def test_exposure_alone_is_found_exactly(encoding):
    """It errs where the image is brighter by a tenth: |c_0| = log 1.1, or in log grey -0.1/γ."""

    def predict(image):
        return 10 * jnp.stack([0.5 * 1.1 - image.mean(), image.mean() - 0.5 * 1.1])

    image = jnp.full((8, 8, 1), 0.5)
    exact = 2 * np.log(1.1) if encoding == "linear" else 2 * 0.05 / 0.29
    found = smallest_range(predict, image, 0, exposure="alone", encoding=encoding)
    assert exact * 0.999 < float(found.log_range) < exact * 1.005
    free = smallest_range(predict, image, 0, exposure="free", encoding=encoding)
    assert 0 < float(free.log_range) < exact * 1.005
    threat = light(image.shape, max_log_range=1.0, exposure="free")
    assert float(threat.size(free.params)) == pytest.approx(float(free.log_range))


def test_numbers_that_are_none_are_named():
    predict, _ = log_linear.classifier()
    with pytest.raises(ValueError, match="largest must be positive and finite, got 0"):
        smallest_range(predict, log_linear.image(), 0, largest=0)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        smallest_range(predict, log_linear.image(), 0, num_steps=0)
