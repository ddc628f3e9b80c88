"""One light for all, against SGD-UAP written out in NumPy."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bfjax
from bfjax.robustness import light, universal
from bfjax.robustness.universal import batches

KEY = jax.random.key(5)
EPSILON, STEP, CAP = 0.05, 0.01, 0.5


def _shift():
    """One change of each pixel, added: the perturbation of the paper on universal ones."""
    return bfjax.Perturbation(
        init=lambda image, key: jnp.zeros_like(image),
        apply=lambda change, image: jnp.clip(image + change, 0, 1),
    )


def test_it_is_sgd_uap_in_numpy():
    draw = np.random.default_rng(0)
    weights = draw.normal(size=(4, 5, 2)).astype(np.float32)
    images = draw.uniform(0.2, 0.8, (7, 4, 5, 1)).astype(np.float32)
    labels = draw.integers(0, 2, 7)

    def predict(image):
        return jnp.einsum("hwc,hwk->k", image, weights)

    attack = bfjax.Attack(
        perturbation=_shift(),
        loss=bfjax.attack.cross_entropy,
        optimizer=optax.sign_sgd(STEP),
        project=lambda change, image: jnp.clip(change, -EPSILON, EPSILON),
        num_steps=9,
    )
    found = universal(predict, images, labels, attack=attack, batch_size=3, cap=CAP, key=KEY)
    change = np.zeros((4, 5, 1))
    for step, chosen in enumerate(itertools.islice(batches(KEY, 7, 3), 9)):
        total, losses = np.zeros_like(change), []
        for i in chosen:
            logits = np.einsum("hwc,hwk->k", np.clip(images[i] + change, 0, 1), weights)
            chance = np.exp(logits - logits.max())
            chance /= chance.sum()
            loss = -np.log(chance[labels[i]])
            losses.append(min(loss, CAP))
            if loss < CAP:
                total += weights @ (chance - np.eye(2)[labels[i]])[:, None]
        assert float(found.trace[step]) == pytest.approx(np.mean(losses), rel=1e-5)
        change = np.clip(change + STEP * np.sign(total), -EPSILON, EPSILON)
    np.testing.assert_allclose(found.params, change, atol=1e-6)


def _halves(image):
    return 20 * jnp.stack([image[:6].mean() - 0.02, image[6:].mean()])


def test_one_light_fools_images_that_it_has_not_seen():
    images = jax.random.uniform(KEY, (12, 12, 12, 1), minval=0.45, maxval=0.55)
    labels = jnp.ones(12, int)
    found = universal(_halves, images[:6], labels[:6], num_steps=20, batch_size=4, key=KEY)
    threat = light(images.shape[1:], max_log_range=0.4)
    assert threat.size(found.params) <= 0.4 + 1e-5
    under = jax.vmap(lambda x: _halves(threat.perturbation.apply(found.params, x)))(images[6:])
    assert (under.argmax(-1) == 0).all()
    assert found.trace[-1] > found.trace[0]


def test_steps_are_counted_and_another_range_compiles_nothing():
    images, labels, seen = jnp.full((2, 12, 12, 1), 0.5), jnp.ones(2, int), []
    options = {"num_steps": 3, "key": KEY}
    universal(_halves, images, labels, max_log_range=0.4, on_step=seen.append, **options)
    assert seen == [1, 2, 3]
    step = importlib.import_module("bfjax.robustness.universal")._step
    compiled = step._cache_size()
    universal(_halves, images, labels, max_log_range=0.1, **options)
    assert step._cache_size() == compiled


def test_bad_input_is_named():
    images, labels = jnp.full((2, 8, 8, 1), 0.5), jnp.ones(2, int)
    for options, message in (
        ({"cap": 0}, "cap must be positive, got 0"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_log_range": -1.0}, "max_log_range must be positive and finite"),
    ):
        with pytest.raises(ValueError, match=message):
            universal(_halves, images, labels, key=KEY, **options)
    with_penalty = bfjax.attacks.bias_field((8, 8), degree=2, grid_size=2)
    with pytest.raises(ValueError, match="a universal light has no penalty"):
        universal(_halves, images, labels, attack=with_penalty, key=KEY)
    with pytest.raises(ValueError, match="image 0 leaves"):
        universal(_halves, 3 * images, labels, key=KEY)


def test_images_without_a_finite_gradient_are_left_out():
    """The root of black has an infinite slope."""

    def predict(x):
        return 9 * jnp.stack([jnp.sqrt(x[:4]).mean() - 0.02, jnp.sqrt(x[4:]).mean()])

    options = {"max_log_range": 0.2, "num_steps": 5, "batch_size": 2, "key": KEY}
    images = jnp.full((2, 8, 8, 1), 0.5).at[1, 0, 0].set(0)
    found = universal(predict, images, jnp.ones(2, int), **options)
    alone = universal(predict, images[:1], jnp.ones(1, int), **options | {"batch_size": 1})
    np.testing.assert_allclose(found.params, alone.params, atol=1e-6)
    with pytest.raises(ValueError, match="gradient is NaN or infinite at all images"):
        universal(predict, images[1:], jnp.ones(1, int), **options)
