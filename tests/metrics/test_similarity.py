import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from bfjax.metrics import clipped_share, psnr, ssim
from tests.oracles import check_gradients

SHAPE = (12, 15)


def _images(channels=1, seed=0, dtype=np.float32):
    """A random image with flat black and white parts, and a noisy, darker copy of it."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 1, (*SHAPE, channels))
    image[:5, :5], image[-3:] = 0, 1
    copy = np.clip(0.8 * image + rng.normal(0, 0.1, image.shape), 0, 1)
    return jnp.asarray(image, dtype), jnp.asarray(copy, dtype)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_scikit_images(channels):
    image, copy = _images(channels)
    expected = skimage.metrics.structural_similarity(
        *(np.asarray(x, np.float64) for x in (image, copy)),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=-1,
    )
    found = jax.jit(ssim)
    assert found(image, copy) == pytest.approx(expected, abs=1e-5)
    assert found(copy, image) == pytest.approx(expected, abs=1e-5)
    assert found(image, image) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_is_scikit_images(channels):
    image, copy = _images(channels)
    expected = skimage.metrics.peak_signal_noise_ratio(
        *(np.asarray(x, np.float64) for x in (image, copy)), data_range=1
    )
    assert psnr(image, copy) == pytest.approx(expected, abs=1e-4)
    assert psnr(image, image) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("metric", [ssim, psnr])
def test_jit_is_eager_and_vmap_is_a_loop(metric):
    pairs = [_images(seed=s) for s in range(3)]
    loop = jnp.stack([metric(x, y) for x, y in pairs])
    x, y = map(jnp.stack, zip(*pairs, strict=True))
    np.testing.assert_allclose(jax.jit(jax.vmap(metric))(x, y), loop, rtol=1e-5)


@pytest.mark.parametrize("metric", [ssim, psnr])
def test_gradients_are_finite_differences(metric, x64):
    image, copy = _images(dtype=np.float64)
    check_gradients(jax.jit(lambda x: metric(x, image)), (copy,), order=1, modes=["rev"])


@pytest.mark.parametrize("metric", [ssim, psnr])
def test_equal_images_are_a_stationary_point(metric, x64):
    image, _ = _images(dtype=np.float64)
    np.testing.assert_allclose(jax.jit(jax.grad(metric))(image, image), 0, atol=1e-12)


@pytest.mark.parametrize("metric", [ssim, psnr])
def test_half_precision_is_computed_in_single(metric):
    image, copy = _images(dtype=jnp.bfloat16)
    found = metric(image, copy)
    assert found.dtype == jnp.float32
    single = metric(image.astype(jnp.float32), copy.astype(jnp.float32))
    assert found == pytest.approx(single.item(), rel=1e-5)


@pytest.mark.parametrize("metric", [ssim, psnr])
def test_images_that_do_not_fit_are_named(metric, unchecked):
    image, _ = _images()
    with pytest.raises(ValueError, match=r"\(12, 15, 1\) and \(12, 15, 3\)"):
        metric(image, jnp.ones((*SHAPE, 3)))
    with pytest.raises(ValueError, match="vmap"):
        metric(image[None], image[None])
    with pytest.raises(ValueError, match=r"floats in \[0, 1\], got uint8"):
        metric(image, jnp.ones(image.shape, jnp.uint8))


def test_an_image_smaller_than_the_window_is_named():
    small = jnp.ones((11, 10, 1))
    with pytest.raises(ValueError, match=r"11 x 11 pixels, got \(11, 10, 1\)"):
        ssim(small, small)
    fits = jnp.ones((11, 11, 1))
    assert jax.eval_shape(ssim, fits, fits).shape == ()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_clipped_share_counts_pixels_that_are_not_what_was_expected(channels):
    rng = np.random.default_rng(1)
    expected = rng.uniform(-0.5, 1.5, (*SHAPE, channels))
    expected[:3] = 0  # black stays black
    made = np.clip(expected, 0, 1)
    outside = ((expected < 0) | (expected > 1)).any(-1).mean()
    assert 0.2 < outside < 0.9
    x, y = (jnp.asarray(image, jnp.float32) for image in (expected, made))
    assert clipped_share(x, y) == pytest.approx(outside, abs=1e-6)
    together = jax.jit(jax.vmap(clipped_share))(jnp.stack([x, y]), jnp.stack([y, y]))
    np.testing.assert_allclose(together, [outside, 0], atol=1e-6)


def test_the_tolerance_of_the_clipped_share_and_nan():
    image = jnp.full((2, 2, 1), 0.5)
    near = image.at[0, 0].add(1e-3)
    assert clipped_share(near, image) == 0.25
    assert clipped_share(near, image, tolerance=2e-3) == 0
    assert clipped_share(image.at[0, 0].set(jnp.nan), image) == 0.25


def test_what_has_no_clipped_share_is_named(unchecked):
    image = jnp.ones((*SHAPE, 1))
    with pytest.raises(ValueError, match="tolerance must not be negative, got -1"):
        clipped_share(image, image, tolerance=-1)
    with pytest.raises(ValueError, match=r"\(12, 15, 1\) and \(12, 15, 3\)"):
        clipped_share(image, jnp.ones((*SHAPE, 3)))
