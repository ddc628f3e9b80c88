"""The worst case: no weaker than its members, near a linear program, for every head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.field import legendre
from bfjax.robustness import attacks_within, light, random_search, worst_case
from tests.robustness import log_linear

FIELD = legendre(log_linear.SHAPE, degree=4)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def found():
    """The worst case of a classifier that no light within the range turns, and its members."""
    predict, _ = log_linear.classifier(gap=5.0)
    image = log_linear.image()
    worst = jax.jit(lambda x: worst_case(predict, x, 0, max_log_range=0.4, key=KEY))(image)
    members = attacks_within(light(image.shape, max_log_range=0.4))
    keys = jax.random.split(KEY, len(members))
    runs = {
        name: jax.jit(lambda x, a=attack, k=k: bfjax.run(a, predict, x, 0, key=k))(image)
        for (name, attack), k in zip(members.items(), keys, strict=True)
    }
    return worst, runs


@pytest.mark.slow
def test_it_is_no_weaker_than_any_member(found):
    worst, runs = found
    margins = [float(bfjax.attack.margin(one.logits, 0)) for one in runs.values()]
    assert float(worst.margin) == pytest.approx(max(margins), rel=1e-4)
    assert int(worst.member) == int(np.argmax(margins))
    assert not worst.wrong


@pytest.mark.slow
def test_all_stay_within_the_range(found):
    worst, runs = found
    for one in (worst, *runs.values()):
        assert jnp.ptp(FIELD.log_field(one.params)) <= 0.4 + 1e-5


@pytest.mark.slow
def test_it_finds_most_of_what_a_linear_program_finds(found):
    worst, _ = found
    _, weights = log_linear.classifier()
    most = -2 * log_linear.lowest(FIELD, weights, 0.4) - 5
    assert float(worst.margin) + 5 >= 0.99 * (most + 5)


@pytest.mark.slow
def test_the_search_without_gradients_finds_half_of_it(found):
    _, runs = found
    worst, _ = found
    blind = float(bfjax.attack.margin(runs["random search"].logits, 0))
    assert blind + 5 > 0.5 * (float(worst.margin) + 5)
    trace = np.asarray(runs["random search"].trace)
    assert (np.diff(trace) >= 0).all()
    assert trace[-1] == pytest.approx(blind, rel=1e-4)


@pytest.mark.slow
def test_what_rounds_its_image_has_no_gradient_and_is_broken_all_the_same():
    def predict(image):
        rounded = jnp.round(image * 16) / 16
        return 40 * jnp.stack([rounded[:6].mean() - 0.02, rounded[6:].mean()])

    image = jnp.full((12, 12, 1), 0.5)
    worst = jax.jit(lambda x: worst_case(predict, x, 1, max_log_range=0.4, key=KEY))(image)
    assert worst.wrong
    assert list(attacks_within(light(image.shape, max_log_range=0.4)))[int(worst.member)] in (
        "restart",
        "random search",
    )


HEADS = {
    "two classes": (lambda z: jnp.stack([z, -z]), 0),
    "three classes": (lambda z: jnp.stack([z, -z, jnp.float32(-99)]), 0),
    "one logit": (lambda z: -z[None], 0),
    "one of two findings": (lambda z: jnp.stack([z, 9 + 9 * jnp.abs(z)]), jnp.asarray([1, 1])),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("scale", [1, 1e5])
def test_every_head_is_broken_however_large_its_logits(head, scale):
    of_score, label = HEADS[head]

    def predict(image):
        return of_score(scale * (image[:6].mean() - image[6:].mean() + 0.02))

    image = jnp.full((12, 12, 1), 0.5)
    attacks = attacks_within(light(image.shape, max_log_range=0.4), findings=jnp.ndim(label) == 1)
    result = bfjax.run(attacks["annealed"], predict, image, label)
    assert bfjax.attack.is_wrong(result.logits, label)


@pytest.mark.parametrize("exposure", ["fixed", "alone", "free"])
def test_a_random_light_is_as_uneven_as_allowed(exposure):
    threat = light(log_linear.SHAPE, max_log_range=0.3, exposure=exposure)
    params = jax.vmap(threat.draw)(jax.random.split(KEY, 8))
    np.testing.assert_allclose(jax.vmap(threat.size)(params), 0.3, rtol=1e-5)
    log_field = jax.vmap(threat.perturbation.log_field)(params)
    exposures = log_field.mean((1, 2))
    assert (jnp.abs(exposures) <= 0.15 + 1e-6).all()
    assert (jnp.abs(exposures) < 1e-6).all() == (exposure == "fixed")
    held = jax.vmap(threat.within, (0, None))(3 * params, log_linear.image())
    assert (jax.vmap(threat.size)(held) <= 0.3 + 1e-5).all()


def test_bad_input_is_named(unchecked):
    with pytest.raises(ValueError, match=r"exposure must be one of .*, got 'brighter'"):
        light((8, 8), max_log_range=0.4, exposure="brighter")
    with pytest.raises(ValueError, match="max_log_range must be positive and finite, got -1"):
        light((8, 8), max_log_range=-1)
    threat = light((8, 8), max_log_range=0.4)
    with pytest.raises(ValueError, match="num_queries must be at least 2, got 1"):
        random_search(threat, num_queries=1)
    image = jnp.full((8, 8, 1), 0.5)
    for name in ("restart", "random search"):
        with pytest.raises(ValueError, match="pass key="):
            bfjax.run(attacks_within(threat)[name], lambda x: x[0, :2, 0], image, 0)
