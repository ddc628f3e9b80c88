import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import data
from bfjax.evaluation.accuracy import evaluate_classifier, measure


class Squares(data.Source):
    """Small images, bright where the label is 1, two of each patient."""

    class_names = ("dark", "bright")

    def __init__(self, count=11, size=4):
        self.count, self.size = count, size

    labels = property(lambda self: np.arange(self.count) // 2 % 2)
    groups = property(lambda self: [f"p{i // 2}" for i in range(self.count)])
    names = property(lambda self: [f"{i}.png" for i in range(self.count)])

    def __len__(self):
        return self.count

    def _record(self, index):
        label = int(self.labels[index])
        shade = 60 + 120 * label + index
        image = np.full((self.size, self.size, 1), shade, np.uint8)
        return {"image": image, "label": label, "name": self.names[index], "cause": "", "group": ""}


def predict(image):
    brightness = image.mean()
    return jnp.stack([0.5 - brightness, brightness - 0.5])


@pytest.mark.parametrize("batch_size", [1, 4, 11, 32])
def test_the_last_batch_counts_no_image_twice(batch_size):
    metrics = evaluate_classifier(predict, Squares(), batch_size=batch_size)
    assert metrics.count == 11
    assert metrics.accuracy == 1
    assert metrics.confusion == ((6, 0), (0, 5))
    assert (metrics.auc, metrics.sensitivity, metrics.specificity) == (1, 1, 1)


def test_the_last_batch_compiles_nothing():
    traces = 0

    def counted(image):
        nonlocal traces
        traces += 1
        return predict(image)

    evaluate_classifier(counted, Squares(), batch_size=4)
    assert traces == 1


def test_metrics_of_two_classes():
    logits = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.5, 0.0]])
    metrics = measure(logits, np.array([0, 0, 0, 1, 1]))
    assert metrics.confusion == ((2, 1), (1, 1))
    assert metrics.accuracy == pytest.approx(3 / 5)
    assert metrics.sensitivity == pytest.approx(1 / 2)
    assert metrics.specificity == pytest.approx(2 / 3)
    assert metrics.balanced_accuracy == pytest.approx(7 / 12)
    assert metrics.auc == pytest.approx(5 / 6)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert metrics.loss == pytest.approx(-np.log(p[range(5), [0, 0, 0, 1, 1]]).mean(), rel=1e-5)


def test_metrics_of_three_classes():
    logits = np.eye(3)[[0, 1, 2, 1]] * 40
    metrics = measure(logits, np.array([0, 1, 2, 2]))
    assert metrics.accuracy == 0.75
    assert metrics.sensitivity is None
    assert metrics.auc == pytest.approx((1 + 5 / 6 + 3 / 4) / 3)
    assert metrics.balanced_accuracy == pytest.approx(5 / 6)


def test_every_measured_share_lies_in_its_interval():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 200)
    logits = generator.normal(size=(200, 2)) + 1.5 * np.eye(2)[labels]
    metrics = measure(logits, labels)
    names = {"accuracy", "auc", "sensitivity", "specificity", "calibration_error"}
    assert set(metrics.intervals) == names
    for name in names:
        low, high = metrics.intervals[name]
        assert 0 <= low < getattr(metrics, name) < high <= 1, name
    # Wilson's closed form for the sensitivity, among the positives only
    k, n, z = metrics.confusion[1][1], sum(metrics.confusion[1]), 1.959964
    centre, reach = k / n + z**2 / (2 * n), z * np.sqrt(k * (n - k) / n**3 + z**2 / (4 * n**2))
    ends = np.array([centre - reach, centre + reach]) / (1 + z**2 / n)
    np.testing.assert_allclose(metrics.intervals["sensitivity"], ends, rtol=1e-6)
    three = measure(generator.normal(size=(60, 3)), generator.integers(0, 3, 60))
    assert set(three.intervals) == {"accuracy", "auc", "calibration_error"}


def test_a_missing_class_has_no_interval():
    metrics = measure(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
    assert "sensitivity" not in metrics.intervals
    assert (metrics.sensitivity, metrics.specificity) == (None, 0.5)
    assert np.isnan([metrics.auc, *metrics.intervals["auc"]]).all()


def test_a_diverged_classifier_is_measured_all_the_same():
    metrics = measure(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]))
    assert metrics.accuracy == 0.5
    assert np.isnan([metrics.loss, metrics.calibration_error]).all()


def test_labels_beyond_the_logits_are_refused():
    with pytest.raises(ValueError, match="labels 0 to 2, but there are 2 logits"):
        measure(np.zeros((3, 2)), np.array([0, 1, 2]))


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="no image"):
        evaluate_classifier(predict, Squares(0))


def test_a_transform_is_drawn_by_the_number_of_the_image():
    def darkened(key, image):
        return image - jax.random.uniform(key)

    drawn = [jax.random.uniform(jax.random.fold_in(jax.random.key(0), i)) for i in range(11)]
    source = Squares()
    shades = [source[i]["image"].mean() / 255 - float(u) for i, u in enumerate(drawn)]
    right = [(shade > 0.5) == bool(y) for shade, y in zip(shades, source.labels, strict=True)]
    assert 0 < np.mean(right) < 1
    for batch_size in (3, 11):
        metrics = evaluate_classifier(predict, source, batch_size=batch_size, transform=darkened)
        assert metrics.accuracy == pytest.approx(np.mean(right))


@pytest.mark.parametrize(
    "labels", [np.eye(2, dtype=int), np.array([[0], [1]]), np.array([0.0, 1.0])]
)
def test_labels_that_are_no_classes_are_refused(labels, unchecked):
    with pytest.raises(ValueError, match=r"one class each.*argmax"):
        measure(np.array([[1.0, 0.0], [0.0, 1.0]]), labels)


def test_one_logit_is_two_classes():
    z, labels = np.array([[2.0], [-1.0], [0.5]]), np.array([1, 0, 0])
    assert measure(z, labels) == measure(np.concatenate([-z, z], 1) / 2, labels)
