"""What a classifier expects of its images, against arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.models import normalized
from tests.models.parity import draw_images


def as_given(image):
    return image.reshape(-1)


GREY, RGB = draw_images(4, 5, 1), draw_images(4, 5, 3)


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (GREY, {"input_range": (0, 255)}, 255 * GREY),
        (GREY, {"input_range": "xrv"}, (2 * GREY - 1) * 1024),  # as xrv.datasets.normalize
        (GREY, {"input_range": (255, 0)}, 255 - 255 * GREY),
        (RGB, {"mean": 0.5, "std": 0.25}, (RGB - 0.5) / 0.25),
        (RGB, {"mean": (0.1, 0.2, 0.3)}, RGB - np.float32([0.1, 0.2, 0.3])),
        (GREY, {"mean": (0.1, 0.2, 0.3), "std": 2}, (GREY - np.float32([0.1, 0.2, 0.3])) / 2),
        (RGB, {"std": (1, 2, 4), "input_range": (-1, 1)}, (2 * RGB - 1) / np.float32([1, 2, 4])),
        (RGB, {}, RGB),
    ],
)
def test_it_gets_what_it_was_trained_on(image, options, expected):
    predict, image = normalized(as_given, **options), jnp.asarray(image)
    np.testing.assert_allclose(predict(image), expected.ravel(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.jit(predict)(image), expected.ravel(), rtol=1e-5, atol=1e-5)
    both = jax.vmap(predict)(jnp.stack([image, 1 - image]))
    np.testing.assert_allclose(both[0], expected.ravel(), rtol=1e-5, atol=1e-5)


def test_the_slope_is_that_of_the_range():
    predict = normalized(lambda image: image.sum()[None], input_range=(0, 255), std=5)
    gradient = jax.grad(lambda x: predict(x)[0])(jnp.asarray(GREY))
    np.testing.assert_allclose(gradient, 51, rtol=1e-6)


def test_numbers_and_weights_are_leaves():
    network = jax.tree_util.Partial(lambda weights, image: weights * image[0, 0], jnp.ones(1))
    whole = [normalized(network, mean=mean) for mean in (0.1, 0.2)]
    answer = jax.jit(lambda predict, image: predict(image))
    assert [float(answer(one, jnp.asarray(GREY))[0]) for one in whole] == pytest.approx(
        [GREY[0, 0, 0] - 0.1, GREY[0, 0, 0] - 0.2], rel=1e-5
    )
    assert answer._cache_size() == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"input_range": (1, 1)}, r"input_range is \[1.0, 1.0\]: two numbers"),
        ({"input_range": (0, 1, 2)}, "two numbers"),
        ({"input_range": (0, np.inf)}, "must be finite"),
        ({"mean": np.nan}, r"mean is \[nan\]"),
        ({"std": 0}, r"std is \[0.0\], and must be positive"),
        ({"std": (1, 2, -1)}, "must be positive"),
        ({"mean": (1, 2), "std": (1, 2, 3)}, "mean is of 2 channels, std of 3"),
    ],
)
def test_what_cannot_be_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        normalized(as_given, **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"input_range": "XRV"},
            "input_range is 'XRV': two numbers, for black and white, or 'xrv'",
        ),
        ({"mean": "imagenet"}, "mean is 'imagenet': one number, or one a channel"),
        ({"std": ((1, 2), (3,))}, "std is .*: one number, or one a channel"),
    ],
)
def test_what_are_no_numbers_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        normalized(as_given, **options)


@pytest.mark.usefixtures("unchecked")
def test_numbers_may_be_arrays():
    options = {"input_range": (0, 255), "mean": (55, 105, 155), "std": (1, 2, 3)}
    arrays = {name: np.array(numbers) for name, numbers in options.items()}
    found = normalized(as_given, **arrays)(jnp.asarray(RGB))
    np.testing.assert_array_equal(found, normalized(as_given, **options)(jnp.asarray(RGB)))


def test_channels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"of 2 channels, the image is \(4, 5, 3\)"):
        normalized(as_given, mean=(1, 2))(jnp.asarray(RGB))


@pytest.mark.slow
def test_it_is_attacked_like_any_other():
    predict = normalized(
        lambda image: jnp.stack([image[:8].mean(), image[8:].mean()]) / 28, input_range=(0, 255)
    )
    images = jnp.full((2, 16, 16, 1), 0.5).at[:, 0, 0].set(0.6)
    attack = bfjax.attacks.fgsm(epsilon=0.1)
    result = bfjax.run_batch(attack, predict, images, jnp.zeros(2, int), warn=False)
    assert (result.logits.argmax(-1) == 1).all()
