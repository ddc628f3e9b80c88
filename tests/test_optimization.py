import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from bfjax import data, models
from bfjax.config import TrainConfig
from bfjax.models import registry
from bfjax.optimization import (
    augment,
    compute_dtype,
    make_optimizer,
    make_schedule,
    make_step,
    random_field,
    start,
)
from tests.training import SOURCE, Tiny, TinyConfig, config


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", (TinyConfig, Tiny))


def test_the_average_of_the_weights_is_what_is_kept():
    graph, params, statistics = nnx.split(models.build("tiny"), nnx.Param, nnx.BatchStat)
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(8)])
    settings = TrainConfig(average=0.6, learning_rate=0.1, warmup=0.0)
    optimizer = make_optimizer(settings, 10)
    state = start(settings, params, statistics, optimizer.init(params))
    step, seen = make_step(graph, optimizer, settings), []
    for _ in range(4):
        state, _ = step(state, images, SOURCE.labels[:8], jnp.ones(2))
        seen.append(jax.tree.leaves((state.params, state.statistics)))
    # a plain mean until 1 / step falls below 1 - 0.6, then the decay
    weights = [0.5 * 0.6 * 0.6, 0.5 * 0.6 * 0.6, 0.4 * 0.6, 0.4]
    for kept, *values in zip(jax.tree.leaves(state.kept), *seen, strict=True):
        expected = sum(w * np.asarray(v, np.float64) for w, v in zip(weights, values, strict=True))
        np.testing.assert_allclose(kept, expected, rtol=1e-5, atol=1e-6)
    plain = start(TrainConfig(), params, statistics, optimizer.init(params))
    assert plain.kept == (params, statistics)


def test_mobilenet_takes_a_training_step(tmp_path):
    """A few steps on one batch lower the loss: gradients and running averages of the real one."""
    settings = config(tmp_path, learning_rate=3e-3, warmup=0.0, shift=0.0, brightness=0.0)
    graph, params, statistics = nnx.split(
        models.build("mobilenet_v1", width=0.25), nnx.Param, nnx.BatchStat
    )
    optimizer = make_optimizer(settings, 40)
    step = make_step(graph, optimizer, settings)
    state = start(settings, params, statistics, optimizer.init(params))
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(16)])
    losses = []
    for _ in range(12):
        state, loss = step(state, images, SOURCE.labels[:16], jnp.ones(2))
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    before, after = statistics["stem"]["norm"]["mean"], state.statistics["stem"]["norm"]["mean"]
    assert not np.array_equal(before[...], after[...])
    assert int(state.step) == 12


def test_label_smoothing_and_weights_enter_the_loss(tmp_path):
    settings = config(
        tmp_path, label_smoothing=0.2, flip=False, shift=0.0, brightness=0.0, contrast=0.0
    )
    graph, params, statistics = nnx.split(models.build("tiny"), nnx.Param, nnx.BatchStat)
    state = start(settings, params, statistics, optax.EmptyState())
    step = make_step(graph, optax.identity(), settings)
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(4)])
    labels, weights = SOURCE.labels[:4], jnp.asarray([0.5, 2.0])
    _, loss = step(state, images, labels, weights)
    logits = models.build("tiny")(jnp.asarray(images), training=True)
    targets = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    each = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum(1)
    assert float(loss) == pytest.approx((each * [0.5, 0.5, 2, 2]).mean(), rel=1e-4)


def test_the_rate_rises_falls_and_only_kernels_decay():
    settings = TrainConfig(learning_rate=1e-2, warmup=0.25, weight_decay=0.1)
    optimizer = make_optimizer(settings, 100)
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


def test_one_cycle_rises_and_falls_along_cosines():
    settings = TrainConfig(schedule="one_cycle", warmup=0.3)
    rate = make_schedule(settings, 50, peak=2.0)
    steps = np.arange(51)
    rise = 2 * (1 / 25 + (1 - 1 / 25) * (1 - np.cos(np.pi * steps / 15)) / 2)
    fall = 2 * (1 / 1000 + (1 - 1 / 1000) * (1 + np.cos(np.pi * (steps - 15) / 35)) / 2)
    expected = np.where(steps < 15, rise, fall)
    np.testing.assert_allclose([float(rate(i)) for i in steps], expected, rtol=2e-4)
    at_once = make_schedule(dataclasses.replace(settings, warmup=0.0), 50, peak=2.0)
    assert float(at_once(0)) == pytest.approx(2)


def test_the_head_has_its_own_rate():
    """AdamW's first update is the rate itself, in size, whatever the gradient."""
    params = nnx.state(models.build("convnet"), nnx.Param)
    gradient = jax.tree.map(lambda x: jnp.full_like(x, 3.0), params)

    def sizes(**changes):
        settings = TrainConfig(learning_rate=1e-3, warmup=0.0, weight_decay=0.0, **changes)
        optimizer = make_optimizer(settings, 10)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        head, body = updates["head"]["kernel"], updates["layers"][0]["kernel"]
        return float(-head[...].mean()), float(-body[...].mean())

    np.testing.assert_allclose(sizes(), [1e-3, 1e-3], rtol=1e-3)
    np.testing.assert_allclose(sizes(head_learning_rate=2e-2), [2e-2, 1e-3], rtol=1e-3)


def test_a_random_bias_field_is_smooth_bounded_and_multiplies():
    keys = jax.random.split(jax.random.key(0), 32)
    fields = jax.vmap(lambda key: random_field(key, (24, 32), strength=0.4))(keys)
    largest = np.abs(fields).max((1, 2))
    assert 0.3 < largest.max() <= 0.4
    assert largest.min() < 0.1
    y, x = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 32), indexing="ij")
    powers = np.stack([x**t * y**l for t in range(4) for l in range(4 - t)], -1).reshape(-1, 10)
    flat = np.asarray(fields, np.float64).reshape(32, -1).T
    fitted = powers @ np.linalg.lstsq(powers, flat)[0]
    np.testing.assert_allclose(fitted, flat, atol=1e-5)  # of degree 3: SciPy would call it smooth
    none = {"flip": False, **dict.fromkeys(("shift", "rotation", "scale"), 0.0)}
    settings = TrainConfig(**none, brightness=0.0, contrast=0.0, bias_field=0.4)
    flat = jnp.full((24, 32, 1), 0.5)
    shaded = jax.vmap(lambda key: augment(key, flat, config=settings))(keys)
    assert float(shaded.min()) >= 0.5 * np.exp(-0.4) - 1e-6
    assert float(shaded.max()) <= 0.5 * np.exp(0.4) + 1e-6
    assert float(shaded.std()) > 0.02


def test_bfloat16_activations_train_float32_parameters(tmp_path):
    plain = {"flip": False, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}
    graph, params, statistics = nnx.split(models.build("tiny"), nnx.Param, nnx.BatchStat)
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(8)])
    found = {}
    for dtype in ("float32", "bfloat16"):
        settings = config(tmp_path, compute_dtype=dtype, **plain)
        optimizer = make_optimizer(settings, 10)
        state = start(settings, params, statistics, optimizer.init(params))
        step = make_step(graph, optimizer, settings)
        state, loss = step(state, images, SOURCE.labels[:8], jnp.ones(2))
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
        assert loss.dtype == jnp.float32
        found[dtype] = float(loss)
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.02)
    assert compute_dtype(TrainConfig()) == "float32"  # these tests run on a CPU


def test_augmentation_stays_in_range_and_differs_by_key():
    image = jnp.asarray(data.to_float(SOURCE[0]["image"]))
    settings = TrainConfig(shift=0.2, brightness=0.3, contrast=0.3)
    keys = jax.random.split(jax.random.key(0), 16)
    several = jax.vmap(lambda key: augment(key, image, config=settings))(keys)
    assert several.shape == (16, 32, 32, 1)
    assert several.min() >= 0
    assert several.max() <= 1
    assert len({float(x.sum()) for x in several}) == 16
    again = augment(keys[3], image, config=settings)
    np.testing.assert_allclose(again, several[3], atol=1e-6)


def test_each_augmentation_does_what_it_says():
    image = jnp.asarray(data.to_float(SOURCE[0]["image"])) / 2 + 0.25
    none = {"flip": False, **dict.fromkeys(("shift", "rotation", "scale"), 0.0)}
    none |= {"brightness": 0.0, "contrast": 0.0}
    keys = jax.random.split(jax.random.key(0), 24)

    def variants(**change):
        settings = TrainConfig(**(none | change))
        return jax.vmap(lambda key: augment(key, image, config=settings))(keys)

    np.testing.assert_allclose(variants()[0], image, atol=1e-6)
    flipped = {bool(jnp.allclose(v, image[:, ::-1], atol=1e-6)) for v in variants(flip=True)}
    assert flipped == {True, False}
    bright = variants(brightness=0.2) - image[None]
    assert float(jnp.ptp(bright[0])) < 1e-5
    assert 0.1 < float(jnp.abs(bright).max()) <= 0.2
    spread = variants(contrast=0.2).std((1, 2, 3)) / image.std()
    assert 0.8 <= float(spread.min()) < 0.9
    assert 1.1 < float(spread.max()) <= 1.2
    shifts = set()
    for variant in variants(shift=0.1):  # up to three pixels
        inner = [
            (y, x)
            for y in range(-3, 4)
            for x in range(-3, 4)
            if jnp.allclose(variant[3:-3, 3:-3], image[3 + y : 29 + y, 3 + x : 29 + x], atol=1e-6)
        ]
        assert len(inner) == 1
        shifts.add(inner[0])
    assert len(shifts) > 10


def test_rotation_and_scale_move_a_dot_as_they_should():
    """A dot right of the centre of 33 x 33 pixels: where it goes tells angle and stretch."""
    image = jnp.zeros((33, 33, 1)).at[16, 26].set(1.0)
    keys = jax.random.split(jax.random.key(0), 64)
    none = {"flip": False, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}

    def places(**change):
        settings = TrainConfig(**(none | change))
        found = jax.vmap(lambda key: augment(key, image, config=settings)[..., 0])(keys)
        grid = jnp.arange(33.0) - 16
        mass = found.sum((1, 2))
        y = (found.sum(2) * grid[None]).sum(1) / mass
        x = (found.sum(1) * grid[None]).sum(1) / mass
        return np.asarray(y), np.asarray(x)

    y, x = places(rotation=30.0, scale=0.0)
    np.testing.assert_allclose(np.hypot(y, x), 10, atol=0.3)
    angles = np.rad2deg(np.arctan2(y, x))
    assert -32 < angles.min() < -20
    assert 20 < angles.max() < 32
    y, x = places(rotation=0.0, scale=0.2)
    np.testing.assert_allclose(y, 0, atol=1e-3)
    assert 7.7 < x.min() < 8.6
    assert 11.4 < x.max() < 12.3
    # height and width are drawn apart
    image = image.at[26, 16].set(1.0)
    settings = TrainConfig(**(none | {"rotation": 0.0, "scale": 0.2}))
    found = jax.vmap(lambda key: augment(key, image, config=settings)[..., 0])(keys)
    down, right = found[:, 20:, 16].argmax(1), found[:, 16, 20:].argmax(1)
    assert bool((down != right).any())
