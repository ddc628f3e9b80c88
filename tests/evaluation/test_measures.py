import io

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import bfjax
from bfjax.evaluation import measures


def _images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def test_a_png_rounds_to_eight_bits():
    images = _images(2, 8, 9, 1)
    saved = measures.as_saved(images, "png")
    assert saved.dtype == np.float32
    np.testing.assert_array_equal(saved, np.rint(images * 255) / np.float32(255))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_what_opencv_reads(channels):
    smooth = cv2.GaussianBlur(_images(24, 32, channels), (0, 0), 3).reshape(24, 32, channels)
    file = io.BytesIO()
    picture = Image.fromarray(np.rint(smooth * 255).astype(np.uint8).squeeze())
    picture.save(file, "jpeg", quality=75)
    pixels = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
    pixels = pixels[..., ::-1] if channels == 3 else pixels[..., None]
    saved = measures.as_saved(smooth[None], "jpeg")[0]
    assert np.abs(saved * 255 - pixels).max() < 3  # decoders may differ by rounding
    assert np.abs(saved - smooth).max() > 0


def test_quality_is_measured_image_by_image():
    images, attacked = _images(3, 20, 24, 1), _images(3, 20, 24, 1, seed=1)
    found = measures.of_images(images, attacked)
    assert set(found) == {"psnr", "ssim", "brisque_clean", "brisque"}
    for i in range(3):
        expected = peak_signal_noise_ratio(images[i], attacked[i], data_range=1)
        assert found["psnr"][i] == pytest.approx(expected, rel=1e-4)
        score = bfjax.metrics.brisque(jnp.asarray(attacked[i]))
        assert found["brisque"][i] == pytest.approx(float(score), abs=0.05)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((2, 8, 8, 1), {"psnr"}),
        ((2, 12, 12, 1), {"psnr", "ssim"}),
        ((2, 20, 20, 3), {"psnr", "ssim"}),
    ],
)
def test_what_cannot_be_measured_is_left_out(shape, names):
    assert set(measures.of_images(_images(*shape), _images(*shape, seed=1))) == names


def test_a_field_that_folds_is_told_from_one_that_does_not():
    field = bfjax.polynomial_tps((12, 12), degree=2, grid_size=3)
    flat = field.init()
    mirrored = flat._replace(control_points=flat.control_points * jnp.array([[-1.0, 1.0]]))
    params = jax.tree.map(lambda *x: jnp.stack(x), flat, mirrored)
    slope = np.broadcast_to(np.linspace(0, 1, 12), (2, 12, 12)).astype(np.float32)
    found = measures.of_fields(slope, params)
    np.testing.assert_array_equal(found["folded_share"], [0, 1])
    np.testing.assert_allclose(found["total_variation"], 12, rtol=1e-5)
    assert "folded_share" not in measures.of_fields(slope, {"anything": jnp.zeros((2, 3))})
