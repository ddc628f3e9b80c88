import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest
from PIL import Image

from bfjax.data import ImageError, load, prepared

from .conftest import encoded, kaggle_files, write_files


def python(code: str, *args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


WITHOUT_TENSORFLOW = """
    import sys
    class Hiding:  # an installed TensorFlow is not found either: its import raises
        def __init__(self, finder):
            self.finder = finder
        def __getattr__(self, name):
            return getattr(self.finder, name)
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] != "tensorflow":
                return self.finder.find_spec(name, path, target)
    sys.meta_path[:] = map(Hiding, sys.meta_path)
    import bfjax.data
    assert "tensorflow_datasets" not in sys.modules, "bfjax.data is cheap to import"
    from_tfds = bfjax.data.load("chest_xray", "train", image_size=16, home=sys.argv[1])
    records = [from_tfds[i] for i in range(len(from_tfds))]
    assert len(records) == 5 and records[4]["cause"] == "virus"
    assert not [m for m in sys.modules if m.partition(".")[0] == "tensorflow"]
    try:
        import tensorflow
    except ModuleNotFoundError:
        print("prepared and read")
"""


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_needs_no_tensorflow_and_is_quiet(kaggle_folder, kaggle_zip, kind):
    done = python(WITHOUT_TENSORFLOW, kaggle_folder if kind == "folder" else kaggle_zip)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "prepared and read\n"
    assert done.stderr == ""


@pytest.mark.parametrize("resize", ["squash", "pad"])
@pytest.mark.parametrize("image_size", [20, None])
def test_prepared_equals_the_folder(kaggle_folder, resize, image_size):
    options = {"image_size": image_size, "resize": resize}
    for split in ("train", "val", "test"):
        stored = load("chest_xray", split, home=kaggle_folder, **options)
        plain = load(kaggle_folder / "chest_xray", split, **options)
        assert stored.names == plain.names
        assert stored.groups == plain.groups
        assert stored.class_names == plain.class_names
        np.testing.assert_array_equal(stored.labels, plain.labels)
        assert len(stored) == len(plain)
        for a, b in zip(stored, plain, strict=True):
            np.testing.assert_array_equal(a.pop("image"), b.pop("image"))
            assert a == b


def test_pickles_and_subsamples(kaggle_zip):
    source = load("chest_xray", "train", home=kaggle_zip, image_size=8)
    first = source[0]["image"]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[0]["image"], first)
    assert len(load("chest_xray", "train", home=kaggle_zip, image_size=8, num_examples=2)) == 2


def test_is_prepared_once(kaggle_folder):
    load("chest_xray", "test", home=kaggle_folder, image_size=8)
    (kaggle_folder / "chest_xray").rename(kaggle_folder / "gone")
    assert len(load("chest_xray", "test", home=kaggle_folder, image_size=8)) == 3
    with pytest.raises(FileNotFoundError):
        load("chest_xray", "test", home=kaggle_folder, image_size=9)


def test_other_files_than_were_prepared_are_refused_by_name(kaggle_folder):
    raw = kaggle_folder / "chest_xray" / "test"
    load("chest_xray", "test", home=kaggle_folder, image_size=8)
    one, other = raw / "NORMAL/IM-0001-0001.jpeg", raw / "NORMAL/IM-0003-0001.jpeg"
    whole = one.read_bytes()
    os.utime(one, (1, 1))  # a copy with another time is the same file
    assert len(load("chest_xray", "test", home=kaggle_folder, image_size=8)) == 3
    one.write_bytes(other.read_bytes())
    for split in ("test", "train"):  # all splits are of one preparation
        with pytest.raises(ValueError, match=r"IM-0001-0001\.jpeg has other contents; delete"):
            load("chest_xray", split, home=kaggle_folder, image_size=8)
    one.write_bytes(whole)
    other.rename(raw / "PNEUMONIA" / other.name)
    with pytest.raises(ValueError, match=r"NORMAL/IM-0003-0001\.jpeg is now PNEUMONIA/IM-0003"):
        load("chest_xray", "test", home=kaggle_folder, image_size=8)
    assert len(load("chest_xray", "test", home=kaggle_folder, image_size=9)) == 3
    shutil.rmtree(raw)
    with pytest.raises(ValueError, match=r"prepared from a split test, which .* has no longer"):
        load("chest_xray", "train", home=kaggle_folder, image_size=8)


def test_of_what_was_prepared_before_that_was_noted_the_names_are_compared(kaggle_folder):
    load("chest_xray", "test", home=kaggle_folder, image_size=8)
    for note in (kaggle_folder / "tfds").rglob("files_*"):
        note.unlink()
    raw = kaggle_folder / "chest_xray" / "test" / "NORMAL"
    (raw / "IM-0003-0001.jpeg").rename(raw / "other.jpeg")
    with pytest.raises(ValueError, match=r"IM-0003-0001\.jpeg is gone, NORMAL/other\.jpeg is new"):
        load("chest_xray", "test", home=kaggle_folder, image_size=8)
    (raw / "other.jpeg").rename(raw / "IM-0003-0001.jpeg")
    assert len(load("chest_xray", "test", home=kaggle_folder, image_size=8)) == 3


def test_metadata(kaggle_folder):
    import tensorflow_datasets as tfds

    directory = prepared.prepare(kaggle_folder, image_size=8)
    info = tfds.builder_from_directory(directory).info
    assert "10.17632/rscbjbr9sj.2" in info.citation
    assert "Kermany" in info.citation
    assert info.homepage == "https://doi.org/10.17632/rscbjbr9sj.2"
    assert info.features["image"].shape == (8, 8, 1)
    assert {name: split.num_examples for name, split in info.splits.items()} == {
        "train": 5,
        "val": 2,
        "test": 3,
    }


def test_all_bad_files_of_all_splits_are_named_at_once(kaggle_folder):
    deep = encoded(Image.fromarray(np.full((4, 4), 40000, np.uint16)), "PNG")
    bad = {"train/NORMAL/a.jpeg": b"", "test/PNEUMONIA/b.jpeg": b"text", "train/NORMAL/c.png": deep}
    write_files(kaggle_folder / "chest_xray", bad)
    with pytest.raises(ImageError) as caught:
        load("chest_xray", "val", home=kaggle_folder, image_size=8)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("3 unreadable files; mend or delete them")
    for name in bad:
        assert len([line for line in lines[1:] if name.partition("/")[2] in line]) == 1
    for name in bad:
        (kaggle_folder / "chest_xray" / name).unlink()
    assert len(load("chest_xray", "val", home=kaggle_folder, image_size=8)) == 2


KILLED = """
    import os, signal, sys
    import bfjax.data, bfjax.data.folder as folder
    decode, count = folder.decode, 0
    def dies(*args):
        global count
        count += 1
        if count == 7:  # in the second split
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(*args)
    folder.decode = dies
    bfjax.data.load("chest_xray", "test", image_size=8, home=sys.argv[1])
"""


def test_recovers_from_a_kill(kaggle_folder):
    assert python(KILLED, kaggle_folder).returncode == -signal.SIGKILL
    folder = kaggle_folder / "tfds" / "chest_xray" / "squash_8"
    assert [p.name for p in folder.iterdir() if not p.name.startswith("incomplete.")] == []
    assert list(folder.iterdir())
    source = load("chest_xray", "test", image_size=8, home=kaggle_folder)
    assert [r["label"] for r in source] == [0, 0, 1]
    assert [p.name for p in folder.iterdir()] == ["1.0.0"]


def test_missing_says_what_to_download_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BFJAX_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        load("chest_xray", "test")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("paultimothymooney/chest-xray-pneumonia", "10.17632/rscbjbr9sj.2", str(tmp_path)):
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_unknown_split_and_other_classes(kaggle_folder, tmp_path):
    with pytest.raises(ValueError, match=r"no split 'all'; it has .*train"):
        load("chest_xray", "all", home=kaggle_folder, image_size=8)
    home = tmp_path / "other"
    write_files(home, {"chest_xray/test/CAT/a.jpeg": next(iter(kaggle_files().values()))})
    with pytest.raises(ValueError, match=r"classes CAT, not NORMAL, PNEUMONIA"):
        load("chest_xray", "test", home=home, image_size=8)


def test_download_through_kagglehub(kaggle_folder, tmp_path, monkeypatch):
    home = tmp_path / "new"
    asked = []

    def dataset_download(handle: str) -> str:
        asked.append(handle)
        return os.fspath(kaggle_folder)

    fake = types.SimpleNamespace(dataset_download=dataset_download)
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    source = load("chest_xray", "test", home=home, image_size=8, download=True)
    assert asked == ["paultimothymooney/chest-xray-pneumonia"]
    assert len(source) == 3
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ModuleNotFoundError, match="pip install kagglehub"):
        load("chest_xray", "test", home=tmp_path / "newer", image_size=8, download=True)
