"""What records say of classes and findings, and what logits say."""

import itertools

import numpy as np
import pytest
import scipy.special

from bfjax.evaluation.classes import answered, as_text, from_text

FINDINGS = ("Edema", "Mass", "Nodule")


@pytest.mark.parametrize("multi_label", [False, True])
def test_texts_and_labels_are_each_others_inverse(multi_label):
    every = list(itertools.product((0, 1), repeat=3)) if multi_label else [0, 2, 1]
    labels = np.array(every)
    texts = as_text(labels, FINDINGS)
    found = from_text(texts, FINDINGS, multi_label=multi_label)
    np.testing.assert_array_equal(found, labels)
    assert len(set(texts)) == len(every)


@pytest.mark.parametrize(
    ("text", "multi_label"),
    [("Effusion", False), ("Edema|Effusion", True), ("Edema|Mass", False), ("no finding", False)],
)
def test_a_text_that_names_no_class_is_told(text, multi_label):
    with pytest.raises(ValueError, match="none of Edema, Mass, Nodule"):
        from_text([text], FINDINGS, multi_label=multi_label)


def test_the_probability_of_the_truth_is_scipys():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, (30, 3))
    labels = rng.integers(0, 3, 30)
    predictions, scores = answered(logits, labels)
    np.testing.assert_array_equal(predictions, logits.argmax(1))
    np.testing.assert_allclose(scores, scipy.special.softmax(logits, 1)[np.arange(30), labels])

    heads = rng.integers(0, 2, (30, 3))
    predictions, scores = answered(logits, heads)
    p = scipy.special.expit(logits)
    np.testing.assert_array_equal(predictions, p > 0.5)
    np.testing.assert_allclose(scores, np.where(heads, p, 1 - p).prod(1))


@pytest.mark.parametrize("z", [-3.0, 2.0, 800.0])
def test_one_logit_is_a_sigmoid(z):
    for label in (0, 1):
        predictions, scores = answered(np.array([[z]]), np.array([label]))
        assert predictions == [z > 0]
        p = scipy.special.expit(z)
        np.testing.assert_allclose(scores, [p if label else scipy.special.expit(-z)])
