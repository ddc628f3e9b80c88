"""Probabilities back to logits, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from bfjax.models import from_probabilities


def as_given(image):
    return image[0, :, 0]


def image_of(p):
    return jnp.asarray(p)[None, :, None]


P = np.array([0.05, 0.25, 0.7])


@pytest.mark.parametrize(
    ("p", "multi_label", "expected"),
    [
        (P, False, np.log(P)),
        (P, True, scipy.special.logit(P)),
        (P[:1], False, scipy.special.logit(P[:1])),
        (P[:1], True, scipy.special.logit(P[:1])),
    ],
)
def test_logits_are_scipys(p, multi_label, expected, x64):
    logits = from_probabilities(as_given, multi_label=multi_label)
    np.testing.assert_allclose(logits(image_of(p)), expected, rtol=1e-12)
    np.testing.assert_array_equal(jax.jit(logits)(image_of(p)), logits(image_of(p)))
    both = jnp.stack([image_of(p), image_of(p[::-1])])
    loop = [logits(one) for one in both]
    np.testing.assert_array_equal(jax.vmap(logits)(both), jnp.stack(loop))


def test_the_softmax_of_the_result_is_the_classifiers(x64):
    logits = from_probabilities(as_given)(image_of(P))
    np.testing.assert_allclose(scipy.special.softmax(logits), P, rtol=1e-12)
    gradient = jax.jacobian(lambda x: from_probabilities(as_given)(x))(image_of(P))
    np.testing.assert_allclose(gradient[:, 0, :, 0], np.diag(1 / P), rtol=1e-12)


@pytest.mark.parametrize("p", [[0.0], [1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0, 1e-45]])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_certain_answers_stay_finite_and_keep_their_class(p, multi_label, dtype):
    logits = from_probabilities(as_given, multi_label=multi_label)
    image = image_of(p).astype(dtype)
    found, gradient = logits(image), jax.grad(lambda x: logits(x).sum())(image)
    assert np.isfinite(found).all()
    assert np.isfinite(gradient).all()
    if len(p) > 1:
        assert found.argmax() == np.argmax(p)
    else:
        assert (found[0] > 0) == (p[0] > 0.5)


def test_weights_stay_leaves():
    predict = jax.tree_util.Partial(lambda w, x: jax.nn.softmax(w * x[0, :, 0]), jnp.ones(3))
    assert len(jax.tree.leaves(from_probabilities(predict))) == 1


def test_an_output_that_is_no_vector_is_named(unchecked):
    with pytest.raises(ValueError, match=r"probabilities of shape \(classes,\), got \(\)"):
        from_probabilities(lambda image: image.mean())(image_of(P))
