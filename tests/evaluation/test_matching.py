"""The classes of the images and those of the models."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import cli, data, models
from bfjax.evaluation import AttackConfig, EvaluateConfig, commands, load_run, matching
from tests.data.conftest import write_files
from tests.evaluation.test_attack import CLASSES, checkpoint
from tests.evaluation.test_native import SIDE, png

LEFT, RIGHT = png(0, (40, 56), "left", 255, np.uint8), png(1, (30, 20), "right", 255, np.uint8)


def outputs(count):
    """A model of so many classes, which always answers the last but one."""
    return lambda image: image.mean() + jnp.arange(count) % (count - 1) if count > 1 else (
        image.mean()[None]
    )  # fmt: skip


def twelve(image):
    return outputs(12)(image)


def five(image):
    return outputs(5)(image)


def nothing(image):
    return image.mean()


def attack(root, model, out, *options):
    arguments = ["attack", "--model", f"{__name__}:{model}", "--data", root, "--out", out]
    fast = ["--image-size", SIDE, "--degree", 2, "--grid-size", 3, "--num-steps", 1, "--gallery", 0]
    return cli.main([str(word) for word in (*arguments, *fast, "--no-measure", *options)])


def folders(root, names, file="a.png"):
    write_files(root, {f"{name}/{file}": LEFT for name in names})
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("models") / "net")


def cell_of(model, root, **options):
    defaults = {"split": "all"}
    return commands.attack_cell(
        AttackConfig(model=str(model), data=str(root), **defaults | options)
    )


@pytest.mark.filterwarnings("ignore:.* says the same of:UserWarning")  # it does
def test_class_ten_is_output_ten(tmp_path):
    root = folders(tmp_path / "images", map(str, range(12)))
    assert attack(root, "twelve", tmp_path / "out", "--split", "all") == 0
    with (tmp_path / "out/records.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [row["file"].partition("/")[0] for row in rows]
    # the answer is always output 10: the image of class 10 alone is right
    assert {row["clean_prediction"] for row in rows} == {"10"}
    counted = json.loads((tmp_path / "out/summary.json").read_text())["targets"]["twelve"]
    assert counted["correct"] == 1


def test_class_names_are_the_order_of_the_outputs(tmp_path):
    names = ["viral", "normal", "bacterial", "other", "covid"]
    root = folders(tmp_path / "images", names)
    out = tmp_path / "out"
    assert attack(root, "five", out, "--split", "all", "--class-names", *names) == 0
    with (out / "records.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["clean_prediction"] for row in rows} == {"other"}
    assert load_run(out).source.names == [row["file"] for row in rows]
    settings = json.loads((out / "settings.json").read_text())
    assert settings["classes"] == settings["class_names"] == names


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("five", (), "five has 5 logits, "),
        ("twelve", (), "2 classes (NORMAL, PNEUMONIA)"),
        ("nothing", (), "nothing must return logits, floats (classes,), got float32[]"),
        (
            "five",
            ("--class-names", "a", "NORMAL"),
            "classes NORMAL, PNEUMONIA, not a, NORMAL: ",
        ),
        ("five", ("--class-names", "normal", "other"), "NORMAL, PNEUMONIA, not normal, other"),
    ],
)
def test_other_classes_are_refused_before_the_first_step(model, options, told, tmp_path, capsys):
    root = folders(tmp_path / "images", CLASSES)
    assert attack(root, model, tmp_path / "out", "--split", "all", *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "out").exists()


def test_a_judge_with_other_outputs_is_refused_before_the_first_step(model, tmp_path):
    root = folders(tmp_path / "images", CLASSES)
    with pytest.raises(ValueError, match="twelve has 12 logits"):
        cell_of(model, root, targets=(f"{__name__}:twelve",))
    options = {"attacks": {"b": "bim"}, "data": str(root), "split": "all"}
    with pytest.raises(ValueError, match="five has 5 logits"):
        commands.evaluation_cells(
            EvaluateConfig(sources=(str(model),), targets=(f"{__name__}:five",), **options)
        )


def test_one_logit_tells_two_classes_apart(tmp_path):
    source = data.load("phantom", num_examples=2, image_size=32)
    for count in (1, 2):
        matching.check_outputs({"m": outputs(count)}, source, (32, 32, 1))
    with pytest.raises(ValueError, match="m has 3 logits, the data 2 classes"):
        matching.check_outputs({"l": outputs(2), "m": outputs(3)}, source, (32, 32, 1))
    write_files(tmp_path, {"a.png": LEFT, "t.csv": b"f,A,B\na.png,1,1\n"})
    several = data.load(tmp_path, "all", labels=tmp_path / "t.csv")
    matching.check_outputs({"m": outputs(2)}, several, (32, 32, 1), multi_label=True)
    with pytest.raises(ValueError, match="m has 1 logits"):
        matching.check_outputs({"m": outputs(1)}, several, (32, 32, 1), multi_label=True)


def test_an_empty_class_folder_is_named(tmp_path, model, capsys):
    root = folders(tmp_path / "images", ("NORMAL", "PNEUMONIA"))
    (root / "ANOTHER").mkdir()
    assert attack(root, "five", tmp_path / "out", "--split", "all") == 1
    assert "(ANOTHER, NORMAL, PNEUMONIA); of ANOTHER no image" in capsys.readouterr().err
    with pytest.raises(ValueError, match="it does not know ANOTHER, which holds no image"):
        cell_of(model, root)
    (root / "ANOTHER").rmdir()
    (root / "NORMAL/a.png").unlink()
    assert cell_of(model, root).source.labels.tolist() == [1]
    assert "holds no image of the class NORMAL" in capsys.readouterr().err


def test_a_class_without_a_folder_stays_a_class(tmp_path, capsys):
    known = models.save(
        models.build("convnet", width=0.25, num_classes=3),
        tmp_path / "three",
        metadata={"class_names": ("A", "B", "C"), "image_size": 32, "resize": "squash"},
    )
    cell = cell_of(known, folders(tmp_path / "images", ("C", "A")))
    assert cell.source.class_names == ("A", "B", "C")
    assert cell.source.labels.tolist() == [0, 2]
    assert "holds no image of the class B" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names", [("normal", "pneumonia"), ("Pneumonia", "NORMAL "), ("n o r_mal", "PNEUMONIA")]
)
def test_classes_that_differ_in_case_or_signs_alone(names, model, tmp_path):
    with pytest.warns(UserWarning, match=r"taken for those of net: .* for "):
        cell = cell_of(model, folders(tmp_path, names))
    assert cell.source.class_names == CLASSES
    for name, label in zip(cell.source.names, cell.source.labels, strict=True):
        assert name.casefold()[0] == CLASSES[label].casefold()[0]
    assert cell.settings["class_names"] == list(CLASSES)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("NORMAL", "PNEUMONA"), "it does not know PNEUMONA"),
        (("NORMAL", "PNEUMONIA", "pneumonia"), "two of them may be one"),
        (("normal", "NORMAL"), "two of them may be one"),
        (("0", "1"), "it does not know 0"),
    ],
)
def test_unclear_classes_are_refused(names, told, model, tmp_path):
    with pytest.raises(ValueError, match=told) as caught:
        cell_of(model, folders(tmp_path, names))
    assert "NORMAL, PNEUMONIA" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_folder_that_the_model_knows_by_another_spelling(model, tmp_path, capsys):
    with pytest.warns(UserWarning, match="folder normal is taken for the class NORMAL"):
        cell = cell_of(model, folders(tmp_path / "a", ["normal"]))
    assert cell.settings["label"] == "NORMAL"
    assert capsys.readouterr().err == ""
    cell = cell_of(model, folders(tmp_path / "b", ["PNEUMNIA"]))
    assert cell.settings["label"] == "predicted"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bfjax: note: the folder PNEUMNIA is none of the classes NORMAL, PNEUM")
    assert "(did you mean PNEUMONIA?): what net predicts stands in for the labels" in line


def test_folders_that_are_no_classes(model, tmp_path):
    root = folders(tmp_path, ("series1", "series2"))
    with pytest.raises(ValueError, match=r"not know series1; if the folders are no classes, --lab"):
        cell_of(model, root)
    for label, number in (("PNEUMONIA", 1), ("predicted", -1)):
        cell = cell_of(model, root, label=label)
        assert cell.source.labels.tolist() == [number, number]
        assert cell.source.names == ["series1/a.png", "series2/a.png"]
    with pytest.raises(ValueError, match="it is for images in no class folders"):
        cell_of(model, folders(tmp_path, ["normal"]), label="PNEUMONIA")


def test_predictions_that_stand_in_are_said(model, tmp_path, capsys):
    write_files(tmp_path, {"a.png": LEFT})
    cell_of(model, tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"bfjax: note: {tmp_path} says no classes: what net predicts stands in for the labels; "
        "--label says the class"
    )
    cell_of(model, tmp_path, label="NORMAL")
    assert capsys.readouterr().err == ""


def test_classes_in_another_order_than_the_models(tmp_path):
    known = checkpoint(tmp_path / "net", class_names=("b", "a"))
    cell = cell_of(known, folders(tmp_path / "images", ("a", "b")))
    assert cell.source.class_names == ("b", "a")
    assert dict(zip(cell.source.names, cell.source.labels, strict=True)) == {
        "a/a.png": 1, "b/a.png": 0
    }  # fmt: skip
    with pytest.raises(ValueError, match="net was trained on b, a, in this order"):
        cell_of(known, tmp_path / "images", class_names=("a", "b"))


def test_labels_from_a_table(model, tmp_path):
    write_files(tmp_path, {"x/a.png": LEFT, "y/b.png": RIGHT})
    table = tmp_path / "t.csv"
    table.write_text("file,PNEUMONIA,NORMAL\na.png,1,0\nb.png,0,1\n")
    out = tmp_path / "out"
    options = {"labels": table, "out": out, "degree": 2, "grid_size": 3, "num_steps": 1}
    config = AttackConfig(model=str(model), data=str(tmp_path), gallery=0, measure=False, **options)
    commands.attack_dataset(config)
    with (out / "records.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["label"]) for row in rows] == [
        ("x/a.png", "PNEUMONIA"), ("y/b.png", "NORMAL"),
    ]  # fmt: skip
    assert load_run(out).source.names == ["x/a.png", "y/b.png"]


def test_a_single_column_tells_the_two_classes_of_a_model_apart(tmp_path):
    write_files(tmp_path, {"a.png": LEFT, "b.png": LEFT, "t.csv": b"f,PNEUMONIA\na,1\nb,0\n"})
    source = data.load(tmp_path, "all", labels=tmp_path / "t.csv")
    with pytest.warns(UserWarning, match="no PNEUMONIA for NORMAL"):
        found = matching.among_classes(source, ("NORMAL", "PNEUMONIA"), where="x", model="m")
    assert found.labels.tolist() == [1, 0]
    assert found.class_names == ("NORMAL", "PNEUMONIA")
