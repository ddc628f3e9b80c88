"""The stream runner against the batch runner, image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bfjax
from bfjax import attacks
from bfjax.attack import run_stream, vmapped

SHAPE, COUNT = (12, 12, 1), 11


@pytest.fixture(scope="module")
def predict():
    """Bright images are of class 1."""
    return jax.tree_util.Partial(lambda w, x: w * jnp.stack([0.5 - x.mean(), x.mean() - 0.5]), 9.0)


@pytest.fixture(scope="module")
def examples():
    """Wrong from the start, fooled sooner or later, never fooled."""
    images = np.random.default_rng(1).uniform(0.4, 0.6, (COUNT, *SHAPE)).astype(np.float32)
    brighter = np.random.default_rng(2).permutation(np.linspace(0.0, 0.2, COUNT))
    images += brighter[:, None, None, None].astype(np.float32)
    labels = np.ones(COUNT, np.int32)
    labels[::5] = 0
    return images, labels


def streamed(attack, predict, examples, **options):
    """All results, in the order of the images."""
    triples = zip(range(COUNT), *examples, strict=True)
    done = list(run_stream(attack, predict, triples, **options))
    numbers = [n for one in done for n in one.numbers]
    assert sorted(numbers) == list(range(COUNT))
    results = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(one.result for one in done))
    images = np.concatenate([one.images for one in done])
    np.testing.assert_array_equal(images, examples[0][numbers])
    order = np.argsort(numbers)
    return jax.tree.map(lambda leaf: leaf[order], results), numbers


def field(**options):
    return attacks.bias_field(
        SHAPE[:2], degree=3, min_degree=0, grid_size=3, num_steps=6, step_size=0.02, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4, 20])
@pytest.mark.parametrize(
    "attack",
    [
        field(),
        field(early_stop=True),
        field(early_stop=True, iterate="best", optimizer=optax.adam(0.02)),
        attacks.bim(epsilon=0.05, step_size=0.01, num_steps=5, early_stop=True),
    ],
    ids=["all steps", "early stop", "best iterate", "pixels"],
)
def test_each_image_ends_as_in_a_batch_of_all(attack, batch_size, predict, examples):
    found, _ = streamed(attack, predict, examples, batch_size=batch_size)
    expected = bfjax.run_batch(attack, predict, *examples)
    for name in ("adversarial", "logits", "params", "trace", "flags"):
        for one, other in zip(
            jax.tree.leaves(getattr(found, name)),
            jax.tree.leaves(getattr(expected, name)),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


def test_without_a_stop_the_order_and_the_bits_are_those_of_batches(predict, examples):
    images, labels = (x[:8] for x in examples)
    triples = zip(range(8), images, labels, strict=True)
    for start, done in enumerate(run_stream(field(), predict, triples, batch_size=4)):
        rows = slice(4 * start, 4 * start + 4)
        assert done.numbers == list(range(8))[rows]
        expected = bfjax.run_batch(field(), predict, images[rows], labels[rows])
        for one, other in zip(jax.tree.leaves(done.result), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_more_steps_are_taken_than_the_images_need(predict, examples):
    attack, taken = field(early_stop=True), []
    found, numbers = streamed(attack, predict, examples, batch_size=3, on_step=taken.append)
    stopped = found.trace.stopped
    needed = np.where(stopped.any(1), stopped.argmax(1) + 1, attack.num_steps)
    assert sum(taken) == needed.sum() < COUNT * attack.num_steps
    assert len(set(needed.tolist())) > 2  # at once, later, never
    assert len(taken) < -(-COUNT // 3) * attack.num_steps
    assert numbers != sorted(numbers)


def test_nothing_is_compiled_for_the_last_images(predict, examples):
    attack = field(early_stop=True)
    streamed(attack, predict, examples, batch_size=3)
    compiled = vmapped.step._cache_size()
    other = jax.tree_util.Partial(predict.func, 2 * predict.args[0])
    streamed(attack, other, examples, batch_size=3)
    assert vmapped.step._cache_size() == compiled


@pytest.mark.slow
def test_random_starts_depend_on_the_number_alone(predict, examples):
    attack, key = field(early_stop=True, start_noise=0.1), jax.random.key(3)
    found, _ = streamed(attack, predict, examples, batch_size=4, key=key)
    for i in (0, COUNT - 1):
        alone = bfjax.run(
            attack,
            predict,
            jnp.asarray(examples[0][i]),
            int(examples[1][i]),
            key=jax.random.fold_in(key, i),
        )
        np.testing.assert_allclose(found.adversarial[i], alone.adversarial, atol=1e-5)


def test_random_views_stop_by_the_image_itself(predict, examples):
    attack = field(early_stop=True, transform=bfjax.attack.eight_bit, num_draws=2)
    found, _ = streamed(attack, predict, examples, batch_size=4, key=jax.random.key(0))
    wrong = found.logits.argmax(-1) != examples[1]
    stopped = found.trace.stopped.any(1)
    assert wrong[stopped].all()
    assert stopped.any()


def test_nothing_comes_of_nothing_and_bad_images_are_named(predict, examples):
    assert list(run_stream(field(), predict, [], batch_size=2)) == []
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(run_stream(field(), predict, [], batch_size=0))
    images = examples[0].copy()
    images[7] = np.nan
    triples = zip(range(COUNT), images, examples[1], strict=True)
    with pytest.raises(ValueError, match="image 7 has NaN"):
        list(run_stream(field(), predict, triples, batch_size=4))
