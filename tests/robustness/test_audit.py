"""The whole test: no weaker than any of its parts, exact where that is known, and honest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.field import legendre
from bfjax.robustness import FLAGS, attacks_within, audit, light
from tests.robustness import log_linear

pytestmark = pytest.mark.slow
KEY = jax.random.key(7)
TIERS = (0.1, 0.2, 0.4)


@pytest.fixture(scope="module")
def known():
    """Images that differ in how far they are from the boundary, by their weights' factor."""
    _, weights = log_linear.classifier()
    table = jnp.asarray(weights, jnp.float32)

    def predict(image):
        """What is far is far because its light counts less: the mean grey tells the factor."""
        level = jnp.exp(jnp.mean(jnp.log(image[..., 0])))
        score = jnp.sum(table * jnp.log(image[..., 0]))
        return jnp.stack([10 * jax.lax.stop_gradient(level) + score, -score])

    levels = np.asarray([0.015, 0.03, 0.05, 0.08, 0.9], np.float32)
    images = np.ones((5, *log_linear.SHAPE, 1), np.float32) * levels[:, None, None, None]
    labels = np.zeros(5, int)
    found = audit(predict, images, labels, tiers=TIERS, num_random=8, batch_size=2, key=KEY)
    return predict, images, labels, levels, found


def test_the_smallest_ranges_are_those_of_linear_programs(known):
    *_, levels, found = known
    _, weights = log_linear.classifier()
    field = legendre(log_linear.SHAPE, degree=4)
    exact = [log_linear.smallest(field, weights, 10 * level) for level in levels]
    for smallest, want in zip(found.smallest, exact, strict=True):
        if want < 0.39:
            assert want * 0.99 < smallest < want * 1.03  # the level, a mean, moves by rounding
        elif want > 0.42:
            assert np.isinf(smallest)
    np.testing.assert_array_equal(found.wrong, found.smallest <= np.asarray(TIERS)[:, None])


def test_it_is_no_weaker_than_any_of_its_parts(known):
    predict, images, labels, _, found = known
    for t, rho in enumerate(TIERS):
        attacks = attacks_within(light(images.shape[1:], max_log_range=rho))
        for name, attack in attacks.items():
            one = bfjax.run_batch(attack, predict, images, labels, key=KEY, warn=False)
            fooled = np.asarray(one.logits.argmax(-1) != labels)
            assert (found.wrong[t] | ~fooled).all(), (name, rho)
    assert (np.diff(found.wrong.astype(int), axis=0) >= 0).all()
    assert (found.wrong | ~(found.random.argmax(-1) != labels).any(1)).all()
    np.testing.assert_array_equal(found.worst.argmax(-1) != labels, found.wrong)


def test_its_lights_do_what_it_says(known):
    predict, images, labels, _, found = known
    threat = light(images.shape[1:], max_log_range=0.4)
    there = np.isfinite(found.smallest)
    params, chosen = jnp.asarray(found.params[there]), jnp.asarray(images[there])
    np.testing.assert_allclose(jax.vmap(threat.size)(params), found.smallest[there], rtol=1e-5)
    under = jax.vmap(lambda c, x: predict(threat.perturbation.apply(c, x)))(params, chosen)
    assert (under.argmax(-1) != labels[there]).all()
    np.testing.assert_allclose(found.turned[there], under, atol=1e-4)
    np.testing.assert_array_equal(found.turned[~there], found.clean[~there])


def test_what_it_spends_is_bounded_and_told(known):
    predict, images, labels, *_, found = known
    assert (found.gradients <= 2 + 3 * 8 / 3 + 32 + 2 * 100).all()
    told = []
    options = {"tiers": (0.4,), "num_random": 8, "num_steps": 4, "key": KEY}
    one = audit(predict, images[:1], labels[:1], on_gradients=told.append, **options)
    assert sum(told) == pytest.approx(one.gradients.sum(), abs=1)


def test_batches_do_not_matter(known):
    predict, images, labels, _, found = known
    whole = audit(predict, images, labels, tiers=TIERS, num_random=8, batch_size=5, key=KEY)
    np.testing.assert_array_equal(whole.wrong, found.wrong)
    np.testing.assert_allclose(whole.random, found.random, atol=1e-5)


def test_what_rounds_is_flagged_and_broken_and_what_is_scaled_is_broken():
    image = np.full((1, 12, 12, 1), 0.5, np.float32)
    options = {"tiers": (0.4,), "num_random": 2, "num_steps": 8, "key": KEY}

    def rounding(x):
        rounded = jnp.round(x * 16) / 16
        return 40 * jnp.stack([rounded[:6].mean() - 0.02, rounded[6:].mean()])

    found = audit(rounding, image, np.ones(1, int), **options)
    assert found.wrong.all()
    assert found.flags["zero_gradient"].all()
    assert found.flags["gradient_free"].all()  # though a random start of an ascent errs too
    assert not found.flags["saturated"].any()

    def scaled(x):
        return 1e5 * jnp.stack([x[:6].mean() - 0.02, x[6:].mean()])

    found = audit(scaled, image, np.ones(1, int), **options)
    assert found.wrong.all()
    assert found.flags["saturated"].all()
    assert not found.flags["zero_gradient"].any()
    assert not found.flags["randomised"]
    assert not found.flags["probabilities"]


def test_what_is_turned_at_one_range_is_attacked_at_the_smaller_ones_too():
    """Random light of exactly ρ may exceed it by rounding, and is within it all the same."""

    def rounding(x):
        rounded = jnp.round(x * 16) / 16
        return 40 * jnp.stack([rounded[:6].mean() - 0.02, rounded[6:].mean()])

    levels = np.linspace(0.3, 0.7, 8, dtype=np.float32)
    images = np.ones((8, 12, 12, 1), np.float32) * levels[:, None, None, None]
    labels = np.ones(8, int)
    options = {"num_random": 8, "num_steps": 8, "key": KEY}
    together = audit(rounding, images, labels, tiers=TIERS, **options)
    alone = [audit(rounding, images, labels, tiers=(rho,), **options).wrong[0] for rho in TIERS]
    assert (together.wrong.sum(1) >= np.sum(alone, 1) - 1).all()  # their random searches differ
    assert together.wrong[-1].all()


def test_an_answer_that_is_none_is_named():
    def broken(x):
        return jnp.stack([jnp.log(x.mean() - 0.45), jnp.float32(-9)])

    images = np.stack([np.full((8, 8, 1), level, np.float32) for level in (0.9, 0.4)])
    with pytest.raises(ValueError, match="answers NaN at image 1"):
        audit(broken, images, np.zeros(2, int), num_random=1, num_steps=1, key=KEY)
    with pytest.raises(ValueError, match="answers NaN at image 0 or under light"):
        audit(broken, images[:1] / 2 + 0.03, np.zeros(1, int), exposure="alone", key=KEY)


def test_exposure_alone_is_drawn_as_each_of_two():
    image = np.full((3, 8, 8, 1), 0.5, np.float32)
    predict = lambda x: jnp.stack([x.mean(), 0 * x.mean()])  # noqa: E731
    options = {"exposure": "alone", "tiers": (0.4,), "num_steps": 1, "key": KEY}
    found = audit(predict, image, np.zeros(3, int), **options)
    want = 0.5 * np.exp([0.2, -0.2])
    np.testing.assert_allclose(found.random[0, :, :, 0], np.tile(want, (3, 1)).T, rtol=1e-5)


def test_a_gradient_that_points_the_wrong_way_is_flagged():
    """Only the search without gradients turns it, and random light, which may."""

    @jax.custom_vjp
    def score(x):
        return 40 * (x[:6].mean() - x[6:].mean() + 0.02)

    score.defvjp(lambda x: (score(x), x), lambda x, g: (-jax.grad(lambda x: 40 * _gap(x))(x) * g,))

    def audited(num_random):
        return audit(
            lambda x: jnp.stack([score(x), jnp.float32(0)]),
            np.full((1, 12, 12, 1), 0.5, np.float32),
            np.zeros(1, int),
            tiers=(0.2,),
            num_random=num_random,
            num_steps=4,
            key=KEY,
        )

    found, by_chance = audited(1), audited(64)
    assert found.wrong.all()
    assert found.flags["gradient_free"].all()
    assert (by_chance.random.argmax(-1) == 1).any()  # a random light turns it, before any search
    assert by_chance.flags["gradient_free"].all()


def test_a_gradient_that_is_not_finite_is_flagged():
    """The root of black has an infinite slope, which times an exposure of 0 is NaN."""

    def predict(image):
        bright = jnp.sqrt(image)
        return 40 * jnp.stack([bright[:6].mean() - 0.02, bright[6:].mean()])

    images = np.full((2, 12, 12, 1), 0.5, np.float32)
    images[1, 0, 0] = 0
    found = audit(
        predict, images, np.ones(2, int), tiers=(0.2,), num_random=1, num_steps=4, key=KEY
    )
    assert found.flags["zero_gradient"].tolist() == [False, True]


def test_nan_is_told_with_the_name_of_the_image():
    def predict(image):
        return jnp.stack([jnp.log(image[0, 0, 0]), jnp.log(image[0, 0, 0])]) * 0

    images = np.full((3, 12, 12, 1), 0.5, np.float32)
    images[2, 0, 0] = 0
    options = {"tiers": (0.2,), "num_random": 1, "key": KEY}
    with pytest.raises(ValueError, match="answers NaN at image 2 or under light"):
        audit(predict, images, np.zeros(3, int), **options)
    with pytest.raises(ValueError, match=r"answers NaN at c\.png or under light"):
        audit(predict, images, np.zeros(3, int), names=["a.png", "b.png", "c.png"], **options)


def _gap(x):
    return x[:6].mean() - x[6:].mean() + 0.02


def test_luck_and_probabilities_are_flagged():
    draw = np.random.default_rng(0)

    def lucky(x):
        shape = jax.ShapeDtypeStruct((), np.float32)
        luck = jax.pure_callback(
            lambda _: np.float32(draw.normal()),
            shape,
            jax.lax.stop_gradient(x.sum()),
            vmap_method="sequential",
        )
        return jnp.stack([x.mean(), luck])

    options = {"tiers": (0.4,), "num_random": 1, "num_steps": 1, "key": KEY}
    image = np.full((1, 8, 8, 1), 0.5, np.float32)
    assert audit(lucky, image, np.zeros(1, int), **options).flags["randomised"]

    def sure(x):
        return jax.nn.softmax(jnp.stack([x.mean(), 0.2 + 0 * x.mean()]))

    assert audit(sure, image, np.zeros(1, int), **options).flags["probabilities"]
    assert set(FLAGS) == set(audit(sure, image, np.zeros(1, int), **options).flags)


def test_of_two_classes_the_attack_on_the_cross_entropy_is_that_on_the_margin(known):
    """So that the test leaves it out."""
    predict, images, labels, *_ = known
    attacks = attacks_within(light(images.shape[1:], max_log_range=0.2))
    one, other = (
        bfjax.run_batch(attacks[f"halving, {loss}"], predict, images, labels, key=KEY, warn=False)
        for loss in ("margin", "cross-entropy")
    )
    np.testing.assert_array_equal(one.logits.argmax(-1), other.logits.argmax(-1))
    np.testing.assert_allclose(one.params, other.params, atol=1e-3)


def test_findings_are_heads_of_their_own():
    def heads(x):
        return 30 * jnp.stack([x[:6].mean() - x[6:].mean() + 0.02, x.mean() + 0.1])

    image = np.full((1, 12, 12, 1), 0.5, np.float32)
    found = audit(
        heads, image, np.ones((1, 2), int), tiers=(0.4,), num_random=1, num_steps=8, key=KEY
    )
    assert found.wrong.all()


def test_a_slope_that_is_not_finite_ends_no_audit():
    """Three classes, so that the attack on the cross-entropy runs, whose last light counts."""

    def predict(x):
        gap = _gap(x)
        # the slope of the root is infinite at black, and times 0 it is NaN
        dark = jnp.sqrt(x[0, 0, 0] * (1 + 0 * gap))
        return 30 * jnp.stack([gap, -gap, gap - 1]) + dark

    images = np.full((2, 12, 12, 1), 0.5, np.float32)
    images[1, 0, 0] = 0
    options = {"tiers": (0.1, 0.4), "num_random": 1, "num_steps": 8, "key": KEY}
    found = audit(predict, images, np.zeros(2, int), **options)
    assert found.wrong[1, 0]
    assert found.flags["zero_gradient"].tolist() == [False, True]
    assert np.isfinite(found.params).all()


def test_what_is_found_is_as_weak_as_still_turns_the_image():
    """Known in closed form: exposure alone, from which on the mean is too bright."""
    predict = lambda x: 50 * jnp.stack([0.55 - x.mean(), 0.0])  # noqa: E731
    images = np.full((1, 8, 8, 1), 0.5, np.float32)
    options = {"tiers": (0.1, 0.7), "num_random": 1, "num_steps": 1, "key": KEY}
    found = audit(predict, images, np.zeros(1, int), exposure="alone", **options)
    assert found.smallest == pytest.approx(2 * np.log(1.1), rel=0.02)
    assert found.turned.argmax(1) == 1


def test_bad_input_is_named():
    image, labels = np.full((1, 8, 8, 1), 0.5, np.float32), np.zeros(1, int)
    predict = lambda x: x[0, :2, 0]  # noqa: E731
    with pytest.raises(ValueError, match="tiers must be at least one log-range, got none"):
        audit(predict, image, labels, tiers=(), key=KEY)
    with pytest.raises(ValueError, match="max_log_range must be positive"):
        audit(predict, image, labels, tiers=(0.0,), key=KEY)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        audit(predict, image, labels, batch_size=0, key=KEY)
    with pytest.raises(ValueError, match="names must be one for each of 1 images, got 2"):
        audit(predict, image, labels, names=["a", "b"], key=KEY)
    with pytest.raises(ValueError, match="image 0 leaves"):
        audit(predict, 4 * image, labels, key=KEY)
