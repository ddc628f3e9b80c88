import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from bfjax.attack import image_ball, onto_ball, parameter_ball


def expected(delta, norm, radius):
    """Independent of the implementation: a scalar root-finding for L1, NumPy for the others."""
    if norm == "linf":
        return np.clip(delta, -radius, radius)
    if norm == "l2":
        return delta * min(1, radius / np.linalg.norm(delta))

    def shrunk(threshold):
        return np.sign(delta) * np.maximum(np.abs(delta) - threshold, 0)

    if np.abs(delta).sum() <= radius or radius == 0:
        return delta if radius else 0 * delta
    excess = lambda t: np.abs(shrunk(t)).sum() - radius  # noqa: E731
    return shrunk(scipy.optimize.brentq(excess, 0, np.abs(delta).max(), xtol=1e-12))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("radius", [0.0, 0.3, 2.0, 100.0])
def test_nearest_point_of_the_ball(norm, radius):
    deltas = np.random.default_rng(0).normal(size=(5, 4, 3, 1))
    project = jax.jit(lambda d: onto_ball(d, norm=norm, radius=radius))
    for delta in deltas:
        found = project(jnp.asarray(delta, jnp.float32))
        np.testing.assert_allclose(found, expected(delta, norm, radius), atol=2e-6)
        np.testing.assert_allclose(project(found), found, atol=2e-6)
    batch = jax.vmap(project)(jnp.asarray(deltas, jnp.float32))
    alone = [project(jnp.asarray(d, jnp.float32)) for d in deltas]
    np.testing.assert_allclose(batch, np.stack(alone), atol=1e-6)  # images do not share a ball
    assert not onto_ball(jnp.zeros((2, 2)), norm=norm, radius=radius).any()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_sixteen_bits_hold_many_pixels(dtype):
    """Their sum and their number are beyond what float16 holds."""
    deltas = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (300, 300)), dtype)
    found = onto_ball(deltas, norm="l1", radius=30.0)
    assert found.dtype == dtype
    assert np.abs(np.asarray(found, np.float64)).sum() == pytest.approx(30, rel=0.02)


def test_pixels_stay_in_the_ball_and_the_box():
    image = jnp.asarray([0.0, 0.05, 0.5, 1.0]).reshape(2, 2, 1)
    project = image_ball(norm="linf", radius=0.1)
    np.testing.assert_allclose(project(image - 1, image).ravel(), [0, 0, 0.4, 0.9], atol=1e-7)
    assert (project(image, image) == image).all()
    field = parameter_ball(norm="l2", radius=0.5)(jnp.ones((2, 2)), image)
    np.testing.assert_allclose(field, 0.25)


def test_another_norm_is_named(unchecked):
    for make in (image_ball, parameter_ball):
        with pytest.raises(ValueError, match="'l0'"):
            make(norm="l0", radius=1.0)


def test_equal_balls_share_a_compilation():
    traces = 0

    @jax.jit
    def run(project, image):
        nonlocal traces
        traces += 1
        return project(image, image)

    for radius in (0.1, 0.2):
        run(image_ball(norm="linf", radius=radius), jnp.ones((2, 2, 1)))
    assert traces == 1
