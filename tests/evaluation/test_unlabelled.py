"""`bfjax attack` on one image, and on images that lie in no class folders."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bfjax import cli, data, models, storage
from bfjax.evaluation import AttackConfig, EvaluateConfig, commands, load_run, summary, targets
from tests.data.conftest import write_files
from tests.evaluation.test_attack import CLASSES, checkpoint
from tests.evaluation.test_native import SIDE, png, run, scan, sides

LEFT, RIGHT = png(0, (40, 56), "left", 255, np.uint8), png(1, (30, 20), "right", 255, np.uint8)
SCAN = scan(2, (33, 47), "left")
FLAT = {"a.png": LEFT, "b": RIGHT, "c.dcm": SCAN, ".DS_Store": b"Bud1"}


def found(out):
    """The records, and what is known of the run."""
    with (out / "records.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((out / "summary.json").read_text(encoding="utf-8"))


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def layouts(tmp_path):
    """The same images in every place that has no class folders."""
    write_files(tmp_path / "flat", FLAT)
    inner = {f"scans/{name}": content for name, content in FLAT.items()}
    write_files(tmp_path / "inner", inner)
    return {
        "a folder": tmp_path / "flat",
        "a folder in a folder": tmp_path / "inner",
        "a zip file": zipped(tmp_path / "flat.zip", FLAT),
        "a zip file of a folder": zipped(tmp_path / "inner.zip", inner),
    }


def test_images_without_labels_are_attacked_away_from_what_the_model_predicts(tmp_path, capsys):
    whole = {}
    for kind, root in layouts(tmp_path).items():
        out = tmp_path / kind
        assert run(root, out, "--split", "test", "--gallery", 0) == 0  # there are no splits
        rows, told = found(out)
        assert [Path(row["file"]).name for row in rows] == ["a.png", "b", "c.dcm"]
        assert [row["label"] for row in rows] == ["0", "1", "0"]
        assert all(row["label"] == row["clean_prediction"] for row in rows)
        assert {row["label_from"] for row in rows} == {"predicted"}
        assert told["settings"]["label"] == "predicted"
        assert told["settings"]["class_names"] == ["0", "1"]
        assert told["targets"]["sides"]["correct"] == 3
        assert told["targets"]["sides"]["fooled"] > 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "away from what the attacked model predicts" in printed
        whole[kind] = [row["adversarial_score"] for row in rows]
    assert len({tuple(scores) for scores in whole.values()}) == 1


@pytest.mark.parametrize(("name", "content"), [("one.png", LEFT), ("IM1", SCAN)])
def test_one_image(name, content, tmp_path, capsys):
    write_files(tmp_path, {name: content})
    assert run(tmp_path / name, tmp_path / "out", "--native", "--gallery", 1) == 0
    (row,), told = found(tmp_path / "out")
    assert (row["file"], row["label"], told["images"]) == (name, "0", 1)
    (path,) = (tmp_path / "out" / "adversarial").iterdir()
    assert path.suffix == (".png" if name == "one.png" else ".dcm")
    image = data.decode(path) if path.suffix == ".png" else data.decode_dicom(path)
    assert image.shape == ((40, 56, 1) if name == "one.png" else (33, 47, 1))
    assert len(list((tmp_path / "out" / "gallery").iterdir())) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "attack on 1 images" in printed
    assert "native files" in printed


def test_it_is_the_attack_on_the_same_image_in_a_class_folder(tmp_path):
    write_files(tmp_path / "folders", {"0/one.png": LEFT, "1/two.png": RIGHT})
    write_files(tmp_path / "flat", {"one.png": LEFT, "two.png": RIGHT})
    stored = []
    for name in ("folders", "flat"):
        assert run(tmp_path / name, tmp_path / f"of {name}", "--gallery", 0) == 0
        stored.append(storage.read_shards(tmp_path / f"of {name}" / "shards"))
    for name in ("params.coefficients", "params.control_points", "adversarial_score", "label"):
        assert stored[0][name].to_pylist() == stored[1][name].to_pylist()
    assert "label_from" not in stored[0].column_names


def test_a_label_of_the_users_own(tmp_path, capsys):
    write_files(tmp_path, {"one.png": LEFT})
    assert run(tmp_path / "one.png", tmp_path / "out", "--label", 1, "--gallery", 0) == 0
    (row,), told = found(tmp_path / "out")
    assert (row["label"], row["clean_prediction"]) == ("1", "0")
    assert "label_from" not in row
    assert told["settings"]["label"] == "1"
    assert told["targets"]["sides"]["correct"] == 0
    assert "predicts" not in capsys.readouterr().out
    # towards the dark, for a picture said to be bright: the score of that label falls
    assert float(row["adversarial_score"]) < float(row["clean_score"])
    assert run(tmp_path / "one.png", tmp_path / "out", "--gallery", 0) == 1
    assert "label was '1', now it is 'predicted'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("models") / "net")


def cell_of(model, root, **options):
    return commands.attack_cell(AttackConfig(model=str(model), data=str(root), **options))


def test_the_models_class_names_are_those_of_the_label(model, tmp_path):
    root = layouts(tmp_path)["a folder"]
    for label, number in (("PNEUMONIA", 1), ("1", 1), ("NORMAL", 0), ("0", 0)):
        cell = cell_of(model, root, label=label)
        assert cell.source.class_names == CLASSES
        assert cell.source.labels.tolist() == [number] * 3
        assert [record["label"] for record in cell.source] == [number] * 3
        assert cell.settings["label"] == CLASSES[number]
    for label in (None, "predicted"):
        cell = cell_of(model, root, label=label)
        assert cell.source.labels.tolist() == [-1] * 3
        assert cell.settings["label"] == "predicted"
    sources = EvaluateConfig(sources=(str(model),), attacks={"bim": "bim"}, data=str(root))
    assert commands.evaluation_cells(sources)["bim"]["net"].settings["label"] == "predicted"


def test_one_class_folder_alone_says_the_class_if_the_model_knows_it(model, tmp_path):
    write_files(tmp_path / "known", {"PNEUMONIA/a.png": LEFT})
    write_files(tmp_path / "unknown", {"scans/a.png": LEFT})
    write_files(tmp_path / "both", {"NORMAL/a.png": LEFT, "PNEUMONIA/a.png": LEFT})
    assert cell_of(model, tmp_path / "known").settings["label"] == "PNEUMONIA"
    assert cell_of(model, tmp_path / "known").source.names == ["PNEUMONIA/a.png"]
    assert cell_of(model, tmp_path / "known", label="0").settings["label"] == "NORMAL"
    assert cell_of(model, tmp_path / "unknown").settings["label"] == "predicted"
    both = cell_of(model, tmp_path / "both", split="all")
    assert both.source.labels.tolist() == [0, 1]
    assert both.settings["label"] is None


def test_split_folders_of_images_keep_their_splits(model, tmp_path):
    write_files(tmp_path, {"train/a.png": LEFT, "test/b.png": RIGHT})
    assert cell_of(model, tmp_path).source.names == ["b.png"]
    with pytest.raises(ValueError, match="no split 'val'; it has train, test"):
        cell_of(model, tmp_path, split="val")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("one.png", "--label", "cat"), "--label cat is no class of sides, which tells apart 0, 1"),
        (("one.png", "--label", 2), "--label 2 is no class of sides, which tells apart 0, 1"),
        (
            (
                "one.png",
                "--label=-1",
            ),
            "--label -1 is no class of sides",
        ),
        (("folders", "--label", 1), "--label 1: it is for images in no class folders, and"),
        (("nowhere.png",), "nowhere.png': it is neither"),
        (("text.png",), "text.png: cannot be decoded: not an image"),
        (("empty.png",), "empty.png: the file is empty"),
        (("cut.zip",), "cut.zip is neither a folder nor a (whole) zip file"),
        (("cut.dcm",), "cut.dcm: damaged or cut short"),
        (("empty",), "hold no files"),
    ],
)
def test_bad_input_is_one_clear_line(options, word, tmp_path, capsys):
    write_files(tmp_path, {"one.png": LEFT, "text.png": b"Dear radiologist,", "empty.png": b""})
    write_files(tmp_path, {"folders/0/a.png": LEFT, "folders/1/b.png": RIGHT})
    write_files(tmp_path, {"cut.dcm": SCAN[:-100]})
    archive = zipped(tmp_path / "whole.zip", FLAT).read_bytes()
    write_files(tmp_path, {"cut.zip": archive[: len(archive) // 2]})
    (tmp_path / "empty").mkdir()
    name, *more = options
    assert run(tmp_path / name, tmp_path / "out", *more) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bfjax: error: ")
    assert word in line
    assert not (tmp_path / "out").exists()


def test_training_still_wants_labels(tmp_path, capsys):
    write_files(tmp_path / "flat", {"train/a.png": LEFT, "test/b.png": RIGHT})
    assert cli.main(["train", "--data", str(tmp_path / "flat"), "--out", str(tmp_path / "o")]) == 1
    assert "flat holds no class folders" in capsys.readouterr().err


def test_a_finished_run_on_one_image_opens_again(tmp_path):
    """As `bfjax explain` and `bfjax report` do it."""
    write_files(tmp_path, {"one.png": LEFT})
    out = tmp_path / "out"
    assert run(tmp_path / "one.png", out, "--gallery", 0) == 0
    opened = load_run(out)
    assert opened.fooled() == [0]
    assert opened.rebuild(0).adversarial.shape == (SIDE, SIDE, 1)
    assert cli.main(["report", str(out)]) == 0
    assert "--label predicted" in (out / "report.html").read_text(encoding="utf-8")


def test_a_dozen_classes_without_names_are_counted_by_number():
    """Their names are not in alphabetical order."""
    names = tuple(map(str, range(12)))
    table = pa.table(
        {
            "label": ["10", "2", "11"],
            "clean_prediction": ["10", "2", "9"],
            "adversarial_prediction": ["2", "2", "11"],
            "max_change": [0.1, 0.1, 0.1],
            "mean_change": [0.1, 0.1, 0.1],
        }
    )
    counted = summary.summarize(table, names, ["net"])["targets"]["net"]
    assert (counted["correct"], counted["fooled"]) == (2, 1)
    assert counted["directions"]["10→other"]["fooled"] == 1
    assert counted["directions"]["2→other"]["correct"] == 1


def test_the_classes_of_a_model():
    for function, count in ((sides, 2), (lambda x: x.mean()[None], 2), (lambda x: x[:5, 0, 0], 5)):
        target = targets.Target("f", function, models.Checkpoint("f", {}, ""))
        assert targets.class_names(target, (SIDE, SIDE, 1)) == tuple(map(str, range(count)))
