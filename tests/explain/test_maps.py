import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from bfjax.explain import mean_map, overlap, shares, spearman, top_fraction, upsample
from tests.oracles import check_gradients


def maps(count=2, shape=(8, 9), *, seed=0, levels=None):
    """Random maps; with `levels` only so many different values, so that many pixels are equal."""
    values = np.random.default_rng(seed).uniform(0, 1, (count, *shape)).astype(np.float32)
    return values if levels is None else np.floor(levels * values).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 8), (9, 7), (4, 5), (11, 20)])
def test_upsampling_is_scipys(shape):
    mask = maps(1, (4, 5))[0] if shape != (9, 7) else maps(1, (1, 3))[0]
    where = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, mask.shape, strict=True)]
    grid = np.meshgrid(*where, indexing="ij")
    expected = scipy.ndimage.map_coordinates(mask, grid, order=1, mode="nearest")
    np.testing.assert_allclose(upsample(jnp.asarray(mask), shape), expected, atol=1e-6)


def test_upsampling_has_the_gradient_of_finite_differences(x64):
    mask = jnp.asarray(maps(1, (3, 4))[0], jnp.float64)
    check_gradients(lambda m: upsample(m, (7, 9)), (mask,), order=1, modes=["rev"], eps=1e-3)


def test_the_mean_is_that_of_the_images_that_count():
    several = maps(4)
    np.testing.assert_allclose(mean_map(several), several.mean(0), rtol=1e-6)
    selected = np.array([True, False, True, False])
    several[1] = np.nan  # a map that does not count may hold anything
    found = mean_map(jnp.asarray(several), selected=selected)
    np.testing.assert_allclose(found, several[[0, 2]].mean(0), rtol=1e-6)
    assert np.isnan(mean_map(several, selected=np.zeros(4, bool))).all()


@pytest.mark.parametrize("height", [1, 2, 7, 9, 28])
def test_shares_are_those_of_an_image_that_three_divides(height, unchecked):
    """Each row three times: the thirds are then whole rows."""
    (sensitivity,) = maps(1, (height, 5))
    expected = np.repeat(sensitivity, 3, axis=0).reshape(3, -1).sum(1)
    found = shares(jnp.asarray(sensitivity))
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(shares(jnp.full((height, 3), 0.2)), 1 / 3, rtol=1e-5)
    assert np.isnan(shares(jnp.zeros((height, 3)))).all()
    for dtype in (int, bool):
        np.testing.assert_allclose(shares(jnp.ones((height, 3), dtype)), 1 / 3, rtol=1e-5)


def test_shares_run_from_top_to_bottom():
    found = shares(jnp.zeros((6, 2)).at[0].set(1.0))
    assert (found.top, found.middle, found.bottom) == (1, 0, 0)


@pytest.mark.parametrize("levels", [None, 2, 5])
def test_rank_correlation_is_scipys(levels):
    for seed in range(3):
        one, other = maps(levels=levels, seed=seed)
        other += (0.5 * one).astype(np.float32)
        expected = scipy.stats.spearmanr(one.ravel(), other.ravel()).statistic
        assert spearman(jnp.asarray(one), jnp.asarray(other)).item() == pytest.approx(
            expected, abs=1e-5
        )
    assert np.isnan(spearman(jnp.asarray(one), jnp.ones((8, 9))))


def test_rank_correlation_of_a_large_map_is_scipys():
    one, other = maps(shape=(224, 224), levels=1000)
    expected = scipy.stats.spearmanr(one.ravel(), (one + other).ravel()).statistic
    assert spearman(jnp.asarray(one), jnp.asarray(one + other)).item() == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 1.0])
def test_overlap_is_the_iou_of_sets(fraction):
    one, other = maps()
    count = round(fraction * one.size)
    sets = [set(np.argsort(-m.ravel())[:count].tolist()) for m in (one, other)]
    expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    found = overlap(jnp.asarray(one), jnp.asarray(other), fraction=fraction)
    assert found.item() == pytest.approx(expected)
    assert overlap(jnp.asarray(one), jnp.asarray(one), fraction=fraction).item() == 1
    opposite = overlap(jnp.asarray(one), -jnp.asarray(one), fraction=fraction)
    assert opposite.item() == pytest.approx(max(0, 2 * count - one.size) / min(2 * count, one.size))


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_equal_pixels_share_what_is_left_wherever_they_lie(levels):
    """Each pixel's part is how often it is in the top when ties are broken at random."""
    (sensitivity,) = maps(1, (4, 5), levels=levels)
    rng, count = np.random.default_rng(0), 7
    often = np.zeros(20)
    for _ in range(4000):
        often[np.lexsort((rng.uniform(size=20), -sensitivity.ravel()))[:count]] += 1 / 4000
    found = top_fraction(jnp.asarray(sensitivity), fraction=count / 20)
    np.testing.assert_allclose(found.ravel(), often, atol=0.04)
    assert found.sum() == pytest.approx(count, rel=1e-6)
    turned = top_fraction(jnp.asarray(sensitivity[::-1]), fraction=count / 20)
    np.testing.assert_array_equal(turned, found[::-1])


def test_what_is_unknown_overlaps_by_an_unknown_share():
    some, none = jnp.arange(6.0).reshape(2, 3), jnp.full((2, 3), jnp.nan)
    assert np.isnan(overlap(some, none, fraction=0.5))
    assert np.isnan(overlap(none, none, fraction=0.5))


def test_at_least_one_pixel_is_on_top():
    found = top_fraction(jnp.asarray(maps(1)[0]), fraction=1e-6)
    np.testing.assert_array_equal(found, maps(1)[0] == maps(1)[0].max())


@pytest.mark.parametrize("function", [spearman, overlap, lambda one, _: shares(one).middle])
def test_compiled_and_batched_are_eager(function):
    one, other = (jnp.asarray(maps(3, seed=seed, levels=20)) for seed in (1, 2))
    loop = np.array([function(*both) for both in zip(one, other, strict=True)])
    np.testing.assert_allclose(jax.vmap(function)(one, other), loop, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(one, other), loop, rtol=1e-5)
    assert len(set(loop.tolist())) == 3


def test_means_and_upsampling_are_compiled_as_they_are_eager():
    several, chosen = jnp.asarray(maps(3)), jnp.asarray([True, False, True])
    compiled = jax.jit(lambda m, s: mean_map(m, selected=s))(several, chosen)
    np.testing.assert_allclose(compiled, mean_map(several, selected=chosen), rtol=1e-6)
    larger = jax.jit(jax.vmap(lambda m: upsample(m, (11, 12))))(several)
    for one, whole in zip(several, larger, strict=True):
        np.testing.assert_allclose(whole, upsample(one, (11, 12)), rtol=1e-5)


def test_bad_input_is_named(unchecked):
    one = jnp.asarray(maps(1)[0])
    for function in (spearman, overlap):
        with pytest.raises(ValueError, match=r"\(8, 9\) and \(9, 8\)"):
            function(one, one.T)
    for fraction in (0.0, 1.5, -0.2, float("nan")):
        with pytest.raises(ValueError, match=str(fraction)):
            top_fraction(one, fraction=fraction)
    with pytest.raises(ValueError, match=r"\(8, 9\) is larger than the image \(8, 8\)"):
        upsample(one, (8, 8))
    with pytest.raises(ValueError, match=r"\(2,\) for \(1, 8, 9\)"):
        mean_map(one[None], selected=jnp.ones(2, bool))
