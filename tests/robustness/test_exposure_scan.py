"""Exposure alone: every value is tried, whatever the slope says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.robustness import attacks_within, light, scan_exposures, worst_case

IMAGE = jnp.linspace(0.2, 0.5, 36).reshape(6, 6, 1)
THREAT = light(IMAGE.shape, max_log_range=0.4, exposure="alone")


def valley(image):
    """Right without light, more so a little brighter, wrong in a narrow band beyond."""
    far = jnp.log(image.mean() / IMAGE.mean())
    return jnp.stack([0.1 - 9 * far + 90 * jnp.exp(-((far - 0.15) ** 2) / 1e-4), jnp.float32(0)])


def test_it_is_the_best_of_all_values_by_numpy():
    found = bfjax.run(scan_exposures(THREAT), valley, IMAGE, 1)
    constants = np.linspace(-0.2, 0.2, 60)
    scores = [float(valley(np.asarray(IMAGE) * np.exp(c))[0]) for c in constants]
    assert float(found.params[0]) == pytest.approx(constants[np.argmax(scores)], abs=1e-6)
    np.testing.assert_allclose(found.trace, scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.adversarial, IMAGE * np.exp(found.params[0]), rtol=1e-5)


def test_it_finds_what_no_slope_leads_to():
    attacks = attacks_within(THREAT)
    assert list(attacks) == ["annealed", "scan"]

    def predict(image):
        return valley(image) - jnp.asarray([2.5, 0])  # right everywhere but in the band

    blind = bfjax.run(attacks["annealed"], predict, IMAGE, 1)
    worst = worst_case(
        predict, IMAGE, 1, max_log_range=0.4, exposure="alone", key=jax.random.key(0)
    )
    assert int(blind.logits.argmax()) == 1
    assert worst.wrong
    assert int(worst.member) == 1
    assert float(worst.params[0]) == pytest.approx(0.15, abs=0.01)


def test_jit_is_eager_and_vmap_a_loop():
    scan = scan_exposures(THREAT, num_queries=9)
    images = jnp.stack([IMAGE, IMAGE**2])
    jitted = jax.jit(lambda x: bfjax.run(scan, valley, x, 1))
    mapped = bfjax.run_batch(scan, valley, images, jnp.ones(2, int), warn=False)
    for i, image in enumerate(images):
        eager = bfjax.run(scan, valley, image, 1)
        for other in (jitted(image), jax.tree.map(lambda x, i=i: x[i], mapped)):
            np.testing.assert_allclose(other.params, eager.params, atol=1e-6)
            np.testing.assert_allclose(other.logits, eager.logits, rtol=1e-3, atol=1e-4)


def test_bad_input_is_named(unchecked):
    with pytest.raises(ValueError, match="num_queries must be at least 2, got 1"):
        scan_exposures(THREAT, num_queries=1)
    with pytest.raises(ValueError, match="scan_exposures is of exposure alone"):
        scan_exposures(light(IMAGE.shape, max_log_range=0.4))


def test_an_exposure_without_an_answer_hides_no_other():
    def unknown_where_dark(image):
        far = jnp.log(image.mean() / IMAGE.mean())
        return jnp.stack([jnp.where(far < -0.1, jnp.nan, 9 * far - 0.5), jnp.float32(0)])

    found = bfjax.run(scan_exposures(THREAT), unknown_where_dark, IMAGE, 1)
    assert float(found.params[0]) == pytest.approx(0.2)
    assert found.logits.argmax() == 0
