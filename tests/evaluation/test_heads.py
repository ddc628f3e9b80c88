"""What the outputs of a model mean, on the command line: one logit, probabilities, findings."""

import csv
import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.csv
import pytest
from PIL import Image

from bfjax import attacks, cli, run_batch
from bfjax.attack import binary_cross_entropy
from bfjax.evaluation import heads
from bfjax.evaluation.targets import Target
from bfjax.models import Checkpoint

MODULE = """
import jax
import jax.numpy as jnp

def quarters(image):
    rows = [image[8 * i : 8 * i + 8].mean() for i in range(4)]
    return 40 * (jnp.stack(rows) - 0.5)

def one_logit(image):
    return quarters(image)[1:2]

def two_logits(image):
    return jnp.concatenate([-quarters(image)[1:2], quarters(image)[1:2]]) / 2

def one_sigmoid(image):
    return jax.nn.sigmoid(one_logit(image))

def softmax(image):
    return jax.nn.softmax(two_logits(image))

def sigmoids(image):
    return jax.nn.sigmoid(quarters(image))

def unsure(image):  # between 0.5 and 0.73, whose logits lie in [0, 1]
    return jax.nn.sigmoid(image.mean(keepdims=True)[0, 0])

def without_slope(image):
    return one_logit(image) + jnp.sqrt(jnp.abs(0 * image.mean()))
"""

FINDINGS = ("Atelectasis", "Effusion", "Mass", "Nodule")
COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A flat folder of images with one table of findings, and one of a single finding."""
    root = tmp_path_factory.mktemp("findings")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (COUNT, 4))
    truth[0] = 0
    (root / "images").mkdir()
    for i, row in enumerate(truth):
        means = 0.5 + np.where(row, 1, -1) * rng.uniform(0.03, 0.2, 4)
        pixels = np.repeat(np.repeat(means, 8)[:, None], 32, axis=1)
        picture = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
        picture.save(root / "images" / f"{i}.png")
    with (root / "findings.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "age", *FINDINGS])
        rows.writerows([f"{i}.png", 40 + i, *row] for i, row in enumerate(truth))
    return root


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"heads_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


SMALL = ("--image-size", 32, "--no-measure", "--gallery", 0, "--grid-size", 3, "--num-steps", 3)


def run(folder, out, *arguments, command="attack", small=SMALL):
    words = ["--data", folder / "images", "--split", "all", "--out", out, *small]
    return cli.main([command, *map(str, [*words, *arguments])])


def records(out):
    return pyarrow.csv.read_csv(out / "records.csv").to_pylist()


def truth_of(folder, name):
    with (folder / "findings.csv").open(newline="") as file:
        return [int(row[name]) for row in csv.DictReader(file)]


LABELS = ("--class-names", *FINDINGS)


@pytest.mark.slow
def test_one_logit_probabilities_and_one_of_several_findings_are_one_problem(
    folder, module, tmp_path, capsys
):
    """Two logits, attacked in the usual way, are the oracle of all other forms."""
    table = ("--labels", folder / "findings.csv")
    asked = {
        "two_logits": ("--class-names", "Effusion"),
        "one_logit": ("--class-names", "Effusion"),
        "softmax": ("--class-names", "Effusion", "--outputs", "probabilities"),
        "one_sigmoid": ("--class-names", "Effusion", "--outputs", "probabilities"),
        "quarters": (*LABELS, "--finding", "Effusion"),
        "sigmoids": (*LABELS, "--finding", "1", "--outputs", "probabilities"),
    }
    found = {}
    for name, options in asked.items():
        out = tmp_path / name
        assert run(folder, out, "--model", f"{module}:{name}", *table, *options) == 0, name
        assert "probabilities?" not in capsys.readouterr().err
        found[name] = [
            [row[key] for key in ("file", "label", "clean_prediction", "adversarial_prediction")]
            for row in records(out)
        ]
    names = ["no Effusion", "Effusion"]
    labels = [names[there] for there in truth_of(folder, "Effusion")]
    assert [row[1] for row in found["two_logits"]] == labels
    assert [row[2] for row in found["two_logits"]] == labels
    assert [row[3] for row in found["two_logits"]] != labels
    for name, rows in found.items():
        assert rows == found["two_logits"], name


@pytest.mark.slow
@pytest.mark.filterwarnings("always:all outputs:UserWarning")
@pytest.mark.parametrize("name", ["softmax", "one_sigmoid", "sigmoids"])
def test_probabilities_are_noticed_once_with_the_way_out(folder, module, tmp_path, capsys, name):
    options = (*LABELS, "--finding", "Effusion") if name == "sigmoids" else LABELS[:1] + LABELS[2:3]
    arguments = ("--labels", folder / "findings.csv", *options, "--batch-size", 2)
    assert run(folder, tmp_path / "out", "--model", f"{module}:{name}", *arguments) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "probabilities?" in line]
    assert len(told) == 1
    assert "--outputs probabilities" in told[0]


@pytest.mark.slow
def test_what_was_turned_back_is_not_suspected(folder, module, tmp_path, capsys):
    options = ("--class-names", "Effusion", "--outputs", "probabilities", "--batch-size", 2)
    table = ("--labels", folder / "findings.csv", *options)
    assert run(folder, tmp_path / "out", "--model", f"{module}:unsure", *table) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_gradient_that_is_no_number_is_told(folder, module, tmp_path, capsys):
    table = ("--labels", folder / "findings.csv", "--class-names", "Effusion")
    assert run(folder, tmp_path / "out", "--model", f"{module}:without_slope", *table) == 1
    assert "the gradient of without_slope is NaN or infinite" in capsys.readouterr().err


@pytest.mark.slow
def test_folders_that_do_not_tell_of_a_finding(folder, module, tmp_path, capsys):
    root = tmp_path / "data"
    for i, name in enumerate(("images_01", "images_02")):
        shutil.copytree(folder / "images", root / "images" / name)
        (root / "images" / name / f"{i}.png").unlink()
    model = ("--model", f"{module}:quarters", *LABELS, "--finding", "Mass")
    assert run(root, tmp_path / "a", *model) == 1
    assert "do not tell of Mass: --labels FILE.csv" in capsys.readouterr().err
    assert run(root, tmp_path / "b", *model, "--label", "Mass") == 0
    assert {row["label"] for row in records(tmp_path / "b")} == {"Mass"}


@pytest.mark.slow
@pytest.mark.parametrize("early_stop", [False, True])
def test_all_findings_count(folder, module, tmp_path, early_stop):
    stop = ["--early-stop"] if early_stop else []
    out = tmp_path / "any"
    model = ("--model", f"{module}:quarters", "--labels", folder / "findings.csv", *LABELS)
    assert run(folder, out, *model, "--finding", "any", *stop) == 0
    rows = records(out)
    truth = np.stack([truth_of(folder, name) for name in FINDINGS], 1)
    texts = ["|".join(np.array(FINDINGS)[row > 0]) or "no finding" for row in truth]
    assert [row["label"] for row in rows] == texts
    assert [row["clean_prediction"] for row in rows] == texts  # the module is always right

    # the same attack by hand
    from bfjax import data

    source = data.load(folder / "images", "all", image_size=32, unlabelled=True)
    images = np.stack([data.to_float(record["image"]) for record in source])
    attack = attacks.bias_field(
        (32, 32, 1), grid_size=3, num_steps=3, loss=binary_cross_entropy, early_stop=early_stop
    )
    namespace: dict = {}
    exec(MODULE, namespace)
    logits = np.asarray(run_batch(attack, namespace["quarters"], images, truth).logits)
    by_hand = ["|".join(np.array(FINDINGS)[row > 0]) or "no finding" for row in logits]
    assert [row["adversarial_prediction"] for row in rows] == by_hand

    summary = json.loads((out / "summary.json").read_text())["targets"]["quarters"]
    wrong = (logits > 0) != truth
    assert (summary["correct"], summary["fooled"]) == (COUNT, wrong.any(1).sum())
    for i, name in enumerate(FINDINGS):
        counts = summary["directions"][f"{name}→no {name}"]
        there = truth[:, i] == 1
        assert (counts["correct"], counts["fooled"]) == (there.sum(), wrong[there, i].sum())


@pytest.mark.slow
@pytest.mark.filterwarnings("always:all outputs:UserWarning")
def test_findings_are_judged_explained_reported_and_written_in_full_size(
    folder, module, tmp_path, capsys
):
    out = tmp_path / "out"
    options = ("--labels", folder / "findings.csv", *LABELS, "--max-change", 0.4)
    for finding in ("any", "Effusion"):
        out = tmp_path / finding
        arguments = ("--model", f"{module}:quarters", *options, "--finding", finding)
        assert run(folder, out, *arguments, "--dry-run") == 0
        assert run(folder, out, *arguments) == 0
        more = ("--targets", f"{module}:sigmoids")  # judges later
        assert run(folder, out, *arguments, *more, "--native") == 0
        native = json.loads((out / "native.json").read_text())["targets"]["quarters"]
        assert native["correct"] == COUNT
        maps = ["--num-steps", "2", "--mask-size", "4", "--gallery", "1", "--num-points", "3"]
        explain = ["explain", str(out), "--model", f"{module}:quarters", "--data"]
        assert cli.main([*explain, str(folder / "images"), *maps]) == 0
        assert cli.main(["report", str(out)]) == 0
        page = (out / "report.html").read_text(encoding="utf-8")
        assert "no Effusion" in page
        assert ("Several findings may be true" in page) == (finding == "any")
    assert "all outputs of sigmoids lie in [0, 1]" in capsys.readouterr().err


@pytest.mark.slow
def test_without_labels_what_the_model_says_is_attacked(folder, module, tmp_path):
    for finding in ("any", "Mass"):
        out = tmp_path / finding
        model = ("--model", f"{module}:quarters", *LABELS, "--finding", finding)
        assert run(folder, out, *model) == 0
        rows = records(out)
        assert all(row["label_from"] == "predicted" for row in rows)
        assert all(row["label"] == row["clean_prediction"] for row in rows)
        assert json.loads((out / "summary.json").read_text())["settings"]["label"] == "predicted"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--labels", "findings.csv"), "--finding"),
        (("--finding", "Oedema"), "--finding Oedema is none of the outputs of quarters"),
        (("--finding", "7"), "--finding 7 is none of the outputs of quarters"),
        (("--labels", "findings.csv", "--finding", "Oedema"), "Oedema"),
        (("--class-names", "a", "b", "--finding", "a"), "quarters has 4 outputs"),
    ],
)
def test_what_cannot_be_asked_is_said(folder, module, tmp_path, monkeypatch, capsys, options, word):
    options = [folder / o if o == "findings.csv" else o for o in options]
    names = () if "--class-names" in options else LABELS
    assert run(folder, tmp_path / "out", "--model", f"{module}:quarters", *names, *options) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert word in err
    assert not (tmp_path / "out" / "records.csv").exists()


def test_searches_take_one_finding(folder, module, tmp_path, capsys):
    model = ("--sources", f"{module}:quarters", "--labels", folder / "findings.csv", *LABELS)
    arguments = ("--attacks", "cw", "carlini_wagner_l2", "--finding", "any")
    small = SMALL[:3]
    assert run(folder, tmp_path, *model, *arguments, command="evaluate", small=small) == 1
    assert "choose one of the findings" in capsys.readouterr().err


def test_a_head_is_one_output_of_the_model():
    def whole(image):
        return image[0, :3, 0]

    target = Target("model", whole, Checkpoint("model", {}, "", class_names=("a", "b", "c")))
    names = heads.head_names(target, (), (1, 3, 1))
    image = jnp.asarray([[[1.0], [2.0], [3.0]]])
    for i, name in enumerate(names):
        one = heads.asked(target, name, names)
        assert one.config.class_names == (f"no {name}", name)
        np.testing.assert_array_equal(jax.jit(one.predict)(image), whole(image)[i : i + 1])
    assert heads.asked(target, "any", names).predict is whole
