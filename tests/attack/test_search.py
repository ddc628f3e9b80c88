import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bfjax
from bfjax.attack import minimal, restarts, smallest_step
from tests.networks import images, smooth_network


def plane(bias=0.0, shape=(4, 4, 1)):
    """Two classes by a plane: the smallest ε on L∞ is |w·x + b| / ‖w‖₁."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)

    def apply(weights, bias, image):
        score = jnp.sum(weights * (image - 0.5)) + bias
        return jnp.stack([score, -score])

    return Partial(apply, weights, jnp.asarray(bias)), weights


def make_bim(epsilon):
    return bfjax.attacks.bim(epsilon=epsilon, step_size=epsilon / 5, early_stop=True)


SEARCHES = {
    "minimal": minimal(make_bim, start=0.02, num_bisections=15),
    "smallest_step": smallest_step(bfjax.attacks.fgsm(epsilon=1.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_a_plane_is_reached_at_its_distance(name):
    predict, weights = plane()
    batch = images(6, (4, 4, 1), low=0.4, high=0.6)
    logits = jax.vmap(predict)(batch)
    labels = logits.argmax(-1)
    result = bfjax.run_batch(SEARCHES[name], predict, batch, labels)
    distance = np.abs(logits[:, 0]) / np.abs(weights).sum()
    found = np.abs(result.adversarial - batch).max((1, 2, 3))
    # ten steps in binary fractions of ε; a thousand steps, then twenty
    np.testing.assert_allclose(found, distance, atol=1e-3, rtol=0.06)
    assert (np.asarray(result.logits.argmax(-1)) != labels).all()
    np.testing.assert_allclose(jax.vmap(predict)(result.adversarial), result.logits, atol=1e-5)
    one = bfjax.run(SEARCHES[name], predict, batch[0], labels[0])
    np.testing.assert_allclose(one.adversarial, result.adversarial[0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_wrong_and_unreachable_images_come_back_as_they_are(name):
    search, batch = SEARCHES[name], images(2, (4, 4, 1), low=0.4, high=0.6)
    predict, _ = plane()
    labels = 1 - jax.vmap(predict)(batch).argmax(-1)
    wrong = bfjax.run_batch(search, predict, batch, labels)
    np.testing.assert_array_equal(wrong.adversarial, batch)
    np.testing.assert_array_equal(wrong.trace.epsilon, 0)
    predict, _ = plane(bias=1e3)  # no image of [0, 1] is on the other side
    never = bfjax.run_batch(search, predict, batch, jnp.zeros(2, int))
    np.testing.assert_array_equal(never.adversarial, batch)
    assert np.isnan(never.trace.epsilon).all()
    assert np.isinf(never.trace.distance).all()


def test_the_smallest_is_no_larger_than_a_fixed_one_that_fools():
    predict, batch = smooth_network(), images(5, low=0.2, high=0.8)
    labels = jax.vmap(predict)(batch).argmax(-1)
    fixed = bfjax.run_batch(bfjax.attacks.bim(epsilon=0.3, step_size=0.05), predict, batch, labels)
    small = bfjax.run_batch(minimal(make_bim), predict, batch, labels)
    fooled = np.asarray(fixed.logits.argmax(-1) != labels)
    assert fooled.any()
    assert (np.asarray(small.logits.argmax(-1) != labels) >= fooled).all()
    squares = lambda r: np.square(r.adversarial - batch).mean((1, 2, 3))  # noqa: E731
    assert (squares(small)[fooled] <= squares(fixed)[fooled] + 1e-9).all()


@pytest.mark.slow
def test_the_best_of_several_starts_is_kept():
    predict, image = smooth_network(), images(1, low=0.2, high=0.8)[0]
    label = int(predict(image).argmax())
    attack = bfjax.attacks.pgd(epsilon=0.05, step_size=0.01, num_steps=2)
    key = jax.random.key(0)
    runs = [bfjax.run(attack, predict, image, label, key=k) for k in jax.random.split(key, 4)]
    losses = [float(bfjax.attack.cross_entropy(r.logits, label)) for r in runs]
    best = bfjax.run(restarts(attack, 4), predict, image, label, key=key)
    np.testing.assert_allclose(best.adversarial, runs[int(np.argmax(losses))].adversarial)
    with pytest.raises(ValueError, match="key"):
        bfjax.run(restarts(attack, 4), predict, image, label)


@pytest.mark.slow
def test_a_start_that_fools_beats_one_of_higher_loss_that_does_not():
    """Two classes may share the probability that the third, still the largest, has not."""

    def predict(image):
        at = image.mean() - 0.5
        shared = jnp.stack([0.0 * at, 2 * at, 2 * at])
        return jnp.where(at < 0, shared, jnp.stack([0.0 * at, 10 * at, -100.0]))

    image = jnp.full((1, 1, 1), 0.5)
    still = bfjax.attacks.pgd(epsilon=0.02, step_size=1e-6, num_steps=1)
    keys = jax.random.split(jax.random.key(3), 8)
    runs = [bfjax.run(still, predict, image, 0, key=k) for k in keys]
    fooled = np.array([bool(bfjax.attack.is_wrong(r.logits, 0)) for r in runs])
    losses = np.array([float(bfjax.attack.cross_entropy(r.logits, 0)) for r in runs])
    assert fooled.any()
    assert not fooled.all()
    found = bfjax.run(restarts(still, 8), predict, image, 0, key=jax.random.key(3))
    assert bool(bfjax.attack.is_wrong(found.logits, 0))
    best = np.where(fooled, losses, -np.inf).argmax()
    np.testing.assert_allclose(found.adversarial, runs[best].adversarial, atol=1e-6)


def test_a_shortest_step_stays_in_the_ball():
    predict, _ = plane(bias=0.05)
    image = images(1, (4, 4, 1), low=0.4, high=0.6)[0]
    label = int(predict(image).argmax())
    search = smallest_step(bfjax.attacks.bim(epsilon=0.02, step_size=1.0), num_steps=50)
    found = bfjax.run(search, predict, image, label)
    assert np.abs(found.adversarial - image).max() <= 0.02 + 1e-6
    short = smallest_step(bfjax.attacks.bim(epsilon=0.02, step_size=1.0, norm="l2"), num_steps=5)
    half = bfjax.run(short, predict, image.astype(jnp.bfloat16), label)
    assert half.adversarial.dtype == jnp.bfloat16


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match=r"start must be positive, got 0\.0"):
        minimal(make_bim, start=0.0)
    with pytest.raises(ValueError, match="num_finer=0"):
        smallest_step(bfjax.attacks.fgsm(), num_finer=0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        restarts(bfjax.attacks.bim(), 0)
    with pytest.raises(ValueError, match="without a penalty"):
        smallest_step(bfjax.attacks.bias_field((4, 4)))
    with pytest.raises(ValueError, match="without a transform"):
        smallest_step(bfjax.attacks.di_fgsm())


def test_the_most_gradients_are_counted():
    """From the numbers of the paper's time: (20 + 20) x 10, 5 x 1000, 2000, 1 + 1020 / 3."""
    found = {name: attack.max_gradients for name, attack in bfjax.attacks.foolbox2().items()}
    assert found == {
        "bim": 400, "mi_fgsm": 400, "carlini_wagner_l2": 5000, "saliency_map": 2000, "fgsm": 341
    }  # fmt: skip
    twice = bfjax.attack.restarts(bfjax.attacks.pgd(num_steps=7), 2)
    assert twice.max_gradients == 14
    steps = dataclasses.replace(bfjax.attacks.bim(num_steps=5), num_draws=4)
    drawn = dataclasses.replace(steps, transform=bfjax.attack.resize_and_pad())
    assert drawn.max_gradients == 20
    assert bfjax.attack.restarts(drawn, 3).max_gradients == 60
    assert minimal(lambda _: drawn, num_tries=2, num_bisections=1).max_gradients == 60
    assert steps.max_gradients == 5  # nothing is drawn
