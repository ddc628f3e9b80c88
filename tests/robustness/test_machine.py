"""The worst of a machine's set-ups stays within its ranges, and is worse than a random one."""

import jax
import jax.numpy as jnp
import pytest

import bfjax
from bfjax.robustness import misuse


@pytest.mark.parametrize("encoding", ["linear", "log"])
def test_it_is_worse_than_random_set_ups_and_within_the_listed_ranges(encoding):
    def predict(image):
        return 20 * jnp.stack([image[6:].mean() - image[:6].mean(), jnp.float32(9)])

    image = jnp.full((12, 12, 1), 0.5)
    attack = misuse(image.shape, encoding=encoding)
    result = jax.jit(lambda x, k: bfjax.run(attack, predict, x, 1, key=k))(image, jax.random.key(0))
    assert all(abs(value) <= 1 for value in result.params)
    template = result.params

    def at_random(key):
        keys = jax.random.split(key, len(template))
        drawn = [jax.random.uniform(k, minval=-1.0) for k in keys]
        params = type(template)(*drawn)
        return bfjax.attack.margin(predict(attack.perturbation.apply(params, image)), 1)

    random = jax.vmap(at_random)(jax.random.split(jax.random.key(1), 64))
    assert bfjax.attack.margin(result.logits, 1) > jnp.quantile(random, 0.9)


def test_from_far_it_starts_anywhere_within_the_listed_ranges():
    perturbation = misuse((8, 8, 1), start_noise=1.0).perturbation
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = jnp.stack(jax.vmap(lambda key: perturbation.init(jnp.ones((8, 8, 1)), key))(keys))
    assert drawn.shape == (7, 200)
    assert abs(drawn).max() <= 1
    assert (drawn.min(1) < -0.9).all()
    assert (drawn.max(1) > 0.9).all()


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="width_cm must be positive and finite, got 0"):
        misuse((8, 8), width_cm=0)
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        misuse((8, 8), num_steps=0)
