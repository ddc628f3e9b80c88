import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bfjax.explain import (
    centre_map,
    deletion_curve,
    insertion_curve,
    logit,
    probability,
    random_map,
)
from tests.networks import images, smooth_network

SHAPE = (8, 9, 2)


def linear(seed=0):
    """Class 0 by one linear functional, so that each pixel's part in the attack is known."""
    weights = np.random.default_rng(seed).normal(0, 1, SHAPE)

    def apply(weights, image):
        return jnp.stack([jnp.sum(weights * image), jnp.asarray(0.0)])

    return Partial(apply, jnp.asarray(weights, jnp.float32)), weights


def problem():
    predict, weights = linear()
    clean, attacked = images(2, SHAPE)
    return predict, clean, attacked, np.sum(weights * np.asarray(attacked - clean), axis=-1)


@pytest.mark.parametrize("num_points", [2, 6, 21, 100])
def test_curves_of_a_linear_classifier_are_cumulative_sums(num_points):
    predict, clean, attacked, change = problem()
    order = np.random.default_rng(1).permutation(72)  # the k-th most sensitive pixel
    sensitivity = np.empty(72)
    sensitivity[order] = -np.arange(72)
    counts = np.rint(np.linspace(0, 1, num_points) * 72).astype(int)
    falls = np.concatenate([[0], np.cumsum(change.ravel()[order])])[counts]
    for curve_of, start, sign in (
        (deletion_curve, predict(clean)[0], 1),
        (insertion_curve, predict(attacked)[0], -1),
    ):
        curve = curve_of(
            predict, clean, attacked, 0, jnp.asarray(sensitivity.reshape(8, 9), jnp.float32),
            num_points=num_points, score=logit,
        )  # fmt: skip
        expected = float(start) + sign * falls
        np.testing.assert_allclose(curve.score, expected, atol=1e-4)
        np.testing.assert_allclose(curve.fractions, counts / 72, rtol=1e-6)
        assert curve.area.item() == pytest.approx(np.trapezoid(expected, counts / 72), abs=1e-4)


@pytest.mark.slow
def test_a_map_that_means_something_beats_the_controls():
    predict, clean, attacked, change = problem()
    best = jnp.asarray(-change, jnp.float32)
    controls = [centre_map(SHAPE[:2])]
    controls += [random_map(jax.random.key(seed), SHAPE[:2]) for seed in range(5)]
    controls += [random_map(jax.random.key(0), SHAPE[:2], mask_size=(3, 3)), -best]
    for curve_of, sign in ((deletion_curve, 1), (insertion_curve, -1)):

        def area(sensitivity, curve_of=curve_of):
            return curve_of(predict, clean, attacked, 0, sensitivity, score=logit).area

        areas = sign * jax.jit(jax.vmap(area))(jnp.stack([best, *controls]))
        assert areas[0] < areas[1:].min()


def test_only_the_order_counts_and_the_insertion_is_the_reversed_order_read_from_its_end():
    predict, (clean, attacked) = smooth_network(), images(2)
    sensitivity = images(1, seed=5)[0, ..., 0]
    some = (predict, clean, attacked, 1)
    curve = deletion_curve(*some, sensitivity)
    np.testing.assert_allclose(deletion_curve(*some, sensitivity**3).score, curve.score, rtol=1e-6)
    reverse = insertion_curve(*some, -sensitivity)
    np.testing.assert_allclose(reverse.score[::-1], curve.score, rtol=1e-4)
    assert curve.score[0] == pytest.approx(float(probability(predict(clean), 1)), rel=1e-5)
    assert curve.score[-1] == pytest.approx(float(probability(predict(attacked), 1)), rel=1e-5)


def test_a_flat_map_prefers_no_place():
    predict, clean, attacked, change = problem()
    curve = deletion_curve(predict, clean, attacked, 0, jnp.zeros(SHAPE[:2]), score=logit)
    straight = float(predict(clean)[0]) + np.asarray(curve.fractions) * change.sum()
    np.testing.assert_allclose(curve.score, straight, atol=1e-4)


@pytest.mark.parametrize("curve_of", [deletion_curve, insertion_curve])
def test_compiled_and_batched_are_eager(curve_of):
    predict, both = smooth_network(), images(6)
    clean, attacked, seen = both[:3], both[3:], images(3, seed=7)[..., 0]
    labels = jnp.asarray([0, 1, 2])

    def area(predict, *arguments):
        return curve_of(predict, *arguments, num_points=5).area

    loop = [area(predict, *one) for one in zip(clean, attacked, labels, seen, strict=True)]
    across = jax.vmap(area, in_axes=(None, 0, 0, 0, 0))
    compiled = jax.jit(across)(predict, clean, attacked, labels, seen)
    np.testing.assert_allclose(compiled, loop, rtol=1e-4)
    assert np.std(loop) > 1e-3


def test_the_random_control_is_uniform_and_hangs_on_its_key():
    one = np.asarray(random_map(jax.random.key(0), (60, 60)))
    assert 0 <= one.min() < 0.01
    assert 0.99 < one.max() < 1
    assert one.std() == pytest.approx(np.sqrt(1 / 12), rel=0.05)
    np.testing.assert_array_equal(random_map(jax.random.key(0), (60, 60)), one)
    assert (random_map(jax.random.key(1), (60, 60)) != one).any()
    smooth = np.asarray(random_map(jax.random.key(0), (60, 60), mask_size=(5, 6)))
    assert np.abs(np.diff(smooth, axis=0)).max() <= 5 / 60 + 1e-6  # a cell's step over 12 pixels
    assert smooth.std() > 0.1


@pytest.mark.parametrize("shape", [(9, 7), (8, 8), (1, 5)])
def test_the_centre_control_is_a_gaussian(shape):
    y, x = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape)
    expected = np.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * 0.3**2))
    np.testing.assert_allclose(centre_map(shape, sigma=0.3), expected, rtol=1e-5)


def test_bad_input_is_named(unchecked):
    predict, clean, attacked, _ = problem()
    for curve_of in (deletion_curve, insertion_curve):
        with pytest.raises(ValueError, match="shapes differ"):
            curve_of(predict, clean, attacked[1:], 0, jnp.ones((8, 9)))
        eight = jnp.zeros(clean.shape, jnp.uint8)
        with pytest.raises(ValueError, match="uint8"):
            curve_of(predict, eight, eight, 0, jnp.ones((8, 9)))
        with pytest.raises(ValueError, match=r"map is \(9, 8\), the image \(8, 9, 2\)"):
            curve_of(predict, clean, attacked, 0, jnp.ones((9, 8)))
        with pytest.raises(ValueError, match=r"num_points .* 1"):
            curve_of(predict, clean, attacked, 0, jnp.ones((8, 9)), num_points=1)
    with pytest.raises(ValueError, match=r"0\.0"):
        centre_map((3, 3), sigma=0.0)
    with pytest.raises(ValueError, match=r"\(4, 4\) is larger than the image \(3, 5\)"):
        random_map(jax.random.key(0), (3, 5), mask_size=(4, 4))
