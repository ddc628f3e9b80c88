import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.attack import check_batch

IMAGES = np.full((2, 8, 8, 1), 0.5, np.float32)
LABELS = np.array([0, 1])


def _predict(image):
    return 9 * jnp.stack([image[:4].mean(), image[4:].mean()])


def _attack():
    return bfjax.attacks.bias_field((8, 8), degree=3, grid_size=3)


def _spoiled(value):
    images = IMAGES.copy()
    images[1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "word"),
    [
        (_spoiled(1.5), LABELS, r"image 1 leaves \[0, 1\].* 1.5"),
        (_spoiled(-0.1), LABELS, r"image 1 leaves \[0, 1\]"),
        (_spoiled(np.nan), LABELS, "image 1 has NaN"),
        (_spoiled(np.inf), LABELS, "image 1 has NaN or infinite"),
        ((IMAGES * 255).astype(np.uint8), LABELS, "uint8.*to_float"),
        (IMAGES, np.array([0, 2]), "image 1 has label 2, the model has 2 classes"),
        (IMAGES, np.array([-1, 0]), "image 0 has label -1"),
        (IMAGES, np.array([0.0, 1.0]), "labels are integers, got float64"),
        (IMAGES, np.array([0]), r"\(1,\)"),
        (IMAGES, np.array([[0, 1], [1, 2]]), "image 1 has label 2, the model has 2 classes"),
        (IMAGES, np.array([[0], [1]]), r"\(2, 1\) do not fit heads \(2,\)"),
        (IMAGES[0], np.array([0]), r"\(8, 8, 1\)"),
        (IMAGES[:0], LABELS[:0], r"\(0, 8, 8, 1\)"),
        (np.full((2, 9, 8, 1), 0.5, np.float32), LABELS, r"\(8, 8\).*\(9, 8\)"),
    ],
)
def test_bad_input_is_named(images, labels, word, unchecked):
    with pytest.raises(ValueError, match=word):
        bfjax.run_batch(_attack(), _predict, images, labels)


def test_lists_of_labels_are_labels(unchecked):
    one, other = (
        bfjax.run_batch(_attack(), _predict, IMAGES, labels) for labels in (LABELS, LABELS.tolist())
    )
    np.testing.assert_array_equal(one.adversarial, other.adversarial)


def test_bad_images_are_named_by_their_names():
    with pytest.raises(ValueError, match=r"b\.png"):
        check_batch(_predict, _spoiled(2.0), LABELS, names=["a.png", "b.png"])


def test_a_model_that_returns_no_vector_is_named(unchecked):
    with pytest.raises(ValueError, match=r"\(classes,\)"):
        bfjax.run_batch(_attack(), lambda image: image.mean(), IMAGES, LABELS)


def test_a_model_that_returns_probabilities_is_warned_about():
    def probabilities(image):
        p = image.mean()
        return jnp.stack([p, 1 - p])

    with pytest.warns(UserWarning, match="probabilities"):
        bfjax.run_batch(_attack(), probabilities, IMAGES, LABELS)


def test_progress_is_reported_after_every_step():
    seen = []
    bfjax.run_batch(_attack(), _predict, IMAGES, LABELS, on_step=seen.append)
    assert seen == list(range(1, 11))


def test_one_logit_has_two_classes(unchecked):
    def darker(image):
        return 9 * (image[:4].mean() - image[4:].mean())[None]

    loss = bfjax.attack.binary_cross_entropy
    attack = bfjax.attacks.bim(loss=loss, num_steps=2)
    result = bfjax.run_batch(attack, darker, IMAGES, LABELS)
    assert result.logits[0] > 0 > result.logits[1]
    with pytest.raises(ValueError, match="image 1 has label 2, the model has 2 classes"):
        bfjax.run_batch(attack, darker, IMAGES, LABELS * 2)


def test_heads_have_a_label_each():
    labels = np.array([[0, 1], [1, 0]])
    attack = bfjax.attacks.bim(loss=bfjax.attack.binary_cross_entropy, num_steps=2)
    result = bfjax.run_batch(attack, _predict, IMAGES, labels)
    assert ((result.trace.logits[:, 0] < result.logits) == (labels == 0)).all()
