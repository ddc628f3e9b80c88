import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bfjax.attacks.saliency_map import _best_pair, saliency_map

SHAPE = (8, 8, 1)
SIZE = 64


def _apply(weights, image):
    """Linear, or with one hidden layer: weights (W, b), or (W, b, U)."""
    matrix, bias, *hidden = weights
    x = image.ravel() - 0.5
    for layer in hidden:
        x = jnp.tanh(layer @ x)
    return matrix @ x + bias


def _networks(count, classes, hidden, shape=SHAPE):
    rng = np.random.default_rng(classes + hidden)
    size = np.prod(shape)
    first = (rng.normal(0, 0.2, (count, hidden, size)),) if hidden else ()
    matrix = rng.normal(0, 0.7 if hidden else 0.4, (count, classes, hidden or size))
    return (matrix, rng.normal(0, 0.3, (count, classes)), *first)


def _images(count, shape=SHAPE):
    """Some entries lie exactly on the border."""
    return np.clip(np.random.default_rng(1).uniform(-0.2, 1.2, (count, *shape)), 0, 1)


def _evaluate(weights, x):
    """Logits and Jacobian (classes, entries), in NumPy."""
    matrix, bias, *hidden = weights
    features, slope = x - 0.5, np.eye(x.size)
    for layer in hidden:
        features = np.tanh(layer @ features)
        slope = (1 - features**2)[:, None] * layer
    return matrix @ features + bias, matrix @ slope


def _choose(variant, alpha, beta, x, free):
    """The entries and their direction by exhaustive search, or None."""
    if variant == "pair":
        best, choice = -np.inf, None
        up = [i for i in range(x.size) if free[i] and x[i] < 1]
        for n, p in enumerate(up):
            for q in up[n + 1 :]:
                a, b = alpha[p] + alpha[q], beta[p] + beta[q]
                if a > 0 and b < 0 and -a * b > best:
                    best, choice = -a * b, ([p, q], 1.0)
        return choice
    best, choice = 0.0, None
    for i in range(x.size):
        direction = np.sign(alpha[i])
        movable = x[i] < 1 if direction > 0 else x[i] > 0
        if free[i] and movable and alpha[i] * beta[i] < best:
            best, choice = alpha[i] * beta[i], ([i], direction)
    return choice


def _oracle(variant, weights, image, target, max_steps, theta, max_changes):
    x, changes, entries = image.ravel().copy(), np.zeros(image.size, int), []
    while True:
        logits, jacobian = _evaluate(weights, x)
        if logits.argmax() == target or len(entries) == max_steps:
            break
        alpha, beta = jacobian[target], jacobian.sum(0) - jacobian[target]
        if variant == "darken":
            p = np.exp(logits - logits.max())
            alpha, beta = jacobian[target] - (p / p.sum()) @ jacobian, np.ones(x.size)
        choice = _choose(variant, alpha, beta, x, changes < max_changes)
        if choice is None:
            break
        for i in choice[0]:
            x[i] = np.clip(x[i] + theta * choice[1], 0, 1)
            changes[i] = max_changes if x[i] in (0, 1) else changes[i] + 1
        entries.append(choice[0])
    reached = logits.argmax() == target
    return x.reshape(image.shape) if reached else image, entries, reached


@pytest.mark.parametrize("variant", ["single", "darken", "pair"])
@pytest.mark.parametrize(("classes", "hidden"), [(2, 0), (4, 0), (3, 6)])
def test_agrees_with_exhaustive_search_in_numpy(variant, classes, hidden, x64):
    """The same entries in the same order and the same image, successes and failures among them."""
    count, options = 24, {"max_steps": 9, "theta": 0.15, "max_changes": 3}
    weights, images = _networks(count, classes, hidden), _images(count)
    networks = [[w[i] for w in weights] for i in range(count)]
    clean = [_evaluate(*each)[0] for each in zip(networks, images.reshape(count, -1), strict=True)]
    logits = np.stack(clean)
    labels = logits.argmax(1)
    run = jax.vmap(saliency_map(variant=variant, **options).run)
    result = jax.jit(run)(Partial(_apply, weights), jnp.asarray(images), jnp.asarray(labels))
    outcomes = []
    for i in range(count):
        target = np.argsort(logits[i])[-2]
        image, entries, reached = _oracle(variant, networks[i], images[i], target, **options)
        assert result.trace.target[i] == target
        ours = np.asarray(result.trace.entries[i])
        np.testing.assert_array_equal(ours[: len(entries)], entries)
        assert (ours[len(entries) :] == -1).all()
        np.testing.assert_allclose(result.adversarial[i], image, atol=1e-12)
        np.testing.assert_allclose(
            result.logits[i], _evaluate(networks[i], image.ravel())[0], atol=1e-9
        )
        outcomes.append((reached, len(entries)))
    assert any(reached and steps > 1 for reached, steps in outcomes)
    if variant != "single":
        assert not all(reached for reached, _ in outcomes)


def test_entries_that_are_used_up_leave_the_search(x64):
    """Nothing is enough: entries stop after three changes or at the border, then the attack."""
    weights = np.stack([np.r_[np.linspace(1, 2, 4), np.zeros(4)], np.zeros(8)]) * 0.1
    weights[1] = -weights[0]
    image = jnp.asarray([0.5, 0.5, 0.85, 1.0, 0.5, 0.5, 0.5, 0.5]).reshape(2, 4, 1)
    predict = Partial(_apply, (weights, np.array([0.0, 9.0])))
    result = saliency_map(max_changes=3, max_steps=20).run(predict, image, 1)
    # Entry 3 is white; 2 gets there in two changes; the others have their three.
    expected = [2, 2, 1, 1, 1, 0, 0, 0] + [-1] * 12
    np.testing.assert_array_equal(result.trace.entries[:, 0], expected)
    np.testing.assert_array_equal(result.adversarial, image)  # a failure comes back unchanged
    np.testing.assert_array_equal(result.logits, predict(image))


def _brute_force(gain, fall):
    """The value of the best pair, and the pair that comes first in row-major order."""
    a, b = gain[:, None] + gain, fall[:, None] + fall
    value = np.where((a > 0) & (b > 0), a * b, -np.inf)
    np.fill_diagonal(value, -np.inf)
    return value.max(), np.unravel_index(value.argmax(), value.shape)


def _check_pairs(gain, fall):
    """Rows are searches; NumPy's brute force must name the same pairs."""
    image, free = jnp.full(gain.shape, 0.5), jnp.ones(gain.shape, bool)
    pairs, direction, found = jax.jit(jax.vmap(_best_pair))(
        jnp.asarray(gain), -jnp.asarray(fall), image, free
    )
    assert (direction == 1).all()
    for i in range(len(gain)):
        value, pair = _brute_force(gain[i], fall[i])
        assert found[i] == (value > 0)
        if value > 0:
            np.testing.assert_array_equal(pairs[i], pair)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.9, -0.9, -1.0])
def test_best_pair_is_that_of_brute_force(correlation, x64):
    rng = np.random.default_rng(0)
    gain, noise = rng.normal(size=(2, 60, SIZE)) * np.exp(rng.normal(size=SIZE))
    fall = correlation * gain + np.sqrt(1 - correlation**2) * noise
    found = _check_pairs(gain, fall + 0.1)
    assert found.any()


@pytest.mark.slow
@pytest.mark.parametrize("largest", [0, 3])
def test_of_equally_good_pairs_the_first_is_taken(largest):
    rng = np.random.default_rng(0)
    gain, fall = rng.integers(-2, largest + 1, (2, 100, SIZE)).astype(np.float32)
    _check_pairs(gain, fall)


def test_best_pair_is_exact_where_no_entry_can_be_left_out():
    """All on one falling line, three chunks of them: the sums that are equally good are many."""
    gain = np.arange(180, dtype=np.float32)[np.random.default_rng(0).permutation(180)]
    _check_pairs(np.stack([gain, gain, -gain]), np.stack([179 - gain, 100 - gain, gain]))


def _bright(scale):
    """Is the sum, times the scale, above one?"""
    return Partial(lambda scale, image: jnp.stack([1, -1]) * (1 - scale * image.sum()), scale)


@pytest.mark.slow
def test_pair_search_with_fewer_than_two_entries_ends_the_attack():
    run = jax.jit(saliency_map(variant="pair", max_steps=5).run)
    assert (run(_bright(1.0), jnp.asarray([[[0.1], [0.5]]]), 0).trace.entries >= 0).any()
    alone = run(_bright(0.5), jnp.asarray([[[0.2], [1.0]]]), 0)  # the second may not go up
    assert (alone.trace.entries == -1).all()


@pytest.mark.parametrize("variant", ["single", "darken", "pair"])
def test_nan_gradients_end_the_attack(variant):
    image = jnp.asarray([[[0.1], [0.5]]])
    result = saliency_map(variant=variant, max_steps=5).run(_bright(jnp.nan), image, 0)
    assert (result.trace.entries == -1).all()
    np.testing.assert_array_equal(result.adversarial, image)


def test_memory_of_the_pair_search_at_224():
    """The matrix of pairs would have 50,176² entries, 10 GB in float32."""
    shape = (224, 224, 1)
    predict = Partial(lambda w, x: w @ x.ravel(), jnp.ones((2, 224 * 224)))
    attack = saliency_map(variant="pair")
    compiled = jax.jit(attack.run).lower(predict, jnp.zeros(shape), 0).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 100e6


@pytest.mark.slow
def test_target_is_the_most_likely_other_class_or_the_one_that_is_asked_for():
    predict = Partial(lambda image: jnp.stack([3.0, image.mean(), 2 * image.mean(), 2.9]))
    image = jnp.full(SHAPE, 0.5)
    run = jax.vmap(saliency_map(max_steps=1).run, (None, None, 0))
    result = run(predict, image, jnp.asarray([0, 3, 1]))
    assert result.trace.target.tolist() == [3, 0, 0]
    np.testing.assert_array_equal(result.adversarial[2], image)  # wrong already: left as it is
    assert saliency_map(max_steps=1, target=2).run(predict, image, 0).trace.target == 2
    with pytest.raises(ValueError, match="one of the 4 classes, got 4"):
        saliency_map(target=4).run(predict, image, 0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["single", "pair"])
def test_batch_is_its_single_images_and_jit_is_eager(variant):
    count, shape = 4, (4, 4, 3)
    weights = [jnp.asarray(w[0], jnp.float32) for w in _networks(1, 3, 5, shape)]
    images = jnp.asarray(_images(count, shape), jnp.float32)
    predict = Partial(_apply, weights)
    labels = jax.vmap(predict)(images).argmax(-1)
    attack = saliency_map(variant=variant, max_steps=30)
    together = jax.jit(jax.vmap(lambda x, y: attack.run(predict, x, y)))(images, labels)
    assert len(set((together.trace.entries >= 0).sum((1, 2)).tolist())) > 1  # not all end at once
    for i in range(2 if variant == "single" else 1):
        alone = attack(predict, images[i], labels[i], key=jax.random.key(0))
        np.testing.assert_array_equal(together.trace.entries[i], alone.trace.entries)
        np.testing.assert_allclose(together.adversarial[i], alone.adversarial, atol=1e-6)
        np.testing.assert_allclose(together.logits[i], alone.logits, atol=1e-4)
        np.testing.assert_array_equal(alone.params, alone.adversarial)


def test_bfloat16_images_stay_so():
    weights = [jnp.asarray(w[0], jnp.bfloat16) for w in _networks(1, 2, 0)]
    predict, image = Partial(_apply, weights), jnp.asarray(_images(1)[0], jnp.bfloat16)
    label = predict(image).argmax()
    result = saliency_map().run(predict, image, label)
    assert result.adversarial.dtype == jnp.bfloat16
    assert predict(result.adversarial).argmax() == 1 - label


def test_equal_attacks_share_a_compilation():
    predict = Partial(lambda image: jnp.stack([image.sum(), 2 - image.sum()]))
    jitted = jax.jit(lambda attack, image, label: attack.run(predict, image, label).logits)
    for label in (0, 1):
        attack = saliency_map(max_steps=2)
        jitted(attack, jnp.full((2, 2, 1), 0.5), label)
    assert jitted._cache_size() == 1
    assert len({attack, saliency_map(max_steps=2)}) == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"variant": "triple"}, "'triple'"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"max_changes": 0}, "max_changes must be at least 1, got 0"),
        ({"theta": 0.0}, "theta must be in .*, got 0.0"),
        ({"theta": float("nan")}, "theta must be in .*, got nan"),
    ],
)
def test_bad_options_are_named(options, word, unchecked):
    with pytest.raises(ValueError, match=word):
        saliency_map(**options)


def test_bad_images_and_logits_are_named(unchecked):
    attack, image = saliency_map(), jnp.full(SHAPE, 0.5)
    with pytest.raises(ValueError, match=r"\(2, 8, 8, 1\)"):
        attack.run(lambda image: image[0, 0, 0], jnp.zeros((2, *SHAPE)), 0)
    with pytest.raises(ValueError, match="float in"):
        attack.run(lambda image: image[0, 0], jnp.zeros(SHAPE, jnp.uint8), 0)
    with pytest.raises(ValueError, match=r"must be \(classes,\), got shape \(\)"):
        attack.run(lambda image: image.sum(), image, 0)
    with pytest.raises(ValueError, match=r"one class here, got shape \(2,\)"):
        attack.run(lambda image: image[0, :2, 0], image, jnp.asarray([0, 1]))


def test_one_logit_is_two_classes():
    """As of a model with half of it for one class and minus half for the other."""

    def one(image):
        return 8 * (image.mean(keepdims=True)[0, 0] - 0.5)

    def two(image):
        return jnp.concatenate([-one(image), one(image)]) / 2

    attack, image = saliency_map(), jnp.full(SHAPE, 0.55)
    ours, expected = (attack.run(predict, image, 1) for predict in (one, two))
    np.testing.assert_array_equal(ours.adversarial, expected.adversarial)
    np.testing.assert_allclose(ours.logits, expected.logits[1:] * 2)
    assert ours.logits[0] < 0
