"""What a model's outputs mean: probabilities are noticed, logits are not mistaken for them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax import attack, attacks
from bfjax.attack import binary_cross_entropy, run_stream
from bfjax.models import from_probabilities

IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (6, 4, 4, 1)).astype(np.float32)
LABELS = (IMAGES.mean((1, 2, 3)) > 0.5).astype(np.int32)


def softmax(image):
    return jax.nn.softmax(40 * jnp.stack([0.5 - image.mean(), image.mean() - 0.5, -1.0]))


def one_sigmoid(image):
    return jax.nn.sigmoid(80 * (image.mean() - 0.5))[None]


def several_sigmoids(image):
    return jax.nn.sigmoid(40 * (image[:3, 0, 0] - 0.5))


def make_bim(epsilon):
    return attacks.bim(epsilon=epsilon, step_size=epsilon / 4, num_steps=4)


ATTACKS = {
    "steps": attacks.bim(),
    "early_stop": attacks.bim(early_stop=True),
    "minimal": attack.minimal(make_bim, num_tries=2, num_bisections=2),
    "smallest_step": attack.smallest_step(attacks.fgsm(epsilon=0.5), num_steps=10),
    "restarts": attack.restarts(attacks.pgd(), 2),
    "carlini_wagner": attacks.carlini_wagner_l2(max_steps=5, binary_search_steps=2),
    "saliency_map": attacks.saliency_map(max_steps=5),
}


def noticed(predict, made, labels=LABELS):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bfjax.run_batch(made, predict, IMAGES, labels, key=jax.random.key(0))
    return [str(one.message) for one in caught]


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("predict", [softmax, one_sigmoid])
def test_every_attack_notices_probabilities_and_takes_them_wrapped(predict, name):
    (message,) = noticed(predict, ATTACKS[name])
    assert "from_probabilities" in message
    assert "--outputs probabilities" in message
    assert noticed(from_probabilities(predict), ATTACKS[name]) == []


def test_several_sigmoids_are_noticed():
    heads = np.asarray(jax.vmap(several_sigmoids)(IMAGES) > 0.5, np.int32)
    made = attacks.bim(loss=binary_cross_entropy)
    assert len(noticed(several_sigmoids, made, heads)) == 1
    assert noticed(from_probabilities(several_sigmoids, multi_label=True), made, heads) == []


def test_one_output_that_once_leaves_the_range_is_a_logit():
    def logit(image):
        return jax.nn.sigmoid(80 * (image.mean() - 0.5))[None] * 1.5

    assert noticed(logit, attacks.bim(loss=binary_cross_entropy)) == []


@pytest.mark.parametrize("early_stop", [False, True])
def test_a_stream_warns_once(early_stop):
    made = attacks.bim(early_stop=early_stop)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        examples = zip(range(6), IMAGES, LABELS, strict=True)
        found = list(run_stream(made, one_sigmoid, examples, batch_size=2))
    assert len(found) == 3
    assert len(caught) == 1


def test_a_sigmoid_is_judged_rightly_once_it_is_wrapped():
    """Judged by p > 0, no image of class 1 is ever wrong; judged by the logit, all are."""
    logit = from_probabilities(one_sigmoid)
    result = bfjax.run_batch(attacks.bim(), logit, IMAGES, LABELS)
    p = np.asarray(jax.vmap(one_sigmoid)(result.adversarial))[:, 0]
    assert ((p > 0.5) != LABELS).all()
    assert jax.vmap(attack.is_wrong)(result.logits, LABELS).all()


@pytest.mark.parametrize(
    ("logits", "label", "saturated"),
    [
        ([200.0, 0.0], 0, True),
        ([5.0, 0.0], 0, False),
        ([200.0], 1, True),
        ([-5.0], 0, False),
        ([200.0, 0.5], [1, 1], False),  # the second head has a slope
        ([200.0, -200.0], [1, 0], True),
    ],
)
def test_saturation_is_of_the_softmax_or_of_all_heads(logits, label, saturated):
    loss = binary_cross_entropy if np.ndim(label) else attack.cross_entropy

    def predict(image):
        return jnp.asarray(logits) + 1e-6 * image[0, 0]

    made = attacks.bim(loss=loss, num_steps=2)
    result = bfjax.run(made, predict, jnp.asarray(IMAGES[0]), jnp.asarray(label))
    assert bool(result.flags.saturated) == saturated


@pytest.mark.parametrize("made", ["composition", "carlini_wagner", "minimal", "smallest_step"])
@pytest.mark.parametrize("targeted", [False, True])
def test_whether_an_attack_is_targeted_is_known(made, targeted):
    one = attacks.fgsm(targeted=targeted)
    kinds = {
        "composition": one,
        "carlini_wagner": attacks.carlini_wagner_l2(targeted=targeted),
        "minimal": attack.minimal(lambda e: attacks.bim(epsilon=e, targeted=targeted)),
        "smallest_step": attack.smallest_step(one),
    }
    assert attack.is_targeted(kinds[made]) == targeted
    assert attack.is_targeted(attack.restarts(one, 2)) == targeted


def _towards(epsilon):
    return attacks.bim(epsilon=epsilon, step_size=epsilon / 4, num_steps=4, targeted=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [
        attack.minimal(_towards, num_bisections=8),
        attack.smallest_step(attacks.fgsm(epsilon=1.0, targeted=True)),
        attack.restarts(attacks.pgd(epsilon=0.3, targeted=True, num_steps=20), 2),
    ],
)
def test_a_targeted_search_arrives_at_its_target(search):
    """Of three classes by brightness; from dark to bright passes through the one between."""

    def predict(image):
        return 30 * jnp.stack(
            [0.4 - image.mean(), 0.1 - abs(image.mean() - 0.5), image.mean() - 0.6]
        )

    image = jnp.full((2, 2, 1), 0.35)
    result = bfjax.run(search, predict, image, 2, key=jax.random.key(0))
    assert int(result.logits.argmax()) == 2
    assert float(result.adversarial.mean()) > 0.6
