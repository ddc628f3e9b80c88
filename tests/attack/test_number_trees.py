"""Numbers as leaves: what is refused in one line, and attacks as trees that JAX maps and traces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax import attack as pieces
from bfjax import attacks
from experiments.benchmark.sweeps import SHAPE
from tests.networks import answers

KEY = jax.random.key(0)


def _bim(epsilon):
    return attacks.bim(epsilon=epsilon, num_steps=2)


ATTACKS = {
    "bim": lambda: _bim(0.1),
    "carlini_wagner_l2": attacks.carlini_wagner_l2,
    "saliency_map": attacks.saliency_map,
    "minimal": lambda: pieces.minimal(_bim),
}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.where(np.arange(200) == 7, -1.0, 0.1), "epsilon must be positive, got -1.0 of image 7"),
        (np.ones((3, 1)), r"epsilon must be a number, or an array \(n,\), got \(3, 1\)"),
        (np.full(200, "a"), r"epsilon must be a number, got array\(\['a', .*\[...\]"),
    ],
)
def test_what_is_wrong_with_an_array_is_one_line(value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        attacks.bim(epsilon=value)


def test_a_traced_flag_is_no_number():
    with pytest.raises(ValueError, match="epsilon must be a number"):
        jax.jit(lambda flag: attacks.bim(epsilon=flag).num_steps)(True)


@pytest.mark.parametrize(
    "extent", [("a", "b"), (None, 1.0), (-np.inf, 1.0), (1, 2, 3), (False, True)]
)
def test_an_extent_is_two_numbers(extent, unchecked):
    with pytest.raises(ValueError, match=r"^extent "):
        attacks.bias_field(SHAPE, degree=3, grid_size=3, extent=extent)


@pytest.mark.parametrize("case", ATTACKS)
def test_a_tree_of_axes_maps_over_an_attack(case, network, batch):
    """The same for an attack that is one ascent and for those that search."""
    attack = ATTACKS[case]()
    axes = jax.tree.map(lambda _: 0, attack)
    assert jax.tree.leaves(axes) == jax.tree.leaves(jax.tree.map(lambda _: 0, axes))
    assert all(type(axis) is int for axis in jax.tree.leaves(axes))
    many = jax.tree.map(lambda number: jnp.full(2, number), attack)
    shapes = jax.eval_shape(
        jax.vmap(lambda one: bfjax.run(one, network, batch[0], 0, key=KEY).logits, in_axes=(axes,)),
        many,
    )
    assert shapes.shape == (2, 3)


def test_a_batch_is_traced_whole(network, batch):
    labels = answers(network, batch)

    def reached(epsilon, images, labels):
        attack = attacks.bim(epsilon=epsilon, step_size=0.05, num_steps=2, norm="l2")
        return bfjax.run_batch(attack, network, images, labels).logits

    expected = reached(0.1, batch, labels)
    inside = jax.jit(lambda epsilon: reached(epsilon, batch, labels))(0.1)
    np.testing.assert_allclose(inside, expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(reached)(0.1, batch, labels), expected, atol=1e-5)
    wrong = batch + 1
    with pytest.raises(ValueError, match="image 0 leaves"):
        jax.jit(lambda epsilon: reached(epsilon, wrong, labels))(0.1)


def test_numbers_of_double_precision_fit_images_of_single(network, batch, x64):
    image, growth = jnp.asarray(batch[0], jnp.float32), jnp.asarray(1.5, jnp.float64)
    attack = pieces.minimal(_bim, start=growth, growth=growth, num_tries=2, num_bisections=1)
    result = bfjax.run(attack, network, image, 0, key=KEY)
    assert result.adversarial.dtype == jnp.float32
