"""Recorded attacks mean what they meant, whatever the defaults have become."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.evaluation import BiasFieldConfig, meaning
from bfjax.evaluation.specification import from_settings

SHAPE = (8, 8, 1)
THEN = {"border": "free", "max_warp_gradient": None, "max_change": 0.1, "l1_coefficients": 0.1}


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    "settings",
    [
        {"attack": "bias_field(degree=4)", "seed": 0},
        {"attack": "paper(degree=4)"},
        {"degree": 4, "min_degree": 1, "decay": 0.0, "extent": [-1.0, 1.0], "max_change": 0.1},
    ],
)
def test_results_that_name_no_border_are_free_and_without_a_limit(settings):
    expected = bfjax.attacks.bias_field(SHAPE, degree=4, log_field_bound="clip", **THEN)
    assert_equal(from_settings(settings, SHAPE), expected)


@pytest.mark.parametrize(
    "text", ["bias_field(degree=4)", "paper", "restarts(bias_field(start_noise=1), 3)"]
)
def test_what_is_noted_today_survives_json_and_other_defaults(text, monkeypatch):
    settings = {"attack": text} | json.loads(json.dumps(meaning.noted_today(text)))
    before = meaning.expanded(text, meaning.noted(settings))
    assert meaning.same_attack(settings, text)
    moved = meaning._today()
    for options in moved.values():
        options |= {"border": "wrap", "max_change": 0.3}
    monkeypatch.setattr(meaning, "_today", lambda: moved)
    assert not meaning.same_attack(settings, text)
    assert meaning.expanded(text, meaning.noted(settings)) == before
    said = meaning.in_todays_words(settings)
    assert "max_change=" in said
    assert "border='" in said
    assert meaning.same_attack(settings, said)


def test_bounded_fields_note_what_they_take_for_granted(monkeypatch):
    text = "bounded_field(polynomial_tps(degree=3), max_log_range=0.4, encoding='log')"
    settings = {"attack": text} | json.loads(json.dumps(meaning.noted_today(text)))
    assert settings["encoding"] == "log"
    made = from_settings(settings, SHAPE)
    moved = meaning._today()
    moved["bounded_field"] |= {"num_steps": 7}
    moved["polynomial_tps"] |= {"border": "free"}
    monkeypatch.setattr(meaning, "_today", lambda: moved)
    assert not meaning.same_attack(settings, text)
    said = meaning.in_todays_words(settings)
    assert "border='clamp'" in said
    assert "num_steps=30" in said
    assert_equal(from_settings(settings, SHAPE), made)


def test_a_linear_field_notes_its_own_defaults(monkeypatch):
    text = "bounded_field(legendre(degree=3), max_log_range=0.4)"
    settings = {"attack": text} | json.loads(json.dumps(meaning.noted_today(text)))
    moved = meaning._today()
    moved["legendre"] |= {"constant": True}
    monkeypatch.setattr(meaning, "_today", lambda: moved)
    assert len(from_settings(settings, SHAPE).perturbation.init(jnp.ones(SHAPE), None)) == 9
    assert "legendre(degree=3, constant=False)" in meaning.in_todays_words(settings)


def test_options_of_before_are_those_of_the_command_line_of_today():
    """A result of then is completed by them, and compared with the options of now."""
    assert meaning.BEFORE.keys() == {one.name for one in dataclasses.fields(BiasFieldConfig)}


def test_a_function_that_is_handed_on_notes_its_defaults():
    noted = meaning.noted_today("minimal(bias_field)")
    assert noted["defaults"]["bias_field"]["border"] == "clamp"
    assert "encoding" not in noted


def test_attacks_without_a_field_note_nothing_and_are_what_they_were():
    for text in ("bim(epsilon=0.05)", "foolbox2()['fgsm']", "fgsm"):
        assert meaning.noted_today(text) == {}
        assert meaning.same_attack({"attack": text}, text)
        assert meaning.in_todays_words({"attack": text}) == text
    assert not meaning.same_attack({"attack": "bim(epsilon=0.05)"}, "bim(epsilon=0.1)")


def test_numbers_and_order_do_not_tell_attacks_apart():
    one = {"attack": "bias_field(l1_coefficients=0, degree=3)"}
    words = "bias_field(degree=3, l1_coefficients=0.0, decay=None, border='free', max_change=0.1, "
    words += "max_warp_gradient=None, log_field_bound='clip', extent=(-1, 1), "
    words += "step_size=0.06, num_steps=10, iterate='last')"
    assert meaning.same_attack(one, words)
    assert not meaning.same_attack(one, words.replace("degree=3", "degree=4"))


def test_steps_that_were_named_are_those_of_today_unless_a_bound_changes_them():
    steps = {"step_size": 0.06, "num_steps": 10, "iterate": "last"}
    for text, same in (("bias_field", True), ("bias_field(max_log_range=0.4)", False)):
        before = {"attack": text, "defaults": {"bias_field": steps}}
        assert meaning.same_attack(before, text) == same
        assert (meaning.in_todays_words(before) == text) == same
        again = {"attack": meaning.in_todays_words(before), "defaults": meaning.defaults(text)}
        assert meaning.same_attack(before, again["attack"])


def test_the_encoding_is_noted():
    for text, expected in (
        ("bias_field", "linear"),
        ("paper(encoding='log')", "log"),
        ("bim(domain='log')", "linear"),
        ("mi_fgsm(domain='log', encoding='log')", "log"),
    ):
        assert meaning.noted_today(text)["encoding"] == expected
