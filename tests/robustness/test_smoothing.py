"""The smoothed classifier against NumPy and a closed form, its gradient, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax
from scipy.stats import binomtest, norm

import bfjax
from bfjax.field import bias_field, cosine, legendre, pixelwise, polynomial_tps, radiographic
from bfjax.robustness import smooth
from bfjax.types import Field, LinearField

SHAPE, KEY = (6, 5), jax.random.key(7)
IMAGE = jax.random.uniform(jax.random.key(1), (*SHAPE, 1), minval=0.3, maxval=0.9)
FIELD = legendre(SHAPE, degree=2)
WEIGHTS = jax.random.normal(jax.random.key(2), (30, 3))


def linear(weights, image):
    return image.ravel() @ weights


PREDICT = jax.tree_util.Partial(linear, WEIGHTS)


@pytest.mark.parametrize("encoding", ["linear", "log"])
@pytest.mark.parametrize("classes", [1, 3])
def test_it_is_the_mean_of_probabilities_in_numpy_and_lights_add_up(encoding, classes):
    """Of an image that an attacker's light c, which nothing clips, has taken beyond white."""
    c = jnp.asarray([0.3, -0.2, 0.1, 0.2, -0.4])
    attacked = bias_field(FIELD, encoding=encoding, gamma=0.5).unclipped(c, IMAGE)
    assert attacked.max() > 1
    predict = jax.tree_util.Partial(linear, WEIGHTS[:, :classes])
    settings = {"sigma": 0.3, "num_samples": 9, "encoding": encoding, "gamma": 0.5, "key": KEY}
    found = smooth(predict, FIELD, **settings, chunk_size=4)(attacked)
    basis = np.asarray(FIELD.basis(), np.float64)
    image, weights = (np.asarray(a, np.float64) for a in (IMAGE[..., 0], WEIGHTS[:, :classes]))
    probabilities = []
    for d in np.asarray(0.3 * jax.random.normal(KEY, (9, 5)), np.float64):
        log_field = np.tensordot(np.asarray(c) + d, basis, 1)
        lit = image * np.exp(log_field) if encoding == "linear" else image - 0.5 * log_field
        logits = np.clip(lit, 0, 1).ravel() @ weights
        probabilities.append(expit(logits) if classes == 1 else np.exp(log_softmax(logits)))
    mean = np.mean(probabilities, 0)
    want = np.log(mean / (1 - mean)) if classes == 1 else np.log(mean)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)


def test_the_mean_of_hard_answers_is_a_gaussian_of_the_margin():
    """With a constant c_0 is the mean of B̂, N(0, σ²)."""
    field, gap = legendre(SHAPE, degree=1, constant=True), 0.05

    def predict(image):
        score = 1e6 * (jnp.log(image).mean() - jnp.log(IMAGE / 3).mean() + gap)
        return jnp.stack([-score, score])

    mean = smooth(predict, field, sigma=0.1, num_samples=2000, chunk_size=500, key=KEY)
    share = float(jnp.exp(mean(IMAGE / 3)[1]))
    assert binomtest(round(2000 * share), 2000, norm.cdf(gap / 0.1)).pvalue > 0.01


def test_jit_is_eager_vmap_a_loop_and_chunks_change_nothing():
    options = {"sigma": 0.2, "num_samples": 7, "key": KEY}
    images = jnp.stack([IMAGE, IMAGE[::-1]])
    together = jax.jit(jax.vmap(smooth(PREDICT, FIELD, **options, chunk_size=3)))(images)
    for chunk_size in (1, 8):
        mean = smooth(PREDICT, FIELD, **options, chunk_size=chunk_size)
        for found, image in zip(together, images, strict=True):
            np.testing.assert_allclose(mean(image), found, rtol=1e-5)


def test_its_gradient_is_a_difference(x64):
    field = legendre(SHAPE, degree=2, dtype="float64")
    image, weights = IMAGE.astype("float64"), WEIGHTS.astype("float64")
    predict = jax.tree_util.Partial(linear, weights)
    mean = smooth(predict, field, sigma=0.05, num_samples=5, chunk_size=2, key=KEY)
    way = jax.random.normal(jax.random.key(3), image.shape, "float64")

    @jax.jit
    def along(t):
        return bfjax.attack.margin(mean(image + t * way), 0)

    difference = (along(1e-6) - along(-1e-6)) / 2e-6
    slope = jax.jit(jax.grad(along))(0.0)
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)


def test_weights_draws_and_sigma_are_leaves_of_one_program():
    asked = jax.jit(lambda predict, image: predict(image))
    for scale, sigma in ((1.0, 0.1), (2.0, 0.1), (2.0, 0.3)):
        predict = jax.tree_util.Partial(linear, scale * WEIGHTS)
        mean = smooth(predict, FIELD, sigma=sigma, num_samples=5, key=KEY)
        np.testing.assert_allclose(asked(mean, IMAGE), mean(IMAGE), rtol=1e-5)
    assert asked._cache_size() == 1
    assert any(leaf.shape == (5, 5) for leaf in jax.tree.leaves(mean))


@pytest.mark.parametrize("classes", [1, 2])
def test_attacks_run_on_it(classes):
    def predict(image):
        score = 20 * (image[:3].mean() - image[3:].mean() + 0.02)
        return score[None] if classes == 1 else jnp.stack([-score, score])

    mean = smooth(predict, FIELD, sigma=0.02, num_samples=4, key=KEY)
    image = jnp.full((*SHAPE, 1), 0.5)
    attack = bfjax.attacks.bim(epsilon=0.05, num_steps=4)
    found = jax.jit(lambda x: bfjax.run(attack, mean, x, 1))(image)
    assert not bfjax.attack.is_wrong(mean(image), 1)
    assert bfjax.attack.is_wrong(found.logits, 1)
    assert found.logits.shape == (classes,)


def test_only_fields_that_are_linear_are_taken(unchecked):
    def smoothed(field):
        return smooth(PREDICT, field, sigma=0.1, num_samples=2, key=KEY)

    assert smoothed(cosine(SHAPE, frequencies=2))(IMAGE).shape == (3,)
    for field, name in (
        (
            polynomial_tps(SHAPE, degree=2, grid_size=2),
            "a field whose params are PolynomialTPSPara",
        ),
        (radiographic(SHAPE, width_cm=43.0), "a field whose params are RadiographicParams"),
        (pixelwise(SHAPE), r"a field whose params are an array \(6, 5\)"),
        (Field(FIELD.init, FIELD.log_field), r"a field whose params are an array \(5,\)"),
        (legendre, "legendre"),
    ):
        with pytest.raises(ValueError, match=f"legendre and cosine make them; got {name}"):
            smoothed(field)
    table = LinearField(lambda: jnp.zeros(SHAPE), lambda params: params)
    with pytest.raises(ValueError, match=r"the params of a LinearField are one \(n,\)"):
        smoothed(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -0.1}, "sigma must be positive and finite, got -0.1"),
        ({"num_samples": 0}, "num_samples must be at least 1, and whole, got 0"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, and whole, got 0"),
        ({"encoding": "none"}, "encoding must be one of .*, got 'none'"),
        ({"key": 3}, "key must be a key"),
    ],
)
def test_bad_input_is_named(unchecked, options, message):
    with pytest.raises(ValueError, match=message):
        smooth(PREDICT, FIELD, **({"sigma": 0.1, "num_samples": 2, "key": KEY} | options))
