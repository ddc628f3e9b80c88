"""Corrections against NumPy, what they are blind to, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.field import legendre
from bfjax.robustness import (
    correct_homomorphic,
    correct_polynomial,
    corrected,
    straight_through,
)

IMAGE = jax.random.uniform(jax.random.key(1), (14, 12, 1), minval=0.3, maxval=0.5)
CORRECTIONS = {"polynomial": correct_polynomial, "homomorphic": correct_homomorphic}


def _uneven(image, encoding):
    c = 0.03 * jax.random.normal(jax.random.key(2), (14,))
    log_field = legendre((14, 12), degree=4).log_field(c)[..., None]
    return image * jnp.exp(log_field) if encoding == "linear" else image + log_field


@pytest.mark.parametrize("encoding", ["linear", "log"])
def test_a_polynomial_fit_is_least_squares_and_blind_to_every_field_of_its_span(encoding):
    made = correct_polynomial(IMAGE, encoding=encoding)
    y, x = np.mgrid[-1:1:14j, -1:1:12j]
    terms = [x**i * y**j for i in range(5) for j in range(5 - i)]
    table = np.stack(terms, -1).reshape(-1, len(terms))
    seen = np.asarray(IMAGE[..., 0], np.float64)
    seen = np.log(seen) if encoding == "linear" else seen
    fitted = (table @ np.linalg.lstsq(table, seen.ravel(), rcond=None)[0]).reshape(seen.shape)
    want = seen - fitted + seen.mean()
    want = np.exp(want) if encoding == "linear" else want
    np.testing.assert_allclose(made[..., 0], want, rtol=1e-4)
    again = correct_polynomial(_uneven(IMAGE, encoding), encoding=encoding)
    np.testing.assert_allclose(again, made, atol=1e-5)


def test_a_homomorphic_filter_is_a_gaussian_in_numpy():
    made = correct_homomorphic(IMAGE, sigma=0.3)
    seen = np.log(np.asarray(IMAGE[..., 0], np.float64))
    want = np.zeros_like(seen)
    for i in range(14):
        for j in range(12):
            rows = np.exp(-(((np.arange(14) - i) / 14) ** 2) / (2 * 0.3**2))
            columns = np.exp(-(((np.arange(12) - j) / 12) ** 2) / (2 * 0.3**2))
            weights = np.outer(rows / rows.sum(), columns / columns.sum())
            want[i, j] = (weights * seen).sum()
    want = np.exp(seen - want + want.mean())
    np.testing.assert_allclose(made[..., 0], want, rtol=1e-4)
    before = jnp.abs(_uneven(IMAGE, "linear") - IMAGE).mean()
    assert jnp.abs(correct_homomorphic(_uneven(IMAGE, "linear")) - made).mean() < before


@pytest.mark.parametrize("name", CORRECTIONS)
@pytest.mark.parametrize("encoding", ["linear", "log"])
def test_exposure_stays_black_is_no_trouble_and_channels_stay_grey(name, encoding):
    correct = CORRECTIONS[name]
    for level in (0.0, 0.3, 1.0):
        even = jnp.full((8, 8, 3), level)
        np.testing.assert_allclose(correct(even, encoding=encoding), even, atol=1e-5)
    partly = IMAGE.at[:4].set(0)
    rgb = correct(jnp.broadcast_to(partly, (14, 12, 3)), encoding=encoding)
    np.testing.assert_allclose(rgb[..., 0], rgb[..., 2])
    assert ((rgb >= 0) & (rgb <= 1)).all()
    slope = jax.grad(lambda x: correct(x, encoding=encoding).sum())(partly)
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("name", CORRECTIONS)
def test_jit_is_eager_vmap_a_loop_and_the_slope_a_difference(name):
    correct = CORRECTIONS[name]
    image = IMAGE.astype(jnp.float32)
    images = jnp.stack([image, image[::-1]])
    together = jax.jit(jax.vmap(correct))(images)
    for made, one in zip(together, images, strict=True):
        np.testing.assert_allclose(made, correct(one), atol=1e-6)
    weights = jax.random.normal(jax.random.key(4), image.shape, jnp.float32)
    direction = jax.random.normal(jax.random.key(3), image.shape, jnp.float32)

    def along(t):
        return (weights * correct(image + t * direction)).sum()

    ahead, behind = along(3e-3), along(-3e-3)
    slope = jax.jvp(along, (jnp.float32(0),), (jnp.float32(1),))[1]
    assert float(slope) == pytest.approx(float(ahead - behind) / 6e-3, rel=2e-3)


def test_the_classifier_behind_a_correction_is_a_pytree_and_bpda_is_the_identity_on_the_way_back():
    predict = jax.tree_util.Partial(lambda w, x: w * x.mean((0, 1))[:1], jnp.ones(1))
    behind = corrected(predict, correct_polynomial)
    assert len(jax.tree.leaves(behind)) == 1
    np.testing.assert_allclose(behind(IMAGE), predict(correct_polynomial(IMAGE)))
    through = corrected(predict, straight_through(correct_polynomial))
    np.testing.assert_allclose(through(IMAGE), behind(IMAGE), rtol=1e-6)
    slopes = jax.grad(lambda x: through(x)[0])(IMAGE)
    np.testing.assert_allclose(slopes, 1 / (14 * 12), rtol=1e-6)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="degree must be at least 1"):
        correct_polynomial(IMAGE, degree=0)
    with pytest.raises(ValueError, match="sigma must be positive and finite, got 0"):
        correct_homomorphic(IMAGE, sigma=0)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_what_is_no_image_or_no_encoding_is_named(name, unchecked):
    with pytest.raises(ValueError, match=r"encoding must be one of .*'linear', 'log'.*'sqrt'"):
        CORRECTIONS[name](IMAGE, encoding="sqrt")
    with pytest.raises(ValueError, match=r"an image is float in .0, 1., got uint8"):
        CORRECTIONS[name](np.ones((8, 8, 1), np.uint8))
