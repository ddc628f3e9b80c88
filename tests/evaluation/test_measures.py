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


def _no_warp(count):
    return {"anything": jnp.zeros((count, 3))}


def test_strength_steepness_and_unevenness_of_a_ramp():
    """B̂ from 0 to 0.5 over 43 pixels of 10 mm: 41 regions of one pixel, inside a border of one."""
    ramp = np.linspace(0, 0.5, 43, dtype=np.float32)
    fields = np.stack([np.tile(ramp, (43, 1)), np.zeros((43, 43), np.float32)])
    found = measures.of_fields(fields, _no_warp(2))
    exact, light = ramp.astype(float), np.exp(ramp[1:-1].astype(float))
    expected = {
        "log_range": 0.5,
        "largest_slope": 0.5,
        "log_field_rms": np.sqrt(np.mean(exact**2)),
        "global_nonuniformity": np.ptp(light) / light.mean(),
        "local_nonuniformity": np.diff(light).max() / light.mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value, 0], rtol=1e-3, err_msg=name)


@pytest.mark.parametrize(
    ("shape", "lacking"),
    [
        ((32, 32), set()),
        ((3, 3), set()),
        ((50, 9), set()),
        ((30, 224), set()),
        ((9, 224), {"global_nonuniformity", "local_nonuniformity"}),
        ((1, 9), {"largest_slope"}),
        ((1, 12), {"global_nonuniformity", "local_nonuniformity", "largest_slope"}),
        ((9, 1), {"largest_slope"}),
    ],
)
def test_fields_of_any_size_are_measured(shape, lacking):
    names = {
        *("log_range", "log_field_rms", "largest_slope", "total_variation", "gradient_energy"),
        *("high_frequency_share", "central_min", "central_max"),
        *("global_nonuniformity", "local_nonuniformity"),
    }
    fields = _images(2, *shape)
    found = measures.of_fields(fields, _no_warp(2))
    assert set(found) == names - lacking
    assert all(np.isfinite(values).all() and values.shape == (2,) for values in found.values())


@pytest.mark.parametrize(
    ("bounds", "share"),
    [
        ({}, 1 / 4),
        ({"max_change": 0.05}, 2 / 4),
        ({"max_log_field": 0.3}, 3 / 4),
        ({"offset": 0.1}, 1 / 4),
    ],
)
def test_the_clipped_share_counts_where_a_bound_holds(bounds, share):
    """Four columns: black, hardly changed, changed by more than 0.05, made brighter than white."""
    image = jnp.tile(jnp.asarray([0.0, 0.1, 0.3, 0.8])[:, None], (8, 1, 1))
    log_field = jnp.tile(jnp.asarray([0.4, 0.31, 0.4, 0.4]), (8, 1))
    perturbation = bfjax.bias_field(bfjax.pixelwise((8, 4)), **bounds)
    made = [make(log_field, image) for make in (perturbation.unclipped, perturbation.apply)]
    found = measures.of_clips(*(np.stack([one]) for one in made))
    np.testing.assert_allclose(found["clipped_share"], [share], atol=1e-6)
