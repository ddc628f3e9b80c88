import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from scipy.special import log_softmax

import bfjax
from bfjax.attack import (
    binary_cross_entropy,
    binary_margin,
    cross_entropy,
    is_right,
    is_wrong,
    l1_penalty,
    margin,
    targeted,
)
from bfjax.explain import logit, probability
from tests.oracles import check_gradients


def _logits(classes=5, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(0, scale, classes)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_cross_entropy_is_scipys(classes, scale):
    logits = _logits(classes, scale=scale).astype(np.float32)
    for label in range(classes):
        expected = -log_softmax(logits.astype(np.float64))[label]
        ours = cross_entropy(jnp.asarray(logits), label)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
        assert targeted(cross_entropy)(jnp.asarray(logits), label) == -ours


def test_cross_entropy_of_bfloat16_is_computed_in_float32():
    logits = jnp.asarray(_logits(), jnp.bfloat16)
    assert cross_entropy(logits, 1).dtype == jnp.float32


@pytest.mark.slow
def test_gradient_of_cross_entropy_is_finite_differences(x64):
    check_gradients(lambda z: cross_entropy(z, 2), (_logits(),), order=2, eps=1e-5)


@pytest.mark.parametrize("ahead", [1.0, 20.0, 80.0])
def test_cross_entropy_has_a_slope_where_the_softmax_is_certain(ahead):
    """Two classes: J = log(1 + e^-d) and dJ/dz_y = −1 / (1 + e^d), d the lead of y."""
    logits = jnp.asarray([ahead, 0.0])
    value, slopes = jax.value_and_grad(cross_entropy)(logits, 0)
    np.testing.assert_allclose(value, np.log1p(np.exp(-ahead)), rtol=1e-5)
    sigmoid = 1 / (1 + np.exp(ahead))
    np.testing.assert_allclose(slopes, [-sigmoid, sigmoid], rtol=1e-5)


def test_margins_are_differences_of_logits():
    logits = _logits()
    for label in range(5):
        rest = np.delete(logits, label)
        found = margin(jnp.asarray(logits, jnp.float32), label)
        assert float(found) == pytest.approx(rest.max() - logits[label], rel=1e-5)
        assert bool(is_wrong(jnp.asarray(logits), label)) == (float(found) > 0)
        assert bool(is_right(jnp.asarray(logits), label)) == (float(found) <= 0)
    slopes = jax.grad(margin)(jnp.asarray(logits, jnp.float32), int(logits.argmin()))
    assert sorted(slopes.tolist()) == [-1, 0, 0, 0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("loss", [binary_cross_entropy, binary_margin])
def test_binary_losses_have_closed_forms(loss, x64):
    logits, labels = np.array([3.0, -0.5, 1.0]), np.array([1, 1, 0])
    signed = np.where(labels, logits, -logits)
    each = np.log1p(np.exp(-signed))
    expected = each.sum() if loss is binary_cross_entropy else -signed.min()
    assert float(loss(jnp.asarray(logits), jnp.asarray(labels))) == pytest.approx(expected)
    for z, y, wrong in ((2.0, 1, False), (2.0, 0, True), (-2.0, 0, False), (-2.0, 1, True)):
        one = jnp.asarray([z])
        assert bool(is_wrong(one, y)) == wrong
        assert (float(binary_margin(one, y)) > 0) == wrong
        assert float(binary_cross_entropy(one, y)) == pytest.approx(
            np.log1p(np.exp(-z * (2 * y - 1)))
        )
        assert float(targeted(loss)(one, y)) == -float(loss(one, y))
    check_gradients(lambda z: loss(z, jnp.asarray(labels)), (logits,), order=1, eps=1e-5)
    far = jax.grad(lambda z: binary_cross_entropy(z, 1))(jnp.asarray([50.0]))
    assert float(far[0]) == pytest.approx(-np.exp(-50), rel=1e-6)


def test_a_label_for_each_head(unchecked):
    for loss in (binary_cross_entropy, binary_margin, is_wrong):
        with pytest.raises(ValueError, match="one label of 0 or 1 a logit"):
            loss(jnp.zeros(3), jnp.zeros(2, int))


def test_targeted_losses_share_a_compilation():
    assert targeted(margin) == targeted(margin) != targeted(cross_entropy)  # one compilation


@pytest.mark.parametrize("loss", [cross_entropy, margin, targeted(margin)])
@pytest.mark.parametrize("label", [[0, 0, 1], [[1]], [0.0, 1.0, 0.0]])
def test_labels_that_are_no_single_class_are_refused_with_the_way_out(loss, label, unchecked):
    with pytest.raises(ValueError, match=r"one class here.*argmax.*binary_cross_entropy"):
        jax.jit(loss)(jnp.zeros(3), jnp.asarray(label))


@pytest.mark.parametrize("label", [True, np.True_, 1.0, 0.5, "1", None, -1, 3, np.int32(3)])
def test_labels_that_number_no_class_are_refused(label, unchecked):
    """NumPy counts -1 from the end, and takes True and None as an index for a new axis."""
    for loss in (cross_entropy, margin, probability, logit):
        with pytest.raises(ValueError, match=r"a label is the number of a class|none of 3 classes"):
            loss(jnp.zeros(3), label)
    for made in (bfjax.attacks.bim(num_steps=1), bfjax.attacks.saliency_map(max_steps=1)):
        with pytest.raises(ValueError, match=r"a label is the number of a class|none of 3 classes"):
            bfjax.run(made, lambda image: image[0, :3, 0], jnp.full((2, 3, 1), 0.5), label)


@pytest.mark.parametrize("label", [[0, -1, 1], [0, 2, 1], [0.5, 0.0, 1.0], [True, False, True]])
def test_labels_of_heads_that_are_neither_0_nor_1_are_refused(label, unchecked):
    for loss in (binary_cross_entropy, binary_margin, is_wrong):
        with pytest.raises(ValueError, match=r"labels of heads are .*0 or 1"):
            loss(jnp.zeros(3), np.asarray(label))


@pytest.mark.parametrize("label", [1, np.int64(1), np.uint8(1), jnp.int32(1)])
def test_every_integer_numbers_a_class(label, unchecked):
    logits = jnp.asarray([0.0, 1.0])
    for loss in (cross_entropy, jax.jit(cross_entropy)):
        np.testing.assert_allclose(loss(logits, label), np.log1p(np.exp(-1.0)), rtol=1e-6)


@pytest.mark.parametrize("z", [-30.0, -1.0, 0.0, 2.5, 80.0])
@pytest.mark.parametrize("label", [0, 1])
def test_one_logit_is_the_binary_loss(z, label, x64):
    for loss, binary in ((cross_entropy, binary_cross_entropy), (margin, binary_margin)):
        ours, gradient = jax.value_and_grad(lambda z, loss=loss: loss(z, label))(jnp.asarray([z]))
        sign = 2 * label - 1
        oracle = np.logaddexp(0, -sign * z) if loss is cross_entropy else -sign * z
        slope = -sign * scipy.special.expit(-sign * z) if loss is cross_entropy else -sign
        np.testing.assert_allclose(ours, oracle, rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(gradient, [slope], rtol=1e-12)
        np.testing.assert_allclose(ours, binary(jnp.asarray([z]), label), rtol=1e-12)


@pytest.mark.parametrize("logits", [[[0.0, 1.0]], []])
def test_logits_of_a_wrong_shape_are_named(logits, unchecked):
    logits = jnp.asarray(logits)
    with pytest.raises(ValueError, match=r"\(classes,\)"):
        cross_entropy(logits, 0)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_l1_penalty_is_numpys(reduction):
    rng = np.random.default_rng(0)
    identity = (np.zeros(4), rng.normal(size=(3, 2)))
    params = (rng.normal(size=4), rng.normal(size=(3, 2)))
    penalty = l1_penalty(jax.tree.map(jnp.asarray, identity), (0.5, 2.0), reduction=reduction)
    reduce = getattr(np, reduction)
    expected = 0.5 * reduce(abs(params[0])) + 2.0 * reduce(abs(params[1] - identity[1]))
    ours = jax.jit(penalty)(jax.tree.map(jnp.asarray, params))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_l1_penalty_has_no_gradient_at_the_identity_and_is_a_sign_elsewhere():
    penalty = l1_penalty(jnp.zeros(3), 0.5)
    gradient = jax.grad(penalty)(jnp.asarray([0.0, 2.0, -1e-6]))
    np.testing.assert_array_equal(gradient, [0, 0.5, -0.5])


def test_changing_the_weights_compiles_nothing():
    traces = []

    @jax.jit
    def evaluate(penalty, params):
        traces.append(1)
        return penalty(params)

    for weight in (0.0, 0.1, 1.0):
        evaluate(l1_penalty(jnp.zeros(3), weight), jnp.ones(3))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("weights", "options", "word"),
    [
        ((0.1,), {}, "one weight for each part"),
        (-0.1, {}, "not be negative, got -0.1"),
        (0.1, {"reduction": "max"}, "'max'"),
    ],
)
def test_bad_penalties_are_named(weights, options, word, unchecked):
    with pytest.raises(ValueError, match=word):
        l1_penalty(jnp.zeros(3), weights, **options)


@pytest.mark.parametrize("loss", [margin, binary_margin])
def test_of_equal_logits_one_alone_has_a_slope(loss):
    """The compiler may round differently when it goes back: found by equality, none might."""
    logits = jnp.asarray([0.5, 2.0, 2.0, 2.0])
    label = 0 if loss is margin else jnp.zeros(4, int)
    slope = jax.grad(loss)(logits, label)
    assert slope[1] == 1
    assert (slope[2:] == 0).all()
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(logits, label), slope)


@pytest.mark.parametrize("logits", [[np.nan, np.nan], [1.0, np.nan], [np.nan]])
@pytest.mark.parametrize("label", [0, 1])
def test_nan_is_neither_right_nor_wrong(logits, label):
    assert not is_wrong(jnp.asarray(logits), label)
    assert not is_right(jnp.asarray(logits), label)


@pytest.mark.parametrize("logits", [[2.0, 1.0, 3.0], [-1.0, 4.0]])
def test_right_is_the_largest_logit(logits):
    for label in range(len(logits)):
        assert bool(is_right(jnp.asarray(logits), label)) == (np.argmax(logits) == label)
        assert bool(is_wrong(jnp.asarray(logits), label)) == (np.argmax(logits) != label)
