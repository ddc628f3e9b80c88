import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage

import bfjax
from bfjax.attack import gaussian_smoothing, norm_of, normalize, steepest
from tests.networks import images, smooth_network


def update(transformation, gradient):
    return transformation.update(gradient, transformation.init(gradient))[0]


@pytest.mark.parametrize("size", [1e-36, 1e-30, 1e-3, 1e25])
def test_the_norm_of_what_is_very_small_or_large_is_numpys(size):
    """A sum of its squares in float32 is 0 or infinite."""
    gradient = np.random.default_rng(0).normal(size=7) * size
    found = norm_of(jnp.asarray(gradient, jnp.float32), "l2")
    np.testing.assert_allclose(found, np.linalg.norm(gradient), rtol=1e-5, atol=0)
    unit = update(normalize("l2"), jnp.asarray(gradient, jnp.float32))
    np.testing.assert_allclose(unit, gradient / np.linalg.norm(gradient), rtol=1e-5)


def test_no_digit_of_the_norm_is_lost_to_its_scale():
    values = np.random.default_rng(1).normal(size=(50, 9)).astype(np.float32)
    plain = jax.vmap(lambda x: jnp.sqrt(jnp.sum(x * x)))(values)
    np.testing.assert_array_equal(jax.vmap(lambda x: norm_of(x, "l2"))(values), plain)
    assert not jax.grad(lambda x: norm_of(x, "l2"))(jnp.zeros(3)).any()
    slope = jax.grad(lambda x: norm_of(x, "l2"))(jnp.asarray([3e-30, -4e-30]))
    np.testing.assert_allclose(slope, [0.6, -0.8], rtol=1e-5)
    assert np.isnan(norm_of(jnp.asarray([jnp.nan, 1.0]), "l2"))
    assert [norm_of(jnp.zeros(0), norm) for norm in ("l2", "l1", "linf")] == [0, 0, 0]


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2), ("linf", np.inf)])
def test_each_leaf_is_divided_by_its_own_norm(norm, order):
    rng = np.random.default_rng(0)
    gradient = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=5), "c": np.zeros(3)}
    found = update(normalize(norm), jax.tree.map(jnp.asarray, gradient))
    for name in "ab":
        expected = gradient[name] / np.linalg.norm(gradient[name].ravel(), order)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    assert not found["c"].any()  # not NaN
    down = update(steepest(norm, 0.5), jnp.asarray(gradient["b"]))
    if norm == "linf":
        np.testing.assert_array_equal(down, -0.5 * np.sign(gradient["b"]).astype(np.float32))
    else:
        assert np.linalg.norm(down, order) == pytest.approx(0.5)
        assert float(down @ gradient["b"].astype(np.float32)) < 0


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (3, 20)])
def test_smoothing_is_scipys(shape):
    gradient = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = update(gaussian_smoothing(size=5, sigma=1.3), jnp.asarray(gradient))
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / 1.3) ** 2)
    expected = gradient
    for axis in (0, 1):
        expected = scipy.ndimage.convolve1d(
            expected, kernel / kernel.sum(), axis=axis, mode="constant"
        )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    vector = jnp.arange(4.0)
    np.testing.assert_array_equal(update(gaussian_smoothing(), vector), vector)


@pytest.mark.slow
def test_they_drive_the_bias_field():
    """Momentum: the third step's direction is that of the sum of three normalised gradients."""
    predict, image = smooth_network(), images(1, low=0.3, high=0.7)[0]
    label = int(predict(image).argmax())
    pieces = [normalize("l1"), optax.trace(0.5), optax.sign_sgd(0.06)]
    attack = bfjax.attacks.bias_field(
        (12, 12), degree=3, min_degree=0, grid_size=3, optimizer=optax.chain(*pieces), num_steps=3
    )
    state, sums, expected = bfjax.init(attack, image), None, None
    for _ in range(3):
        identity = state.params

        def lowered(params):
            seen = attack.perturbation.apply(params, image)
            return attack.penalty(params) - attack.loss(predict(seen), label)

        gradient = jax.tree.map(np.asarray, jax.grad(lowered)(identity))
        scaled = jax.tree.map(lambda g: g / max(np.abs(g).sum(), 1e-30), gradient)
        sums = scaled if sums is None else jax.tree.map(lambda s, g: 0.5 * s + g, sums, scaled)
        expected = jax.tree.map(lambda p, s: p - 0.06 * np.sign(s), identity, sums)
        state, _ = bfjax.step(attack, predict, image, label, state)
    for one, two in zip(jax.tree.leaves(expected), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_what_cannot_be_is_named(unchecked):
    with pytest.raises(ValueError, match="'l3'"):
        normalize("l3")
    with pytest.raises(ValueError, match="'max'"):
        steepest("max", 0.1)
    with pytest.raises(ValueError, match="odd size, got 4"):
        gaussian_smoothing(size=4)
    with pytest.raises(ValueError, match="sigma must be positive"):
        gaussian_smoothing(sigma=0.0)
