import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image as Pillow

import bfjax
from bfjax.attack import (
    eight_bit,
    ensemble,
    gaussian_smoothing,
    jpeg_rounding,
    random_resize,
    random_window,
    resize_and_pad,
    smooth_gradient,
)
from tests.networks import images, smooth_network

VIEWS = {
    "resize_and_pad": resize_and_pad(smallest=0.6, probability=1.0),
    "random_resize": random_resize(),
    "random_window": random_window(),
    "jpeg_rounding": jpeg_rounding(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VIEWS)
def test_views_stay_in_range_differ_by_key_and_pass_gradients(name):
    view, batch = VIEWS[name], images(3, (16, 13, 1))
    keys = jax.random.split(jax.random.key(0), 3)
    seen = jax.jit(jax.vmap(view))(keys, batch)
    assert seen.shape == batch.shape
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1 + 1e-6
    alone = np.stack([view(k, x) for k, x in zip(keys, batch, strict=True)])
    np.testing.assert_allclose(seen, alone, atol=1e-5)
    again = jax.vmap(view, (0, None))(keys, batch[0])
    assert (np.abs(again[0] - again[1]).max() > 1e-3) == (name != "jpeg_rounding")
    slopes = jax.grad(lambda x: view(keys[0], x).sum())(batch[0])
    assert np.isfinite(slopes).all()
    assert (slopes != 0).mean() > 0.5


def test_the_shrunk_image_is_scipys_resampling():
    """The frame is found by matching: factor and place are drawn inside."""
    image = np.asarray(images(1, (20, 20, 1))[0])
    image = scipy.ndimage.gaussian_filter(image, (2, 2, 0))
    factor, place = (0.8, np.array([1.0, 3.0]))
    rows = (np.arange(20)[:, None, None] + 0.5 - place[0]) / factor - 0.5
    columns = (np.arange(20)[None, :, None] + 0.5 - place[1]) / factor - 0.5
    where = [*np.broadcast_arrays(rows, columns), np.zeros((20, 20, 1))]
    expected = scipy.ndimage.map_coordinates(image, where, order=1, mode="constant")
    found = bfjax.attack.diversity._placed(
        jnp.asarray(image), jnp.asarray([factor, factor]), jnp.asarray(place)
    )
    inside = (slice(3, 16), slice(5, 18))
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)
    assert not np.asarray(found)[18:].any()


def test_a_window_is_drawn_as_its_formula_says():
    image = images(1, (6, 5, 1))[0]
    for key in jax.random.split(jax.random.key(0), 4):
        shift, gain = np.asarray(jax.random.uniform(key, (2,), minval=-1.0))
        expected = np.clip((np.asarray(image) - 0.5 - 0.3 * shift) * (1 + 0.4 * gain) + 0.5, 0, 1)
        np.testing.assert_allclose(
            random_window(level=0.3, width=0.4)(key, image), expected, atol=1e-6
        )


def test_the_shrunk_image_stays_in_its_frame():
    """A white image keeps its area: none of it is pushed off the frame."""
    view, white = resize_and_pad(smallest=0.5, probability=1.0), jnp.ones((32, 24, 1))
    places = []
    for key in jax.random.split(jax.random.key(0), 12):
        factor = float(bfjax.attack.diversity._factor(jax.random.split(key, 3)[0], 0.5))
        seen = np.asarray(view(key, white))[..., 0]
        assert seen.mean() == pytest.approx(factor**2, rel=0.1)
        rows, columns = seen.sum(1), seen.sum(0)
        places.append((np.average(np.arange(32), weights=rows),
                       np.average(np.arange(24), weights=columns)))  # fmt: skip
    assert (np.ptp(places, 0) > 3).all()  # it is put anywhere


def test_a_smooth_image_comes_back_from_its_smaller_copy():
    """Down and up again: smooth images hardly change, and borders stay as bright as they were."""
    image = scipy.ndimage.gaussian_filter(np.asarray(images(1, (40, 40, 1))[0]), (5, 5, 0))
    for key in jax.random.split(jax.random.key(0), 3):
        found = np.asarray(random_resize(smallest=0.6)(key, jnp.asarray(image)))
        np.testing.assert_allclose(found, image, atol=0.01)
    tiny = jax.vmap(random_resize(smallest=0.1), (0, None))(
        jax.random.split(jax.random.key(0), 20), jnp.ones((4, 4, 1))
    )
    np.testing.assert_allclose(tiny, 1, atol=1e-5)


@pytest.mark.slow
def test_the_chance_of_a_view_is_kept():
    image = jnp.ones((8, 8, 1))
    keys = jax.random.split(jax.random.key(0), 400)
    for probability in (0.0, 0.3, 1.0):
        view = resize_and_pad(smallest=0.5, probability=probability)
        changed = jax.vmap(lambda k, v=view: jnp.any(v(k, image) != image))(keys)
        assert abs(changed.mean() - probability) < 0.08


def test_eight_bits_are_pillows():
    image = images(1)[0]
    stored = np.asarray(Pillow.fromarray(np.uint8(np.round(255 * np.asarray(image[..., 0])))))
    np.testing.assert_allclose(eight_bit(None, image)[..., 0], stored / 255, atol=1e-6)
    slopes = jax.grad(lambda x: eight_bit(None, x).sum())(image)
    np.testing.assert_array_equal(slopes, 1)


@pytest.mark.parametrize("quality", [1, 30, 41, 49, 50, 90])
def test_the_steps_of_jpeg_are_pillows(quality):
    """Pillow says which table a file was written with."""
    file = io.BytesIO()
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(file, "JPEG", quality=quality)
    table = np.array(Pillow.open(file).quantization[0]).reshape(8, 8)  # in rows, as T.81 prints it
    np.testing.assert_array_equal(bfjax.attack.diversity._jpeg_table(quality), table)


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
def test_jpeg_rounding_is_pillows_jpeg(quality):
    y, x = np.mgrid[:24, :24]
    image = np.round(127 + 90 * np.sin(x / 3) * np.cos(y / 5)).astype(np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "JPEG", quality=quality)
    stored = np.asarray(Pillow.open(file)).astype(int)
    found = jpeg_rounding(quality=quality)(None, jnp.asarray(image[..., None] / 255, jnp.float32))
    difference = np.abs(np.round(255 * np.asarray(found[..., 0])) - stored)
    assert difference.max() <= 2  # libjpeg computes its cosines in integers
    assert difference.mean() < 0.25
    assert np.abs(stored - image).mean() > (0.2 if quality < 95 else 0.05)


@pytest.mark.slow
def test_smoothing_behind_free_pixels_is_smoothing_their_gradient():
    predict, image = smooth_network(), images(1)[0]
    plain = bfjax.attacks.bim(num_steps=1)
    smooth = smooth_gradient(plain.perturbation, size=5, sigma=1.5)
    np.testing.assert_array_equal(smooth.apply(image, image), image)

    def gradient(perturbation):
        return jax.grad(lambda p: predict(perturbation.apply(p, image))[0])(image)

    expected, _ = gaussian_smoothing(size=5, sigma=1.5).update(gradient(plain.perturbation), None)
    np.testing.assert_allclose(gradient(smooth), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_bias_field_runs_with_every_piece_at_once():
    """DIM, TI, an ensemble and several draws; the loss rises."""
    predict = ensemble([smooth_network(seed=s) for s in range(2)])
    image = images(1, low=0.2, high=0.8)[0]
    label = int(predict(image).argmax())
    attack = bfjax.attacks.bias_field(
        (12, 12), degree=4, min_degree=0, grid_size=3, transform=resize_and_pad(), num_draws=3
    )
    smooth = smooth_gradient(attack.perturbation, size=3, sigma=1.0)
    attack = bfjax.Attack(**{**vars(attack), "perturbation": smooth})
    result = bfjax.run(attack, predict, image, label, key=jax.random.key(0))
    before = bfjax.attack.cross_entropy(predict(image), label)
    assert bfjax.attack.cross_entropy(result.logits, label) > before + 0.05


def test_an_ensemble_is_the_mean_and_keeps_its_weights_as_leaves():
    members = [smooth_network(seed=s) for s in range(3)]
    image = images(1)[0]
    expected = np.mean([member(image) for member in members], 0)
    np.testing.assert_allclose(ensemble(members)(image), expected, rtol=1e-5)
    assert len(jax.tree.leaves(ensemble(members))) == 6


def test_what_cannot_be_is_named():
    for make, options, message in (
        (resize_and_pad, {"smallest": 0.0}, r"smallest must be in \(0, 1\], got 0.0"),
        (resize_and_pad, {"probability": 1.5}, r"probability must be in \[0, 1\], got 1.5"),
        (random_resize, {"smallest": 2.0}, "2.0"),
        (random_window, {"width": 1.0}, r"width must be in \[0, 1\), got 1.0"),
        (jpeg_rounding, {"quality": 0}, "got 0"),
        (lambda **_: ensemble([]), {}, "at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)


def test_an_ensemble_of_other_outputs_each_is_refused():
    both = ensemble([lambda x: x[0, :2, 0], lambda x: x[0, :3, 0]])
    with pytest.raises(ValueError, match=r"other outputs each: \(2,\), \(3,\)"):
        both(jnp.ones((1, 3, 1)))
