import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import bfjax
from tests.oracles import check_gradients

SHAPE = (12, 10, 1)


def _images(count=3, shape=SHAPE, low=0.2, high=0.6, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, (count, *shape)), jnp.float32)


def _linear(seed=0, shape=SHAPE, dtype=jnp.float32):
    """Two classes by one linear functional of the image: logits (w·x, −w·x)."""
    weights = jnp.asarray(np.random.default_rng(seed).normal(0, 0.3, size=shape), dtype)

    def apply(weights, image):
        margin = jnp.sum(weights * image)
        return jnp.stack([margin, -margin])

    return Partial(apply, weights), weights


def _attack(**options):
    return bfjax.attacks.bias_field(SHAPE, **({"degree": 4, "grid_size": 4} | options))


def test_optimal_attack_on_a_linear_classifier_is_the_closed_form():
    """With a free log field, each step moves B̂ by ε against the sign of ∂margin/∂B̂ = w·X·e^B̂."""
    predict, weights = _linear()
    image = _images(1)[0]
    attack = bfjax.Attack(
        perturbation=bfjax.bias_field(bfjax.pixelwise(SHAPE[:2])),
        loss=bfjax.attack.cross_entropy,
        optimizer=optax.sign_sgd(0.05),
        num_steps=4,
    )
    result = bfjax.run(attack, predict, image, 0)
    expected = np.asarray(image) * np.exp(-0.2 * np.sign(weights))
    np.testing.assert_allclose(result.adversarial, expected, rtol=1e-5)
    np.testing.assert_allclose(result.params, -0.2 * np.sign(weights)[..., 0], rtol=1e-5)


@pytest.mark.parametrize("targeted", [False, True])
def test_constant_field_moves_towards_the_closed_form(targeted):
    """D = 0 is one gain: it falls while that raises the loss of a brightness classifier."""
    predict = Partial(lambda image: jnp.stack([10 * image.mean(), jnp.asarray(5.0)]))
    attack = bfjax.attacks.bias_field(
        SHAPE,
        degree=0,
        min_degree=0,
        grid_size=2,
        l1_coefficients=0.0,
        max_change=None,
        targeted=targeted,
    )
    result = bfjax.run(attack, predict, _images(1)[0], 0)
    expected = 0.6 if targeted else -0.6  # ten steps of 0.06
    np.testing.assert_allclose(result.params.coefficients, [expected], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.0, 0.8])
def test_sign_steps_are_those_of_a_hand_written_loop(x64, decay):
    """Eq. 6 and 7 in NumPy, with the gradient taken by finite differences, and MI-FGSM's decay."""
    predict, _ = _linear(dtype=jnp.float64)
    image = _images(1)[0].astype(jnp.float64)
    attack = _attack(
        degree=2, min_degree=0, grid_size=2, l1_coefficients=0.01, l1_warp=0.02,
        warp_step_size=0.03, decay=decay, num_steps=3, dtype=jnp.float64,
    )  # fmt: skip
    identity = attack.perturbation.init(image, None)

    def objective(a, theta):
        params = identity._replace(coefficients=jnp.asarray(a), control_points=jnp.asarray(theta))
        margin = float(predict(attack.perturbation.apply(params, image))[0])
        loss = np.log1p(np.exp(-2 * abs(margin))) + max(-2 * margin, 0)
        penalty = 0.01 * abs(a).sum() + 0.02 * abs(theta - identity.control_points).sum()
        return loss - float(penalty)

    def slope(f, at):
        return np.array(
            [(f(at + h) - f(at - h)) / 2e-6 for h in 1e-6 * np.eye(at.size).reshape(-1, *at.shape)]
        ).reshape(at.shape)

    a, theta = (np.asarray(leaf) for leaf in identity)
    ga, gt = np.zeros(a.shape), np.zeros(theta.shape)
    for _ in range(3):
        da = slope(lambda v: objective(v, theta), a)  # noqa: B023
        dt = slope(lambda v: objective(a, v), theta)  # noqa: B023
        dt[abs(dt) < 1e-6] = 0  # |θ − θ0| has a kink at θ0, where the slope is exactly zero
        ga = decay * ga + da / max(abs(da).sum(), 1e-300)
        gt = decay * gt + dt / max(abs(dt).sum(), 1e-300)
        a, theta = a + 0.06 * np.sign(ga), theta + 0.03 * np.sign(gt)
    result = bfjax.run(attack, predict, image, 0)
    np.testing.assert_allclose(result.params.coefficients, a, atol=1e-12)
    np.testing.assert_allclose(result.params.control_points, theta, atol=1e-12)


@pytest.mark.slow
def test_gradient_of_the_whole_objective_is_finite_differences(x64):
    predict, _ = _linear(dtype=jnp.float64)
    image = _images(1)[0].astype(jnp.float64)
    attack = _attack(l1_coefficients=0.1, l1_warp=0.05, max_change=0.5, dtype=jnp.float64)
    identity = attack.perturbation.init(image, None)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: p + jnp.asarray(rng.normal(0, 0.1, p.shape)), identity)

    def objective(params):
        logits = predict(attack.perturbation.apply(params, image))
        return attack.loss(logits, 0) - attack.penalty(params)

    check_gradients(objective, (params,), order=1, modes=["rev"], eps=1e-7)
    start = jax.grad(objective)(identity)
    assert (start.control_points == 0).all()  # the warp is invisible at a = 0


OPTIMIZERS = {
    "sign": optax.sign_sgd(0.02),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(0.02),
    "lbfgs": optax.lbfgs(),
    "schedule": optax.sgd(optax.cosine_decay_schedule(0.5, 10)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optax_transformation_raises_the_objective(name):
    predict, _ = _linear()
    # a line search expects to stay where it goes: no projection there
    limit = {"max_warp_gradient": None} if name == "lbfgs" else {}
    attack = _attack(optimizer=OPTIMIZERS[name], l1_coefficients=0.0, **limit)
    result = jax.jit(lambda x: bfjax.run(attack, predict, x, 0))(_images(1)[0])
    loss = bfjax.attack.cross_entropy(result.logits, 0)
    assert loss > result.trace.loss[0] + 0.05
    assert jnp.isfinite(result.trace.objective).all()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batches_agree_with_single_images(channels, dtype):
    shape = (*SHAPE[:2], channels)
    predict, _ = _linear(shape=shape, dtype=dtype)
    images, labels = _images(3, shape).astype(dtype), jnp.asarray([0, 1, 0])
    attack = _attack()
    alone = [bfjax.run(attack, predict, x, y) for x, y in zip(images, labels, strict=True)]
    alone = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    together = jax.jit(jax.vmap(lambda x, y: bfjax.run(attack, predict, x, y)))(images, labels)
    from_host = bfjax.run_batch(attack, predict, images, labels)
    assert together.adversarial.dtype == dtype
    # A sign step turns the rounding of a gradient near zero into 2ε: bfloat16 logits do round.
    change = abs(alone.adversarial - images).astype(jnp.float32).mean()
    assert change > 0.01
    off = 0.3 if dtype == jnp.float32 else 0.5
    for other in (together, from_host):
        difference = abs(alone.adversarial - other.adversarial).astype(jnp.float32)
        assert difference.mean() < off * change
        if dtype == jnp.float32:
            np.testing.assert_allclose(alone.adversarial, other.adversarial, atol=2e-5)
            np.testing.assert_allclose(alone.trace.loss, other.trace.loss, atol=1e-4)


@pytest.mark.slow
def test_second_call_compiles_nothing_even_for_an_equal_attack_and_other_weights():
    traces = []

    def apply(weights, image):
        traces.append(1)
        return jnp.stack([jnp.sum(weights * image), jnp.asarray(0.0)])

    images, labels = _images(2), jnp.zeros(2, jnp.int32)
    bfjax.run_batch(_attack(), Partial(apply, jnp.ones(SHAPE)), images, labels)
    first = len(traces)
    bfjax.run_batch(_attack(), Partial(apply, 2 * jnp.ones(SHAPE)), images, labels)
    bfjax.run_batch(_attack(l1_coefficients=0.3), Partial(apply, jnp.ones(SHAPE)), images, labels)
    assert len(traces) == first  # nor is anything traced again

    runner = jax.jit(jax.vmap(lambda x, y: bfjax.run(_attack(), Partial(apply, 1.0), x, y)))
    runner(images, labels)
    first = len(traces)
    runner(images + 0.1, labels)
    assert len(traces) == first


@pytest.mark.slow
def test_attack_is_a_pytree_that_jit_takes():
    predict, _ = _linear()
    image = _images(1)[0]
    jitted = jax.jit(lambda *args: bfjax.run(*args))  # `run` itself may be jitted by other tests
    one = jitted(_attack(), predict, image, 0)
    two = bfjax.run(_attack(), predict, image, 0)
    np.testing.assert_allclose(one.adversarial, two.adversarial, atol=1e-6)
    assert jitted._cache_size() == 1
    jitted(_attack(), predict, image, 1)
    assert jitted._cache_size() == 1


@pytest.mark.slow
def test_best_iterate_is_the_one_with_the_highest_objective():
    """A penalty that outweighs the loss makes coefficients jump: the last is not the best."""
    predict, _ = _linear()
    image = _images(1)[0]
    options = {"l1_coefficients": 2.0, "num_steps": 6}
    last = bfjax.run(_attack(**options), predict, image, 0)
    best = bfjax.run(_attack(**options, iterate="best"), predict, image, 0)
    attack = _attack(**options)

    def objective(result):
        return bfjax.attack.cross_entropy(result.logits, 0) - attack.penalty(result.params)

    seen = [*np.asarray(last.trace.objective), float(objective(last))]
    np.testing.assert_allclose(objective(best), max(seen), rtol=1e-5)
    np.testing.assert_allclose(best.trace.objective, last.trace.objective, rtol=1e-5)


def test_what_has_stopped_is_the_result_even_if_its_objective_is_not_the_highest():
    """The first step turns the image, by a margin that is less than its penalty."""
    weights = jnp.ones((4, 4, 1)) / 16
    predict = lambda image: jnp.stack([jnp.sum(weights * image) - 0.501, 0.0 * image.sum()])  # noqa: E731
    attack = bfjax.attacks.bias_field(
        (4, 4), degree=1, min_degree=0, grid_size=2, l1_coefficients=1.0, step_size=0.06,
        num_steps=3, loss=bfjax.attack.margin, early_stop=True, iterate="best",
    )  # fmt: skip
    image = jnp.full((4, 4, 1), 0.5)
    result = bfjax.run(attack, predict, image, 1)
    assert bool(result.trace.stopped[-1])
    assert int(result.logits.argmax()) == 0
    objective = np.asarray(result.trace.objective)
    assert objective[0] > objective[-1]  # of the image itself, which is right


def test_projection_holds_after_every_step():
    predict, _ = _linear()
    attack = _attack(max_log_field=0.1, l1_coefficients=0.0)
    result = bfjax.run(attack, predict, _images(1)[0], 0)
    largest = abs(attack.perturbation.log_field(result.params)).max()
    assert largest == pytest.approx(0.1, rel=1e-4)
    attack = _attack(max_log_range=0.15, l1_coefficients=0.0)
    log_field = attack.perturbation.log_field(bfjax.run(attack, predict, _images(1)[0], 0).params)
    assert log_field.max() - log_field.min() == pytest.approx(0.15, rel=1e-4)


def test_by_default_the_warp_does_not_fold():
    """Whole steps of the control points, whose grid is 2 / 3 wide, would."""
    predict, _ = _linear()
    for options, folds in (({}, False), ({"max_warp_gradient": None}, True)):
        attack = _attack(warp_step_size=0.6, **options)
        params = bfjax.run(attack, predict, _images(1)[0], 0).params
        matrix = bfjax.field.warp_matrix(SHAPE[:2], 4)
        warped = jnp.asarray(matrix @ np.asarray(params.control_points)).reshape(*SHAPE[:2], 2)
        assert (bfjax.metrics.folded_share(warped) > 0) == folds


def test_the_default_is_the_product_wherever_nothing_saturates():
    """log(X_a / X) bends no more than B̂ does: no clip tears it. NumPy's second differences."""
    predict, _ = _linear()
    image = _images(1)[0]
    attack = _attack(l1_coefficients=0.0)
    result = bfjax.run(attack, predict, image, 0)
    x, attacked = np.asarray(image, np.float64)[..., 0], np.asarray(result.adversarial)[..., 0]
    field = np.asarray(attack.perturbation.log_field(result.params), np.float64)
    inside = (x > 0) & (attacked > 0) & (attacked < 1)
    assert inside.mean() > 0.5
    assert abs(field).max() > 0.1
    quotient = np.where(inside, np.log(np.where(inside, attacked / x, 1.0)), np.nan)
    for axis in (0, 1):
        bends = abs(np.diff(quotient, 2, axis=axis))
        of_field = abs(np.diff(field, 2, axis=axis))
        seen = np.isfinite(bends)
        assert seen.any()
        assert (bends[seen] <= of_field[seen] + 1e-5).all()


@pytest.mark.slow
def test_transform_is_drawn_anew_each_step_and_needs_a_key():
    predict, _ = _linear()
    image = _images(1)[0]
    plain = _attack()
    attack = bfjax.Attack(
        perturbation=plain.perturbation,
        loss=plain.loss,
        optimizer=optax.sgd(0.0),
        num_steps=3,
        transform=lambda key, image: image + jax.random.normal(key, ()),
    )
    with pytest.raises(ValueError, match="key"):
        bfjax.run(attack, predict, image, 0)
    trace = bfjax.run(attack, predict, image, 0, key=jax.random.key(0)).trace
    assert len(np.unique(np.asarray(trace.loss))) == 3
    again = bfjax.run(attack, predict, image, 0, key=jax.random.key(0)).trace
    np.testing.assert_array_equal(trace.loss, again.loss)


@pytest.mark.slow
def test_random_starts_differ_by_image_and_repeat_by_key():
    predict, _ = _linear()
    images, labels = jnp.repeat(_images(1), 2, axis=0), jnp.zeros(2, jnp.int32)
    attack = _attack(start_noise=0.1)
    with pytest.raises(ValueError, match="key"):
        bfjax.run_batch(attack, predict, images, labels)
    one = bfjax.run_batch(attack, predict, images, labels, key=jax.random.key(0))
    assert not np.allclose(one.params.coefficients[0], one.params.coefficients[1])
    keys = jax.random.split(jax.random.key(0), 2)
    two = bfjax.run_batch(attack, predict, images, labels, key=keys)
    np.testing.assert_array_equal(one.adversarial, two.adversarial)


@pytest.mark.slow
def test_trace_records_the_iterates_and_the_result_the_one_after_them():
    predict, _ = _linear()
    image = _images(1)[0]
    attack = _attack()
    result = bfjax.run(attack, predict, image, 0)
    np.testing.assert_allclose(result.trace.logits[0], predict(image), rtol=1e-5)
    np.testing.assert_allclose(result.logits, predict(result.adversarial), rtol=1e-4, atol=1e-5)
    again = attack.perturbation.apply(result.params, image)
    np.testing.assert_allclose(result.adversarial, again, atol=1e-6)
    assert result.trace.loss.shape == (attack.num_steps,)
    state = bfjax.init(attack, image)
    for _ in range(attack.num_steps):
        state, _ = bfjax.step(attack, predict, image, 0, state)
    np.testing.assert_allclose(state.params.coefficients, result.params.coefficients, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"step_size": 0.0}, "step_size must be positive, got 0.0"),
        ({"step_size": float("nan")}, "step_size must be positive, got nan"),
        ({"warp_step_size": -1.0}, "warp_step_size must not be negative, got -1.0"),
        ({"decay": -1.0}, "decay must not be negative, got -1.0"),
        ({"decay": float("nan")}, "decay must not be negative, got nan"),
        ({"l1_warp": -1.0}, "-1.0"),
        ({"grid_size": 1}, "grid_size >= 2, got 1"),
        ({"degree": 1, "min_degree": 1}, "degree=1"),
        ({"iterate": "first"}, "'first'"),
        ({"log_field_bound": "scale"}, "'scale'"),
        ({"log_field_bound": "tanh", "max_log_range": 0.4}, "is held by scaling, not by 'tanh'"),
        ({"max_log_range": 0.0}, "max_log_range must be positive and finite, got 0.0"),
        ({"max_warp_gradient": 1.0}, "max_warp_gradient must be in"),
        ({"border": "wrap"}, "'wrap'"),
        ({"encoding": "sqrt"}, "'sqrt'"),
        ({"max_change": 0.0}, "max_change"),
    ],
)
def test_bad_options_are_named(options, word, unchecked):
    with pytest.raises(ValueError, match=word):
        _attack(**options)


def test_bad_image_shape_is_named():
    with pytest.raises(ValueError, match=r"\(5,\)"):
        bfjax.attacks.bias_field((5,))


@pytest.mark.slow
def test_each_step_averages_over_its_draws():
    predict, _ = _linear()
    image = _images(1)[0]

    def brighter(key, image):
        return image + 0.2 * jax.random.uniform(key)

    attack = _attack(transform=brighter, num_draws=5)
    state = bfjax.init(attack, image, key=jax.random.key(0))
    following, info = bfjax.step(attack, predict, image, 0, state)
    draws = jax.random.split(jax.random.split(state.key)[1], 5)
    logits = jnp.stack([predict(brighter(k, image)) for k in draws])
    losses = [bfjax.attack.cross_entropy(z, 0) for z in logits]
    np.testing.assert_allclose(info.loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(info.logits, logits.mean(0), rtol=1e-5)
    assert (following.params.coefficients != 0).any()


@pytest.mark.slow
def test_stopping_judges_the_image_itself_and_not_its_views():
    """The view is always wrong, the image never: nothing may stop."""
    image = jnp.full(SHAPE, 0.5)
    predict = Partial(lambda x: jnp.stack([x.mean() + 1, jnp.asarray(0.5)]))
    attack = _attack(
        min_degree=0, transform=lambda key, x: x - 10, early_stop=True, max_change=None, num_steps=3
    )
    moved = bfjax.run(attack, predict, image, 0, key=jax.random.key(0))
    assert (moved.params.coefficients != 0).any()
    stays = bfjax.run(attack, predict, image, 1, key=jax.random.key(0))  # wrong from the start
    np.testing.assert_array_equal(stays.adversarial, image)
