"""`Source.original`: what the file of a record holds, before it is brought to one size."""

import numpy as np
import pytest

from bfjax.data import ImageError, Labelled, Subset, decode, decode_dicom, load

from .conftest import kaggle_files, write_files
from .test_derived import original as scan


@pytest.mark.parametrize("kind", ["folder", "zip", "folder prepared", "zip prepared"])
def test_of_every_kind_of_source(kaggle_folder, kaggle_zip, kind):
    home = kaggle_folder if kind.startswith("folder") else kaggle_zip
    path = "chest_xray" if kind.startswith("folder") else "archive.zip"
    prepared = kind.endswith("prepared")
    source = load("chest_xray" if prepared else home / path, "train", image_size=8, home=home)
    for one in (source, Subset(source, [3, 0]), Labelled(Subset(source, [4]), ("a", "b"), "b")):
        for i, name in enumerate(one.names):
            image, dicom = one.original(i)
            assert one[i]["image"].shape == (8, 8, 1)
            want = decode(kaggle_files()[f"chest_xray/train/{name}"], "x")
            assert want.shape == (30, 40, 1)
            np.testing.assert_array_equal(image, want)
            assert dicom is None


def test_of_prepared_images_whose_originals_are_gone(kaggle_zip):
    source = load("chest_xray", "val", image_size=8, home=kaggle_zip)
    (kaggle_zip / "archive.zip").unlink()
    assert source[0]["image"].shape == (8, 8, 1)
    with pytest.raises(FileNotFoundError, match=r"chest_xray is not there: download"):
        source.original(0)


def test_of_dicom_with_the_file_itself(tmp_path):
    file = scan(12)
    write_files(tmp_path, {"a/IM1": file})
    image, dicom = load(tmp_path, "all", image_size=4).original(0)
    assert dicom == file
    np.testing.assert_array_equal(image, decode_dicom(dicom))


def test_of_phantoms_the_image_itself():
    source = load("phantom", "test", num_examples=2, image_size=32)
    np.testing.assert_array_equal(source.original(1).image, source[1]["image"])


def test_of_a_file_that_is_no_image(tmp_path):
    write_files(tmp_path, {"a/notes.txt": b"none"})
    with pytest.raises(ImageError, match=r"a/notes\.txt"):
        load(tmp_path, "all", image_size=4).original(0)


def test_one_label_for_all(tmp_path):
    write_files(tmp_path, {f"{name}.dcm": scan(12) for name in "ab"})
    source = load(tmp_path, image_size=4, unlabelled=True)
    assert (source.class_names, source.labels.tolist()) == ((), [-1, -1])
    labelled = Labelled(source, ("x", "y"), "y")
    assert labelled.labels.tolist() == [record["label"] for record in labelled] == [1, 1]
    assert labelled.groups == source.groups
    assert labelled.names == ["a.dcm", "b.dcm"]
    assert "y" in repr(labelled)
    with pytest.raises(ValueError, match="'z' is none of the classes x, y"):
        Labelled(source, ("x", "y"), "z")
    with pytest.raises(ValueError, match="no class folders"):
        load(tmp_path, "all", image_size=4)


def test_the_content_of_every_kind_of_source(kaggle_folder, kaggle_zip):
    files = {k.removeprefix("chest_xray/train/"): v for k, v in kaggle_files().items()}
    for root in (kaggle_folder / "chest_xray", kaggle_zip / "archive.zip"):
        whole = load(root, "train", image_size=8)
        for one in (whole, Subset(whole, [3, 0]), Labelled(Subset(whole, [4]), ("a", "b"), "b")):
            assert [one.content(i) for i in range(len(one))] == [files[n] for n in one.names]
            assert one.path(0) == f"{root}/chest_xray/train/{one.names[0]}".replace(
                "chest_xray/chest_xray", "chest_xray"
            )
    prepared = load("chest_xray", "train", image_size=8, home=kaggle_folder)
    for i in range(len(prepared)):
        np.testing.assert_array_equal(decode(prepared.content(i), "x"), prepared[i]["image"])
    one, two = (load("phantom", num_examples=3, image_size=32, seed=s) for s in (0, 1))
    assert len({source.content(i) for source in (one, two) for i in range(3)}) == 6
    assert one.content(1) == load("phantom", num_examples=9, image_size=32).content(1)
