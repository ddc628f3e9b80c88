import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.attacks import bim, di_fgsm, fgsm, mi_fgsm, pgd, ti_mi_fgsm
from tests.networks import answers, images, smooth_network

FAMILY = {
    "fgsm": fgsm(),
    "bim": bim(),
    "pgd": pgd(),
    "mi_fgsm": mi_fgsm(),
    "di_fgsm": di_fgsm(),
    "ti_mi_fgsm": ti_mi_fgsm(kernel_size=3, sigma=1.0),
}


@pytest.fixture(scope="module")
def case():
    """A network, images with black and white pixels among them, and their own answers."""
    # foolbox's gradients drown in rounding where a network is certain
    predict, batch = smooth_network(scale=0.5), images(16, low=-0.1, high=1.1)
    return predict, batch, answers(predict, batch)


@pytest.fixture(scope="module")
def foolbox():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports scipy.ndimage.filters
        import foolbox
    return foolbox


def from_foolbox(foolbox, name, predict, batch, labels, epsilon):
    attack = {
        "fgsm": lambda: foolbox.attacks.FGSM(),
        "bim": lambda: foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.2, steps=10),
        "pgd": lambda: foolbox.attacks.LinfPGD(rel_stepsize=0.2, steps=10, random_start=False),
        "bim l2": lambda: foolbox.attacks.L2BasicIterativeAttack(rel_stepsize=0.2, steps=10),
    }[name]()
    model = foolbox.JAXModel(jax.vmap(predict), bounds=(0, 1))
    return attack.run(model, batch, foolbox.criteria.Misclassification(labels), epsilon=epsilon)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ours", "epsilon"),
    [
        ("fgsm", fgsm(), 0.1),
        ("bim", bim(), 0.1),
        ("pgd", pgd(random_start=False), 0.1),
        ("bim l2", bim(norm="l2", epsilon=1.0, step_size=0.2), 1.0),
    ],
)
def test_they_are_foolboxes(foolbox, case, name, ours, epsilon):
    predict, batch, labels = case
    found = bfjax.run_batch(ours, predict, batch, labels).adversarial
    expected = from_foolbox(foolbox, name, predict, batch, labels, epsilon)
    assert (np.abs(found - expected) > 1e-6).mean() <= 1e-3
    assert np.abs(found - batch).max() > 0.05


def test_mi_fgsm_is_dong_et_als():
    """Eq. 6 and 7 in NumPy, on logits that bend so much that slopes turn on the way."""
    rng = np.random.default_rng(0)
    weights, bends, image = *rng.normal(size=(2, 2, 16)), rng.uniform(0.3, 0.7, 16)
    x, g = image.copy(), np.zeros(16)
    turned = 0
    for _ in range(10):
        logits = weights @ x + 20 * bends @ np.square(x - 0.5)
        slopes = weights + 40 * bends * (x - 0.5)
        gradient = slopes.T @ (np.exp(logits - np.logaddexp(*logits)) - [1, 0])
        g = 0.9 * g + gradient / np.abs(gradient).sum()
        turned += (np.sign(g) != np.sign(gradient)).any()
        x = np.clip(image + np.clip(x + 0.02 * np.sign(g) - image, -0.1, 0.1), 0, 1)
    assert turned  # momentum mattered

    def predict(x):
        x = x.ravel()
        return jnp.asarray(weights, x.dtype) @ x + 20 * jnp.asarray(bends, x.dtype) @ jnp.square(
            x - 0.5
        )

    start = jnp.asarray(image.reshape(4, 4, 1), jnp.float32)
    found = bfjax.run(mi_fgsm(decay=0.9), predict, start, 0)
    np.testing.assert_allclose(found.adversarial.ravel(), x, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_batches_agree_with_single_images_and_jit_with_eager(case, name):
    predict, batch, labels = case
    attack, keys = FAMILY[name], jax.random.split(jax.random.key(0), 3)
    together = bfjax.run_batch(attack, predict, batch[:3], labels[:3], key=keys)
    for i in range(3):
        alone = bfjax.run(attack, predict, batch[i], labels[i], key=keys[i])
        # a sign may flip where two summations differ, by rounding, around a gradient of zero
        assert (np.abs(alone.adversarial - together.adversarial[i]) > 1e-5).mean() < 0.01
    assert np.abs(together.adversarial - batch[:3]).max() <= 0.1 + 1e-6


@pytest.mark.slow
def test_the_log_domain_is_the_same_attack_on_a_free_field(case):
    """Eq. 3 in NumPy-like steps: B̂ ← clip(B̂ + 0.06 sign(∂J/∂B̂), ±0.1)."""
    predict, batch, labels = case
    image, label = batch[0], labels[0]
    field = jnp.zeros((12, 12))
    for _ in range(4):

        def loss(field):
            perturbed = jnp.minimum(image * jnp.exp(field)[..., None], 1)
            return bfjax.attack.cross_entropy(predict(perturbed), label)

        field = jnp.clip(field + 0.06 * jnp.sign(jax.grad(loss)(field)), -0.1, 0.1)
    found = bfjax.run(bim(domain="log", num_steps=4), predict, image, label)
    assert (np.abs(found.params - field) > 1e-6).mean() < 0.01
    assert not found.adversarial[image == 0].any()  # black stays black


@pytest.mark.parametrize("domain", ["pixel", "log"])
@pytest.mark.parametrize(("norm", "order", "epsilon"), [("l2", 2, 0.8), ("l1", 1, 6.0)])
def test_other_balls_hold_and_are_used_up(case, domain, norm, order, epsilon):
    predict, batch, labels = case
    attack = bim(norm=norm, domain=domain, epsilon=epsilon, step_size=epsilon / 4)
    result = bfjax.run_batch(attack, predict, batch, labels)
    away = result.params - (batch if domain == "pixel" else 0)
    sizes = np.linalg.norm(np.asarray(away).reshape(16, -1), order, axis=1)
    assert (sizes <= epsilon * (1 + 1e-5)).all()
    assert sizes.max() > 0.8 * epsilon
    assert (result.trace.loss[:, -1] > result.trace.loss[:, 0]).all()


def test_an_image_is_left_alone_once_it_is_fooled(case):
    predict, batch, labels = case
    stopping = bfjax.run_batch(bim(num_steps=8, step_size=0.01, early_stop=True), *case)
    plain = bim(num_steps=8, step_size=0.01)
    step = jax.jit(jax.vmap(lambda x, y, s: bfjax.step(plain, predict, x, y, s)[0]))
    states = [jax.vmap(lambda x: bfjax.init(plain, x))(batch)]
    for _ in range(8):
        states.append(step(batch, labels, states[-1]))
    iterates = np.stack([state.params for state in states])  # of pixels: the images themselves
    wrong = np.stack([answers(predict, x) != labels for x in iterates])
    assert 0 < wrong[1].mean() < wrong[-1].mean()
    for i in range(16):
        first = int(wrong[:, i].argmax()) if wrong[:, i].any() else 8
        np.testing.assert_allclose(stopping.adversarial[i], iterates[first, i], atol=1e-6)


def test_a_targeted_attack_stops_at_its_target(case):
    predict, batch, labels = case
    target = (labels + 1) % 3
    attack = bim(targeted=True, early_stop=True, epsilon=0.5, num_steps=40)
    result = bfjax.run_batch(attack, predict, batch, target)
    assert (result.logits.argmax(-1) == target).mean() > 0.9
    plain = bim(targeted=True, epsilon=0.5, num_steps=40)
    far = bfjax.run_batch(plain, predict, batch, target).logits
    near, far = (jax.vmap(bfjax.attack.margin)(z, target) for z in (result.logits, far))
    assert (near > far + 0.1).mean() > 0.9  # it did not go on beyond the border


def test_single_logits_and_several_labels():
    network, batch = smooth_network(classes=3), images(8)
    heads = (jax.vmap(network)(batch) > 0).astype(int)
    for predict, labels in (
        (lambda x: network(x)[:1], heads[:, 0]),
        (network, heads),
    ):
        for loss in (bfjax.attack.binary_cross_entropy, bfjax.attack.binary_margin):
            attack = bim(loss=loss, early_stop=True, epsilon=0.3, step_size=0.05)
            run = jax.jit(jax.vmap(lambda x, y, a=attack, p=predict: bfjax.run(a, p, x, y)))
            wrong = jax.vmap(bfjax.attack.is_wrong)(run(batch, labels).logits, labels)
            assert wrong.all()


def test_what_cannot_be_is_named(unchecked):
    for make, options, message in (
        (bim, {"epsilon": 0.0}, "epsilon"),
        (bim, {"step_size": -1.0}, "step_size"),
        (bim, {"domain": "fourier"}, "'fourier'"),
        (bim, {"norm": "l0"}, "'l0'"),
        (bim, {"num_steps": 0}, "num_steps"),
        (mi_fgsm, {"decay": -1.0}, "decay"),
        (ti_mi_fgsm, {"kernel_size": 4}, "odd size, got 4"),
        (di_fgsm, {"probability": 2.0}, "probability must be in"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)
    with pytest.raises(TypeError, match="stop_early"):
        bim(stop_early=True)
    with pytest.raises(ValueError, match="key"):
        bfjax.run(pgd(), smooth_network(), images(1)[0], 0)


def test_a_free_log_field_in_a_log_encoding_is_pixels_in_units_of_gamma():
    """X − γ B̂ with |B̂| ≤ ε is X ± γ ε: the same attack, for a classifier that is linear."""
    image = images(1, (6, 6, 1), low=0.3, high=0.7)[0]
    weights = jnp.asarray(np.random.default_rng(0).normal(size=image.shape), jnp.float32)

    def predict(x):
        return jnp.stack([jnp.sum(weights * x), -jnp.sum(weights * x)])

    free = bim(epsilon=0.2, step_size=0.05, domain="log", encoding="log")
    pixels = bim(epsilon=0.29 * 0.2, step_size=0.29 * 0.05)
    found, same = (bfjax.run(attack, predict, image, 0).adversarial for attack in (free, pixels))
    np.testing.assert_allclose(found, same, atol=1e-6)


def test_pixels_have_no_encoding():
    with pytest.raises(ValueError, match="an encoding is of a log field, and of no pixels"):
        bim(encoding="log")
