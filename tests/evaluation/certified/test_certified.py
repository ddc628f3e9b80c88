"""`bfjax certify`: it is `certify` of each image, stored, summed up, and gone on with."""

import csv
import functools
import json
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest, norm

from bfjax import cli
from bfjax.evaluation import model_run
from bfjax.evaluation.certified import CertifyConfig, certify_models, runner
from bfjax.evaluation.certified.commands import certify_runs
from bfjax.field import legendre
from bfjax.robustness import certify
from bfjax.robustness.binomial import clopper_pearson

MODULE = """
import jax.numpy as jnp

def predict(image):  # always the last class, which light does not change
    return 40 * jnp.stack([0.01 * image.sum() / image.size, image.std()])

def duller(image):  # compares left and right, which light changes now and then
    left, right = image[8:24, 4:14].mean(), image[8:24, 18:28].mean()
    return 40 * jnp.stack([0 * left, abs(left - right) - 0.05])

def edge(image):  # light tips it either way
    return jnp.stack([0 * image.sum(), jnp.sin(4000 * image.mean())])
"""
COUNT = 11
NUMBERS = ("radius", "safe_radius", "log_range", "lower_bound")
# the functions here are no good classifiers
pytestmark = pytest.mark.filterwarnings("ignore:.* is right about:UserWarning")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A module of three classifiers, found as a user's is; one for all tests."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "of_parts.py").write_text(MODULE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield "of_parts:predict", "of_parts:duller", "of_parts:edge"
    sys.modules.pop("of_parts", None)


def config(*model, **options):
    usual = {
        "image_size": 32,
        "data": "phantom",
        "num_images": COUNT,
        "num_samples": 60,
        "num_guess": 10,
        "headroom": 0.8,
        "seed": 3,
    }
    return CertifyConfig(**{"model": model} | usual | options)


ARGUMENTS = ["certify", "--image-size=32", "--data=phantom", f"--num-images={COUNT}", "--seed=3"]
ARGUMENTS += ["--num-samples=60", "--num-guess=10", "--headroom=0.8"]


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    """The options of a run of all three, and what it found."""
    options = config(*models, out=tmp_path_factory.mktemp("finished"))
    return options, certify_models(options)


def records(folder):
    with (folder / "records.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_it_is_the_certificate_of_each_image(finished):
    options, _ = finished
    run = certify_runs(options)[1]
    chosen = {"sigma": 0.05, "num_guess": 10, "num_samples": 60, "headroom": 0.8}
    alone = jax.jit(functools.partial(certify, run.target.predict, **chosen))
    numbers, field = (0, 7, COUNT - 1), legendre((32, 32), degree=4)
    images = jnp.asarray(model_run.read(run, np.array(numbers)))
    told, names = records(options.out / "duller"), run.source.class_names
    assert [row["file"] for row in told] == run.source.names
    for number, image in zip(numbers, images, strict=True):
        one = alone(field, image, key=jax.random.fold_in(jax.random.key(3), number))
        row = told[number]
        assert row["certified"] == (*names, "(abstains)")[int(one.label)]
        assert [int(row[f"count_{name}"]) for name in names] == one.counts.tolist()
        for name in NUMBERS:
            assert float(row[name]) == pytest.approx(float(getattr(one, name)), rel=1e-5)


@pytest.mark.slow
def test_what_is_reported_is_what_was_certified(finished):
    options, found = finished
    assert list(found) == ["predict", "duller", "edge"]
    for name, whole in found.items():
        folder = options.out / name
        assert whole == json.loads((folder / "certificates.json").read_text(encoding="utf-8"))
        _sums_up(whole, records(folder))
        with Image.open(folder / "certificates.png") as picture:
            assert picture.width > 500
    assert found["edge"]["smoothed"]["abstains"]["count"] == COUNT
    assert found["edge"]["smoothed"]["rate"] == 0
    assert found["edge"]["of_right_answers"]["radius"]["mean"] is None
    first, second, none = (found[name]["average_radius"] for name in found)
    assert first["radius"] > second["radius"] > none["radius"] == 0
    assert 0 < first["safe_radius"] < first["radius"]


def _sums_up(whole, told):
    """The numbers of `certificates.json`, counted anew."""
    right = np.array([row["certified"] == row["label"] for row in told])
    clean = np.array([row["clean_prediction"] == row["label"] for row in told])
    abstains = np.array([row["certified"] == "(abstains)" for row in told])
    of = {name: np.array([float(row[name]) for row in told]) for name in NUMBERS}
    assert whole["clean"]["accuracy"] == pytest.approx(clean.mean())
    assert whole["smoothed"]["count"] == right.sum()
    assert whole["smoothed"]["abstains"]["count"] == abstains.sum()
    assert (of["safe_radius"] <= of["radius"]).all()
    assert (of["radius"][abstains] == 0).all()
    for kind in ("radius", "safe_radius"):
        for at in whole["rms"]:
            hits = right & (of[kind] >= at["rms"])
            ends = binomtest(int(hits.sum()), COUNT).proportion_ci(method="wilson")
            assert at[kind]["count"] == hits.sum()
            assert at[kind]["rate"] == pytest.approx(hits.mean())
            assert at[kind]["interval"] == pytest.approx(ends, abs=1e-9)
            parts = at[kind]["by_class"].values()
            assert sum(part["count"] for part in parts) == hits.sum()
            assert sum(part["images"] for part in parts) == COUNT
            curve = whole["curve"][kind]
            last = max(i for i, r in enumerate(curve["rms"]) if r < at["rms"])
            assert curve["accuracy"][last] == pytest.approx(hits.mean())
        for at in whole["log_range"]:  # a mean-free field of range ρ may have an RMS of ρ/2
            hits = right & (2 * of[kind] >= at["log_range"])
            assert at[kind]["count"] == hits.sum()
        wanted = of[kind][right] if right.any() else None
        middle = whole["of_right_answers"][kind]
        if wanted is None:
            assert middle == {"mean": None, "median": None}
        else:
            assert middle["mean"] == pytest.approx(wanted.mean())
            assert middle["median"] == pytest.approx(np.median(wanted))
        assert whole["average_radius"][kind] == pytest.approx((right * of[kind]).mean())
    assert [at["log_range"] for at in whole["log_range"]] == [0.1, 0.2]
    assert whole["reach"] == pytest.approx(0.05 * norm.ppf(0.001 ** (1 / 60)))
    assert whole["reach"] >= of["radius"].max()
    assert "probability of at most 0.001" in whole["chance"]
    assert f"of {COUNT} images that is 0.011 in the mean" in whole["chance"]
    assert "safe radius" in whole["not_covered"]
    assert "log-ranges up to 2R" in whole["means"]


@pytest.mark.slow
def test_it_goes_on_where_it_stopped(models, finished, tmp_path, monkeypatch):
    options = config(models[0], out=tmp_path / "out")
    certify_once, asked = runner._certified, []

    def killed(*arguments, **named):
        if len(asked) == 9:  # in the second part
            raise KeyboardInterrupt
        asked.append(int(arguments[3][0]))
        return certify_once(*arguments, **named)

    monkeypatch.setattr(runner, "_certified", killed)
    with pytest.raises(KeyboardInterrupt):
        certify_models(options)
    (run,) = certify_runs(options)
    assert run.missing() == [8]
    assert not (options.out / "predict" / "certificates.json").exists()
    asked.clear()
    found = certify_models(options)["predict"]
    assert asked == [8, 9, 10]
    assert found["curve"] == finished[1]["predict"]["curve"]
    monkeypatch.setattr(runner, "_certified", None)  # nothing is certified anew
    assert certify_models(options)["predict"] == found
    more = certify_models(config(models[0], out=options.out, radii=(0.02, 0.01), batch_size=4))
    assert [at["rms"] for at in more["predict"]["rms"]] == [0.01, 0.02]
    assert more["predict"]["run"] == found["run"]
    changes = {"sigma": 0.1, "num_samples": 70, "headroom": 0.5, "threshold": 0.4, "alpha": 0.01}
    for name, value in changes.items():
        with pytest.raises(ValueError, match=f"holds a run with other settings .{name} was"):
            certify_models(config(models[0], out=options.out, **{name: value}))


@pytest.mark.slow
def test_a_threshold_moves_the_answers(models, finished, tmp_path):
    certify_models(config(models[1], out=tmp_path, threshold=0.9))
    usual, strict = (
        sum(int(row["count_PNEUMONIA"]) for row in records(folder / "duller"))
        for folder in (finished[0].out, tmp_path)
    )
    assert 0 < strict < usual


@pytest.mark.slow
def test_the_command_ranks_and_estimates(models, finished, tmp_path, capsys):
    new = tmp_path / "new"
    assert cli.main([*ARGUMENTS, "--model", models[0], "--out", str(new), "--dry-run"]) == 0
    assert f"{COUNT} images, 70 lights each" in capsys.readouterr().out
    assert not new.exists()
    assert cli.main([*ARGUMENTS, "--model", *models[::-1], "--out", str(finished[0].out)]) == 0
    out = capsys.readouterr().out
    assert "finished before" in out
    assert -1 < out.index("predict") < out.index("duller") < out.index("edge")
    for told in ("probability of at most 0.001", "Not covered", "log-range"):
        assert told in out


@pytest.mark.slow
def test_two_devices_find_what_one_does(models, finished, tmp_path):
    """Eleven images in pairs, of which the last lacks one."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-m", "bfjax", *ARGUMENTS, "--model", models[1], "--out", tmp_path],
        env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    written = (tmp_path / "duller" / "certificates.json").read_text(encoding="utf-8")
    assert "2 x cpu" in json.loads(written)["run"]["device"]
    assert records(tmp_path / "duller") == records(finished[0].out / "duller")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "--sigma must be positive and finite, got 0"),
        ({"sigma": math.inf}, "--sigma must be positive and finite, got inf"),
        ({"gamma": -1.0}, "--gamma must be positive and finite, got -1"),
        ({"alpha": 1.0}, "--alpha must be between 0 and 1, got 1"),
        ({"headroom": 0.0}, "--headroom must be above 0 and at most 1, got 0"),
        ({"num_guess": 0}, "--num-guess must be at least 1, got 0"),
        ({"num_samples": 9}, "--num-samples 9 can certify nothing: .* at least 10"),
        ({"radii": ()}, "--radii must be one or several different ones, got none"),
        ({"radii": (0.1, 0.1)}, "different ones, got 0.1, 0.1"),
        ({"radii": (0.1, -0.1)}, "--radii must be positive"),
        ({"radii": (math.nan,)}, "--radii must be positive"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"threshold": 1.0}, "--threshold must be between 0 and 1"),
        ({"finding": "any"}, "a certificate is of one finding"),
        ({"model": ()}, "a certificate is of a model: name one"),
    ],
)
def test_bad_options_are_named(models, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        certify_models(config(models[0], out=tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_ten_equal_answers_are_just_enough():
    bounds = [float(clopper_pearson(n, n, alpha=0.001)) for n in (9, 10)]
    assert bounds[0] < 0.5 < bounds[1]
