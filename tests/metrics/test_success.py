import numpy as np
import pytest
import scipy.stats

from bfjax.metrics import mcnemar, success_rate, transfer_matrix, wilson_interval


def _random(*shape, seed=0, classes=2):
    return np.random.default_rng(seed).integers(0, classes, shape)


def _except_on(labels, wrong):
    """Predictions that are right but for the images in `wrong`."""
    predictions = labels.copy()
    predictions[wrong] = 1 - predictions[wrong]
    return predictions


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


def test_table_1_comes_out_of_its_counts():
    """All nine rates of the paper's own attack, sources and targets ResNet50, DenseNet, MobileNet.

    The images that a target gets wrong when clean are others for each target, and the attacks turn
    half of those right, which must not count.
    """
    right = [553, 548, 555]
    fooled = [[214, 77, 42], [43, 189, 33], [111, 104, 186]]
    percent = [[38.69, 14.05, 7.57], [7.78, 34.49, 5.95], [20.07, 18.98, 33.51]]
    labels = np.repeat([0, 1], [234, 390])
    order = [np.random.default_rng(t).permutation(624) for t in range(3)]
    clean = np.stack([_except_on(labels, order[t][n:]) for t, n in enumerate(right)])
    adversarial = np.stack(
        [
            [_except_on(labels, np.r_[order[t][:k], order[t][600:]]) for t, k in enumerate(row)]
            for row in fooled
        ]
    )
    table = transfer_matrix(labels, clean, adversarial)
    np.testing.assert_array_equal(table.fooled, fooled)
    np.testing.assert_array_equal(table.correct, [right] * 3)
    np.testing.assert_allclose(100 * table.rate, percent, atol=0.01)


def test_images_wrong_when_clean_do_not_count_even_if_the_attack_mends_them():
    assert success_rate(np.array([0, 1]), np.array([1, 1]), np.array([0, 1])) == (1, 0, 0.0)


def test_no_correct_image_has_no_rate():
    rate = success_rate(np.array([0]), np.array([1]), np.array([1]))
    assert (rate.correct, rate.fooled) == (0, 0)
    assert np.isnan(rate.rate)
    assert np.isnan(rate.interval).all()
    matrix = transfer_matrix(np.array([0]), np.array([[1], [0]]), np.array([[[1], [1]]]))
    np.testing.assert_array_equal(matrix.rate, [[np.nan, 1.0]])


@pytest.mark.parametrize("true_class", [None, 0, 1])
def test_matrix_entries_are_rates(true_class):
    labels, clean, adversarial = _random(40), _random(2, 40, seed=1), _random(3, 2, 40, seed=2)
    matrix = transfer_matrix(labels, clean, adversarial, true_class=true_class)
    low, high = matrix.interval
    for s in range(3):
        for t in range(2):
            one = success_rate(labels, clean[t], adversarial[s, t], true_class=true_class)
            assert one == (matrix.correct[s, t], matrix.fooled[s, t], matrix.rate[s, t])
            assert one.interval == (low[s, t], high[s, t])


def test_directions_are_the_rates_of_each_true_class():
    """Pneumonia (1) that is missed, and false alarms among the normal (0)."""
    labels = np.array([1, 1, 1, 1, 0, 0, 0])
    clean = np.array([1, 1, 1, 0, 0, 0, 1])
    adversarial = np.array([0, 0, 1, 0, 1, 0, 0])
    assert success_rate(labels, clean, adversarial, true_class=1) == (3, 2, 2 / 3)
    assert success_rate(labels, clean, adversarial, true_class=0) == (2, 1, 0.5)
    assert success_rate(labels, clean, adversarial) == (5, 3, 3 / 5)
    assert success_rate(labels, clean, adversarial, true_class=2)[:2] == (0, 0)


def test_more_than_two_classes():
    """Any wrong class counts as fooled, also from one of many."""
    rate = success_rate(np.array([0, 1, 2]), np.array([0, 1, 0]), np.array([0, 2, 1]))
    assert rate == (2, 1, 0.5)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_wilson_is_scipys(level):
    counts = np.array([1, 1, 7, 7, 553, 553, 553])
    successes = np.array([0, 1, 0, 3, 0, 214, 553])
    low, high = wilson_interval(successes, counts, level=level)
    for i, (k, n) in enumerate(zip(successes, counts, strict=True)):
        expected = scipy.stats.binomtest(int(k), int(n)).proportion_ci(level, "wilson")
        np.testing.assert_allclose([low[i], high[i]], expected, atol=1e-12)
        assert wilson_interval(int(k), int(n), level=level) == (low[i], high[i])
    assert (low >= 0).all()
    assert (high <= 1).all()
    narrow = (np.array([n], np.int32) for n in (50_000, 60_000))  # k² has more than 32 bits
    large = np.concatenate(wilson_interval(*narrow, level=level))
    np.testing.assert_array_equal(large, wilson_interval(50_000, 60_000, level=level))


@pytest.mark.parametrize("mid_p", [False, True])
@pytest.mark.parametrize(
    ("b", "c"), [(0, 0), (1, 0), (0, 9), (3, 12), (7, 7), (40, 21), (300, 412), (2000, 2100)]
)
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(b, c, mid_p):
    n = b + c + 50
    labels, everyone = np.zeros(n + 10, int), np.arange(n + 10)
    clean = (everyone >= n).astype(int)  # ten wrong when clean, which only the first attack mends
    first = ((everyone < b) | ((everyone >= b + c) & (everyone < n - 20))).astype(int)
    second = ((everyone >= b) & (everyone < n - 20) | (everyone >= n)).astype(int)
    found = mcnemar(labels, clean, first, second, mid_p=mid_p)
    expected = scipy.stats.binomtest(b, b + c).pvalue if b + c else 1.0
    if mid_p and b != c:
        expected -= scipy.stats.binom.pmf(b, b + c, 0.5)
    assert found[:2] == (b, c)
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_does_not_underflow_or_overflow():
    labels = np.zeros(3000, int)
    found = mcnemar(labels, labels, labels + 1, labels)
    assert found == (3000, 0, 0.0)  # 2^-2999 is no float


def test_different_shapes_are_named(unchecked):
    zeros = np.zeros(2, int)
    with pytest.raises(ValueError, match=r"\(2,\), \(1,\), \(2,\)"):
        success_rate(zeros, np.zeros(1, int), zeros)
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        success_rate(zeros, zeros, np.zeros((2, 2)))  # logits in place of classes
    with pytest.raises(ValueError, match=r"\(3,\)"):
        mcnemar(zeros, zeros, zeros, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"\(2,\), \(1, 2\), \(3, 2\)"):
        transfer_matrix(zeros, np.zeros((1, 2), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match=r"\(3, 2, 2\)"):
        transfer_matrix(zeros, np.zeros((1, 2), int), np.zeros((3, 2, 2), int))


@pytest.mark.parametrize(
    ("arguments", "options", "word"),
    [
        ((3, 2), {}, "3 of 2"),
        ((-1, 2), {}, "-1 of 2"),
        ((1, 2), {"level": 1.0}, "level must be between 0 and 1, got 1.0"),
    ],
)
def test_impossible_intervals_are_named(arguments, options, word):
    with pytest.raises(ValueError, match=word):
        wilson_interval(*arguments, **options)
