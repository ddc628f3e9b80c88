import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bfjax.attacks.carlini_wagner import carlini_wagner_l2
from tests.oracles import check_gradients

SHAPE = (12, 12, 1)


def _images(count=12, shape=SHAPE, low=-0.1, high=1.1, seed=1):
    """With the default bounds, some pixels are exactly black or white."""
    values = np.random.default_rng(seed).uniform(low, high, (count, *shape))
    return jnp.asarray(np.clip(values, 0, 1), jnp.float32)


def _convnet(classes):
    rng = np.random.default_rng(0)
    shapes = {(3, 3, 1, 4): 0.5, (3, 3, 4, 4): 0.3, (4 * 36, classes): 1 / 6}
    weights = [jnp.asarray(rng.normal(0, s, shape), jnp.float32) for shape, s in shapes.items()]

    def apply(weights, image):
        one, two, head = weights
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(image[None], one, (1, 1), "SAME", dimension_numbers=layout)
        x = jnp.tanh(x)
        x = jax.lax.conv_general_dilated(x, two, (2, 2), "SAME", dimension_numbers=layout)
        return 4 * (jax.nn.relu(x).ravel() @ head)

    return Partial(apply, weights)


def _linear(bias=(0.0, 0.0), shape=SHAPE, scale=1.0):
    """z = W(x − ½) + b, whose arrays are arguments: `Partial(predict.func, weights, bias)`."""
    weights = np.random.default_rng(0).normal(0, scale, (len(bias), np.prod(shape)))

    def apply(weights, bias, image):
        return weights @ (image.ravel() - 0.5) + bias

    return Partial(apply, jnp.asarray(weights, jnp.float32), jnp.asarray(bias))


def _run(attack, predict, images, labels):
    return jax.jit(jax.vmap(lambda x, y: attack.run(predict, x, y)))(images, jnp.asarray(labels))


def _distances(one, other):
    return np.linalg.norm((np.asarray(one) - np.asarray(other)).reshape(len(one), -1), axis=1)


@pytest.fixture
def foolbox(monkeypatch):
    """foolbox 3.3.4 on its JAX backend; it runs on today's JAX, with one error for > 2 classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports scipy.ndimage.filters
        import foolbox
    from eagerpy import JAXTensor

    def onehot_like(self, indices, *, value=1):
        # eagerpy multiplies by `value`, and 0 · inf is NaN where foolbox means 0.
        own = jnp.arange(self.raw.shape[1])[None] == indices.raw[:, None]
        return JAXTensor(jnp.where(own, value, 0.0))

    gradient = JAXTensor._value_and_grad_fn

    def jitted(self, function, has_aux=False):  # the same arithmetic, in less time
        return jax.jit(gradient(self, function, has_aux))

    monkeypatch.setattr(JAXTensor, "onehot_like", onehot_like)
    monkeypatch.setattr(JAXTensor, "_value_and_grad_fn", jitted)
    return foolbox


def _foolbox(foolbox, predict, images, labels, **options):
    model = foolbox.JAXModel(jax.jit(jax.vmap(predict)), bounds=(0, 1))
    attack = foolbox.attacks.L2CarliniWagnerAttack(**options)
    adversarial = attack.run(model, images, foolbox.criteria.Misclassification(labels))
    return adversarial, np.asarray(abs(adversarial).max((1, 2, 3)) > 0)  # zeros: nothing found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "searches", "steps", "const", "some_fail"),
    [(2, 3, 100, 1e-3, True), (3, 3, 100, 1e-2, False), (3, 5, 50, 1e-2, False)],
)
def test_agrees_with_foolbox(foolbox, classes, searches, steps, const, some_fail):
    """Image by image to 1e-5; with abort_early foolbox stops a whole batch at once (see below)."""
    predict, images = _convnet(classes), _images()
    labels = jax.vmap(predict)(images).argmax(-1)
    theirs, found = _foolbox(
        foolbox, predict, images, labels, binary_search_steps=searches, steps=steps,
        stepsize=1e-2, initial_const=const, abort_early=False,
    )  # fmt: skip
    attack = carlini_wagner_l2(
        binary_search_steps=searches, max_steps=steps, step_size=1e-2, initial_const=const,
        abort_early=False,
    )  # fmt: skip
    ours = _run(attack, predict, images, labels)
    assert found.all() != some_fail
    assert found.any()
    np.testing.assert_array_equal(ours.trace.found.any(1), found)
    np.testing.assert_array_equal(ours.logits.argmax(-1) != labels, found)
    mine, other = (_distances(x, images)[found] for x in (ours.adversarial, theirs))
    np.testing.assert_allclose(mine, other, rtol=1e-4)
    np.testing.assert_allclose(mine.mean(), other.mean(), rtol=1e-5)
    np.testing.assert_array_equal(ours.adversarial[~found], images[~found])


@pytest.mark.slow
def test_aborts_early_as_foolbox_does_on_single_images(foolbox):
    """foolbox 3 checks the sum of a batch's losses, and so couples its images; we never do."""
    predict, images = _convnet(3), _images(2)
    labels = jax.vmap(predict)(images).argmax(-1)
    alone = [
        _foolbox(
            foolbox, predict, images[i : i + 1], labels[i : i + 1], binary_search_steps=3,
            steps=100, stepsize=1e-2, initial_const=1e-1, abort_early=True,
        )[0][0]
        for i in range(len(images))
    ]  # fmt: skip
    attack = carlini_wagner_l2(
        binary_search_steps=3, max_steps=100, step_size=1e-2, initial_const=1e-1
    )
    ours = _run(attack, predict, images, labels)
    assert (ours.trace.num_steps < 100).any()
    np.testing.assert_allclose(
        _distances(ours.adversarial, images), _distances(jnp.stack(alone), images), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("bias", "confidence", "targeted"),
    [((0.0, 0.0), 0.0, False), ((0.0, 0.0), 1.0, False), ((0.0, 0.0, -50.0), 0.5, True)],
)
def test_distance_to_a_hyperplane_is_the_closed_form(bias, confidence, targeted):
    """The smallest change that leaves y for k by κ is (z_y − z_k + κ)/‖w_y − w_k‖.

    The third class, where there is one, is never near.
    """
    predict = _linear(bias, scale=0.3)
    weights = np.asarray(predict.args[0])
    images = _images(4, low=0.4, high=0.6)
    clean = np.asarray(jax.vmap(predict)(images))
    label = np.argmax(clean[:, :2], axis=1)
    gap = clean[range(4), label] - clean[range(4), 1 - label]
    closest = (gap + confidence) / np.linalg.norm(weights[0] - weights[1])
    attack = carlini_wagner_l2(
        binary_search_steps=6, max_steps=200, step_size=2e-3, confidence=confidence,
        targeted=targeted,
    )  # fmt: skip
    result = _run(attack, predict, images, 1 - label if targeted else label)
    distances = _distances(result.adversarial, images)
    assert (distances >= closest * (1 - 1e-4)).all()
    np.testing.assert_allclose(distances, closest, rtol=0.03)
    reached = np.asarray(result.logits)
    assert (reached[range(4), 1 - label] - reached[range(4), label] > confidence).all()
    np.testing.assert_allclose(result.trace.distance[:, -1], distances, rtol=1e-4)


@pytest.mark.slow
def test_search_halves_between_failure_and_success_and_grows_tenfold_until_then():
    predict, images = _convnet(2), _images(6)
    labels = jax.vmap(predict)(images).argmax(-1)
    attack = carlini_wagner_l2(
        binary_search_steps=11, max_steps=20, step_size=2e-2, initial_const=1e-3
    )
    trace = _run(attack, predict, images, labels).trace
    for const, found in zip(np.asarray(trace.const), np.asarray(trace.found), strict=True):
        lower, upper, expected = 0.0, np.inf, 1e-3
        for step in range(11):
            if step == 10:  # a search of ten or more ends on the smallest c that was enough
                expected = min(upper, 1e10)
            np.testing.assert_allclose(const[step], expected, rtol=1e-5)
            lower, upper = (lower, expected) if found[step] else (expected, upper)
            expected = 10 * expected if upper == np.inf else (lower + upper) / 2
        assert found.any()
    assert (trace.distance[:, 1:] <= trace.distance[:, :-1]).all()


@pytest.mark.parametrize(("abort_early", "num_steps"), [(True, 4), (False, 25)])
def test_image_for_which_nothing_is_found_comes_back_unchanged(abort_early, num_steps):
    """A loss that stands still is seen at the second check, after a tenth (3) of the steps."""
    image = _images(1)[0]
    attack = carlini_wagner_l2(binary_search_steps=3, max_steps=25, abort_early=abort_early)
    result = attack.run(lambda image: jnp.stack([1.0, 0.0 * image.sum()]), image, 0)
    np.testing.assert_array_equal(result.adversarial, image)
    np.testing.assert_array_equal(result.logits, [1, 0])
    np.testing.assert_allclose(result.trace.const, [0.01, 0.1, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(result.trace.num_steps, [num_steps] * 3)
    assert not result.trace.found.any()
    assert jnp.isinf(result.trace.distance).all()


def test_image_that_is_wrong_already_comes_back_unchanged_and_nan_is_no_success():
    predict = _linear()
    image = _images(1)[0]
    wrong = 1 - predict(image).argmax()
    attack = carlini_wagner_l2(binary_search_steps=2, max_steps=10)
    np.testing.assert_array_equal(attack.run(predict, image, wrong).adversarial, image)
    targeted = carlini_wagner_l2(binary_search_steps=2, max_steps=10, targeted=True)
    np.testing.assert_array_equal(targeted.run(predict, image, 1 - wrong).adversarial, image)
    broken = attack.run(lambda image: predict(image) * jnp.nan, image, wrong)
    np.testing.assert_array_equal(broken.adversarial, image)
    assert not broken.trace.found.any()


def test_image_exactly_on_the_boundary_is_pushed_over_it():
    """There max(·, 0) has a kink; the attack must not rest on it."""
    attack = carlini_wagner_l2(binary_search_steps=2, max_steps=30, initial_const=1.0)
    result = attack.run(_linear(), jnp.full(SHAPE, 0.5), 0)
    assert result.logits[0] < result.logits[1]
    assert 0 < _distances(result.adversarial[None], jnp.full((1, *SHAPE), 0.5)) < 0.2


def test_black_and_white_images_stay_in_the_box_and_finite():
    predict = _linear()
    images = jnp.stack([jnp.zeros(SHAPE), jnp.ones(SHAPE)])
    labels = jax.vmap(predict)(images).argmax(-1)
    attack = carlini_wagner_l2(
        binary_search_steps=2, max_steps=60, step_size=0.1, initial_const=10.0, abort_early=False
    )
    result = _run(attack, predict, images, labels)
    assert (result.logits.argmax(-1) != labels).all()
    assert ((result.adversarial >= 0) & (result.adversarial <= 1)).all()
    assert (_distances(result.adversarial, images) > 0.1).all()


@pytest.mark.slow
def test_batch_is_its_single_images_and_jit_is_eager():
    images, predict = _images(3, shape=(4, 4, 3)), _linear((0.0,) * 3, (4, 4, 3), scale=0.3)
    labels = jax.vmap(predict)(images).argmax(-1)
    attack = carlini_wagner_l2(binary_search_steps=3, max_steps=40, initial_const=0.1)
    together = _run(attack, predict, images, labels)
    for i in range(3):
        alone = attack(predict, images[i], labels[i], key=jax.random.key(0))
        one = jax.tree.map(lambda leaf: leaf[i], together)  # noqa: B023
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(together.params, together.adversarial)
    direct = jax.vmap(predict)(together.adversarial)
    np.testing.assert_allclose(together.logits, direct, rtol=1e-4, atol=1e-5)


def test_finished_image_does_not_feel_its_neighbours():
    """The same compiled batch, beside an image that is given up at once and one that runs on."""
    predict, images = _linear((1.0, 0.0), scale=0.3), _images(2)
    labels = jax.vmap(predict)(images).argmax(-1).at[1].set(0)
    attack = carlini_wagner_l2(binary_search_steps=3, max_steps=50, initial_const=0.1)
    run = jax.jit(jax.vmap(attack.run))
    weights, bias = (jnp.stack([arg, arg]) for arg in predict.args)
    one = run(Partial(predict.func, weights.at[1].set(0.0), bias), images, labels)
    two = run(Partial(predict.func, weights, bias), images, labels)
    np.testing.assert_array_equal(one.trace.num_steps[1], 6)
    assert (two.trace.num_steps[1] > 6).any()
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a[0], b[0])


def test_bfloat16_images_are_searched_in_float32():
    predict = _linear(scale=0.3)
    image = _images(1)[0].astype(jnp.bfloat16)
    label = predict(image).argmax()
    attack = carlini_wagner_l2(
        binary_search_steps=3, max_steps=60, step_size=2e-2, initial_const=0.1
    )
    result = attack.run(predict, image, label)
    assert result.adversarial.dtype == jnp.bfloat16
    assert predict(result.adversarial).argmax() != label
    assert predict(result.adversarial).argmax() == result.logits.argmax()


@pytest.mark.parametrize("targeted", [False, True])
def test_gradient_of_the_hinge_is_finite_differences_and_finite_at_ties(targeted, x64):
    attack = carlini_wagner_l2(confidence=0.5, targeted=targeted)
    logits = np.random.default_rng(0).normal(size=4)
    for label in range(4):
        check_gradients(lambda z: attack._hinge(z, label), (logits,), order=1, eps=1e-6)  # noqa: B023
    tied = jax.grad(attack._hinge)(jnp.zeros(3), 1)
    np.testing.assert_allclose(tied, np.array([-1, 1, 0]) * (-1 if targeted else 1))  # the first


def test_equal_attacks_share_a_compilation():
    predict = _linear(shape=(2, 2, 1))
    jitted = jax.jit(lambda attack, image, label: attack.run(predict, image, label).logits)
    for label in (0, 1):
        attack = carlini_wagner_l2(binary_search_steps=1, max_steps=2)
        jitted(attack, jnp.full((2, 2, 1), 0.5), label)
    assert jitted._cache_size() == 1
    assert len({attack, carlini_wagner_l2(binary_search_steps=1, max_steps=2)}) == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"binary_search_steps": 0}, "binary_search_steps must be at least 1, got 0"),
        ({"max_steps": -1}, "max_steps must be at least 1, got -1"),
        ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
        ({"initial_const": float("nan")}, "initial_const must be positive and finite, got nan"),
        ({"confidence": -1.0}, "confidence must not be negative, got -1.0"),
        ({"confidence": float("inf")}, "confidence must be finite, got inf"),
    ],
)
def test_bad_options_are_named(options, word):
    with pytest.raises(ValueError, match=word):
        carlini_wagner_l2(**options)


def test_bad_images_and_logits_are_named(unchecked):
    attack, predict = carlini_wagner_l2(), _linear()
    with pytest.raises(ValueError, match=r"\(2, 12, 12, 1\)"):
        attack.run(predict, _images(2), 0)
    with pytest.raises(ValueError, match="float in"):
        attack.run(predict, jnp.zeros(SHAPE, jnp.uint8), 0)
    with pytest.raises(ValueError, match=r"must be \(classes,\), got shape \(\)"):
        attack.run(lambda image: image.sum(), _images(1)[0], 0)
    with pytest.raises(ValueError, match=r"one class here, got shape \(2,\)"):
        attack.run(lambda image: image[0, :2, 0], _images(1)[0], jnp.asarray([0, 1]))


def test_one_logit_is_two_classes():
    """As of a model with half of it for one class and minus half for the other."""

    def one(image):
        return 8 * (image.mean(keepdims=True)[0, 0] - 0.5)

    def two(image):
        return jnp.concatenate([-one(image), one(image)]) / 2

    attack, image = carlini_wagner_l2(max_steps=50, initial_const=10.0), jnp.full(SHAPE, 0.55)
    ours, expected = (attack.run(predict, image, 1) for predict in (one, two))
    np.testing.assert_array_equal(ours.adversarial, expected.adversarial)
    np.testing.assert_allclose(ours.logits, expected.logits[1:] * 2)
    assert ours.logits[0] < 0
