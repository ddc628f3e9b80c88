import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import bfjax
from bfjax.explain import first_of_pair, logit, mask_attack, pair, probability, total_variation
from tests.networks import images, smooth_network
from tests.oracles import check_gradients

SHAPE = (7, 9, 2)


def penalty(mask, **options):
    return mask_attack(mask_size=3, **options).penalty(mask)


@pytest.mark.parametrize("exponent", [1, 1.5, 2, 3])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_penalty_is_numpys(exponent, reduction):
    mask = np.random.default_rng(0).uniform(0, 1, (4, 5)).astype(np.float32)
    reduce = getattr(np, reduction)
    down, right = (reduce(np.abs(np.diff(mask, axis=axis)) ** exponent) for axis in (0, 1))
    expected = 0.3 * reduce(mask) + 0.7 * (down + right)
    found = penalty(jnp.asarray(mask), l1=0.3, tv=0.7, tv_exponent=exponent, reduction=reduction)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    variation = total_variation(jnp.asarray(mask), exponent=exponent, reduction=reduction)
    np.testing.assert_allclose(variation, down + right, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [1, 1.5, 2, 3])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_penaltys_gradient_is_finite_differences_on_flat_masks_too(exponent, reduction, x64):
    def value(mask):
        return penalty(mask, l1=0.3, tv=0.7, tv_exponent=exponent, reduction=reduction)

    value = jax.jit(value)
    rough = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (4, 5)))
    half_flat = rough.at[:, 2:].set(0.5)
    for mask in (rough, half_flat, jnp.zeros((4, 5)), jnp.ones((4, 5))):
        # |d| is symmetric at 0, so central differences along one pixel are its slope there: zero
        found = np.asarray(jax.grad(value)(mask))
        for pixel in np.ndindex(4, 5):
            high, low = (value(mask.at[pixel].add(h)) for h in (1e-6, -1e-6))
            assert found[pixel] == pytest.approx(float(high - low) / 2e-6, abs=2e-6)
    check_gradients(value, (rough,), order=1, modes=["rev"], eps=1e-6)
    slope = jax.grad(lambda m: total_variation(m, exponent=exponent))(jnp.full((4, 5), 0.3))
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.slow
def test_masks_of_one_row_or_one_cell_have_no_differences_there():
    row = jnp.asarray([[0.0, 1.0, 0.5]])
    assert total_variation(row, exponent=1).item() == 0.75  # the mean of 1 and 0.5
    assert total_variation(row.T, exponent=1).item() == 0.75
    value, slope = jax.value_and_grad(penalty)(jnp.ones((1, 1)))
    assert value == pytest.approx(0.05)
    assert slope.item() == pytest.approx(0.05)


@pytest.mark.parametrize("score", [probability, logit])
def test_the_whole_objective_has_the_gradient_of_finite_differences(score, x64):
    predict = smooth_network(shape=SHAPE, dtype=jnp.float64)
    clean, attacked = (batch.astype(jnp.float64) for batch in images(2, SHAPE, low=0.1, high=0.9))
    attack, looks = mask_attack(mask_size=(3, 4), score=score), first_of_pair(predict)

    def objective(mask):
        logits = looks(attack.perturbation.apply(mask, pair(clean, attacked)))
        return attack.loss(logits, 1) - attack.penalty(mask)

    mask = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (3, 4)))
    check_gradients(jax.jit(objective), (mask,), order=1, modes=["rev"], eps=1e-6)


@pytest.mark.slow
def test_the_mask_blends_within_range_and_keeps_its_slope_at_the_bounds():
    clean, attacked = images(2, (12, 11, 3), low=-0.5, high=1.5)
    apply = mask_attack(mask_size=5).perturbation.apply
    for value, expected in ((0.0, clean), (1.0, attacked)):
        blend = apply(jnp.full((5, 5), value), pair(clean, attacked))
        np.testing.assert_allclose(blend[..., :3], expected, atol=3e-7)
        np.testing.assert_array_equal(blend[..., 3:], attacked)
        assert 0 <= float(blend.min()) <= float(blend.max()) <= 1

    def first_pixel(mask):
        return apply(mask, pair(clean, attacked))[0, 0, :3].sum()

    slope = jax.grad(first_pixel)(jnp.ones((5, 5)))[0, 0]  # the corner pixel hangs on this cell
    assert slope == pytest.approx(float((attacked - clean)[0, 0].sum()), rel=1e-5)
    same = jax.grad(lambda m: (apply(m, pair(clean, clean)) ** 2).sum())(jnp.full((5, 5), 0.7))
    np.testing.assert_array_equal(same, 0)


@pytest.mark.slow
def test_half_precision_images_stay_and_their_mask_is_float32():
    clean, attacked = images(2, SHAPE, low=0.2, high=0.8).astype(jnp.bfloat16)
    attack = mask_attack(mask_size=4, num_steps=2)
    predict = first_of_pair(smooth_network(shape=SHAPE))
    result = jax.jit(bfjax.run)(attack, predict, pair(clean, attacked), 0)
    assert (result.adversarial.dtype, result.params.dtype) == (jnp.bfloat16, jnp.float32)


def test_equal_options_share_a_compilation():
    first, second, other = mask_attack(), mask_attack(), mask_attack(l1=0.1, start=0.5)
    assert jax.tree.structure(first) == jax.tree.structure(second) == jax.tree.structure(other)
    assert jax.tree.structure(first) != jax.tree.structure(mask_attack(mask_size=8))
    assert mask_attack(optimizer=(sgd := optax.sgd(0.1))).optimizer.update.func is sgd.update


@pytest.mark.slow
def test_the_scores_are_scipys():
    logits = np.random.default_rng(0).normal(0, 3, 4).astype(np.float32)
    for label in range(4):
        found = probability(jnp.asarray(logits), label)
        assert found.item() == pytest.approx(scipy.special.softmax(logits)[label], rel=1e-5)
        assert logit(jnp.asarray(logits), label).item() == logits[label]
    one = jnp.asarray([1.5])
    assert probability(one, 1).item() == pytest.approx(scipy.special.expit(1.5))
    assert probability(one, 0).item() == pytest.approx(scipy.special.expit(-1.5))
    assert (logit(one, 1).item(), logit(one, 0).item()) == (1.5, -1.5)
    heads, labels = jnp.asarray([2.0, -1.0]), jnp.asarray([1, 0])
    assert probability(heads, labels).item() == pytest.approx(
        scipy.special.expit(2) * scipy.special.expit(1)
    )
    assert logit(heads, labels).item() == 1


@pytest.mark.slow
def test_a_sure_classifiers_probability_still_has_a_slope():
    """p(1 − p) = exp(−30), where the softmax in float32 has rounded to 1."""
    slope = jax.grad(probability)(jnp.asarray([30.0, 0.0]), 0)
    np.testing.assert_allclose(slope, np.exp(-30) * np.array([1, -1]), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"l1": -0.1}, r"l1 .*-0\.1"),
        ({"tv": -2.0}, r"tv .*-2\.0"),
        ({"l1": float("nan")}, "nan"),
        ({"num_steps": 0}, "num_steps .* 0"),
        ({"mask_size": 0}, "mask_size .* 0"),
        ({"mask_size": (4, 0)}, r"\(4, 0\)"),
        ({"start": 1.5}, r"1\.5"),
        ({"step_size": 0.0}, r"step_size .*0\.0"),
        ({"tv_exponent": 0.5}, r"0\.5"),
        ({"reduction": "max"}, "'max'"),
    ],
)
def test_bad_options_are_named(options, word, unchecked):
    with pytest.raises(ValueError, match=word):
        mask_attack(**options)


def test_bad_images_are_named(unchecked):
    image = jnp.full(SHAPE, 0.5)
    with pytest.raises(ValueError, match=r"\(7, 9, 2\) and \(7, 8, 2\)"):
        pair(image, image[:, 1:])
    attack, predict = mask_attack(mask_size=8, num_steps=1), first_of_pair(smooth_network())
    with pytest.raises(ValueError, match=r"mask \(8, 8\) is larger than the image \(7, 9\)"):
        bfjax.init(attack, pair(image, image))
    with pytest.raises(ValueError, match=r"\(12, 12, 1\): see explain.pair"):
        bfjax.run(attack, predict, images(1)[0], 0)
    with pytest.raises(ValueError, match=r"\(1, 7, 9, 4\)"):
        bfjax.init(attack, pair(image, image)[None])
    with pytest.raises(ValueError, match="int32"):
        bfjax.init(attack, pair(image, image).astype(int))
