"""Certificates against closed forms, SciPy and attacks; what clipping and range leave of them."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest, norm

import bfjax
from bfjax.attack import annealed, margin, parameter_ball
from bfjax.field import bias_field, legendre
from bfjax.robustness import certify, smooth
from bfjax.robustness.binomial import clopper_pearson
from bfjax.types import LinearField

SHAPE, SIGMA, KEY = (6, 5), 0.05, jax.random.key(5)
IMAGE = jax.random.uniform(jax.random.key(1), (*SHAPE, 1), minval=0.2, maxval=0.4)
FREE, FIXED = (legendre(SHAPE, degree=2, constant=constant) for constant in (True, False))
GAP = 0.04  # of the mean log intensity, above the threshold


def threshold(image):
    """Class 1 where the mean of log intensity is above that of IMAGE, less GAP."""
    score = jnp.log(image).mean() - jnp.log(IMAGE).mean() + GAP
    return jnp.stack([-score, score])


def network(image):
    """Two classes, crooked in the logarithm of the image; IMAGE is of class 1, by a little."""
    weights = [jax.random.normal(jax.random.key(k), s) for k, s in ((2, (30, 8)), (3, (8,)))]
    seen = jnp.log(image.ravel()) - jnp.log(IMAGE.ravel())
    score = jnp.tanh(0.4 * seen @ weights[0]) @ weights[1] + 0.8
    return jnp.stack([-score, score])


def moved(image, c, field=FIXED, encoding="linear"):
    """Under a light that nothing clips."""
    return bias_field(field, encoding=encoding).unclipped(c, image)


@pytest.mark.parametrize(("trials", "stride"), [(1, 1), (100, 1), (1000, 9), (10_000, 99)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_the_lower_bound_is_scipys_from_below(trials, stride, alpha):
    k = np.union1d(np.arange(0, trials + 1, stride), [0, 1, trials - 1, trials])
    bounds = jax.jit(jax.vmap(lambda k, a: clopper_pearson(k, trials, alpha=a), (0, None)))
    found = np.asarray(bounds(jnp.asarray(k), alpha), np.float64)
    want = np.concatenate([[0], beta.ppf(alpha, k[1:], trials - k[1:] + 1)])
    assert (found <= want).all()
    assert (want - found <= 0.02 * (k / trials - want) + 1e-6).all()


def test_of_a_threshold_of_the_mean_logarithm_all_is_known():
    """c_0 is the mean of B̂: P(class 1) = Φ(GAP / σ), and the radius is GAP itself."""
    found = certify(threshold, FREE, IMAGE, sigma=SIGMA, num_samples=4000, key=KEY)
    share, count = norm.cdf(GAP / SIGMA), int(found.counts[1])
    assert binomtest(count, 4000, share).pvalue > 0.01
    lower = beta.ppf(0.001, count, 4000 - count + 1)
    assert float(found.lower_bound) == pytest.approx(lower, abs=2e-4)
    assert float(found.radius) == pytest.approx(SIGMA * norm.ppf(lower), rel=2e-3)
    assert int(found.label) == 1
    assert 0.8 * GAP < float(found.radius) < GAP
    assert found.counts.sum() == 4000


def test_the_radius_is_too_large_as_often_as_alpha_says_and_no_more():
    keys, n = jax.random.split(jax.random.key(8), 1000), 100
    found = jax.jit(
        jax.vmap(
            lambda key: certify(
                threshold,
                FREE,
                IMAGE,
                sigma=SIGMA,
                num_guess=20,
                num_samples=n,
                alpha=0.05,
                key=key,
            )
        )
    )(keys)
    covered = int(((found.radius <= GAP) & (found.label != 0)).sum())
    assert binomtest(covered, 1000, 0.95, alternative="less").pvalue > 0.01
    # counts are whole: the true coverage is somewhat more than 95 %, and is known too
    k, share = np.arange(n + 1), norm.cdf(GAP / SIGMA)
    bounds = np.concatenate([[0], beta.ppf(0.05, k[1:], n - k[1:] + 1)])
    assert binomtest(covered, 1000, binom.pmf(k, n, share)[bounds <= share].sum()).pvalue > 0.01


@pytest.mark.parametrize("encoding", ["linear", "log"])
def test_lights_add_up_beyond_white_and_black_too(encoding):
    image = jnp.linspace(0, 1, 30).reshape(*SHAPE, 1)
    c, d = 0.3 * jax.random.normal(KEY, (2, 6))
    attacked = moved(image, c, FREE, encoding)
    assert ((attacked < 0) | (attacked > 1)).any()
    light = bias_field(FREE, encoding=encoding)
    np.testing.assert_allclose(
        light.unclipped(d, attacked), light.unclipped(c + d, image), atol=1e-6
    )
    np.testing.assert_allclose(light.apply(d, attacked), light.apply(c + d, image), atol=1e-6)
    certified = certify(
        lambda x: x[:2, 0, 0], FREE, attacked, sigma=SIGMA, encoding=encoding, key=KEY
    )
    assert float(certified.safe_radius) == 0


def test_no_attack_within_the_radius_makes_it_certify_another_class():
    """Along the gradient of the mean answer, and at random; further out one is found."""
    bright = jnp.where(jnp.arange(6)[:, None, None] == 2, 3 * IMAGE, IMAGE).clip(max=1.0)
    settings = {"sigma": SIGMA, "num_samples": 500, "chunk_size": 500}

    def classifier(image):  # of the brighter image, which light takes beyond white
        return network(image / bright * IMAGE)

    certificate = jax.jit(lambda x, key: certify(classifier, FIXED, x, **settings, key=key))
    found = certificate(bright, KEY)
    radius = float(found.radius)
    assert int(found.label) == 1
    assert float(found.safe_radius) < radius
    mean = smooth(classifier, FIXED, sigma=SIGMA, num_samples=200, chunk_size=200, key=KEY)
    light = bias_field(FIXED)
    unclipped = light._replace(apply=light.unclipped)

    @jax.jit
    def attacked(longest, key):
        attack = bfjax.Attack(
            perturbation=unclipped,
            loss=margin,
            optimizer=annealed("l2", longest, num_steps=8),
            project=parameter_ball(norm="l2", radius=longest),
            num_steps=8,
        )
        c = bfjax.run(attack, mean, bright, 1).params
        others = jax.random.normal(key, (31, *c.shape))
        others = longest * others / jnp.linalg.norm(others, axis=1, keepdims=True)
        lights = jnp.concatenate([c[None], others])
        images = jax.vmap(lambda c: moved(bright, c))(lights)
        return lights, jax.lax.map(
            lambda pair: certificate(*pair), (images, jax.random.split(key, 32))
        )

    lights, inside = attacked(0.999 * radius, KEY)
    assert (jnp.linalg.norm(lights, axis=1) < radius).all()
    assert set(inside.label.tolist()) <= {1, -1}
    _, outside = attacked(2 * radius, KEY)
    assert int(outside.label[0]) == 0


@pytest.mark.parametrize("encoding", ["linear", "log"])
@pytest.mark.parametrize("headroom", [1.0, 0.8])
def test_within_the_safe_radius_no_pixel_saturates_and_just_beyond_one_does(encoding, headroom):
    image = jnp.linspace(0.1, 0.9, 30).reshape(*SHAPE, 1)
    found = certify(
        lambda x: jnp.stack([x.mean(), jnp.float32(-1)]), FIXED, image, sigma=9.0, num_samples=100,
        chunk_size=200, headroom=headroom, encoding=encoding, gamma=0.5, key=KEY,
    )  # fmt: skip
    safe = float(found.safe_radius)
    assert 0 < safe < float(found.radius)
    basis = np.asarray(FIXED.basis(), np.float64).reshape(5, -1)
    size = np.linalg.norm(basis, axis=0)
    worst = np.concatenate([basis / size, -basis / size], 1).T  # of each pixel, both ways

    def stored(strength):
        log_field = strength * worst @ basis
        kept = np.asarray(image, np.float64).ravel()
        if encoding == "linear":
            return headroom * kept * np.exp(log_field)
        return 0.5 + headroom * (kept - 0.5) - headroom * 0.5 * log_field

    lowest, highest = 0, 1
    assert stored(0.999 * safe).min() >= lowest
    assert stored(0.999 * safe).max() <= highest
    assert stored(1.001 * safe).max() > highest or stored(1.001 * safe).min() < lowest


def test_white_leaves_no_safe_radius_and_black_takes_none():
    def safe(image, **options):
        settings = {"sigma": SIGMA, "num_samples": 100, "key": KEY}
        found = certify(lambda x: jnp.arange(2.0), FIXED, image, **settings, **options)
        return float(found.safe_radius), float(found.radius)

    black, white = jnp.zeros((*SHAPE, 1)), jnp.ones((*SHAPE, 1))
    assert safe(black)[0] == safe(black)[1] > 0
    assert safe(white)[0] == safe(black, encoding="log")[0] == 0
    assert 0 < safe(white, headroom=0.9)[0] < safe(white)[1]


def test_a_range_is_twice_the_radius_and_none_with_a_constant():
    def ranges(field):
        found = certify(lambda x: jnp.arange(2.0), field, IMAGE, sigma=SIGMA, key=KEY)
        return float(found.log_range), float(found.radius)

    log_range, radius = ranges(FIXED)
    assert log_range == pytest.approx(2 * radius, rel=1e-5)
    assert ranges(FREE)[0] == 0
    # of a basis that is not orthonormal, no light of a smaller range is as strong as the radius
    skew = jnp.zeros((2, 5)).at[:, :2].set(jnp.asarray([[1.0, 0.0], [0.9, 0.3]]))
    field = LinearField(lambda: jnp.zeros(2), lambda c: FIXED.log_field(c @ skew))
    log_range, radius = ranges(field)
    c = jax.random.normal(KEY, (2000, 2))
    spans = jax.vmap(lambda c: jnp.ptp(field.log_field(c)))(c)
    strengths = jnp.linalg.norm(c, axis=1) / spans * log_range
    assert 0.3 * radius < float(strengths.max()) < radius


def test_what_is_not_certain_is_no_answer():
    def found(predict, **options):
        return certify(predict, FREE, IMAGE, sigma=SIGMA, key=KEY, **options)

    even = found(lambda x: threshold(x * jnp.exp(-GAP)))
    assert (int(even.label), float(even.radius), float(even.log_range)) == (-1, 0, 0)
    assert float(even.lower_bound) < 0.5
    broken = found(lambda x: jnp.where(x.mean() > 0, jnp.nan, jnp.arange(2.0)))
    assert int(broken.label) == -1
    assert broken.counts.tolist() == [0, 0]


def test_of_three_classes_the_most_frequent_is_certified():
    def three(image):
        return jnp.concatenate([threshold(image), jnp.full(1, -1e3)])

    found = certify(three, FREE, IMAGE, sigma=SIGMA, key=KEY)
    two = certify(threshold, FREE, IMAGE, sigma=SIGMA, key=KEY)
    assert found.counts.tolist() == [*two.counts.tolist(), 0]
    assert (found.label, found.radius) == (two.label, two.radius)


def test_a_field_that_is_not_linear_is_refused(unchecked):
    with pytest.raises(ValueError, match="linear"):
        certify(threshold, bfjax.polynomial_tps(SHAPE), IMAGE, sigma=SIGMA, key=KEY)


def test_one_logit_is_two_classes_and_chunks_change_nothing():
    settings = {"sigma": SIGMA, "num_guess": 10, "num_samples": 51, "key": KEY}
    want = certify(threshold, FREE, IMAGE, **settings, chunk_size=61)
    one = certify(lambda x: 2 * threshold(x)[1:], FREE, IMAGE, **settings, chunk_size=8)
    assert jax.tree.map(float, want._replace(counts=0)) == jax.tree.map(
        float, one._replace(counts=0)
    )
    assert want.counts.tolist() == one.counts.tolist()


def test_jit_is_eager_vmap_a_loop_and_numbers_may_be_traced():
    @jax.jit
    def certified(image, key, sigma, alpha, headroom):
        return certify(
            threshold, FREE, image, sigma=sigma, alpha=alpha, headroom=headroom, num_samples=200,
            key=key,
        )  # fmt: skip

    images, keys = jnp.stack([IMAGE, 0.95 * IMAGE]), jax.random.split(KEY, 2)
    numbers = (0.06, 0.01, 0.9)
    together = jax.jit(jax.vmap(certified, (0, 0, None, None, None)))(images, keys, *numbers)
    for i, (image, key) in enumerate(zip(images, keys, strict=True)):
        alone = certified(image, key, *numbers)
        eager = certify(
            threshold, FREE, image, sigma=0.06, alpha=0.01, headroom=0.9, num_samples=200, key=key
        )
        for one in (alone, jax.tree.map(lambda leaf, i=i: leaf[i], together)):
            assert one.counts.tolist() == eager.counts.tolist()
            np.testing.assert_allclose(one.radius, eager.radius, rtol=1e-5)
            np.testing.assert_allclose(one.safe_radius, eager.safe_radius, rtol=1e-5)
    assert certified._cache_size() == 1


def test_two_devices_certify_as_one():
    program = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from bfjax.field import legendre
from bfjax.robustness import certify

field = legendre((4, 4), degree=1)
predict = lambda x: jnp.stack([x[:2].mean(), x[2:].mean() + 0.01])
one = lambda x, key: certify(predict, field, x, sigma=0.1, num_guess=4, num_samples=40, key=key)
images = jax.random.uniform(jax.random.key(0), (4, 4, 4, 1))
keys = jax.random.split(jax.random.key(1), 4)
split = NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec("batch"))
found = jax.jit(jax.vmap(one))(jax.device_put(images, split), jax.device_put(keys, split))
alone = jax.jit(jax.vmap(one))(images, keys)
print(len(found.counts.sharding.device_set), found.counts.is_fully_replicated)
print(bool((found.counts == alone.counts).all()))
"""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["2", "False", "True"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma must be positive and finite, got 0"),
        ({"sigma": np.ones(3)}, r"sigma is one number, got shape \(3,\)"),
        ({"alpha": 1.0}, r"alpha must be in \(0, 1\), got 1"),
        ({"headroom": 1.5}, r"headroom must be in \(0, 1\], got 1.5"),
        ({"num_guess": 0}, "num_guess must be at least 1, and whole, got 0"),
        ({"num_samples": 10.5}, "num_samples must be at least 1, and whole, got 10.5"),
        ({"chunk_size": -1}, "chunk_size must be at least 1, and whole, got -1"),
        ({"encoding": "cubic"}, "encoding must be one of .*, got 'cubic'"),
        ({"gamma": -1.0}, "gamma must be positive and finite, got -1"),
        ({"key": 0}, "key must be a key"),
    ],
)
def test_bad_input_is_named(unchecked, options, message):
    with pytest.raises(ValueError, match=message):
        certify(threshold, FREE, IMAGE, **({"sigma": SIGMA, "key": KEY} | options))


def test_an_image_of_another_size_is_named(unchecked):
    with pytest.raises(ValueError, match=r"the field is \(6, 5\), the image \(5, 5\)"):
        certify(threshold, FREE, IMAGE[1:], sigma=SIGMA, key=KEY)
