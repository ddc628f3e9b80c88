import numpy as np
import pytest

from bfjax.metrics import success_rate


def test_rates_of_the_paper_come_out_of_its_counts():
    """38.69 % is 214 of the 553 images that the paper's ResNet50 got right (of 624)."""
    labels = np.repeat([0, 1], [234, 390])
    clean = labels.copy()
    clean[:71] = 1  # wrong already when clean: neither correct nor fooled
    adversarial = clean.copy()
    adversarial[100:314] = 1 - adversarial[100:314]
    rate = success_rate(labels, clean, adversarial)
    assert (rate.correct, rate.fooled) == (553, 214)
    assert int(10000 * rate.rate) / 100 == 38.69


def test_images_wrong_when_clean_do_not_count_even_if_the_attack_mends_them():
    assert success_rate(np.array([0, 1]), np.array([1, 1]), np.array([0, 1])) == (1, 0, 0.0)


def test_no_correct_image_has_no_rate():
    rate = success_rate(np.array([0]), np.array([1]), np.array([1]))
    assert (rate.correct, rate.fooled) == (0, 0)
    assert np.isnan(rate.rate)


def test_different_lengths_are_named(unchecked):
    with pytest.raises(ValueError, match="2, 1, 2"):
        success_rate(np.zeros(2, int), np.zeros(1, int), np.zeros(2, int))
