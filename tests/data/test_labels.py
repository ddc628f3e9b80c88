"""Labels and patients from CSV files."""

import csv
import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from bfjax.data import Finding, Findings, Labelled, Ordered, Subset, check, load

from .conftest import encoded, write_files

FINDINGS = ("Atelectasis", "Edema", "No Finding")


def grey(value: int) -> bytes:
    return encoded(Image.new("L", (6, 6), value), "PNG")


def written(path, rows, delimiter=","):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


@pytest.fixture
def flat(tmp_path):
    """A flat folder of five images, of which each pixel is the number."""
    root = tmp_path / "images"
    write_files(root, {f"{name}.png": grey(i) for i, name in enumerate("abcde")})
    return root


def test_one_class_an_image(flat, tmp_path):
    rows = [("file", "x", "y", "z"), ("e.png", 1, 0, 0), ("a.png", 0, "1.0", "0.0")]
    rows += [("c.png", 0, 0, 1), ("b.png", "False", "FALSE", "true"), ("d.png", 1, 0, 0)]
    for delimiter in ",;\t":
        table = written(tmp_path / "labels.csv", rows, delimiter)
        source = load(flat, "all", image_size=None, labels=table)
        assert source.class_names == ("x", "y", "z")
        assert source.labels.tolist() == [1, 2, 2, 0, 0]
        assert source.findings is None
        assert [r["label"] for r in source] == source.labels.tolist()
        assert [int(r["image"][0, 0, 0]) for r in source] == [0, 1, 2, 3, 4]
    assert Finding(source, "z").labels.tolist() == [0, 1, 1, 0, 0]
    each = Findings(source)
    assert each.findings.tolist() == np.eye(3, dtype=int)[source.labels].tolist()
    assert set(each.labels) == {-1}


def test_one_column_is_a_problem_of_two_classes(flat, tmp_path):
    table = written(tmp_path / "t.csv", [("name", "TB"), *((n, int(n in "bd")) for n in "abcde")])
    source = load(flat, "all", labels=table)
    assert source.class_names == ("no TB", "TB")
    assert source.labels.tolist() == [0, 1, 0, 1, 0]
    assert source.findings is None
    flipped = load(flat, "all", labels=table, class_names=("TB", "no TB"))
    assert flipped.labels.tolist() == [1, 0, 1, 0, 1]


@pytest.fixture
def several(flat, tmp_path):
    """Labels of which several, or none, are true of an image, in any order of the rows."""
    truth = np.random.default_rng(0).integers(0, 2, (5, 3))
    truth[0] = 1
    rows = [(f"{n}.png", *map(str, row)) for n, row in zip("abcde", truth.tolist(), strict=True)]
    return written(tmp_path / "labels.csv", [("Image", *FINDINGS), *rows[::-1]]), truth


def test_several_classes_of_an_image(flat, several):
    table, truth = several
    source = load(flat, "test", labels=table, unlabelled=True, image_size=8)
    assert source.class_names == FINDINGS
    np.testing.assert_array_equal(source.findings, truth)
    assert source.labels.tolist() == [-1] * 5
    assert {record["label"] for record in source} == {-1}
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.findings, truth)
    part = Subset(source, [3, 1])
    np.testing.assert_array_equal(part.findings, truth[[3, 1]])
    drawn = load(flat, "all", labels=table, num_examples=3)
    np.testing.assert_array_equal(
        drawn.findings, truth[["abcde".index(name[0]) for name in drawn.names]]
    )
    assert Labelled(source, ("x", "y"), "y").findings is None


def test_one_finding_of_several(flat, several):
    table, truth = several
    source = load(flat, "all", labels=table, image_size=8)
    for i, name in enumerate(FINDINGS):
        one = Finding(Subset(source, [4, 2, 0]), name)
        assert one.class_names == (f"no {name}", name)
        assert one.findings is None
        assert one.labels.tolist() == truth[[4, 2, 0], i].tolist()
        assert [record["label"] for record in one] == one.labels.tolist()
        assert one.names == ["e.png", "c.png", "a.png"]
        assert one.content(0) == grey(4)
    with pytest.raises(ValueError, match="'Nodule' is none of the findings Atelectasis, Edema, No"):
        Finding(source, "Nodule")


def test_class_names_choose_and_order_the_columns(flat, tmp_path):
    rows = [("Path", "Sex", *FINDINGS), *((f"{n}.png", "F", 1, i % 2, 1) for i, n in
                                          enumerate("abcde"))]  # fmt: skip
    table = written(tmp_path / "t.csv", rows)
    source = load(flat, "all", labels=table, class_names=("Edema", "Atelectasis"))
    assert source.class_names == ("Edema", "Atelectasis")
    assert source.findings.tolist() == [[i % 2, 1] for i in range(5)]
    with pytest.raises(ValueError, match=r"no column Nodule; it has Sex, Atelectasis"):
        load(flat, "all", labels=table, class_names=("Nodule",))
    with pytest.raises(ValueError, match=r"5 values .* 'f' \(line 2, column Sex\).*--class-names"):
        load(flat, "all", labels=table)


def test_findings_in_another_order(flat, several):
    table, truth = several
    order = ("No Finding", "Atelectasis", "oedema")
    source = Ordered(load(flat, "all", labels=table), order, {"Edema": "oedema"})
    np.testing.assert_array_equal(source.findings, truth[:, [2, 0, 1]])
    with pytest.raises(ValueError, match="no findings for Nodule"):
        Ordered(load(flat, "all", labels=table), (*FINDINGS, "Nodule"))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_files_are_named_in_many_ways(tmp_path, kind):
    """As public data sets do: by bare names, ids, paths from the root or from above it."""
    files = ("p1/s1/view1.png", "p1/s2/view1.png", "p2/s1/1.2.840.77", "p2/s1/ünï.png")
    root = tmp_path / "Set-v1"
    if kind == "folder":
        write_files(root, {f"train/{n}": grey(i) for i, n in enumerate(files)})
    else:
        with zipfile.ZipFile(root, "w") as archive:
            for i, name in enumerate(files):
                archive.writestr(f"train/{name}", grey(i))
    ways = [
        tuple(f"Set-v1/train/{n}" for n in files),
        tuple(f"train/{n}" for n in files),
        ("s1/view1.png", "p1\\s2\\view1", "1.2.840.77", "u\u0308ni\u0308"),
        tuple(f"./old-name/Set/train/{n}" for n in files),
    ]
    for names in ways:
        if "Set/" in names[0]:
            names = tuple(n.replace("./old-name/Set/train", "old/train") for n in names)
        table = written(tmp_path / "t.csv", [("f", "a", "b", "c", "d"), *(
            (n, *(int(i == k) for k in range(4))) for i, n in enumerate(names))])  # fmt: skip
        source = load(root, "train", image_size=None, labels=table)
        assert source.names == list(files)
        assert source.labels.tolist() == [0, 1, 2, 3], names


def test_what_is_not_clear_is_refused_all_at_once(tmp_path):
    write_files(tmp_path / "r", {f"{d}/{n}.png": grey(1) for d in "xy" for n in "abc"})
    write_files(tmp_path / "r", {"x/only.png": grey(1)})
    table = written(tmp_path / "t.csv", [("f", "C", "D"), ("a.png", 1, 0), ("only", 1, 0),
        ("x/only.png", 0, 1), ("x/b.png", 1, 0), ("x/b.png", 1, 0)])  # fmt: skip
    with pytest.raises(ValueError, match="images") as caught:
        load(tmp_path / "r", "all", labels=table)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{table} for {tmp_path / 'r'}: ")
    assert "3 of 7 images have no row, such as x/c.png, y/b.png, y/c.png" in line
    assert "1 images have several rows, such as x/b.png (lines 5, 6)" in line
    assert "1 rows may mean several images, such as a.png (x/a.png, y/a.png)" in line


def test_a_name_that_two_splits_share_is_refused(tmp_path):
    write_files(tmp_path / "r", {f"{s}/a.png": grey(1) for s in ("train", "test")})
    table = written(tmp_path / "t.csv", [("f", "C"), ("a.png", 1)])
    with pytest.raises(ValueError, match=r"a\.png \(test/a\.png, train/a\.png\)"):
        load(tmp_path / "r", "test", labels=table)
    table = written(tmp_path / "t.csv", [("f", "C"), ("train/a.png", 1), ("test/a.png", 0)])
    assert load(tmp_path / "r", "test", labels=table).labels.tolist() == [0]
    assert load(tmp_path / "r", "train", labels=table).labels.tolist() == [1]
    with pytest.warns(UserWarning, match=r"name no file of .* train/a\.png"):
        whole = load(tmp_path / "r/test", "all", labels=table)
    assert whole.labels.tolist() == [0]


def test_rows_of_other_images_are_counted_in_a_warning(flat, tmp_path):
    rows = [("f", "C"), *((f"{n}.png", 1) for n in "abcdefg")]
    table = written(tmp_path / "t.csv", rows)
    with pytest.warns(UserWarning, match=r"^2 of 7 rows of .* name no file of .* f\.png, g"):
        assert len(load(flat, "all", labels=table)) == 5


def test_tables_and_notes_beside_the_images_are_none(flat):
    written(flat / "labels.csv", [("f", "C"), *((f"{n}.png", 1) for n in "abcde")])
    (flat / "README").write_text("notes")
    source = load(flat, "all", labels=flat / "labels.csv")
    assert source.names == [f"{n}.png" for n in "abcde"]
    (flat / "c.png").write_text("no image")
    assert [p.split(":")[0] for p in check(load(flat, "all", labels=flat / "labels.csv"))] == [
        str(flat / "c.png")
    ]


BAD = {
    "values": ("f,C,D\na.png,1,-1.0\nb.png,,1\n", r"2 values are neither 0 nor 1, such as '-1.0'"
               r" \(line 2, column D\), '' \(line 3, column C\)"),
    "columns": ("f,C,C\na.png,1,1\n", "two columns 'C'"),
    "no class": ("f\na.png\n", "a name for each column"),
    "no name": ("f,C,\na.png,1,0\n", "a name for each column"),
    "ragged": ("f,C,D\na.png,1\nb.png,1,0,0\n", "3 columns, but not in 2 rows, such as line 2, 3"),
    "empty": ("", "no rows below a header"),
    "header alone": ("f,C\n", "no rows below a header"),
    "no row": ("f,C\nz.png,1\n", r"5 of 5 images have no row, such as a\.png, b\.png, c\.png"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_tables_are_refused_in_one_line(kind, flat, tmp_path):
    text, told = BAD[kind]
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=told) as caught:
        load(flat, "all", labels=tmp_path / "bad.csv")
    assert str(caught.value).startswith(str(tmp_path / "bad.csv"))
    assert "\n" not in str(caught.value)


def test_packed_tables(flat, several):
    import gzip

    table, truth = several
    packed = table.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(table.read_bytes()))
    np.testing.assert_array_equal(load(flat, "all", labels=packed).findings, truth)
    packed.write_bytes(gzip.compress(table.read_bytes())[:20])
    with pytest.raises(ValueError, match=r"gz is no CSV file in UTF-8"):
        load(flat, "all", labels=packed)


def test_no_table_at_all(flat, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        load(flat, "all", labels=tmp_path / "nowhere.csv")
    (tmp_path / "latin.csv").write_bytes("f,Müdigkeit\n".encode("latin-1"))
    with pytest.raises(ValueError, match="no CSV file in UTF-8"):
        load(flat, "all", labels=tmp_path / "latin.csv")
    with pytest.raises(ValueError, match="phantom has its own labels"):
        load("phantom", labels=tmp_path / "nowhere.csv")


def test_classes_in_another_spelling_are_those_named(tmp_path):
    names = ("gro\u0308\u00dfe", "NORMAL ")  # as some systems write accents
    write_files(tmp_path, {f"{name}/a.png": grey(i) for i, name in enumerate(names)})
    with pytest.warns(UserWarning, match="are taken for those named: NORMAL  for normal, "):
        source = load(tmp_path, "all", class_names=("normal", "Gr\u00f6\u00dfe"), image_size=8)
    assert source.class_names == ("normal", "Gr\u00f6\u00dfe")
    assert [int(r["image"][0, 0, 0]) for r in source] == [1 - r["label"] for r in source]
    with pytest.raises(
        ValueError, match=r"the names must be those of the classes, and .* not in both"
    ):
        load(tmp_path, "all", class_names=("normal", "b"), image_size=8)
