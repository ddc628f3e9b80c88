"""Corrections against those who attack them: what hides its gradient gains nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.robustness import ATTACKERS, audit, judge_correction

KEY = jax.random.key(3)
TIERS = (0.4, 0.1)


def _halves(image):
    return 40 * jnp.stack([image[:6].mean() - 0.02, image[6:].mean()])


def _rounded(image):
    """Hides its gradient, and the small differences of dark images too."""
    return jnp.round(image * 16) / 16


@pytest.fixture(scope="module")
def judged():
    levels = np.asarray([0.5, 0.45, 0.01], np.float32)[:, None, None, None]
    images, told = levels * np.ones((3, 12, 12, 1), np.float32), []
    options = {"tiers": TIERS, "batch_size": 2, "key": KEY, "on_gradients": told.append}
    return judge_correction(_halves, _rounded, images, np.ones(3, int), **options), told


@pytest.mark.slow
def test_what_hides_its_gradient_is_broken_by_those_who_need_none(judged):
    found, _ = judged
    assert found.tiers.tolist() == [0.1, 0.4]
    assert set(found.wrong) == set(ATTACKERS)
    right = found.clean.argmax(-1) == 1
    np.testing.assert_array_equal(right, [True, True, True])
    assert found.wrong["adaptive"][1, :2].all()  # the whole test, which asks without a slope too
    assert found.wrong["straight_through"][1, :2].all()
    assert found.wrong["gradient_free"][1, :2].all()
    assert not found.worst[:, 2].any()  # black is black under any light
    np.testing.assert_array_equal(found.worst, np.any(list(found.wrong.values()), axis=0))


@pytest.mark.slow
def test_a_larger_range_is_no_weaker_and_what_is_spent_is_told(judged):
    found, told = judged
    for wrong in found.wrong.values():
        assert (wrong[0] <= wrong[1]).all()
    assert sum(told) == pytest.approx(found.gradients.sum(), abs=1)
    audited = 2 + len(TIERS) * (32 / 3 + 120) + 32
    assert (found.gradients <= 1 / 3 + audited + len(TIERS) * (30 + 30 + 20 + 1)).all()


@pytest.mark.slow
def test_what_corrects_nothing_gains_nothing():
    levels = np.asarray([0.5, 0.45], np.float32)[:, None, None, None]
    images, labels = levels * np.ones((2, 12, 12, 1), np.float32), np.ones(2, int)
    options = {"tiers": TIERS, "num_random": 2, "key": KEY}
    judged = judge_correction(_halves, lambda image: image, images, labels, **options)
    bare = audit(_halves, images, labels, **options)
    assert (judged.worst | ~bare.wrong).all()
    assert bare.wrong.any()


def test_bad_input_is_named():
    images, labels = jnp.full((2, 8, 8, 1), 0.5), jnp.ones(2, int)
    for options, message in (
        ({"tiers": ()}, "tiers must be at least one log-range, got none"),
        ({"tiers": (0.0,)}, "max_log_range must be positive and finite, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            judge_correction(_halves, _rounded, images, labels, key=KEY, **options)
