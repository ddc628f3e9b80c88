import numpy as np
import pytest
import scipy.stats

from bfjax.evaluation.intervals import calibration_error, mean_auc, paired_shares
from bfjax.metrics import wilson_interval


def binary(n=60, seed=0):
    """Scores with ties, and labels that they tell apart somewhat."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < 0.4).astype(int)
    return (generator.integers(0, 9, n) + 2 * labels).astype(float), labels


def two(scores):
    return np.stack([-scores, scores], axis=1)


def test_auc_is_the_share_of_pairs_in_order():
    scores, labels = binary()
    pairs = [(a > b) + (a == b) / 2 for a in scores[labels == 1] for b in scores[labels == 0]]
    found, (low, high) = mean_auc(two(scores), labels)
    assert found == pytest.approx(np.mean(pairs))
    assert low < found < high
    found, interval = mean_auc(two(scores), np.ones(60, int))
    assert np.isnan([found, *interval]).all()


def test_the_interval_of_an_auc_is_delongs():
    """DeLong's components pair by pair, as the paper has them, and the bootstrap's spread."""
    scores, labels = binary()
    x, y = scores[labels == 1], scores[labels == 0]
    order = (x[:, None] > y[None]) + (x[:, None] == y[None]) / 2
    variance = order.mean(1).var(ddof=1) / len(x) + order.mean(0).var(ddof=1) / len(y)
    found, ends = mean_auc(two(scores), labels)
    half = 1.959964 * np.sqrt(variance) / (found * (1 - found))
    logits = np.log(np.array(ends) / (1 - np.array(ends)))
    centre = np.log(found / (1 - found))
    np.testing.assert_allclose(logits, [centre - half, centre + half], rtol=1e-6)
    generator = np.random.default_rng(0)
    drawn = [
        mean_auc(two(np.concatenate([a, b])), labels[np.argsort(1 - labels, kind="stable")])[0]
        for a, b in ((generator.choice(x, len(x)), generator.choice(y, len(y))) for _ in range(400))
    ]
    assert np.std(drawn) == pytest.approx(np.sqrt(variance), rel=0.15)


def test_the_auc_of_three_classes_is_the_mean_of_each_against_the_rest():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 90)
    scores = generator.normal(size=(90, 3)) + np.eye(3)[labels]
    each = [mean_auc(two(scores[:, c]), (labels == c).astype(int))[0] for c in range(3)]
    found, (low, high) = mean_auc(scores, labels)
    assert found == pytest.approx(np.mean(each))
    drawn = []
    for _ in range(400):
        rows = np.concatenate(
            [generator.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in range(3)]
        )
        drawn.append(mean_auc(scores[rows], labels[rows])[0])
    np.testing.assert_allclose(np.quantile(drawn, [0.025, 0.975]), [low, high], atol=0.02)


def test_a_perfect_auc_is_not_certain():
    scores, labels = np.arange(10.0), (np.arange(10) >= 6).astype(int)
    found, ends = mean_auc(two(scores), labels)
    assert found == 1
    assert ends == wilson_interval(4, 4)
    assert ends[0] < 0.6


@pytest.mark.parametrize("classes", range(3, 21))
def test_a_perfect_auc_of_many_classes_is_exact(classes):
    labels = np.repeat(np.arange(classes), 3)
    found, ends = mean_auc(np.eye(classes)[labels], labels)
    assert found == pytest.approx(1)
    assert ends == wilson_interval(3, 3)


def test_one_image_of_a_class_tells_no_variance():
    scores, labels = np.append(np.arange(100.0), 89.5), np.append(np.zeros(100, int), 1)
    found, ends = mean_auc(two(scores), labels)
    assert found == pytest.approx(0.9)
    assert np.isnan(ends).all()


def test_the_difference_of_paired_shares_is_covered_as_often_as_it_says():
    generator, hits, n = np.random.default_rng(0), [], 40
    for _ in range(1500):
        first = generator.uniform(size=n) < 0.9
        second = np.where(generator.uniform(size=n) < 0.5, first, generator.uniform(size=n) < 0.4)
        found = paired_shares(first, second)
        assert -1 <= found["low"] <= found["mean"] <= found["high"] <= 1
        hits.append(found["low"] <= 0.5 * (0.9 - 0.4) <= found["high"])
    assert 0.93 < np.mean(hits) < 0.975


def test_paired_shares_are_antisymmetric_and_never_certain():
    generator = np.random.default_rng(1)
    first, second = generator.uniform(size=(2, 12)) < 0.6
    one, other = paired_shares(first, second), paired_shares(second, first)
    assert [one[k] for k in ("mean", "low", "high")] == pytest.approx(
        [-other[k] for k in ("mean", "high", "low")]
    )
    alike = paired_shares(np.ones(10, bool), np.ones(10, bool))
    assert alike["low"] < 0 == alike["mean"] < alike["high"]


def test_calibration_error_bin_by_bin():
    generator = np.random.default_rng(0)
    confidence = np.append(generator.uniform(0.5, 1, 200), [1.0, 1.0, 0.6])
    right = generator.random(203) < confidence**2
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            gap = right[inside].mean() - confidence[inside].mean()
            expected += inside.mean() * abs(gap)
    found, ends = calibration_error(confidence, right)
    assert found == pytest.approx(expected)

    def again(rows):
        return calibration_error(confidence[rows], right[rows], resamples=1)[0]

    oracle = scipy.stats.bootstrap(
        (np.arange(203),), again, method="percentile", n_resamples=1000, vectorized=False,
        random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(ends, [oracle.low, oracle.high], atol=0.01)
    assert ends == calibration_error(confidence, right)[1]


def test_what_is_never_right_is_badly_calibrated():
    found, ends = calibration_error(np.ones(8), np.zeros(8, bool))
    assert (found, ends) == (1, (1, 1))
