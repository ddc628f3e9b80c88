import csv
import importlib
import importlib.resources
from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage

from bfjax.metrics import brisque

module = importlib.import_module("bfjax.metrics.brisque")  # a function bears its name

# what scikit-image brings with it, without a download
PHOTOGRAPHS = ("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins")
PHOTOGRAPHS += ("grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon", "rocket")
DRAWINGS = ("colorwheel", "horse", "logo", "page", "text")  # with large flat parts


def _grey(name):
    image = skimage.img_as_ubyte(getattr(skimage.data, name)())
    return image if image.ndim == 2 else cv2.cvtColor(image[..., :3].copy(), cv2.COLOR_RGB2GRAY)


def _features(image):
    return cv2.quality.QualityBRISQUE_computeFeatures(image.copy()).ravel()  # it writes into floats


def _reference(image):
    """The score of OpenCV's features by OpenCV's model, in float64, from grey levels."""
    file = importlib.resources.files("bfjax.metrics") / "brisque_opencv_live.npz"
    with file.open("rb") as opened:
        model = dict(np.load(opened))
    low, high = model["range_min"], model["range_max"]
    scaled = 2 * (_features(image).astype(np.float64) - low) / (high - low) - 1
    squares = np.sum((model["support_vectors"] - scaled) ** 2, axis=1)
    return np.exp(-model["gamma"] * squares) @ model["alpha"] - model["rho"]


def _float(image):
    """To [0, 1], and with a channel axis."""
    return jnp.asarray(image[..., None] / np.float32(255))


def _check(images):
    scores = [brisque(_float(image)) for image in images]
    np.testing.assert_allclose(scores, [_reference(image) for image in images], atol=0.05)


def test_camera_and_blurred_camera():
    """Both known before: −7.8413 and 60.3341 by OpenCV, before it clips."""
    camera = skimage.data.camera()
    blurred = cv2.GaussianBlur(camera, (0, 0), 2)
    scores = [brisque(_float(image)) for image in (camera, blurred)]
    np.testing.assert_allclose(scores, [-7.8413, 60.3341], atol=0.02)


def test_parts_of_photographs_and_drawings():
    greys = map(_grey, PHOTOGRAPHS + DRAWINGS)
    _check([part for x in greys for part in (x[:128, :128], x[-128:, -128:])])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 61), (31, 17)])
def test_sizes_even_and_odd(height, width):
    noise = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    _check([_grey("camera")[100 : 100 + height, 200 : 200 + width], noise])


def test_images_between_grey_levels():
    """Attacked images are no longer 8-bit ones; neither code rounds them."""
    rng = np.random.default_rng(0)
    photograph = _grey("moon")[:128, :128].astype(np.float32)
    smooth = photograph[::-1] / 2 + 32 * rng.random((128, 1), np.float32)
    _check([photograph * 0.7, smooth, photograph + rng.random((128, 128), np.float32)])


@pytest.mark.real_data
def test_fifty_x_rays_by_opencvs_own_regression(data_root):
    """The vendored numbers are OpenCV's, and 50 test X-rays get OpenCV's unclipped scores."""
    model_file = str(data_root / "brisque" / "brisque_model_live.yml")
    range_file = str(data_root / "brisque" / "brisque_range_live.yml")
    model = cv2.ml.SVM.load(model_file)
    storage = cv2.FileStorage(range_file, cv2.FILE_STORAGE_READ)
    ranges = storage.getNode("range").mat()
    with (importlib.resources.files("bfjax.metrics") / "brisque_opencv_live.npz").open("rb") as f:
        vendored = dict(np.load(f))
    np.testing.assert_array_equal(
        vendored["support_vectors"].astype(np.float32), model.getSupportVectors()
    )
    rho, alpha, order = model.getDecisionFunction(0)
    np.testing.assert_array_equal(order.ravel(), np.arange(774))
    np.testing.assert_allclose(vendored["rho"], rho, rtol=1e-12)
    np.testing.assert_allclose(vendored["alpha"], alpha.ravel(), rtol=1e-12)
    np.testing.assert_allclose(vendored["gamma"], model.getGamma(), rtol=1e-12)
    np.testing.assert_array_equal(
        np.float32([vendored["range_min"], vendored["range_max"]]), ranges
    )

    with (data_root / "chest_xray" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"][::12]
    files = [data_root / "chest_xray" / "test" / row["label"] / row["file"] for row in rows]
    images = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files]
    scaled = np.stack(
        [2 * (_features(x) - ranges[0]) / (ranges[1] - ranges[0]) - 1 for x in images]
    )
    scores = jax.jit(jax.vmap(brisque))(jnp.stack([_float(image) for image in images]))
    assert len(images) >= 50
    np.testing.assert_allclose(scores, model.predict(scaled)[1].ravel(), atol=0.05)
    clipped = cv2.quality.QualityBRISQUE_compute(images[0], model_file, range_file)
    assert scores[0] == pytest.approx(clipped[0], abs=0.05)


def test_jit_is_eager_and_vmap_is_a_loop():
    images = [_float(_grey(name)[:16, :16]) for name in ("camera", "grass", "horse")]
    loop = jnp.stack([brisque(image) for image in images])
    np.testing.assert_allclose(jax.jit(jax.vmap(brisque))(jnp.stack(images)), loop, atol=0.01)


def test_the_exact_sum_of_a_product_is_rounded_once():
    """Against the same in 64 binary digits, which hold every product."""
    rng = np.random.default_rng(0)
    x, addend = rng.random((2, 300, 300), np.float32)
    weight = np.float32(0.34) * rng.random((300, 300), np.float32)
    wide = weight.astype(np.longdouble) * x + addend
    found = module._exact(weight, jnp.asarray(x), jnp.asarray(addend))
    np.testing.assert_array_equal(found, wide.astype(np.float32))


@pytest.mark.parametrize("name", ["logo", "page"])
def test_what_flat_parts_count_as_is_the_same_however_it_is_compiled(name):
    """There rounding decides whether a pixel is brighter or darker than its surroundings."""
    pixels = _float(_grey(name)[-128:, -128:])[..., 0]

    def signs(multiply_add, level=3):
        scales = jax.jit(
            partial(module._normalised, multiply_add=multiply_add),
            compiler_options={"xla_backend_optimization_level": level},
        )(pixels)
        return np.sign(np.concatenate([scale.ravel() for scale in scales]))

    as_opencv = signs(module._contracted)
    for level in (0, 3):
        np.testing.assert_array_equal(signs(module._exact, level), as_opencv)
    rounded_twice = signs(lambda weight, x, addend: module._rounded(weight * x) + addend)
    assert (rounded_twice != as_opencv).any()


def test_every_constant_image_gets_the_documented_score():
    """Whatever the rounding errors of its local means are."""
    for grey in np.r_[np.arange(256) / 255, np.linspace(0, 1, 50)]:
        score = brisque(jnp.asarray(np.full((16, 16, 1), grey, np.float32)))
        assert score == pytest.approx(149.635, abs=0.01)


def test_a_nan_pixel_is_not_hidden():
    assert jnp.isnan(brisque(_float(_grey("camera")[:16, :16]).at[3, 4].set(jnp.nan)))


def test_blur_and_noise_are_worse_than_a_photograph():
    photograph = _grey("astronaut")[:128, :128].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 20, (128, 128)).astype(np.float32)
    best, *worse = (
        brisque(_float(np.clip(image, 0, 255)))
        for image in (photograph, cv2.GaussianBlur(photograph, (0, 0), 2), photograph + noise)
    )
    assert min(worse) > best + 20


def test_the_score_is_float32_also_of_other_types(x64):
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
        assert jax.eval_shape(brisque, jnp.zeros((16, 16, 1), dtype)).dtype == jnp.float32


def test_it_cannot_be_differentiated():
    with pytest.raises(ValueError, match="cannot be differentiated"):
        jax.grad(brisque)(jnp.full((16, 16, 1), 0.5))


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (np.zeros((16, 16), np.float32), r"\(h, w, 1\), got shape \(16, 16\)"),
        (np.zeros((16, 16, 3), np.float32), r"got shape \(16, 16, 3\)"),
        (np.zeros((2, 16, 16, 1), np.float32), r"got shape \(2, 16, 16, 1\)"),
        (np.zeros((15, 40, 1), np.float32), r"16 x 16 pixels, got \(15, 40\)"),
        (np.zeros((16, 16, 1), np.uint8), "got uint8; see bfjax.data.to_float"),
    ],
)
def test_what_is_no_grey_image_is_named(image, word, unchecked):
    with pytest.raises(ValueError, match=word):
        brisque(jnp.asarray(image))
