"""`bfjax audit`: it writes what the standard test finds, and goes on where it stopped."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from pyarrow import csv

from bfjax import cli, data
from bfjax.evaluation.standard import AuditConfig, audit_models, curve, range_taken, runner, testing
from bfjax.evaluation.standard.commands import audit_runs
from bfjax.evaluation.standard.threshold import at_threshold, keeping
from bfjax.evaluation.standard.universal import OneLight
from bfjax.evaluation.standard.worst import Worst, as_free, with_one_light, worse_of
from bfjax.field import RadiographicParams, legendre, radiographic
from bfjax.robustness import ATTACKERS, FLAGS, Audit, Judged, audit, light
from tests.evaluation.test_attack import checkpoint

# of one function, so that both are compiled once
MODULE = """
import jax.numpy as jnp
from jax.tree_util import Partial

def of_halves(gain, shift, weights, image):
    return gain * jnp.stack([(weights * image[:16, :, 0]).sum() + shift, image[16:].mean()])

evenly = jnp.full((16, 32), 1 / 512)
predict = Partial(of_halves, 40.0, -0.03, evenly)
duller = Partial(of_halves, 4.0, 0.01, evenly.at[:, :8].multiply(4).at[:, 8:].set(0))
"""
COUNT = 12
EXPOSED = {"fixed": 14, "alone": 1, "free": 15}  # how many numbers each has
# the functions here are no good classifiers
pytestmark = pytest.mark.filterwarnings("ignore:.* is right about:UserWarning")


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A module of two classifiers, found as a user's is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_halves.py").write_text(MODULE, encoding="utf-8")
    yield "of_halves:predict", "of_halves:duller"
    sys.modules.pop("of_halves", None)


def config(*model, **options):
    usual = {
        "image_size": 32,
        "data": "phantom",
        "num_images": COUNT,
        "batch_size": 4,
        "ranges": (0.1, 0.4),
        "exposures": ("fixed",),
        "num_random": 2,
        "universal_steps": 4,
    }
    return AuditConfig(model=model, **usual | options)


def lights_are_measured(run, whole):
    """Each light is as uneven as the records say, and NumPy measures the same of one."""
    records, lights = (
        csv.read_csv(run.out / f"{n}.csv").to_pydict() for n in ("records", "lights")
    )
    kinds = np.array(lights["light"])
    smallest = dict(zip(records["file"], records["smallest_range_fixed"], strict=True))
    turned = [file for file, rho in smallest.items() if 0 < rho < np.inf]
    assert [lights["file"][i] for i in np.flatnonzero(kinds == "fixed")] == turned
    for i in np.flatnonzero(kinds == "fixed"):
        assert lights["log_range"][i] == pytest.approx(smallest[lights["file"][i]], rel=1e-4)
    assert (kinds == "machine").sum() == COUNT
    for kind, told in (("fixed", whole["rows"]["fixed"]), ("machine", whole["machine"])):
        for name, value in told["lights"].items():
            measured = np.array(lights[name], float)[kinds == kind]
            assert value == pytest.approx(np.median(measured), rel=1e-5, abs=1e-7)
    stored = runner.storage.read_shards(run.out / "shards" / "machine")
    like = RadiographicParams(*np.zeros(7, np.float32))
    params = runner.storage.read_params(stored, 3, like)
    field = np.asarray(radiographic((32, 32), width_cm=43).log_field(params), np.float64)
    image = runner.read(run, np.array([3]))[0, ..., 0] * np.exp(field)
    at = np.flatnonzero(kinds == "machine")[3]
    assert lights["log_field_rms"][at] == pytest.approx(np.sqrt(np.mean(field**2)), rel=1e-4)
    assert lights["log_range"][at] == pytest.approx(np.ptp(field), rel=1e-4)
    assert lights["clipped_share"][at] == pytest.approx(np.mean(image > 1), abs=2 / 32**2)


@pytest.mark.slow
def test_it_is_the_standard_test_and_goes_on_where_it_stopped(models, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_PART", 8)
    options = config(models[0], out=tmp_path / "out", universal_steps=20)
    found = audit_models(options)
    assert set(found) == {"predict"}
    whole = json.loads((options.out / "predict" / "audit.json").read_text(encoding="utf-8"))
    assert whole == found["predict"]
    (run,) = audit_runs(options)
    images = runner.read(run, np.arange(COUNT))
    for start, end in ((0, 8), (8, COUNT)):
        told = audit(
            run.target.predict,
            images[start:end],
            run.truth[start:end],
            tiers=(0.1, 0.4),
            num_random=2,
            batch_size=4,
            key=jax.random.fold_in(jax.random.key(0), start),
        )
        part = runner.storage.read_shard(run.shard("fixed", start)).to_pydict()
        np.testing.assert_allclose(part["smallest"], told.smallest, rtol=1e-6)
        np.testing.assert_array_equal(part["wrong"], told.wrong.T)
    tiers = whole["rows"]["fixed"]["tiers"]
    assert whole["clean"]["accuracy"] >= tiers[0]["accuracy"] >= tiers[1]["accuracy"]
    accuracy = dict(zip(*whole["rows"]["fixed"]["curve"].values(), strict=True))
    for tier in tiers:  # the curve and the tiers say the same
        last = max(rho for rho in accuracy if rho <= tier["log_range"] * (1 + 1e-5))
        assert tier["accuracy"] == pytest.approx(accuracy[last])
    halves = [run.chosen("universal", half) for half in range(2)]
    one = whole["universal"]
    assert one["fitted"] == max(map(len, halves))
    assert one["gradients"] == 2 * 2 * 20 * 4
    for tier, of_one in zip(tiers, one["tiers"], strict=True):
        assert tier["accuracy"] <= tier["universal_accuracy"] == of_one["accuracy"]
        assert 0.5 <= of_one["one_answer"]["share"] <= 1
    assert tiers[1]["universal_accuracy"] < tiers[1]["random_accuracy"]
    assert sorted(np.concatenate(halves)) == list(range(COUNT))
    with Image.open(options.out / "predict" / "audit.png") as picture:
        assert picture.width > 500
    rows = (options.out / "predict" / "records.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == COUNT + 1
    lights_are_measured(run, whole)

    run.shard("fixed", 8).unlink()
    run.shard("universal", 1).unlink()
    (options.out / "predict" / "audit.json").unlink()
    asked, fit = [], testing.universal
    monkeypatch.setattr(testing, "audit", lambda *a, **k: asked.append(len(a[1])) or audit(*a, **k))
    monkeypatch.setattr(
        testing, "universal", lambda *a, **k: asked.append(len(a[1])) or fit(*a, **k)
    )
    again = audit_models(options)
    assert asked == [COUNT - 8, len(halves[0]), len(halves[0])]
    for name in ("clean", "rows", "machine", "universal"):
        assert again["predict"][name] == whole[name]
    asked.clear()
    audit_models(options)
    assert asked == []
    with pytest.raises(ValueError, match="num_random"):
        audit_models(config(models[0], out=options.out, num_random=3))


def judged(predict, correct, images, labels, **options):
    """Known errors, in place of attacks: all but one err, within the largest range alone."""
    options["on_gradients"](len(images))
    tiers = np.asarray(options["tiers"])
    wrong = {name: np.zeros((len(tiers), len(images)), bool) for name in ATTACKERS}
    wrong["adaptive"][-1, 1:] = True
    clean = np.asarray(jax.vmap(predict)(jax.vmap(correct)(jnp.asarray(images))))
    return Judged(tiers, clean, wrong, np.full(len(images), 7.0), {})


@pytest.mark.slow
def test_a_correction_is_judged(models, tmp_path, monkeypatch):
    monkeypatch.setattr(testing, "judge_correction", judged)
    options = {"corrections": ("polynomial",), "universal_steps": 0, "out": tmp_path / "out"}
    found = audit_models(config(models[0], **options))["predict"]
    assert "universal" not in found
    told = found["corrections"]["polynomial"]
    assert told["gradients"] == 7
    bare = [tier["accuracy"] for tier in found["rows"]["fixed"]["tiers"]]
    assert [tier["uncorrected"] for tier in told["tiers"]] == pytest.approx(bare)
    assert [tier["worst"] for tier in told["tiers"]] == pytest.approx([1, 1 / COUNT])
    for tier in told["tiers"]:
        assert tier["oblivious"] == 1
        assert tier["gain"]["mean"] == pytest.approx(tier["worst"] - tier["uncorrected"])
        assert tier["seeming"]["mean"] == pytest.approx(1 - tier["uncorrected"])


def test_less_than_a_batch_joins_the_part_before(models, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_PART", 8)
    for count, parts in ((COUNT, [8, 4]), (10, [10]), (2, [2]), (1, [1])):
        (run,) = audit_runs(config(models[0], num_images=count, out=tmp_path / "out"))
        assert ("universal" in run.rows) == (count > 1)  # one light for all needs two halves
        starts = [start for row, start in run.missing() if row == "fixed"]
        assert [len(run.chosen("fixed", start)) for start in starts] == parts


def test_what_one_light_does_counts_as_found():
    truth = np.array([1, 1, 0])
    logits = np.array([[[0.0, 2], [0, 1]], [[0, 3], [0, 2]], [[1, 0], [0, 1]]])
    searched = Worst(logits, np.array([np.inf, np.inf, 0.15]), np.zeros((3, 14)), logits[:, 0])
    lit = np.array([[[1.0, 0], [2, 0]], [[0, 3], [0, 3]], [[2, 0], [2, 0]]])
    params = np.random.default_rng(0).normal(size=(3, 2, 14))
    lights = OneLight(lit, np.tile([0.09, 0.2], (3, 1)), params, 2)
    found = with_one_light(truth, searched, lights)
    assert found.smallest.tolist() == [0.09, np.inf, 0.15]
    np.testing.assert_array_equal(found.logits[0], [[1, 0], [2, 0]])
    np.testing.assert_array_equal(found.logits[1:], logits[1:])
    np.testing.assert_array_equal(found.params[0], params[0, 0])
    np.testing.assert_array_equal(found.params[1:], 0)
    np.testing.assert_array_equal(found.turned, [[1, 0], [0, 3], [1, 0]])


def test_the_worse_of_two_searches_counts():
    truth = np.array([1, 0])
    one = Worst(
        np.array([[[0.0, 2]], [[0, 1]]]), np.array([np.inf, 0.3]), np.ones((2, 1)), np.zeros((2, 2))
    )
    other = Worst(
        np.array([[[1.0, 0]], [[1, 0]]]), np.array([0.2, np.inf]), np.zeros((2, 1)), np.ones((2, 2))
    )
    both = worse_of(truth, one, other)
    np.testing.assert_array_equal(both.logits, [[[1, 0]], [[0, 1]]])
    assert both.smallest.tolist() == [0.2, 0.3]
    assert both.params.tolist() == [[0], [1]]
    assert both.turned.tolist() == [[1, 1], [0, 0]]
    for kept, told in zip(worse_of(truth, one), one, strict=True):
        np.testing.assert_array_equal(kept, told)


def test_light_without_a_constant_and_a_constant_alone_are_free_light():
    field = {name: light((8, 8), max_log_range=1.0, exposure=name).perturbation for name in EXPOSED}
    for name, number in EXPOSED.items():
        params = np.random.default_rng(0).normal(size=(1, number)).astype(np.float32)
        free = as_free(Worst(*[np.zeros((1, 1, 2)), np.ones(1), params, np.zeros((1, 2))]), name)
        np.testing.assert_allclose(
            field["free"].log_field(jnp.asarray(free.params[0])),
            field[name].log_field(jnp.asarray(params[0])),
            atol=1e-5,
        )


def found_at(smallest, labels, exposure="fixed"):
    """An audit that finds these log-ranges, within 0.7, of images that are right without light."""
    clean = np.eye(2)[labels]
    wrong, none = (smallest <= 0.7)[None], np.zeros(len(smallest))
    worst, random = np.where(wrong[..., None], 1 - clean, clean), clean[None, None]
    params = np.zeros((len(smallest), EXPOSED[exposure]), np.float32)
    flags = dict.fromkeys(FLAGS, False)
    ranges = np.array([0.7])
    return Audit(ranges, clean, random, worst, wrong, smallest, params, clean, none, flags)


@pytest.mark.slow
def test_light_of_any_exposure_is_no_weaker_than_of_one(models, tmp_path, monkeypatch):
    finds = {"free": np.inf, "fixed": 0.3, "alone": 0.5}
    monkeypatch.setattr(
        testing,
        "audit",
        lambda _, images, labels, *, exposure, **options: found_at(
            np.linspace(0, 1, len(images)) + finds[exposure], labels, exposure
        ),
    )
    options = {"ranges": (0.7,), "universal_steps": 0, "out": tmp_path / "out"}
    rows = audit_models(config(models[0], exposures=tuple(finds), **options))["predict"]["rows"]
    assert rows["free"]["curve"] == rows["fixed"]["curve"] != rows["alone"]["curve"]
    told = [rows[name]["tiers"][0]["accuracy"] for name in finds]
    assert told[0] == told[1] != told[2]


@pytest.mark.slow
def test_a_threshold_may_keep_a_sensitivity(models, tmp_path):
    options = {"ranges": (0.1,), "num_random": 1, "universal_steps": 0}
    options |= {"sensitivity": 0.8, "out": tmp_path / "out"}
    found = audit_models(config(models[0], **options))["predict"]
    assert found["clean"]["sensitivity"] >= 0.8
    assert 0 < found["settings"]["threshold"] < 1
    assert audit_models(config(models[0], **options))["predict"] == found
    with pytest.raises(ValueError, match="sensitivity"):
        audit_models(config(models[0], **options | {"sensitivity": 0.5}))
    with pytest.raises(ValueError, match=r"--threshold 0\.3 and --sensitivity 0.8 both say"):
        audit_models(config(models[0], **options | {"threshold": 0.3}))


def test_a_threshold_that_keeps_a_sensitivity():
    steps = np.random.default_rng(0).normal(size=41)
    logits, labels = np.stack([0 * steps, steps], 1), np.arange(41) % 2
    for share in (0.1, 0.5, 0.77, 0.95, 1.0):
        threshold = keeping(logits, labels, share)
        positive = 1 / (1 + np.exp(-steps[labels == 1]))
        assert np.mean(positive > threshold) >= share
        assert np.mean(positive > threshold + 1e-3) < share + 1e-9
    one_logit = keeping(steps[:, None], labels, 0.5)
    assert one_logit == pytest.approx(keeping(logits, labels, 0.5))
    with pytest.raises(ValueError, match="--sensitivity must be a share"):
        keeping(logits, labels, 1.5)
    with pytest.raises(ValueError, match="needs images of the last class"):
        keeping(logits, 0 * labels, 0.9)
    with pytest.raises(ValueError, match="--sensitivity is for two classes, the model has 3"):
        keeping(np.zeros((2, 3)), np.array([0, 1]), 0.9)
    for level in (30.0, 33.0, 35.5):  # where one float64 next to 1 is far from the next
        high = logits + np.array([0, level])
        threshold = keeping(high, labels, 0.9)
        shown = jnp.asarray(high, jnp.float32)[:, None, None]  # logits as a picture
        raised = jax.vmap(at_threshold(lambda x: x[0, 0], threshold))(shown)
        assert np.mean(np.asarray(raised)[labels == 1].argmax(1)) >= 0.9
    sure = keeping(100 * logits + [0, 500], labels, 0.9)  # logits of hundreds
    assert 1 - 1e-15 < sure < 1
    assert np.isfinite(at_threshold(lambda x: jnp.zeros(2), sure)(jnp.ones((2, 2, 1)))).all()
    with pytest.raises(ValueError, match="needs a threshold of 0, logits of"):
        keeping(100 * logits - [0, 5000], labels, 0.9)


def under_the_others(folder):
    """Accuracy of `predict` under the lights that were fitted to another, by NumPy."""
    right = []
    for path in sorted((folder / "shards" / "universal").glob("*.parquet")):
        table = runner.storage.read_shard(path)
        c = runner.storage.read_params(table, 0, jnp.zeros((1, 14)))[0]
        factor = np.exp(np.tensordot(c, legendre((32, 32), degree=4).basis(), 1))[..., None]
        for name in table["file"].to_pylist():
            source = data.load("phantom", "test", image_size=32, num_examples=4, seed=0)
            number = list(source.names).index(name)
            image = np.clip(data.to_float(source[number]["image"]) * factor, 0, 1)
            sick = image[16:].mean() > image[:16].mean() - 0.03
            right.append(sick == source.labels[number])
    return np.mean(right)


@pytest.mark.slow
def test_the_command_ranks_and_estimates(models, capsys):
    arguments = ["audit", "--model", *models, "--image-size", "32", "--data", "phantom"]
    arguments += ["--num-images", "4", "--batch-size", "4", "--num-random", "1"]
    arguments += ["--ranges", "0.4", "--exposures", "fixed", "--universal-steps", "3"]
    arguments += ["--out", "told"]
    assert cli.main([*arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "12 tests of an image" in out
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    rows = {
        name: json.loads(Path("told", name, "audit.json").read_text())["rows"]["fixed"]
        for name in ("predict", "duller")
    }
    transfer = json.loads(Path("told", "universal.json").read_text())
    assert transfer["models"] == list(rows)
    for k, row in enumerate(rows.values()):  # each under its own light
        assert transfer["accuracy"][k][0][k] == row["tiers"][0]["universal_accuracy"]
    assert transfer["accuracy"][1][0][0] == under_the_others(Path("told", "duller"))
    takes = {name: row["takes"] for name, row in rows.items()}
    assert takes["predict"] != takes["duller"]
    first = max(takes, key=lambda name: np.inf if takes[name] is None else takes[name])
    (other,) = takes.keys() - {first}
    assert -1 < out.index(first) < out.index(other)
    assert cli.main(arguments) == 0
    assert "finished before" in capsys.readouterr().out
    assert cli.main(["report", "told"]) == 0  # what was measured is what its page reads
    page = Path("told", "report.html").read_text(encoding="utf-8")
    assert -1 < page.index(f">{first}<") < page.index(f">{other}<")
    shards = [runner.storage.read_shards(Path("told", name, "shards", "fixed")) for name in takes]
    turned = sum(0 < rho < np.inf for table in shards for rho in table["smallest"].to_pylist())
    assert f"told/report.html: {turned} cases" in capsys.readouterr().out
    assert turned


@pytest.mark.slow
@pytest.mark.filterwarnings("always:.* is right about:UserWarning")
def test_a_model_that_is_no_better_than_chance_is_asked_about_its_range(models, tmp_path):
    options = {"ranges": (0.1,), "num_random": 1, "num_images": 16, "out": tmp_path / "out"}
    with pytest.warns(UserWarning, match="no better than chance: does it expect another range"):
        audit_models(config(models[1], **options))


def test_probabilities_are_flagged_at_any_threshold():
    def sure(x):
        return jax.nn.softmax(jnp.stack([x.mean(), 0.2 + 0 * x.mean()]))

    for threshold in (0.3, 0.5):
        test = testing.Test(
            predict=at_threshold(sure, threshold),
            images=np.full((2, 8, 8, 1), 0.5, np.float32),
            labels=np.zeros(2, int),
            names=["a", "b"],
            settings={"encoding": "linear", "gamma": 0.29, "ranges": [0.1], "num_random": 1}
            | {"threshold": threshold},
            batch_size=2,
            key=jax.random.key(0),
            on_gradients=lambda _: None,
        )
        columns, _ = test.audited("alone")
        assert columns["flag_probabilities"].all()


def test_models_of_other_classes_are_refused(tmp_path):
    for name, classes in (("one", ("NORMAL", "PNEUMONIA")), ("other", ("PNEUMONIA", "NORMAL"))):
        checkpoint(tmp_path / name, class_names=classes)
    with pytest.raises(ValueError, match=r"class_names of one is .*NORMAL.*, of other"):
        audit_models(config(str(tmp_path / "one"), str(tmp_path / "other")))


def test_a_threshold_moves_the_answers():
    def predict(image):
        return jnp.stack([0 * image.mean(), image.mean()])

    image = jnp.ones((2, 2, 1))
    chance = float(jax.nn.softmax(predict(image))[1])
    for threshold in (chance - 0.01, chance + 0.01):
        answer = at_threshold(predict, threshold)(image).argmax()
        assert (answer == 1) == (chance >= threshold)
    one_logit = at_threshold(lambda x: x.mean()[None], 0.9)(image)
    assert one_logit[0] < 0
    with pytest.raises(ValueError, match="--threshold is for two classes, the model has 3"):
        at_threshold(lambda x: jnp.zeros(3), 0.4)(image)
    with pytest.raises(ValueError, match="--threshold must be between 0 and 1, got 1"):
        at_threshold(predict, 1)


def test_the_range_that_nine_in_ten_stand():
    smallest = np.array([0.0, 0.3, 0.1, *[0.5] * 9, *[np.inf] * 9])
    assert range_taken(smallest, 0.7) == 0.5  # of 20 right answers two may go
    assert range_taken(np.array([np.inf, 0.9]), 0.7) is None
    assert range_taken(np.zeros(3), 0.7) == 0
    told = curve(smallest)
    assert told["log_range"] == [0.0, 0.1, 0.3, 0.5]
    np.testing.assert_allclose(told["accuracy"], [20 / 21, 19 / 21, 18 / 21, 9 / 21])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranges": (0.0,)}, "--ranges must be positive"),
        ({"ranges": ()}, "--ranges must be one or several different ones, got none"),
        ({"exposures": ()}, "--exposures must be one or several different ones, got none"),
        ({"exposures": ("free", "free")}, "different ones, got free, free"),
        ({"num_random": 0}, "--num-random must be at least 1, got 0"),
        ({"universal_steps": -1}, "--universal-steps must be at least 0, got -1"),
        ({"fit_images": 0}, "--fit-images must be at least 1, got 0"),
        ({"corrections": ("polynomial", "polynomial")}, "--corrections must differ"),
        ({"sensitivity": 0.0}, "--sensitivity must be a share"),
        ({"finding": "any"}, "an audit is of one finding"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"threshold": 1.0}, "--threshold must be between 0 and 1"),
    ],
)
def test_bad_options_are_named(models, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        audit_models(config(models[0], out=tmp_path / "out", **options))


def test_images_without_classes_and_models_of_one_name_are_refused(models, tmp_path):
    image = Image.fromarray(np.full((32, 32), 99, np.uint8))
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        image.save(tmp_path / "images" / name)
    options = {"data": str(tmp_path / "images"), "split": "all", "num_images": None}
    with pytest.raises(ValueError, match="an audit needs the images' classes"):
        audit_models(config(models[0], out=tmp_path / "out", **options))
    with pytest.raises(ValueError, match="an audit is of a model: name one or several"):
        audit_models(config(out=tmp_path / "out"))
    with pytest.raises(ValueError, match="two models are called"):
        audit_models(config(models[0], models[0], out=tmp_path / "out"))
