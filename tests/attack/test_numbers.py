"""Numbers of attacks are leaves: swept in one program, mapped, differentiated, one an image."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bfjax
from bfjax import attack as pieces
from bfjax import attacks, explain
from experiments.benchmark.sweeps import SHAPE, SWEEPS, compiled
from tests.networks import answers

KEY = jax.random.key(0)


def _field(**numbers):
    return attacks.bias_field(SHAPE, degree=3, grid_size=3, num_steps=3, **numbers)


def _minimal(**numbers):
    return pieces.minimal(_small_bim, num_tries=4, num_bisections=1, **numbers)


def _small_bim(epsilon):
    return attacks.bim(epsilon=epsilon, step_size=epsilon / 2, num_steps=2)


def _through(view, **numbers):
    made = attacks.bias_field(SHAPE, degree=3, grid_size=3, num_steps=2, transform=view(**numbers))
    return made


def _smooth_gradient(**numbers):
    made = _field()
    smooth = pieces.smooth_gradient(made.perturbation, size=5, **numbers)
    return bfjax.Attack(smooth, made.loss, made.optimizer, num_steps=2)


def _bent(bound):
    return lambda *, max_log_field: _field(max_log_field=max_log_field, log_field_bound=bound)


def _smallest(**numbers):
    return pieces.smallest_step(attacks.fgsm(**numbers), num_steps=3, num_finer=2)


def _restarts(**numbers):
    return pieces.restarts(attacks.pgd(num_steps=2, **numbers), 2)


def _adam(**numbers):
    return _field(optimizer=pieces.with_hyperparameters(optax.adam, **numbers))


def _bounded(**numbers):
    field = bfjax.field.legendre(SHAPE[:2], degree=2)
    return attacks.bounded_field(field, num_steps=3, iterate="last", encoding="log", **numbers)


# of each attack all its numbers, each with the value it has while others are swept, and another
CASES = SWEEPS | {
    "bias_field, clipped": (_bent("clip"), {"max_log_field": (0.1, 0.03)}),
    "bias_field, tanh": (_bent("tanh"), {"max_log_field": (0.1, 0.03)}),
    "bias_field, adam": (_adam, {"learning_rate": (0.03, 0.1), "b1": (0.9, 0.2)}),
    "bounded_field": (
        _bounded,
        {
            **{
                "max_log_field": (0.2, 0.05),
                "max_log_range": (0.4, 0.1),
                "step_size": (0.02, 0.01),
            },
            **{"start_noise": (0.05, 0.1), "gamma": (0.29, 0.5)},
        },
    ),
    "minimal": (_minimal, {"start": (0.015, 0.02), "growth": (1.5, 2.5)}),
    "smallest_step": (_smallest, {"epsilon": (0.5, 0.2)}),
    "restarts": (_restarts, SWEEPS["bim"][1]),
    "random_resize": (lambda **n: _through(pieces.random_resize, **n), {"smallest": (0.5, 0.9)}),
    "random_window": (
        lambda **n: _through(pieces.random_window, **n),
        {"level": (0.1, 0.3), "width": (0.2, 0.6)},
    ),
    "jpeg_rounding": (lambda **n: _through(pieces.jpeg_rounding, **n), {"quality": (75, 20)}),
    "smooth_gradient": (_smooth_gradient, {"sigma": (1.0, 3.0)}),
}
FAMILY = [
    "bias_field",
    "bias_field, log encoding",
    "bim",
    "pgd",
    "mi_fgsm",
    "di_fgsm",
    "ti_mi_fgsm",
]


def _base(case):
    return {name: first for name, (first, _) in CASES[case][1].items()}


def _swept(case):
    """The first values, then each number alone at its other value."""
    base = _base(case)
    others = ({name: other} for name, (_, other) in CASES[case][1].items())
    return [base, *(base | other for other in others)]


def _stacked(rows):
    return jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *rows)


@jax.jit
def _mapped(attack, predict, batch, labels):
    return jax.vmap(lambda x, y: bfjax.run(attack, predict, x, y, key=KEY))(batch, labels)


def test_every_number_is_swept():
    """A keyword of a named attack, or of a piece, that is annotated as a number is in a case."""
    found = {}
    for module in (attacks, pieces):
        for name in module.__all__:
            made = getattr(module, name)
            parameters = inspect.signature(made).parameters if inspect.isfunction(made) else {}
            for option, parameter in parameters.items():
                if "Number" in str(parameter.annotation):
                    found.setdefault(name, set()).add(option)
    of_fields = (swept for case, (_, swept) in CASES.items() if case.startswith("bias_field"))
    assert found.pop("bias_field") == set().union(*of_fields) - {"learning_rate", "b1"}
    tested_otherwise = {"gaussian_smoothing", "image_ball", "onto_ball", "parameter_ball"}
    tested_otherwise |= {"resize_and_pad", "steepest"}  # parts of the family below
    tested_otherwise |= {"annealed", "step_halving"}  # see test_ascent.py
    assert found.keys() - CASES.keys() == tested_otherwise
    for name in found.keys() & CASES.keys():
        assert found[name] <= CASES[name][1].keys() | {"epsilon"}, name


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_sweep_compiles_once(case, network, batch):
    make, rows, labels = CASES[case][0], _swept(case), answers(network, batch)
    results = []
    for count, numbers in enumerate(rows):
        with compiled() as found:
            attack = make(**numbers)
            result = bfjax.run_batch(attack, network, batch, labels, key=KEY)
            same = _mapped(attack, network, batch, labels)
            if isinstance(attack, bfjax.Attack):
                examples = [(i, np.asarray(batch[i]), int(labels[i])) for i in range(2)]
                list(pieces.run_stream(attack, network, examples, batch_size=2, key=KEY))
        assert bool(found) == (count == 0), numbers
        assert same.adversarial.shape == result.adversarial.shape
        results.append(jax.tree.leaves((result.adversarial, result.params, result.trace)))
    for name, other in zip(CASES[case][1], results[1:], strict=True):  # none is without effect
        pairs = zip(results[0], other, strict=True)
        assert any(not np.array_equal(a, b, equal_nan=True) for a, b in pairs), name


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_mapped_sweep_is_the_loop_and_a_batch_takes_one_of_each_image(case, network, batch):
    make, rows, image = CASES[case][0], _swept(case), batch[0]
    label, many = int(network(image).argmax()), _stacked(rows)
    loop = [jax.jit(bfjax.run)(make(**numbers), network, image, label, key=KEY) for numbers in rows]
    expected = jax.tree.map(lambda *found: np.stack(found), *[one.adversarial for one in loop])
    mapped = jax.jit(
        jax.vmap(lambda numbers: bfjax.run(make(**numbers), network, image, label, key=KEY))
    )(many)
    np.testing.assert_allclose(mapped.adversarial, expected, atol=2e-5)
    copies, n = jnp.stack([image] * len(rows)), len(rows)
    keys = jax.random.wrap_key_data(jnp.stack([jax.random.key_data(KEY)] * n))
    found = bfjax.run_batch(make(**many), network, copies, jnp.full(n, label), key=keys)
    np.testing.assert_allclose(found.adversarial, expected, atol=2e-5)


def test_a_batch_is_mapped_too(network, batch):
    labels, values = answers(network, batch), jnp.asarray([0.01, 0.2])
    for make in (attacks.bim, lambda *, epsilon: pieces.minimal(_small_bim, start=epsilon)):

        def attacked(value, make=make):
            return bfjax.run_batch(make(epsilon=value), network, batch, labels).adversarial

        found = jax.vmap(attacked)(values)
        for one, value in zip(found, values, strict=True):
            np.testing.assert_allclose(one, attacked(float(value)), atol=1e-5)


@pytest.mark.parametrize("case", [*FAMILY, "carlini_wagner_l2", "saliency_map", "minimal"])
@pytest.mark.parametrize("bad", ["a word", float("nan"), -1.0, True], ids=str)
def test_what_is_no_such_number_is_named(case, bad, unchecked):
    make, base = CASES[case][0], _base(case)
    for name in base.keys() - {"extent"}:
        with pytest.raises(ValueError, match=f"^{name} must"):
            make(**base | {name: bad})
        with pytest.raises(ValueError, match=f"^{name} must be a number"):
            make(**base | {name: [0.1, 0.2]})
        if bad is not True:  # which an array holds as 1
            with pytest.raises(ValueError, match=f"^{name} must"):
                make(**base | {name: np.asarray([0.1, bad])})


@pytest.mark.parametrize("case", ["bias_field", "pgd", "carlini_wagner_l2"])
def test_another_count_of_values_is_named(case, network, batch):
    make, base = CASES[case][0], _base(case)
    for name in base.keys() - {"extent"}:
        attack = make(**base | {name: jnp.full(3, base[name])})
        with pytest.raises(ValueError, match=r"one value here, got shape \(3,\)"):
            bfjax.run(attack, network, batch[0], 0, key=KEY)
        with pytest.raises(ValueError, match="one value, or one of each of 2 images"):
            bfjax.run_batch(attack, network, batch, jnp.zeros(2, int), key=KEY)
        if case == "pgd":
            examples = [(i, np.asarray(batch[i % 2]), 0) for i in range(3)]
            with pytest.raises(ValueError, match="one value here"):
                list(pieces.run_stream(attack, network, examples, batch_size=3, key=KEY))


def test_numbers_of_a_wider_type_widen_nothing(network, batch):
    image = batch[0].astype(jnp.bfloat16)
    for domain in ("pixel", "log"):
        attack = attacks.mi_fgsm(
            epsilon=jnp.float32(0.1), step_size=jnp.float32(0.05), decay=jnp.float32(1),
            num_steps=2, domain=domain,
        )  # fmt: skip
        result = bfjax.run(attack, network, image, 0)
        assert result.adversarial.dtype == jax.tree.leaves(result.params)[0].dtype == jnp.bfloat16


def test_masks_take_numbers_too(network, batch):
    values = {"l1": (0.05, 0.5), "tv": (0.2, 0.9), "start": (1.0, 0.5)}
    values |= {"tv_exponent": (3.0, 2.0), "step_size": (0.1, 0.3)}
    base = {name: first for name, (first, _) in values.items()}
    rows = [base, *(base | {name: other} for name, (_, other) in values.items())]
    pairs, labels = explain.pair(batch, 1 - batch), jnp.zeros(2, int)
    predict, found = explain.first_of_pair(network), []
    for count, numbers in enumerate(rows):
        with compiled() as programs:
            attack = explain.mask_attack(mask_size=4, num_steps=3, **numbers)
            found.append(bfjax.run_batch(attack, predict, pairs, labels).params)
        assert bool(programs) == (count == 0), numbers
    assert all(not np.array_equal(found[0], other) for other in found[1:])
    alone = jnp.stack([pairs[0]] * len(rows))
    many = explain.mask_attack(mask_size=4, num_steps=3, **_stacked(rows))
    at_once = bfjax.run_batch(many, predict, alone, jnp.zeros(len(rows), int)).params
    np.testing.assert_allclose(at_once, np.stack([masks[0] for masks in found]), atol=1e-5)
