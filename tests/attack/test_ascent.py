"""Steps of falling length: Auto-PGD's loop in NumPy, the cosine by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bfjax
from bfjax.attack import annealed, step_halving
from bfjax.attack.ascent import _checkpoints


def _descend(steps, function, start, count):
    x, state, seen = start, steps.init(start), []
    for _ in range(count):
        value, gradient = jax.value_and_grad(function)(x)
        seen.append((float(value), np.asarray(x)))
        update, state = steps.update(gradient, state, x, value=value)
        x = optax.apply_updates(x, update)
    return x, seen, state


def _auto_pgd(function, start, length, count):
    """Alg. 1 of Croce and Hein (2020) for a function that is lowered, without a projection."""
    marks, shares = [0], [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    marks = sorted({min(int(np.ceil(round(s * count, 9))), count) for s in shares})

    def slope(x):
        return np.asarray(jax.grad(function)(jnp.asarray(x, jnp.float32)), np.float64)

    def unit(g):
        return g / np.linalg.norm(g)

    x = np.asarray(start, np.float64)
    best, at, before = np.inf, x, np.inf
    previous, gained, checked = x, 0, (length, np.inf)
    for k in range(count):
        value = float(function(jnp.asarray(x, jnp.float32)))
        gained += k > 0 and value < before
        before = value
        if value < best:
            best, at = value, x
        base, last = x, previous
        if k in marks and k > 0:
            span = k - marks[marks.index(k) - 1]
            now = (length, best)
            if gained < 0.75 * span or now == checked:
                length, base, last, before = length / 2, at, at, best
            gained, checked = 0, now
        alpha = 0.75 if k else 1.0
        ahead = base - length * unit(slope(base))
        previous, x = base, base + alpha * (ahead - base) + (1 - alpha) * (base - last)
    return x, length


def _bowl(x):
    return jnp.sum(jnp.asarray([1.0, 30.0, 4.0]) * (x - jnp.asarray([0.3, -0.2, 1.0])) ** 2)


@pytest.mark.parametrize("length", [0.05, 0.5, 2.0])
def test_it_is_auto_pgd_of_the_paper(length):
    start, count = jnp.asarray([1.0, 1.0, -2.0]), 30
    x, _, state = _descend(step_halving("l2", length, num_steps=count), _bowl, start, count)
    expected, left = _auto_pgd(_bowl, start, length, count)
    np.testing.assert_allclose(x, expected, atol=2e-4)
    assert float(state.length) == pytest.approx(left)
    if length == 2.0:
        assert left < length  # too long a step was halved


def test_halving_goes_on_at_the_best_iterate():
    count = 40
    _, seen, state = _descend(
        step_halving("l2", 2.0, num_steps=count), _bowl, jnp.asarray([1.0, 1.0, -2.0]), count
    )
    lowest = min(seen, key=lambda one: one[0])
    assert float(state.best[0]) == pytest.approx(lowest[0])
    np.testing.assert_allclose(state.best[1], lowest[1], atol=1e-6)
    assert lowest[0] < 0.05 * seen[0][0]


def test_checkpoints_come_nearer_to_each_other():
    marks = _checkpoints(100)
    assert marks[:4] == [0, 22, 41, 57]
    assert marks[-1] == 100
    gaps = np.diff(marks[:-1])
    assert (np.diff(gaps) <= 0).all()
    assert gaps.min() >= 6


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_annealed_steps_are_steepest_ones_of_a_cosines_length(norm):
    g, count = jnp.asarray([0.5, -2.0]), 5
    steps = annealed(norm, 0.7, num_steps=count)
    state = steps.init(g)
    direction = (
        np.sign(g)
        if norm == "linf"
        else np.asarray(g) / np.linalg.norm(g, 1 if norm == "l1" else 2)
    )
    for k in range(count):
        update, state = steps.update(g, state)
        length = 0.7 * (1 + np.cos(np.pi * k / count)) / 2
        np.testing.assert_allclose(update, -length * direction, rtol=1e-5)


@pytest.mark.parametrize("make", [annealed, step_halving])
def test_a_zero_gradient_moves_nothing(make):
    start = {"a": jnp.ones(2), "b": jnp.ones(3)}
    steps = make("l2", 0.5, num_steps=4)
    update, _ = steps.update(
        jax.tree.map(jnp.zeros_like, start), steps.init(start), start, value=jnp.asarray(0.0)
    )
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(update))


@pytest.mark.parametrize("make", [annealed, step_halving])
def test_jit_is_eager_vmap_is_a_loop_and_the_length_is_a_leaf(make):
    predict = lambda image: 9 * jnp.stack([image[:4].mean(), image[4:].mean()])  # noqa: E731
    image = jnp.full((8, 8, 1), 0.5)

    def moved(length):
        attack = bfjax.attacks.bias_field(
            (8, 8), degree=2, grid_size=2, optimizer=make("l2", length, num_steps=6), num_steps=6
        )
        return bfjax.run(attack, predict, image, 0).logits

    lengths = jnp.asarray([0.05, 0.4])
    loop = jnp.stack([moved(length) for length in (0.05, 0.4)])
    np.testing.assert_allclose(jax.jit(jax.vmap(moved))(lengths), loop, rtol=1e-4)
    assert np.isfinite(jax.grad(lambda length: moved(length)[0])(0.1))


@pytest.mark.parametrize("make", [annealed, step_halving])
def test_bad_options_are_named(make, unchecked):
    with pytest.raises(ValueError, match="num_steps must be at least 1, and whole, got 0"):
        make("l2", 0.1, num_steps=0)
    with pytest.raises(ValueError, match=r"num_steps must .* got 1.5"):
        make("l2", 0.1, num_steps=1.5)
    with pytest.raises(ValueError, match="norm must be one of"):
        make("l3", 0.1, num_steps=3)
    with pytest.raises(ValueError, match="step_size must be positive and finite, got 0"):
        make("l2", 0, num_steps=3)
