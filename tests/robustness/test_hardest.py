import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import optimize, stats

from bfjax import models
from bfjax.attack import cross_entropy
from bfjax.field import legendre
from bfjax.robustness import DEGREE, hardest, light
from tests.networks import images, smooth_network
from tests.robustness import log_linear

RHO = 0.4
KEY = jax.random.key(3)
BENT = 100.0
NETWORK, BATCH, LABELS = smooth_network(), images(8), jnp.arange(8) % 3


@functools.partial(jax.jit, static_argnames="steps")
def attack(predict, allowed, batch, labels, keys, *, steps=1):
    def one(x, y, k):
        return hardest(predict, allowed, x, y, num_steps=steps, key=k)

    return jax.vmap(one)(batch, labels, keys)


def threat(shape=log_linear.SHAPE, rho=RHO):
    return light(shape, max_log_range=rho)


def nearest(c, basis, rho):
    """The nearest light within a log-range, by SciPy: over c and a level, at all pixels."""
    level = np.ones((basis.shape[1], 1))
    rows = np.block([[basis.T, -level], [-basis.T, level]])
    found = optimize.minimize(
        lambda v: 0.5 * np.sum((v[:-1] - c) ** 2),
        np.zeros(len(c) + 1),
        jac=lambda v: np.append(v[:-1] - c, 0),
        constraints={"type": "ineq", "fun": lambda v: rho / 2 - rows @ v, "jac": lambda v: -rows},
        method="SLSQP",
        options={"maxiter": 200, "ftol": 1e-12},
    )
    assert found.success
    return found.x[:-1]


def test_the_ascent_is_that_of_a_numpy_loop():
    """Of a classifier that is curved in log intensity: where a gradient is taken matters."""
    _, weights = log_linear.classifier()
    field, steps, asked = legendre(log_linear.SHAPE, degree=DEGREE), 2, []
    basis = np.asarray(field.basis(), np.float64).reshape(14, -1)
    bent = basis[3] / basis.shape[1]
    direction, size = jax.random.split(KEY)
    c = 2 * float(jax.random.uniform(size)) * np.asarray(threat().draw(direction), np.float64)
    slopes = []
    for _ in range(steps):  # of the cross-entropy, but for a positive factor
        curve = 2 * BENT * (c @ basis @ bent) * (basis @ bent)
        slopes.append(-(basis @ weights.ravel() + curve))
        step = RHO / steps * slopes[-1] / np.linalg.norm(slopes[-1])
        c = nearest(c + step, basis, RHO)
    one, other = (slope / np.linalg.norm(slope) for slope in slopes)
    assert one @ other < 0.9

    def predict(image):
        jax.debug.callback(lambda: asked.append(image.shape))
        light = jnp.log(image[..., 0] / log_linear.LEVEL)
        bend = BENT * jnp.sum(jnp.asarray(bent, jnp.float32) * light.ravel()) ** 2
        score = jnp.sum(jnp.asarray(weights, jnp.float32) * light) + bend
        return jnp.stack([score, -score])

    found = hardest(predict, threat(), log_linear.image(), 0, num_steps=steps, key=KEY)
    np.testing.assert_allclose(found.params, c, atol=3e-3 * np.linalg.norm(c))
    factor = np.exp(c @ basis).reshape(log_linear.SHAPE)
    np.testing.assert_allclose(found.adversarial[..., 0], log_linear.LEVEL * factor, rtol=1e-3)
    jax.effects_barrier()
    assert len(asked) == steps  # one forward pass a step


def test_the_start_is_of_a_random_direction_and_an_even_size():
    predict, _ = log_linear.classifier()
    keys = jax.random.split(KEY, 600)
    draw = jax.vmap(
        lambda k: hardest(predict, threat(), log_linear.image(), 0, num_steps=0, key=k).params
    )
    c = jax.jit(draw)(keys)
    size = np.asarray(jax.vmap(threat().size)(c))
    inside = size < RHO * (1 - 1e-4)  # as drawn; the rest was projected
    np.testing.assert_allclose(size[~inside], RHO, rtol=1e-4)
    assert stats.binomtest(int(inside.sum()), 600, 0.5).pvalue > 0.001
    assert stats.kstest(size[inside] / RHO, "uniform").pvalue > 0.001
    unit = np.asarray(c)[inside]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for k in range(14):  # squares of the entries of an even direction in 14 dimensions
        assert stats.kstest(unit[:, k] ** 2, stats.beta(0.5, 6.5).cdf).pvalue > 1e-4
        assert stats.binomtest(int((unit[:, k] > 0).sum()), len(unit), 0.5).pvalue > 1e-4


@pytest.mark.slow
def test_the_range_holds_and_more_steps_are_harder():
    labels, allowed = jax.vmap(NETWORK)(BATCH).argmax(-1), threat((12, 12))
    keys, losses = jax.random.split(KEY, 8), []
    for steps in (0, 1, 3):
        found = attack(NETWORK, allowed, BATCH, labels, keys, steps=steps)
        assert jax.vmap(allowed.size)(found.params).max() <= RHO * (1 + 1e-5)
        losses.append(jax.vmap(cross_entropy)(jax.vmap(NETWORK)(found.adversarial), labels).mean())
    assert losses[0] < losses[1] < losses[2]


def test_jit_and_vmap_change_nothing():
    keys, allowed = jax.random.split(KEY, 8), threat((12, 12))
    mapped = attack(NETWORK, allowed, BATCH, LABELS, keys)
    alone = hardest(NETWORK, allowed, BATCH[5], LABELS[5], key=keys[5])
    for a, b in zip(alone, mapped, strict=True):
        np.testing.assert_allclose(a, b[5], atol=1e-4)


def test_another_range_compiles_nothing_anew():
    keys = jax.random.split(KEY, 8)
    attack(NETWORK, threat((12, 12)), BATCH, LABELS, keys)
    before = attack._cache_size()
    attack(NETWORK, threat((12, 12), 0.1), BATCH, LABELS, keys)
    assert attack._cache_size() == before


def test_no_gradient_goes_through_the_light():
    def brightness(predict, image):
        found = hardest(predict, threat((12, 12)), image, 0, key=KEY)
        return found.adversarial.sum(), found

    image = BATCH[0]
    (through, direct), found = jax.grad(brightness, (0, 1), has_aux=True)(NETWORK, image)
    assert all(not leaf.any() for leaf in jax.tree.leaves(through))
    factor = jnp.exp(legendre((12, 12), degree=DEGREE).log_field(found.params))[..., None]
    np.testing.assert_allclose(direct, factor * (image * factor < 1), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width"),
    [("convnet", 1), ("mobilenet_v1", 0.25), ("mobilenet_v2", 0.35), ("resnet50", 0.125),
     ("densenet121", 0.125)],
)  # fmt: skip
def test_the_frozen_network_has_the_same_hard_light(name, width):
    """Running averages are used as they are; folded into the kernels they do the same."""
    changed = {} if name == "convnet" else {"width": width, "num_classes": 2, "channels": 1}
    network = models.build(name, seed=1, **changed)
    for path, value in nnx.to_flat_state(nnx.state(network, nnx.BatchStat)):
        draw = np.random.default_rng(len(path)).uniform(0.5, 1.5, value.get_value().shape)
        value.set_value(jnp.asarray(draw, jnp.float32))
    image = images(1, (32, 32, 1))[0]
    one, other = (
        hardest(models.as_predict(n), threat((32, 32)), image, 0, key=KEY)
        for n in (network, models.freeze(network))
    )
    np.testing.assert_allclose(one.params, other.params, atol=1e-4)


def test_bad_input_is_refused(unchecked):
    predict, _ = log_linear.classifier()
    for steps in (-1, 4):
        with pytest.raises(ValueError, match=f"num_steps must be 0 to 3, got {steps}"):
            hardest(predict, threat(), log_linear.image(), 0, num_steps=steps, key=KEY)
    with pytest.raises(ValueError, match=r"the field is \(12, 12\), the image \(12, 14\)"):
        hardest(predict, threat((12, 12)), log_linear.image(), 0, key=KEY)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        hardest(predict, threat(), log_linear.image(), jnp.ones(3, int), key=KEY)
    with pytest.raises(ValueError, match="key must be a key"):
        hardest(predict, threat(), log_linear.image(), 0, key=0)
