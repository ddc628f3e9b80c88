import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bfjax import models
from bfjax.training.optimizer import make_optimizer, make_schedule


@pytest.mark.slow
def test_the_rate_rises_falls_and_only_kernels_decay():
    optimizer = make_optimizer(100, learning_rate=1e-2, warmup=0.25, weight_decay=0.1)
    params = {"kernel": jnp.ones((1, 2)), "bias": jnp.ones((2,))}
    state, moved = optimizer.init(params), []
    for _ in range(100):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        assert not updates["bias"].any()
        moved.append(-float(updates["kernel"][0, 0]))
    assert int(np.argmax(moved)) == 25
    assert max(moved) == pytest.approx(1e-3, rel=1e-4)
    assert moved[0] == pytest.approx(1e-3 / 25, rel=1e-4)
    assert moved[-1] < 1e-5


@pytest.mark.slow
def test_one_cycle_rises_and_falls_along_cosines():
    rate = make_schedule(50, peak=2.0, schedule="one_cycle", warmup=0.3)
    steps = np.arange(51)
    rise = 2 * (1 / 25 + (1 - 1 / 25) * (1 - np.cos(np.pi * steps / 15)) / 2)
    fall = 2 * (1 / 1000 + (1 - 1 / 1000) * (1 + np.cos(np.pi * (steps - 15) / 35)) / 2)
    expected = np.where(steps < 15, rise, fall)
    np.testing.assert_allclose([float(rate(i)) for i in steps], expected, rtol=2e-4)
    at_once = make_schedule(50, peak=2.0, schedule="one_cycle", warmup=0.0)
    assert float(at_once(0)) == pytest.approx(2)


@pytest.mark.slow
def test_the_head_has_its_own_rate():
    """AdamW's first update is the rate itself, in size, whatever the gradient."""
    params = nnx.state(models.build("convnet"), nnx.Param)
    gradient = jax.tree.map(lambda x: jnp.full_like(x, 3.0), params)

    def sizes(**changes):
        fixed = {"learning_rate": 1e-3, "warmup": 0.0, "weight_decay": 0.0}
        optimizer = make_optimizer(10, **fixed, **changes)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        head, body = updates["head"]["kernel"], updates["layers"][0]["kernel"]
        return float(-head[...].mean()), float(-body[...].mean())

    np.testing.assert_allclose(sizes(), [1e-3, 1e-3], rtol=1e-3)
    np.testing.assert_allclose(sizes(head_learning_rate=2e-2), [2e-2, 1e-3], rtol=1e-3)
