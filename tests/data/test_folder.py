import os
import pickle
import zipfile
from pathlib import Path

import grain
import numpy as np
import pytest
from PIL import Image

from bfjax.data import ImageError, Subset, check, decode, load, to_float

from .conftest import KAGGLE_FILES, encoded, kaggle_files, write_files


def grey(value: int, size: tuple[int, int] = (6, 6)) -> bytes:
    return encoded(Image.new("L", size, value), "PNG")


@pytest.mark.parametrize("kind", ["folder", "zip", "inner folder", "folder that holds it"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_kaggle_layout(kaggle_folder, kaggle_zip, kind, split):
    root = {
        "folder": kaggle_folder / "chest_xray",
        "zip": kaggle_zip / "archive.zip",
        "inner folder": kaggle_folder / "chest_xray" / "chest_xray",
        "folder that holds it": kaggle_folder,
    }[kind]
    source = load(root, split, image_size=16)
    want = sorted(f"{c}/{f}" for c, files in KAGGLE_FILES[split].items() for f in files)
    assert source.names == want
    assert len(source) == len(want)
    assert source.class_names == ("NORMAL", "PNEUMONIA")
    assert source.labels.tolist() == [int(name.startswith("PNEUMONIA")) for name in want]
    assert [r["name"] for r in source] == want
    assert [r["group"] for r in source] == source.groups
    assert [r["label"] for r in source] == source.labels.tolist()
    for record in source:
        assert record["image"].shape == (16, 16, 1)
        assert record["image"].dtype == np.uint8
    native = load(root, split, image_size=None)
    for record in native:
        data = kaggle_files()[f"chest_xray/{split}/{record['name']}"]
        np.testing.assert_array_equal(record["image"], decode(data, "x"))


def test_causes_and_groups(kaggle_folder):
    source = load(kaggle_folder / "chest_xray", "train", image_size=8)
    assert [(r["cause"], r["group"]) for r in source] == [
        ("", "IM-0115"),
        ("", "NORMAL2-IM-0246"),
        ("bacteria", "person1"),
        ("bacteria", "person1"),
        ("virus", "person7"),
    ]


def test_plain_class_folders(tmp_path):
    write_files(tmp_path, {"dog/1.png": grey(1), "cat/1.png": grey(2), "ant/b.png": grey(3)})
    write_files(tmp_path, {"manifest.csv": b"beside", ".git/config": b"", "cat/.hidden": b""})
    write_files(tmp_path, {"cat/Thumbs.db": b"x", "dog/desktop.ini": b"x"})
    source = load(tmp_path, "all", image_size=None)
    assert source.class_names == ("ant", "cat", "dog")
    assert [(r["name"], r["label"], int(r["image"][0, 0, 0])) for r in source] == [
        ("ant/b.png", 0, 3),
        ("cat/1.png", 1, 2),
        ("dog/1.png", 2, 1),
    ]
    assert len(set(source.groups)) == 3
    with pytest.raises(ValueError, match=r"no split 'test'; it has all$"):
        load(tmp_path, "test")


def test_unknown_split_lists_those_there_are(kaggle_folder):
    with pytest.raises(ValueError, match=r"no split 'valid'; it has train, val, test$"):
        load(kaggle_folder / "chest_xray", "valid")


def test_labels_agree_between_splits_when_one_lacks_a_class(tmp_path):
    write_files(tmp_path, {"train/a/1.png": grey(1), "train/b/1.png": grey(2)})
    write_files(tmp_path, {"test/b/2.png": grey(3)})
    source = load(tmp_path, "test", image_size=None)
    assert source.class_names == ("a", "b")
    assert source.labels.tolist() == [1]


def test_every_bad_file_is_reported_by_name_and_none_is_dropped(tmp_path):
    good = encoded(Image.new("L", (40, 30), 9), "JPEG")
    write_files(
        tmp_path,
        {
            "N/good.jpeg": good,
            "N/empty.jpeg": b"",
            "N/cut.jpeg": good[: len(good) // 2],
            "N/text.jpeg": b"not an image",
            "P/notes.txt": b"neither",
            "P/ünïcode ☢.png": grey(5),
        },
    )
    source = load(tmp_path, "all", image_size=8)
    assert len(source) == 6
    problems = check(source)
    assert len(problems) == 4
    for name in ("N/empty.jpeg", "N/cut.jpeg", "N/text.jpeg", "P/notes.txt"):
        (line,) = [p for p in problems if p.startswith(f"{tmp_path}/{name}: ")]
        assert "\n" not in line
    with pytest.raises(ImageError, match=r"N/cut\.jpeg"):
        source[source.names.index("N/cut.jpeg")]
    assert source[source.names.index("P/ünïcode ☢.png")]["image"][0, 0, 0] == 5


def test_a_file_that_went_away_is_reported(tmp_path):
    write_files(tmp_path, {"N/a.png": grey(1), "N/b.png": grey(1)})
    source = load(tmp_path, "all")
    (tmp_path / "N/b.png").unlink()
    (problem,) = check(source)
    assert "N/b.png" in problem


def backslashed(path: Path, files: dict[str, bytes]) -> Path:
    """A zip file as some programs for Windows write it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("/", "\\"), data)
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with backslashes"])
def test_folders_within_class_folders_are_walked(tmp_path, kind):
    files = {f"train/{name}.png": grey(i) for i, name in enumerate(("N/a", "N/x/y/b", "P/x/a"))}
    root = tmp_path / "root"
    if kind == "folder":
        write_files(root, files)
        (root / "train/N/x/loop").symlink_to(root / "train/N")
    elif kind == "zip":
        with zipfile.ZipFile(root, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        backslashed(root, files)
    source = load(root, "train", image_size=None)
    assert source.names == ["N/a.png", "N/x/y/b.png", "P/x/a.png"]
    assert source.labels.tolist() == [0, 0, 1]
    assert [int(r["image"][0, 0, 0]) for r in source] == [0, 1, 2]
    assert [source.content(i) for i in range(3)] == list(files.values())


def test_a_zip_file_with_one_path_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("N/a.png", grey(1))
        archive.writestr("N\\a.png", grey(2))
    with pytest.raises(ValueError, match=r"x\.zip holds two files N/a\.png"):
        load(tmp_path / "x.zip", "all")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_file_with_two_files_of_one_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, text in (("N/a.png", b"1"), ("P/a.png", b"1"), ("N/a.png", b"1")):
            archive.writestr(name, text)
    assert load(tmp_path / "x.zip", "all").names == ["N/a.png", "P/a.png"]  # the same twice
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.writestr("P/a.png", b"2")
    with pytest.raises(ValueError, match=r"x\.zip holds two files P/a\.png, with other contents"):
        load(tmp_path / "x.zip", "all")


def test_flat_folders_are_walked_where_labels_may_be_missing(tmp_path):
    write_files(tmp_path, {"a.png": grey(1), "more/b.png": grey(2), "more/yet/c.png": grey(3)})
    source = load(tmp_path, "test", image_size=None, unlabelled=True)
    assert source.names == ["a.png", "more/b.png", "more/yet/c.png"]
    assert source.class_names == ()


def test_images_beside_class_folders_are_left_out_with_a_word(tmp_path):
    write_files(tmp_path, {"N/a.png": grey(1), "P/b.png": grey(2), "c.png": grey(3)})
    with pytest.warns(UserWarning, match=r"1 images of .* left out, such as c\.png"):
        source = load(tmp_path, "all")
    assert source.names == ["N/a.png", "P/b.png"]


def test_a_name_that_no_record_holds_is_refused(tmp_path):
    write_files(tmp_path, {"A/a.png": grey(9), "B/b.png": grey(9)})
    odd = bytes(tmp_path) + b"/A/Lunge_\xfc.png"
    Path(os.fsdecode(odd)).write_bytes(grey(9))
    with pytest.raises(ValueError, match=r"udcfc\.png': no name in UTF-8, rename") as told:
        load(tmp_path, "all", image_size=4)
    str(told.value).encode()
    Path(os.fsdecode(odd)).rename(tmp_path / "A" / "Lunge_ü.png")
    Path(os.fsdecode(bytes(tmp_path) + b"/notes_\xfc.txt")).write_text("no image")
    assert len(load(tmp_path, "all", image_size=4)) == 3


@pytest.mark.parametrize(
    "names",
    [[str(i) for i in range(12)], [f"grade {i}" for i in range(1, 12)], ["-1", "-0.5", "0", "3"]],
)
def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path, names):
    write_files(tmp_path, {f"test/{name}/a.png": grey(i) for i, name in enumerate(names)})
    source = load(tmp_path, "test", image_size=None)
    assert source.class_names == tuple(names)
    pixels = {r["name"].partition("/")[0]: int(r["image"][0, 0, 0]) for r in source}
    assert pixels == {name: i for i, name in enumerate(names)}
    assert [names[i] for i in source.labels] == [n.partition("/")[0] for n in source.names]


def test_class_names_give_the_order(tmp_path):
    write_files(tmp_path, {f"{name}/a.png": grey(1) for name in ("cat", "dog", "ant")})
    source = load(tmp_path, "all", class_names=("dog", "ant", "cat"))
    assert source.class_names == ("dog", "ant", "cat")
    assert dict(zip(source.names, source.labels.tolist(), strict=True)) == {
        "dog/a.png": 0, "ant/a.png": 1, "cat/a.png": 2,
    }  # fmt: skip
    assert [r["label"] for r in source] == source.labels.tolist()
    assert [load("phantom", class_names=("PNEUMONIA", "NORMAL"))[i]["label"] for i in (0, 1)] == [
        1, 0,
    ]  # fmt: skip
    bad = {("dog", "ant"): "cat", ("dog", "ant", "cat", "cow"): "cow", ("dog", "ant", "car"): "cat"}
    for names, one in bad.items():
        told = f"has the classes ant, cat, dog, not dog, ant.* and {one} is not in both"
        with pytest.raises(ValueError, match=told):
            load(tmp_path, "all", class_names=names)
    with pytest.raises(ValueError, match="two names are alike"):
        load(tmp_path, "all", class_names=("dog", "ant", "cat", "cat"))


def medium(files: dict[str, bytes]) -> dict[str, bytes]:
    """What lies beside the images on a medium from a hospital."""
    viewer = {"autorun.inf": b"[autorun]", "README.TXT": b"Dear patient", "VIEWER/view.exe": b"MZ"}
    return {"DICOMDIR": bytes(128) + b"DICM", "INDEX.HTM": b"<html>"} | viewer | files


@pytest.mark.parametrize("kind", ["folder", "within a folder", "zip"])
def test_an_export_to_a_medium_is_its_dicom_images(tmp_path, kind):
    import pydicom
    from pydicom.data import get_testdata_file

    scan = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    report = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for tag in ("PixelData", "Rows", "Columns"):
        delattr(report, tag)
    report.save_as(tmp_path / "report")
    inner = {"IMG/A/IM1": scan, "IMG/B/IM2": scan, "IMG/SR1": (tmp_path / "report").read_bytes()}
    root = tmp_path / "export"
    if kind == "zip":
        backslashed(root, medium(inner))
    else:
        write_files(root / ("disc" if kind == "within a folder" else ""), medium(inner))
    source = load(root, "test", image_size=None, unlabelled=True)
    assert source.names == ["IMG/A/IM1", "IMG/B/IM2"]
    assert source.class_names == ()
    assert check(source) == []


@pytest.mark.filterwarnings("ignore:.* every pixel is the same:UserWarning")
def test_an_export_of_pydicoms_own():
    """Its files and patients are those that the DICOMDIR lists, as pydicom reads it."""
    import pydicom
    from pydicom.data import get_testdata_file

    root = Path(str(get_testdata_file("DICOMDIR"))).parent
    records = pydicom.dcmread(root / "DICOMDIR").DirectoryRecordSequence
    images = [r.ReferencedFileID for r in records if r.DirectoryRecordType == "IMAGE"]
    listed = {str(root.joinpath(*parts)): parts for parts in images}
    listed = {path: str(pydicom.dcmread(path).PatientID) for path in listed}
    source = load(root, unlabelled=True, image_size=8)
    assert {source.path(i) for i in range(len(source))} == set(listed)
    assert check(source) == []
    pairs = {(listed[source.path(i)], group) for i, group in enumerate(source.groups)}
    assert len(pairs) == len(set(listed.values())) == len(set(source.groups)) == 2
    for i, name in enumerate(source.names):  # some lie in a folder with the id of the patient
        path = source.path(i)
        assert name.startswith("dicom-") == (listed[path] in path.removeprefix(str(root)))


def test_an_export_within_a_class_folder(tmp_path):
    from pydicom.data import get_testdata_file

    scan = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    disc = {f"N/disc/{name}": data for name, data in medium({"IMG/IM1": scan}).items()}
    write_files(tmp_path, disc | {"P/a.png": grey(1), "P/notes.txt": b"none"})
    source = load(tmp_path, "all", image_size=None)
    assert source.names == ["N/disc/IMG/IM1", "P/a.png", "P/notes.txt"]


def test_missing_empty_and_not_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no data set '.*nowhere': .*'phantom'"):
        load(tmp_path / "nowhere", "all")
    with pytest.raises(ValueError, match="no class folders"):
        load(tmp_path, "all")
    (tmp_path / "N").mkdir()
    with pytest.raises(ValueError, match="hold no files"):
        load(tmp_path, "all")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ValueError, match="neither a folder nor"):
        load(tmp_path / "file", "all")


def test_a_damaged_file_in_a_zip_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("N/a.png", grey(1))
        archive.writestr("P/b.png", grey(2))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[data.index(b"IDAT") + 8] ^= 0xFF  # within a.png, stored as it is
    (tmp_path / "x.zip").write_bytes(data)
    (problem,) = check(load(tmp_path / "x.zip", "all"))
    assert problem.startswith(f"{tmp_path}/x.zip/N/a.png: ")
    (tmp_path / "x.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"x\.zip"):
        load(tmp_path / "x.zip", "all")


def test_sixteen_bits_survive_the_way(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    write_files(tmp_path, {"N/a.png": encoded(Image.fromarray(ramp), "PNG")})
    image = load(tmp_path, "all", image_size=8)[0]["image"]
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[..., 0], ramp)
    assert load(tmp_path, "all", image_size=16)[0]["image"].dtype == np.uint16


def test_num_examples_is_a_random_part_by_seed(tmp_path):
    write_files(tmp_path, {f"{c}/{i}.png": grey(i) for c in "ab" for i in range(20)})
    whole = load(tmp_path, "all")
    part = load(tmp_path, "all", num_examples=10)
    assert len(part) == len(set(part.names)) == 10
    assert part.names == [n for n in whole.names if n in set(part.names)]
    assert part.names == load(tmp_path, "all", num_examples=10).names
    assert part.names != load(tmp_path, "all", num_examples=10, seed=1).names
    assert [r["name"] for r in part] == part.names
    assert [r["label"] for r in part] == part.labels.tolist()
    for bad in (0, 41):
        with pytest.raises(ValueError, match=f"1 to 40 here, got {bad}"):
            load(tmp_path, "all", num_examples=bad)


def test_indexing(tmp_path):
    write_files(tmp_path, {f"a/{i}.png": grey(i) for i in range(3)})
    source = load(tmp_path, "all", image_size=None)
    assert source[-1]["name"] == source[np.int64(2)]["name"] == "a/2.png"
    for bad in (3, -4):
        with pytest.raises(IndexError):
            source[bad]
    backwards = Subset(source, [2, 0])
    assert [r["name"] for r in backwards] == backwards.names == ["a/2.png", "a/0.png"]
    with pytest.raises(IndexError):
        Subset(source, [3])


@pytest.mark.parametrize("kind", ["folder", "zip", "phantom"])
def test_pickles_and_feeds_grain(kaggle_folder, kaggle_zip, kind):
    roots = {"folder": kaggle_folder, "zip": kaggle_zip / "archive.zip", "phantom": "phantom"}
    source = load(roots[kind], "train", image_size=16)
    first = source[0]["image"]  # an open zip file must not stand in the way
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[0]["image"], first)
    assert repr(again) == repr(source)
    batches = (
        grain.MapDataset.source(source)
        .map(lambda r: {"image": to_float(r["image"]), "label": r["label"]})
        .batch(2)
    )
    assert batches[0]["image"].shape == (2, 16, 16, 1)


@pytest.mark.real_data
def test_originals_squashed_are_the_small_copies(data_root):
    originals = load(data_root / "chest_xray_originals", "all", image_size=224, resize="squash")
    assert len(originals) == 10
    copies = load(data_root / "chest_xray", "train", image_size=224)
    for record in originals:
        copy = copies[copies.names.index(record["name"])]["image"]
        assert np.abs(record["image"].astype(int) - copy.astype(int)).mean() < 2
        # JPEG at quality 75 is all that lies between (1: versions of libjpeg round differently)
        ours = decode(encoded(Image.fromarray(record["image"][..., 0]), "JPEG", quality=75), "x")
        np.testing.assert_allclose(ours.astype(int), copy.astype(int), atol=1)


@pytest.mark.real_data
def test_a_file_of_the_size_is_what_pillow_decodes(data_root):
    source = load(data_root / "chest_xray", "val", image_size=224)
    for record in source:
        with Image.open(data_root / "chest_xray" / "val" / record["name"]) as image:
            np.testing.assert_array_equal(record["image"][..., 0], np.asarray(image.convert("L")))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_dicom_files_are_told_by_their_mark(tmp_path, kind):
    from pydicom.data import get_testdata_file

    scan = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    files = {"NORMAL/IM1": scan, "PNEUMONIA/a.dcm": grey(7)}
    root = tmp_path / ("images" if kind == "folder" else "images.zip")
    if kind == "folder":
        write_files(root, files)
    else:
        with zipfile.ZipFile(root, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    source = load(root, "all", image_size=None)
    assert [r["image"].shape for r in source] == [(128, 128, 1), (6, 6, 1)]
    assert source[0]["image"].dtype == np.uint16
    assert check(source) == []
