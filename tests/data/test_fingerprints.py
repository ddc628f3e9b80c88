"""What tells images from others, and the words for what differs."""

import hashlib
import zipfile

import numpy as np
import pytest
from PIL import Image

from bfjax import data
from tests.data.conftest import encoded, write_files

FILES = {
    f"{label}/{i}.png": encoded(Image.fromarray(np.full((9, 7), 20 * i + 10, np.uint8)), "PNG")
    for label in ("left", "right")
    for i in range(3)
}
FILES |= {name: content + b" " for name, content in FILES.items() if name.startswith("right")}


@pytest.fixture
def folder(tmp_path):
    write_files(tmp_path / "images", FILES)
    return tmp_path / "images"


def told(folder, **options):
    return data.fingerprint(data.load(folder, "all", image_size=8, **options))


def test_a_digest_is_the_sha256_of_the_file(folder):
    found = told(folder)
    assert found.names == sorted(FILES)
    assert found.labels == ["left"] * 3 + ["right"] * 3
    assert found.digests == [hashlib.sha256(FILES[n]).hexdigest()[:32] for n in sorted(FILES)]


def test_a_zip_file_is_told_as_its_folder(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    assert told(tmp_path / "images.zip") == told(folder)


def test_it_comes_back_from_its_file(folder, tmp_path):
    found = told(folder)
    assert data.read_fingerprint(tmp_path / "a.parquet") is None
    found.write(tmp_path / "a.parquet")
    assert data.read_fingerprint(tmp_path / "a.parquet") == found
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read"):
        data.read_fingerprint(tmp_path / "a.parquet")


def test_only_chosen_images_count(folder):
    few = told(folder, num_examples=3)
    assert len(few.names) == 3
    others = sorted(set(FILES) - set(few.names))
    (folder / others[0]).write_bytes(b"another")
    assert told(folder, num_examples=3) == few


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "left/1.png").write_bytes(b"a"), "left/1.png has other contents"),
        (lambda f: (f / "left/1.png").unlink(), "left/1.png is gone"),
        (lambda f: (f / "left/9.png").write_bytes(b"b"), "left/9.png is new"),
        (lambda f: (f / "left/1.png").rename(f / "left/z.png"), "left/1.png is now left/z.png"),
        (lambda f: (f / "left/1.png").rename(f / "right/z"), "left/1.png is now right/z"),
        (
            lambda f: [(f / "left" / f"{i}").write_bytes(b"%d" % i) for i in range(5)],
            "left/0 is new, left/1 is new, left/2 is new, and 2 more so",
        ),
    ],
)
def test_what_changed_is_named(folder, change, words):
    before = told(folder)
    change(folder)
    now = told(folder)
    assert data.changes(before, now) == words
    assert before.sha256 != now.sha256


def test_labels_and_the_order_count(folder):
    before = told(folder)
    other = before._replace(labels=["right", *before.labels[1:]])
    assert data.changes(before, other) == "left/0.png was left, now it is right"
    turned = data.Fingerprint(*(list(reversed(column)) for column in before))
    assert data.changes(before, turned) == "they are in another order"
    assert len({one.sha256 for one in (before, other, turned)}) == 3
    assert data.changes(before, before) == ""


class Films(data.Source):
    """Pictures in memory, of which several findings may be true."""

    class_names = ("a", "b")
    names = groups = property(lambda self: ["x", "y"])
    labels = property(lambda self: np.array([-1, -1]))
    findings = property(lambda self: np.array([[0, 1], [1, 1]]))

    def __len__(self):
        return 2

    def _record(self, index):
        return {"image": np.full((2, 3, 1), index, np.uint8), "label": -1}


def test_findings_and_pictures_without_files_are_told_too():
    found = data.fingerprint(Films())
    assert found.labels == ["b", "a|b"]
    assert len(set(found.digests)) == 2
    assert data.fingerprint(data.Finding(Films(), "a")).labels == ["no a", "a"]
    part = data.fingerprint(data.Subset(Films(), [1]))
    assert part == data.Fingerprint(["y"], ["a|b"], found.digests[1:])


def test_phantoms_are_told_by_what_they_are_drawn_from():
    options = {"image_size": 32, "num_examples": 4}
    first = data.fingerprint(data.load("phantom", "test", **options))
    assert first == data.fingerprint(data.load("phantom", "test", **options))
    for change in ({"image_size": 33}, {"seed": 1}):
        other = data.fingerprint(data.load("phantom", "test", **options | change))
        assert not set(first.digests) & set(other.digests)


def test_a_file_that_cannot_be_read_is_named(folder):
    source = data.load(folder, "all", image_size=8)
    (folder / "left/1.png").unlink()
    with pytest.raises(data.ImageError, match=r"left/1\.png: No such file"):
        data.fingerprint(source)
