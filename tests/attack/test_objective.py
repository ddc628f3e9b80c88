import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from bfjax.attack import cross_entropy, l1_penalty, targeted_cross_entropy
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
        assert targeted_cross_entropy(jnp.asarray(logits), label) == -ours


def test_cross_entropy_of_bfloat16_is_computed_in_float32():
    logits = jnp.asarray(_logits(), jnp.bfloat16)
    assert cross_entropy(logits, 1).dtype == jnp.float32


def test_gradient_of_cross_entropy_is_finite_differences(x64):
    check_gradients(lambda z: cross_entropy(z, 2), (_logits(),), order=2, eps=1e-5)


@pytest.mark.parametrize("logits", [[[0.0, 1.0]], [0.0]])
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
