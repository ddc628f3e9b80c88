import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.attack import cross_entropy, image_ball
from tests.networks import images, smooth_network
from tests.oracles import check_gradients

SHAPE = (6, 5, 1)


def test_free_pixels_are_the_image_and_keep_the_gradient_at_the_border():
    perturbation, image = bfjax.additive(), images(1, SHAPE, low=-0.3, high=1.3)[0]
    params = perturbation.init(image, None)
    np.testing.assert_array_equal(perturbation.apply(params, image), image)
    assert ((image == 0) | (image == 1)).any()
    slopes = jax.grad(lambda p: perturbation.apply(p, image).sum())(params)
    np.testing.assert_array_equal(slopes, 1)  # at exactly 0 and 1 too
    assert float(perturbation.apply(params + 2, image).max()) == 1
    assert perturbation.log_field is None


@pytest.mark.parametrize("make", [bfjax.additive, bfjax.free_log_field])
def test_a_random_start_is_uniform_and_needs_its_key(make):
    image = jnp.full((40, 40, 1), 0.5)
    perturbation = make(start_noise=0.2)
    zero = make().init(image, None)
    params = jax.vmap(lambda k: perturbation.init(image, k))(jax.random.split(jax.random.key(0)))
    noise = np.asarray(params - zero[None])
    assert 0.19 < np.abs(noise).max() <= 0.2 + 1e-6
    assert noise.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.05)
    assert (noise[0] != noise[1]).any()
    with pytest.raises(ValueError, match="key"):
        perturbation.init(image, None)
    with pytest.raises(ValueError, match=r"-0\.1"):
        make(start_noise=-0.1)


def test_a_free_log_field_is_the_pixelwise_field_of_any_image(x64):
    free = bfjax.free_log_field(max_change=0.2, offset=0.1)
    fixed = bfjax.bias_field(bfjax.pixelwise(SHAPE[:2]), max_change=0.2, offset=0.1)
    image = images(1, SHAPE, low=0.3, high=0.6)[0].astype(jnp.float64)
    params = jnp.asarray(np.random.default_rng(0).normal(0, 0.4, SHAPE[:2]))
    np.testing.assert_array_equal(free.apply(params, image), fixed.apply(params, image))
    np.testing.assert_array_equal(free.log_field(params), params)
    np.testing.assert_array_equal(free.unclipped(params, image), fixed.unclipped(params, image))
    assert not free.init(image, None).any()
    small = 0.1 * params  # away from the clip's corners
    check_gradients(lambda p: free.apply(p, image), (small,), order=1, modes=["rev"], eps=1e-5)
    with pytest.raises(ValueError, match="max_change"):
        bfjax.free_log_field(max_change=0.0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_a_large_field_of_sixteen_bits_is_finite(dtype):
    image = jnp.zeros((2, 2, 1), dtype).at[0].set(0.5)
    free = bfjax.free_log_field()
    field = jnp.full((2, 2), 500.0, dtype)
    lit = free.apply(field, image)
    np.testing.assert_array_equal(lit[..., 0], [[1, 1], [0, 0]])
    slopes = jax.grad(lambda b: free.apply(b, image).astype(jnp.float32).sum())(field)
    assert np.isfinite(np.asarray(slopes, np.float32)).all()


def test_composed_perturbations_follow_each_other():
    """X' + a field on it: NumPy's product, and the sum of two fields."""
    rng = np.random.default_rng(0)
    image = images(1, SHAPE, low=0.3, high=0.6)[0]
    pixels = image + rng.normal(0, 0.01, SHAPE).astype(np.float32)
    fields = rng.normal(0, 0.1, (2, *SHAPE[:2])).astype(np.float32)
    both = bfjax.compose([bfjax.additive(), bfjax.free_log_field(), bfjax.free_log_field()])
    params = (jnp.asarray(pixels), *map(jnp.asarray, fields))
    expected = np.asarray(pixels) * np.exp(fields.sum(0))[..., None]
    np.testing.assert_allclose(both.apply(params, image), expected, rtol=1e-5)
    np.testing.assert_allclose(both.log_field(params), fields.sum(0), rtol=1e-5)
    start = both.init(image, None)
    np.testing.assert_array_equal(both.apply(start, image), image)
    assert bfjax.compose([bfjax.additive()]).log_field is None
    with pytest.raises(ValueError, match="nothing"):
        bfjax.compose([])


@pytest.mark.slow
def test_a_field_and_noise_at_once_attack_further_than_either():
    predict, batch = smooth_network(scale=1.0), images(8, low=0.3, high=0.7)
    labels = jax.vmap(predict)(batch).argmax(-1)
    alone = bfjax.attacks.bias_field((12, 12), degree=4, min_degree=0, grid_size=3)
    noise = image_ball(norm="linf", radius=0.02)
    both = bfjax.Attack(
        perturbation=bfjax.compose([bfjax.additive(), alone.perturbation]),
        loss=cross_entropy,
        optimizer=alone.optimizer,
        project=lambda params, image: (noise(params[0], image), params[1]),
        num_steps=10,
    )
    losses = [
        jax.vmap(cross_entropy)(bfjax.run_batch(attack, predict, batch, labels).logits, labels)
        for attack in (alone, both)
    ]
    assert losses[1].mean() > losses[0].mean() + 0.1
