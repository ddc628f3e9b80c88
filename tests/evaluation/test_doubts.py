"""A word where a model seems to get images in a range that it was not trained on."""

import warnings

import numpy as np
import pytest

from bfjax import cli
from bfjax.evaluation import doubts
from tests.evaluation.test_attack import checkpoint


def told(logits, labels):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        doubts.warn_of_range(np.asarray(logits, float), np.asarray(labels), name="net")
    return [str(warning.message) for warning in caught]


def answers(right, labels, classes=2):
    """Logits of which some are right."""
    said = np.where(np.arange(len(labels)) < right, labels, (labels + 1) % classes)
    rng = np.random.default_rng(0)
    return 4 * np.eye(classes)[said] + rng.normal(size=(len(labels), classes))


HALVES = np.array([0, 1] * 8)


def test_the_same_of_all_images():
    logits = np.tile([20.0, -3.0], (8, 1))
    logits[3] += 0.1
    (text,) = told(logits, np.arange(8) % 2)
    assert text.startswith("net says the same of 8 different clean images: does it expect")
    assert "--input-range, --mean and --std" in text
    assert "bfjax.models.normalized" in text
    assert told(logits, np.full(8, -1)) == [text]  # whatever they show
    logits[3] += 2  # it changes its mind by a tenth
    assert told(logits, np.full(8, -1)) == []


@pytest.mark.parametrize("right", [0, 4, 8])
def test_no_better_than_chance(right):
    (text,) = told(answers(right, HALVES), HALVES)
    assert f"net is right about {right} of 16 clean images, no better than chance" in text


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (answers(9, HALVES), HALVES),  # it may be right about four of five
        (answers(14, HALVES), HALVES),
        (answers(0, HALVES[:6]), HALVES[:6]),  # too few to say
        (answers(4, HALVES[:8]), HALVES[:8]),
        (answers(0, np.zeros(16, int)), np.zeros(16, int)),  # of one class nothing is known
        (answers(4, HALVES), np.full(16, -1)),
        (answers(4, HALVES), np.eye(2, dtype=int)[HALVES]),  # findings
        (np.full((16, 2), np.nan), HALVES),  # others say that
    ],
)
def test_no_alarm_where_little_is_known(logits, labels):
    assert told(logits, labels) == []


def test_a_usual_classifier_seldom_draws_an_alarm():
    """One that is right about 85 of 100, on 16 images, as often drawn."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(2000):
        right = rng.random(16) < 0.85
        said = np.where(right, HALVES, 1 - HALVES)
        alarms += doubts._no_better_than_chance(np.eye(2)[said], HALVES) is not None
    assert alarms <= 6  # 1 in 1000 by the binomial distribution


def test_one_logit_and_many_classes():
    sign = np.where(HALVES == 1, 1.0, -1.0)[:, None] * np.linspace(1, 2, 16)[:, None]
    assert told(sign, HALVES) == []
    assert len(told(-sign, HALVES)) == 1
    labels = np.arange(16) % 8
    assert told(answers(12, labels, 8), labels) == []
    assert len(told(answers(2, labels, 8), labels)) == 1


def test_a_class_in_turn():
    assert doubts.evenly(np.array([1, 1, 1, 1, 0, 2]), 3).tolist() == [0, 4, 5]
    assert doubts.evenly(np.array([1, 0]), 8).tolist() == [0, 1]
    assert doubts.evenly(np.full(5, -1), 2).tolist() == [0, 1]
    assert doubts.evenly(np.zeros((5, 3), int), 2).tolist() == [0, 1]


MODULE = """
import jax.numpy as jnp

def guesses(image):  # of [0, 255]; it takes [0, 1] for black
    return 1e-3 * jnp.stack([image[:16].mean(), image[16:].mean()]) + jnp.asarray([3.0, -3.0])
"""
FEW = ["--data=phantom", "--batch-size=8", "--no-measure", "--gallery=0", "--num-steps=1",
       "--grid-size=3", "--degree=2"]  # fmt: skip


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_guesses.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return "own_guesses:guesses"


def attack(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # pytest has them raise
        return cli.main(["attack", *FEW, *map(str, arguments)])


@pytest.mark.slow
def test_a_run_asks_once_and_goes_on(module, tmp_path, capfd):
    arguments = ["--model", module, "--image-size=32", "--num-images=24"]
    assert attack(*arguments, "--out", tmp_path / "out") == 0
    err = capfd.readouterr().err
    assert err.count("guesses says the same of 16 different clean images") == 1
    assert attack(*arguments, "--out", tmp_path / "out") == 0  # it is finished
    assert "different clean" not in capfd.readouterr().err
    arguments[-1] = "--num-images=6"
    assert attack(*arguments, "--out", tmp_path / "few") == 0
    assert "different clean" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_knows_its_range(tmp_path, capfd):
    model = checkpoint(tmp_path / "model", scale=1e-6)
    assert attack("--model", model, "--num-images=8", "--out", tmp_path / "out") == 0
    assert "different clean" not in capfd.readouterr().err
