import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import stats

from bfjax import data, models, training
from bfjax.field import legendre
from bfjax.models import registry
from bfjax.models.layers import Dense
from bfjax.robustness import DEGREE, light
from bfjax.training import commands, loop
from bfjax.training.hardening import Hardening, divergence, lit
from bfjax.training.step import make_step, start
from tests.training.small import SOURCE, TEST, Stripes, Tiny, TinyConfig, config

FIELD = legendre((32, 32), degree=DEGREE)
KEYS = jax.random.split(jax.random.key(1), 8)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry.ARCHITECTURES, "tiny", (TinyConfig, Tiny))


def batch(count):
    images = np.stack([data.to_float(SOURCE[i]["image"]) for i in range(count)])
    return jnp.asarray(images), jnp.asarray(SOURCE.labels[:count])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"harden": 0.0}, "harden must be positive and finite, got 0"),
        ({"harden": float("nan")}, "harden must be positive and finite, got nan"),
        ({"harden": 0.4, "harden_steps": 4}, "harden_steps must be 0 to 3, got 4"),
        ({"harden_steps": 2}, "harden_steps is 2, and harden says no log-range"),
        ({"noise_fields": -0.1}, "noise_fields must be positive and finite, got -0.1"),
        ({"harden": 0.4, "consistency": -1.0}, "consistency must not be negative, got -1"),
        ({"consistency": 2.0}, "consistency is 2.0, and there is no light"),
        ({"gamma": 0.0}, "gamma must be positive and finite, got 0"),
        ({"gamma": 0.5, "harden": 0.4}, "gamma is 0.5, which is of the encoding log"),
        ({"encoding": "log"}, "encoding is log, and there is no light"),
    ],
)
def test_numbers_that_cannot_be_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        training.fit(config(tmp_path / "out", **changes), SOURCE, TEST)
    assert not (tmp_path / "out").exists()


def test_the_divergence_is_scipys():
    clean, changed = np.random.default_rng(0).normal(0, 3, (2, 5, 4))
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (clean, changed))
    found = jax.vmap(divergence)(jnp.asarray(clean), jnp.asarray(changed))
    np.testing.assert_allclose(found, stats.entropy(p, q, axis=1), rtol=1e-5)


def coefficients(changed, image):
    """Those of the light between two images, by least squares where nothing is black or white."""
    seen = (np.asarray(changed) > 0.01) & (np.asarray(changed) < 0.99)
    found = []
    for one, mask in zip(np.asarray(changed), seen, strict=True):
        rows = np.asarray(FIELD.basis())[:, mask[..., 0]].T
        found.append(np.linalg.lstsq(rows, np.log(one[mask] / np.asarray(image)[mask]))[0])
    return np.asarray(found)


@pytest.mark.slow
def test_light_is_gaussian_hard_or_both_and_clipped_once():
    image, zero = jnp.full((32, 32, 1), 0.8), jnp.zeros(8, int)
    images = jnp.stack([image] * 8)

    def predict(x):
        return 9 * jnp.stack([x[:16].mean(), x[16:].mean()])

    def found(**options):
        return lit(Hardening(**options), predict, images, zero, KEYS)

    noisy, both = found(noise_fields=0.2), found(noise_fields=0.2, harden=0.3)
    d = coefficients(noisy, image)
    assert stats.kstest(d.ravel() / 0.2, "norm").pvalue > 0.001
    c = coefficients(both, image) - d
    sizes = jax.vmap(light((32, 32), max_log_range=0.3).size)(jnp.asarray(c, jnp.float32))
    np.testing.assert_allclose(sizes, 0.3, rtol=1e-3)
    # had it been clipped between, white pixels would have come out darker than they are here
    factor = jnp.exp(jax.vmap(FIELD.log_field)(jnp.asarray(d + c, jnp.float32)))[..., None]
    np.testing.assert_allclose(both, jnp.minimum(0.8 * factor, 1), atol=1e-4)
    assert bool((noisy == 1).any())
    # class 0 looks at the upper half, which hard light darkens
    upper, lower = both[:, :16].mean((1, 2, 3)), both[:, 16:].mean((1, 2, 3))
    before = noisy[:, :16].mean((1, 2, 3)) - noisy[:, 16:].mean((1, 2, 3))
    assert bool((upper - lower < before).all())


def test_an_encoding_that_is_none_is_named(unchecked):
    with pytest.raises(ValueError, match=r"encoding must be one of .*'linear', 'log'.*, got 'sqr"):
        Hardening(noise_fields=0.1, encoding="sqrt")


def test_of_a_log_encoding_light_is_a_difference():
    images = jnp.full((8, 32, 32, 1), 0.5)
    hardening = Hardening(noise_fields=0.2, harden=0.3, harden_steps=0, encoding="log", gamma=0.5)
    changed = lit(hardening, lambda x: x[0, :2, 0], images, jnp.zeros(8, int), KEYS)
    basis = np.asarray(FIELD.basis(), np.float64).reshape(len(FIELD.basis()), -1)
    for one in np.asarray(changed, np.float64):
        added = (0.5 - one.ravel()) / 0.5  # of light of the span, and of nothing else
        inside = (one.ravel() > 0) & (one.ravel() < 1)
        c, *_ = np.linalg.lstsq(basis[:, inside].T, added[inside])
        np.testing.assert_allclose(basis[:, inside].T @ c, added[inside], atol=1e-4)
        assert np.ptp(c @ basis) > 0.1


@pytest.mark.slow
def test_a_network_of_the_zoo_learns_under_hard_light():
    """In training with the image and the lit one side by side, in 16 bits, with less memory."""
    graph, params, statistics = nnx.split(
        models.build("mobilenet_v1", width=0.25), nnx.Param, nnx.BatchStat
    )
    hardening = Hardening(harden=0.4, consistency=2.0)
    images, labels = batch(4)
    step = make_step(
        graph, optax.sgd(1e-3), hardening=hardening, dtype="bfloat16", remat=True, size=32
    )
    before = jax.tree.map(np.asarray, params)
    state = start(params, statistics, optax.sgd(1e-3).init(params))
    state, value = step(state, images, labels, jnp.ones(2))
    assert np.isfinite(float(value))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, state.params)
    assert any(jax.tree.leaves(moved))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.slow
def test_the_loss_is_that_of_numpy_and_no_attack_moves_an_average():
    network = models.build("tiny")
    graph, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
    hardening = Hardening(harden=0.4, noise_fields=0.05, consistency=3.0)
    images, labels = batch(8)
    weights = jnp.asarray([0.5, 2.0])
    step = make_step(graph, optax.identity(), hardening=hardening, label_smoothing=0.2)
    kept = jax.tree.map(jnp.copy, (params, statistics))
    state, value = step(start(*kept, optax.EmptyState()), images, labels, weights)

    # the step's own draws, and then everything with NumPy, but for the network
    key, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    keys = jax.vmap(lambda k: jax.random.fold_in(k, 6))(jax.random.split(key, 8))
    changed = lit(hardening, models.as_predict(network), images, labels, keys)
    logits = network(jnp.stack([images, changed], 1), training=True)
    logits = np.asarray(logits, np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = np.where(np.arange(2) == np.asarray(labels)[:, None], 0.9, 0.1)
    each = -(targets * logs[:, 0]).sum(1)
    each += 3 * stats.entropy(*np.exp(logs).swapaxes(0, 1), axis=1)
    expected = (each * np.asarray(weights)[np.asarray(labels)]).mean()
    assert float(value) == pytest.approx(expected, rel=1e-4)
    once = nnx.state(network, nnx.BatchStat)  # updated by the one pass above
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(state.statistics), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_hardened_run_that_is_killed_ends_as_the_uninterrupted_one(tmp_path, monkeypatch):
    options = {"harden": 0.4, "consistency": 2.0, "epochs": 1, "flip": False, "shift": 0.0}
    source, compiled = Stripes(48), loop.compiled

    def run(out, **changes):
        return training.fit(config(tmp_path / out, **options | changes), source, TEST)

    def short(*args):
        step, calls = compiled(*args), 0

        def counted(*args):
            nonlocal calls
            calls += 1
            if calls == 4:
                raise Killed
            return step(*args)

        return counted

    whole = run("whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "compiled", short)
        with pytest.raises(Killed):
            run("killed", save_steps=2)
    for name, other, told in (("harden", 0.3, "0.4"), ("consistency", None, "2.0")):
        with pytest.raises(ValueError, match=f"{name} was {told}, now it is {other}"):
            run("killed", **{name: other})
    assert run("killed", save_steps=2) == whole
    one, other = (models.load_config(tmp_path / name) for name in ("whole", "killed"))
    assert one.sha256 == other.sha256
    recorded = json.loads((tmp_path / "whole" / "config.json").read_text())["extra"]["training"]
    assert (recorded["harden"], recorded["harden_steps"]) == (0.4, 1)


def test_without_light_a_run_has_the_settings_of_before():
    plain = commands.settings_of(config(Path("out")))
    assert not {"harden", "harden_steps", "consistency", "noise_fields"} & set(plain)
    assert commands.settings_of(config(Path("out"), consistency=0.0)) == plain
    hard = commands.settings_of(config(Path("out"), harden=0.4, harden_steps=0))
    assert hard == plain | {"harden": 0.4, "harden_steps": 0}


class Linear(nnx.Module):
    """One weight a pixel: it learns whatever tells the classes apart."""

    def __init__(self, config):
        self.config = config
        self.head = Dense(32 * 32, config.num_classes)

    def __call__(self, x, *, training=False, key=None):
        return self.head(10 * (x.reshape(*x.shape[:-3], -1) - 0.5))


@pytest.mark.slow
def test_who_learns_under_hard_light_stands_it(monkeypatch):
    """Stripes tell the classes apart, and a slope of the light does so more easily."""
    monkeypatch.setitem(registry.ARCHITECTURES, "linear", (TinyConfig, Linear))
    labels = jnp.arange(4) % 2
    sign = 2 * np.asarray(labels)[:, None, None, None] - 1
    slope, stripes = np.meshgrid(np.linspace(-1, 1, 32), (-1) ** np.arange(32))
    images = jnp.asarray(0.5 + sign * (0.08 * slope + 0.03 * stripes)[..., None], jnp.float32)
    hard, keys, accuracy = Hardening(harden=0.4), jax.random.split(jax.random.key(7), 4), {}
    seen = jax.jit(functools.partial(lit, hard))
    for name, hardening in (("plain", Hardening()), ("hardened", hard)):
        graph, *weights = nnx.split(models.build("linear"), nnx.Param, nnx.BatchStat)
        optimizer = optax.sgd(0.01)
        step = make_step(graph, optimizer, hardening=hardening)
        state = start(*weights, optimizer.init(weights[0]))
        for _ in range(30):
            state, _ = step(state, images, labels, jnp.ones(2))
        predict = models.as_predict(nnx.merge(graph, *state.kept))
        for kind, shown in (("clean", images), ("lit", seen(predict, images, labels, keys))):
            right = jax.vmap(predict)(shown).argmax(1) == labels
            accuracy[name, kind] = float(right.mean())
    assert accuracy["plain", "clean"] == accuracy["hardened", "clean"] == 1
    assert accuracy["plain", "lit"] == 0
    assert accuracy["hardened", "lit"] == 1
