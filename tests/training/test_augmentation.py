import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import data
from bfjax.training.augmentation import Augmentation, augment, random_field
from tests.training.small import SOURCE


@pytest.mark.slow
def test_a_random_bias_field_is_smooth_bounded_and_multiplies():
    keys = jax.random.split(jax.random.key(0), 32)
    fields = jax.vmap(lambda key: random_field(key, (24, 32), strength=0.4))(keys)
    largest = np.abs(fields).max((1, 2))
    assert 0.3 < largest.max() <= 0.4
    assert largest.min() < 0.1
    y, x = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 32), indexing="ij")
    powers = np.stack([x**t * y**l for t in range(4) for l in range(4 - t)], -1).reshape(-1, 10)
    flat = np.asarray(fields, np.float64).reshape(32, -1).T
    fitted = powers @ np.linalg.lstsq(powers, flat)[0]
    np.testing.assert_allclose(fitted, flat, atol=1e-5)  # of degree 3: SciPy would call it smooth
    settings = Augmentation(bias_field=0.4)
    flat = jnp.full((24, 32, 1), 0.5)
    shaded = jax.vmap(lambda key: augment(key, flat, augmentation=settings))(keys)
    assert float(shaded.min()) >= 0.5 * np.exp(-0.4) - 1e-6
    assert float(shaded.max()) <= 0.5 * np.exp(0.4) + 1e-6
    assert float(shaded.std()) > 0.02


@pytest.mark.slow
def test_augmentation_stays_in_range_and_differs_by_key():
    image = jnp.asarray(data.to_float(SOURCE[0]["image"]))
    settings = Augmentation(flip=True, shift=0.2, brightness=0.3, contrast=0.3)
    keys = jax.random.split(jax.random.key(0), 16)
    several = jax.vmap(lambda key: augment(key, image, augmentation=settings))(keys)
    assert several.shape == (16, 32, 32, 1)
    assert several.min() >= 0
    assert several.max() <= 1
    assert len({float(x.sum()) for x in several}) == 16
    again = augment(keys[3], image, augmentation=settings)
    np.testing.assert_allclose(again, several[3], atol=1e-6)


@pytest.mark.slow
def test_each_augmentation_does_what_it_says():
    image = jnp.asarray(data.to_float(SOURCE[0]["image"])) / 2 + 0.25
    keys = jax.random.split(jax.random.key(0), 24)

    def variants(**change):
        settings = Augmentation(**change)
        return jax.vmap(lambda key: augment(key, image, augmentation=settings))(keys)

    np.testing.assert_allclose(variants()[0], image, atol=1e-6)
    flipped = {bool(jnp.allclose(v, image[:, ::-1], atol=1e-6)) for v in variants(flip=True)}
    assert flipped == {True, False}
    bright = variants(brightness=0.2) - image[None]
    assert float(jnp.ptp(bright[0])) < 1e-5
    assert 0.1 < float(jnp.abs(bright).max()) <= 0.2
    spread = variants(contrast=0.2).std((1, 2, 3)) / image.std()
    assert 0.8 <= float(spread.min()) < 0.9
    assert 1.1 < float(spread.max()) <= 1.2
    shifts = set()
    for variant in variants(shift=0.1):  # up to three pixels
        inner = [
            (y, x)
            for y in range(-3, 4)
            for x in range(-3, 4)
            if jnp.allclose(variant[3:-3, 3:-3], image[3 + y : 29 + y, 3 + x : 29 + x], atol=1e-6)
        ]
        assert len(inner) == 1
        shifts.add(inner[0])
    assert len(shifts) > 10


@pytest.mark.slow
def test_rotation_and_scale_move_a_dot_as_they_should():
    """A dot right of the centre of 33 x 33 pixels: where it goes tells angle and stretch."""
    image = jnp.zeros((33, 33, 1)).at[16, 26].set(1.0)
    keys = jax.random.split(jax.random.key(0), 64)

    def places(**change):
        settings = Augmentation(**change)
        found = jax.vmap(lambda key: augment(key, image, augmentation=settings)[..., 0])(keys)
        grid = jnp.arange(33.0) - 16
        mass = found.sum((1, 2))
        y = (found.sum(2) * grid[None]).sum(1) / mass
        x = (found.sum(1) * grid[None]).sum(1) / mass
        return np.asarray(y), np.asarray(x)

    y, x = places(rotation=30.0)
    np.testing.assert_allclose(np.hypot(y, x), 10, atol=0.3)
    angles = np.rad2deg(np.arctan2(y, x))
    assert -32 < angles.min() < -20
    assert 20 < angles.max() < 32
    y, x = places(scale=0.2)
    np.testing.assert_allclose(y, 0, atol=1e-3)
    assert 7.7 < x.min() < 8.6
    assert 11.4 < x.max() < 12.3
    # height and width are drawn apart
    image = image.at[26, 16].set(1.0)
    settings = Augmentation(scale=0.2)
    found = jax.vmap(lambda key: augment(key, image, augmentation=settings)[..., 0])(keys)
    down, right = found[:, 20:, 16].argmax(1), found[:, 16, 20:].argmax(1)
    assert bool((down != right).any())
