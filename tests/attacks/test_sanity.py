"""The sanity tests of Carlini et al., On Evaluating Adversarial Robustness (2019), section 4."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.attacks import bim, pgd
from tests.networks import answers, images, smooth_network


@pytest.fixture(scope="module")
def case():
    predict, batch = smooth_network(seed=3, scale=1.0), images(48, low=0.1, high=0.9)
    return predict, batch, answers(predict, batch)


def rate(attack, predict, batch, labels, *, judge=None):
    key = jax.random.key(0)
    adversarial = bfjax.run_batch(attack, predict, batch, labels, key=key).adversarial
    judge = judge or predict
    right = answers(judge, batch) == labels
    return float((answers(judge, adversarial) != labels)[right].mean())


@pytest.mark.parametrize("make", [bim, pgd])
def test_more_steps_and_larger_balls_never_lower_success(case, make):
    """Of one compilation: the trace has the answers before each step, a radius is no constant."""
    predict, batch, labels = case

    def rates(epsilon):
        attack, key = make(epsilon=epsilon, step_size=0.005, num_steps=30), jax.random.key(0)
        result = bfjax.run_batch(attack, predict, batch, labels, key=key)
        logits = np.concatenate([result.trace.logits, result.logits[:, None]], 1)
        return (logits.argmax(-1) != np.asarray(labels)[:, None]).mean(0)

    by_step = rates(0.02)[[1, 3, 10, 30]]
    by_ball = [rates(epsilon)[-1] for epsilon in (0.005, 0.01, 0.02, 0.05)]
    for found in (list(by_step), by_ball):
        assert found == sorted(found)
        assert found[0] < found[-1]
    assert by_ball[0] < 0.5
    assert rates(1.0)[-1] == 1  # no bound but that of images


def test_white_box_beats_transfer_and_gradients_beat_chance(case):
    predict, batch, labels = case
    other = smooth_network(seed=4)
    theirs = answers(other, batch)
    attack = bim(epsilon=0.02, step_size=0.004)
    own = rate(attack, predict, batch, labels)
    adversarial = bfjax.run_batch(attack, predict, batch, labels).adversarial
    transferred = float((answers(other, adversarial) != theirs).mean())
    assert own > transferred
    noise = 0.02 * jax.random.rademacher(jax.random.key(0), batch.shape, jnp.float32)
    assert own > float((answers(predict, jnp.clip(batch + noise, 0, 1)) != labels).mean())


@pytest.mark.slow
def test_a_random_bias_field_of_equal_budget_is_weaker(case):
    predict, batch, labels = case
    attack = bfjax.attacks.bias_field((12, 12), degree=4, min_degree=0, grid_size=3)
    found = bfjax.run_batch(attack, predict, batch, labels)
    # the same coefficients and control points, their signs drawn anew
    keys = jax.random.split(jax.random.key(1), len(batch))
    identity = attack.perturbation.init(batch[0], None)

    def drawn(key, params):
        def signs(p, p0):
            return p0 + (p - p0) * jax.random.rademacher(key, p.shape, p.dtype)

        return jax.tree.map(signs, params, identity)

    random = jax.vmap(drawn)(keys, found.params)
    shaded = jax.vmap(attack.perturbation.apply)(random, batch)
    ours = (found.logits.argmax(-1) != labels).mean()
    assert ours > (answers(predict, shaded) != labels).mean() + 0.2


def test_a_failing_attack_says_why(case):
    predict, batch, labels = case
    fine = bfjax.run_batch(bim(), predict, batch, labels).flags
    assert not any(np.any(flag) for flag in fine)

    def flags(classifier):
        return bfjax.run(bim(), classifier, batch[0], 0).flags

    stepped = flags(lambda x: jnp.round(predict(x)))  # no gradient: obfuscated
    assert bool(stepped.zero_gradient)
    assert bool(stepped.not_raised)
    sure = flags(lambda x: jnp.stack([500 + x.mean(), jnp.zeros(())]))
    assert bool(sure.saturated)
    assert not bool(flags(lambda x: jnp.stack([x.mean(), 0.4])).saturated)
    one = bfjax.run(
        bim(loss=bfjax.attack.binary_cross_entropy), lambda x: x.sum()[None], batch[0], 1
    )
    assert not bool(one.flags.not_raised)
