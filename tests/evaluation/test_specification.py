import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bfjax
from bfjax.evaluation import AttackConfig, BiasFieldConfig, specification
from bfjax.evaluation.specification import parse_attack as parse

SHAPE = (8, 8, 1)


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_options_reach_the_attack():
    made = bfjax.attacks.bim(epsilon=0.05, num_steps=20)
    assert_equal(parse("bim(epsilon=0.05, num_steps=20)", SHAPE), made)
    made = bfjax.attacks.bias_field(SHAPE, degree=3, extent=(-0.5, 0.5), max_change=None)
    assert_equal(parse("bias_field(degree=3, extent=(-0.5, 0.5), max_change=None)", SHAPE), made)


def test_what_a_result_took_for_granted_is_what_a_text_means():
    options = {"max_change": 0.1, "border": "free", "extent": (0.0, 1.0)}
    before = {"bias_field": options | {"extent": [0.0, 1.0]}}  # JSON has no tuples
    made = bfjax.attacks.bias_field(SHAPE, degree=3, **options)
    assert_equal(parse("bias_field(degree=3)", SHAPE, taken=before), made)
    said = parse("bias_field(degree=3, border='clamp')", SHAPE, taken=before)
    assert jax.tree.structure(said) != jax.tree.structure(made)
    nested = parse("restarts(bias_field(start_noise=0.1), 2)", SHAPE, taken=before)
    assert jax.tree.structure(nested.attack.perturbation) == jax.tree.structure(
        bfjax.attacks.bias_field(SHAPE, start_noise=0.1, **options).perturbation
    )


def test_names_alone_and_members_of_presets_are_attacks():
    assert_equal(parse("fgsm", SHAPE), bfjax.attacks.fgsm())
    assert_equal(parse("fixed(epsilon=0.05)['fgsm']", SHAPE), bfjax.attacks.fgsm(epsilon=0.05))
    made = bfjax.attacks.foolbox2()["saliency_map"]
    assert parse("foolbox2()['saliency_map']", SHAPE) == made


def test_pieces_are_put_together():
    text = "bias_field(optimizer=optax.chain(normalize('l1'), optax.sign_sgd(-0.06)))"
    attack = parse(text, SHAPE)
    assert isinstance(attack.optimizer, optax.GradientTransformation)
    gradient = jnp.asarray([0.5, -0.25])
    update, _ = attack.optimizer.update(gradient, attack.optimizer.init(gradient))
    np.testing.assert_allclose(update, [0.06, -0.06])
    options = {"transform": bfjax.attack.resize_and_pad(smallest=0.8), "loss": bfjax.attack.margin}
    attack = parse("bias_field(transform=resize_and_pad(smallest=0.8), loss=margin)", SHAPE)
    assert_equal(attack, bfjax.attacks.bias_field(SHAPE, **options))


def test_fields_are_made_for_the_images():
    field = bfjax.field.legendre(SHAPE[:2], degree=2)
    made = bfjax.attacks.bounded_field(field, max_log_range=0.4)
    assert_equal(parse("bounded_field(legendre(degree=2), max_log_range=0.4)", SHAPE), made)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("bin(epsilon=1)", "there is no bin; attacks are .*bias_field"),
        ("bim(epsilon=-1)", r"'bim\(epsilon=-1\)' cannot be made: .*-1"),
        ("bim(epsilom=1)", "epsilom"),
        ("bim(", "cannot be made"),
        ("__import__('os').system('true')", "no __import__|means nothing"),
        ("optax.jax.devices()", "means nothing"),
        ("optax.adam(1.0)", "is no attack"),
        ("bim(*[1])", "means nothing"),
        ("bim(**{'epsilon': 1})", "means nothing"),
        ("foolbox2()['x']", "x"),
        ("(lambda: 1)()", "means nothing"),
        ("3", "is no attack"),
    ],
)
def test_everything_else_is_refused(text, word, unchecked):
    with pytest.raises(ValueError, match=word):
        parse(text, SHAPE)


def test_every_name_that_a_text_may_call_is_a_function():
    names = specification._of(bfjax.attack) | specification._of(bfjax.attacks)
    assert {"bim", "margin", "resize_and_pad"} <= names.keys()
    assert all(inspect.isfunction(inspect.unwrap(function)) for function in names.values())
    for name in ("Norm", "Reduction", "CarliniWagner", "Done"):
        with pytest.raises(ValueError, match=f"there is no {name}"):
            parse(name, SHAPE)


def test_stored_options_of_the_attack_are_those_of_the_command_line():
    """Other settings of a run must not bear the name of an option of the bias field."""
    options = inspect.signature(bfjax.attacks.bias_field).parameters.keys()
    stored = {field.name for field in dataclasses.fields(AttackConfig)}
    assert stored & options == {field.name for field in dataclasses.fields(BiasFieldConfig)}
