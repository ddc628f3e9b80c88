"""Files that cannot be read: told all at once, or left out with a list."""

import csv
import json

import numpy as np
import pytest

from bfjax import data
from bfjax.evaluation import all_bad_files, load_run, skipping, without_bad_files
from tests.data.conftest import write_files
from tests.evaluation.test_native import SIDE, png, run


def images(root, count=6):
    """Good and bad ones by turns, in two class folders."""
    for i in range(count):
        side = ("left", "right")[i % 2]
        good = png(i, (SIDE, SIDE), side, 255, np.uint8)
        bad = (b"", good[:80], b"Dear radiologist,")[i % 3]
        write_files(root, {f"{i % 2}/good{i}.png": good, f"{i % 2}/bad{i}.png": bad})
    return root


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_bad_files_are_told_at_once(tmp_path, capsys):
    assert run(images(tmp_path / "images"), tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bfjax: error: 6 files cannot be read (--skip-bad leaves them out): ")
    assert all(f"{tmp_path}/images/{i % 2}/bad{i}.png: " in line for i in range(6))
    assert "good" not in line
    assert not (tmp_path / "out").exists()


def test_a_good_source_passes(tmp_path):
    source = data.load("phantom", num_examples=2, image_size=32)
    with all_bad_files(source):
        source[0]
    assert without_bad_files(source, tmp_path / "list.csv", write=False) == (source, [])
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), all_bad_files(source):
        raise KeyError


def test_bad_files_are_left_out_with_a_list(tmp_path, capsys):
    out = tmp_path / "out"
    assert run(images(tmp_path / "images"), out, "--skip-bad", "--gallery", 0) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "note" in line]
    assert told == [
        f"bfjax: note: 6 files that cannot be read are left out, listed in {out / 'skipped.csv'}"
    ]
    skipped = rows(out / "skipped.csv")
    assert [row["file"] for row in skipped] == sorted(f"{i % 2}/bad{i}.png" for i in range(6))
    assert {row["reason"] for row in skipped if row["file"] in ("0/bad0.png", "1/bad3.png")} == {
        "the file is empty (zero bytes)"
    }
    assert not [row for row in skipped if str(tmp_path) in row["reason"]]
    good = sorted(f"{i % 2}/good{i}.png" for i in range(6))
    assert [row["file"] for row in rows(out / "records.csv")] == good
    assert json.loads((out / "summary.json").read_text())["images"] == 6
    assert load_run(out).source.names == good


def test_a_run_that_goes_on_has_the_images_that_it_began_with(tmp_path):
    root, out = images(tmp_path / "images"), tmp_path / "out"
    assert run(root, out, "--skip-bad", "--gallery", 0) == 0
    whole = (out / "records.csv").read_bytes()
    shard = sorted((out / "shards").iterdir())[-1]
    for path in (shard, out / "summary.json", out / "records.csv"):
        path.unlink()
    write_files(root, {"0/bad0.png": png(9, (SIDE, SIDE), "left", 255, np.uint8)})  # mended
    assert run(root, out, "--skip-bad", "--gallery", 0) == 0
    assert (out / "records.csv").read_bytes() == whole
    assert run(root, tmp_path / "anew", "--skip-bad", "--gallery", 0) == 0
    assert len(rows(tmp_path / "anew/records.csv")) == 7


@pytest.mark.parametrize("shard", ["m/shards/fixed/0000000.parquet", "m/shards/0000000.parquet"])
def test_an_audit_or_certificate_that_has_begun_goes_on_with_its_list(tmp_path, shard):
    root, out = images(tmp_path / "images"), tmp_path / "out"
    source = data.load(root, "all", image_size=SIDE)
    kept, _ = without_bad_files(source, out / "skipped.csv", write=True)
    write_files(root, {"0/bad0.png": png(9, (SIDE, SIDE), "left", 255, np.uint8)})  # mended
    write_files(out, {shard: b""})
    again, _ = without_bad_files(source, out / "skipped.csv", write=True)
    assert again.names == kept.names


def test_the_list_of_a_run_that_did_not_begin_is_not_followed(tmp_path, capsys):
    root, out = images(tmp_path / "images"), tmp_path / "out"
    assert run(root, out, "--skip-bad", "--num-steps", 0) == 1
    assert len(rows(out / "skipped.csv")) == 6
    write_files(root, {"0/bad0.png": png(9, (SIDE, SIDE), "left", 255, np.uint8)})  # mended
    assert run(root, out, "--skip-bad", "--gallery", 0) == 0
    assert "0/bad0.png" in {row["file"] for row in rows(out / "records.csv")}
    assert len(rows(out / "skipped.csv")) == 5


def test_of_images_that_are_drawn(tmp_path):
    root, out = images(tmp_path / "images"), tmp_path / "out"
    assert run(root, out, "--skip-bad", "--gallery", 0, "--num-images", 7, "--seed", 1) == 0
    kept, left = (len(rows(out / name)) for name in ("records.csv", "skipped.csv"))
    assert kept + left == 7
    assert load_run(out).source.names == [row["file"] for row in rows(out / "records.csv")]


def test_nothing_but_bad_files_and_a_bad_list(tmp_path):
    write_files(tmp_path / "x", {"a/1.png": b"", "b/2.png": b""})
    source = data.load(tmp_path / "x", "all")
    with pytest.raises(ValueError, match="none of the 2 files can be read"):
        without_bad_files(source, tmp_path / "out" / skipping.LIST, write=True)
    (tmp_path / "out" / skipping.LIST).write_text("name\na\n")
    with pytest.raises(ValueError, match=r"skipped\.csv is no list of files; delete it"):
        without_bad_files(source, tmp_path / "out" / skipping.LIST, write=True)
