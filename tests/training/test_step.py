import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from bfjax import data, models
from bfjax.models import registry
from bfjax.training.augmentation import Augmentation
from bfjax.training.optimizer import make_optimizer
from bfjax.training.step import compute_dtype, copied, make_step, start
from tests.training.small import SOURCE, Tiny, TinyConfig


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", (TinyConfig, Tiny))


@pytest.mark.slow
def test_the_average_of_the_weights_is_what_is_kept():
    graph, params, statistics = nnx.split(models.build("tiny"), nnx.Param, nnx.BatchStat)
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(8)])
    optimizer = make_optimizer(10, learning_rate=0.1, warmup=0.0)
    given = copied((params, statistics))
    state = start(*given, optimizer.init(params), average=0.6)
    step, seen = make_step(graph, optimizer, average=0.6), []
    for _ in range(4):
        state, _ = step(state, images, SOURCE.labels[:8], jnp.ones(2))
        seen.append(jax.tree.leaves(copied((state.params, state.statistics))))
    # a plain mean until 1 / step falls below 1 - 0.6, then the decay
    weights = [0.5 * 0.6 * 0.6, 0.5 * 0.6 * 0.6, 0.4 * 0.6, 0.4]
    for kept, *values in zip(jax.tree.leaves(state.kept), *seen, strict=True):
        expected = sum(w * np.asarray(v, np.float64) for w, v in zip(weights, values, strict=True))
        np.testing.assert_allclose(kept, expected, rtol=1e-5, atol=1e-6)
    plain = start(params, statistics, optimizer.init(params))
    assert plain.kept == (params, statistics)


@pytest.mark.slow
def test_mobilenet_takes_a_training_step():
    """A few steps on one batch lower the loss: gradients and running averages of the real one."""
    graph, params, statistics = nnx.split(
        models.build("mobilenet_v1", width=0.25), nnx.Param, nnx.BatchStat
    )
    optimizer = make_optimizer(40, learning_rate=3e-3, warmup=0.0)
    step = make_step(graph, optimizer, augmentation=Augmentation(flip=True, contrast=0.3))
    state = start(params, statistics, optimizer.init(params))
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(16)])
    losses = []
    for _ in range(12):
        state, loss = step(state, images, SOURCE.labels[:16], jnp.ones(2))
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    before, after = statistics["stem"]["norm"]["mean"], state.statistics["stem"]["norm"]["mean"]
    assert not np.array_equal(before[...], after[...])
    assert int(state.step) == 12


@pytest.mark.slow
def test_label_smoothing_and_weights_enter_the_loss():
    graph, params, statistics = nnx.split(models.build("tiny"), nnx.Param, nnx.BatchStat)
    state = start(params, statistics, optax.EmptyState())
    step = make_step(graph, optax.identity(), label_smoothing=0.2)
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(4)])
    labels, weights = SOURCE.labels[:4], jnp.asarray([0.5, 2.0])
    _, loss = step(state, images, labels, weights)
    logits = models.build("tiny")(jnp.asarray(images), training=True)
    targets = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    each = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum(1)
    assert float(loss) == pytest.approx((each * [0.5, 0.5, 2, 2]).mean(), rel=1e-4)


@pytest.mark.slow
def test_bfloat16_activations_train_float32_parameters():
    graph, params, statistics = nnx.split(models.build("tiny"), nnx.Param, nnx.BatchStat)
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(8)])
    found = {}
    for dtype in ("float32", "bfloat16"):
        optimizer = make_optimizer(10, learning_rate=0.03)
        state = start(*copied((params, statistics)), optimizer.init(params))
        step = make_step(graph, optimizer, dtype=dtype)
        state, loss = step(state, images, SOURCE.labels[:8], jnp.ones(2))
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
        assert loss.dtype == jnp.float32
        found[dtype] = float(loss)
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.02)
    assert compute_dtype("auto") == "float32"  # these tests run on a CPU


@pytest.mark.slow
def test_a_step_that_computes_activations_once_more_has_the_same_loss():
    graph, params, statistics = nnx.split(
        models.build("mobilenet_v1", width=0.25), nnx.Param, nnx.BatchStat
    )
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(8)])
    optimizer, found, takes = make_optimizer(10, learning_rate=1e-3), {}, {}
    for remat in (False, True):
        state = start(*copied((params, statistics)), optimizer.init(params))
        given = state, images, SOURCE.labels[:8], jnp.ones(2)
        program = make_step(graph, optimizer, remat=remat).lower(*given).compile()
        takes[remat] = program.memory_analysis().temp_size_in_bytes
        assert program.memory_analysis().alias_size_in_bytes > 0  # in the place of the last state
        state, first = program(*given)
        found[remat] = [float(first), float(program(state, *given[1:])[1])]
    np.testing.assert_allclose(found[True], found[False], rtol=1e-4)
    assert takes[True] < takes[False]
