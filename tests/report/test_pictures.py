import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from bfjax.report import pictures
from bfjax.report.pictures import Pictures

FILES = [("00-0000000.webp", b"a" * 30), ("00-0000001.webp", b"b" * 30)]


def test_panels_lie_where_the_script_looks_for_them():
    panels = [np.full((20, 12, 3), value, np.uint8) for value in (0, 90, 255)]
    with Image.open(io.BytesIO(pictures.join(panels))) as opened:
        assert opened.format == "WEBP"
        found = np.asarray(opened.convert("L"), int)
    pitch = 12 + 2 * pictures.GUTTER
    assert found.shape == (20, 3 * pitch)
    for k, value in enumerate((0, 90, 255)):  # the whole panel, to its very border
        columns = found[:, k * pitch + pictures.GUTTER :][:, :12]
        assert abs(columns - value).max() <= 12, k


def test_large_images_are_reduced_and_small_ones_are_not():
    for shape, expected in (((448, 224), (112, 224)), ((30, 40), (40, 30)), ((3000, 1), (1, 224))):
        panel = np.zeros((*shape, 3), np.uint8)
        assert pictures.size(panel.shape) == expected
        with Image.open(io.BytesIO(pictures.join([panel]))) as opened:
            assert opened.size == (expected[0] + 2 * pictures.GUTTER, expected[1])


def test_colours_are_centred_and_clipped():
    values = np.array([[-9.0, -1.0, 0.0, 1.0, 9.0]])
    found = pictures.diverging(values, span=1.0)[0]
    ends = [np.rint(255 * np.array(matplotlib.colormaps["PuOr_r"](x)[:3])) for x in (0.0, 1.0)]
    for index, end in ((0, 0), (1, 0), (3, 1), (4, 1)):
        np.testing.assert_array_equal(found[index], ends[end])
    assert found[2].min() > 240
    assert found[3][0] > found[3][2]  # brighter is orange
    ramp = pictures.blended(np.linspace(0, 1, 9)[None], np.zeros((1, 9, 3))).sum(-1)[0]
    assert (np.diff(ramp.astype(int)) > 0).all()
    colour = np.array([[[0.0, 0.5, 1.0]]])
    np.testing.assert_array_equal(pictures.grey(colour), [[[0, 128, 255]]])


def test_small_pictures_are_held_in_the_page(tmp_path):
    held = Pictures(tmp_path / "report-files", limit=80)
    for name, picture in FILES:
        held.add(name, picture)
    assert held.inside
    first, second = held.links()
    assert first == "data:image/webp;base64," + "YWFh" * 10
    assert second.endswith("YmJi" * 10)
    held.tidy()
    assert not any(tmp_path.iterdir())


def test_the_byte_that_is_too_many_puts_all_pictures_beside_the_page(tmp_path):
    folder = tmp_path / "a report#1%-files"
    held = Pictures(folder, limit=84)
    held.add(*FILES[0], text=5)
    assert held.inside
    assert not folder.exists()
    held.add(*FILES[1])
    assert not held.inside
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict(FILES)
    assert held.links()[1] == "a%20report%231%25-files/00-0000001.webp"


@pytest.mark.parametrize("limit", [20, 1000])
def test_pictures_of_an_earlier_page_go(tmp_path, limit):
    held = Pictures(tmp_path / "report-files", limit=limit)
    (tmp_path / "report-files").mkdir()
    for name in ("00-0000000.webp", "00-0000007.webp"):
        (tmp_path / "report-files" / name).write_bytes(b"old")
    held.add(*FILES[0])
    held.tidy()
    kept = [path.name for path in tmp_path.glob("*/*")]
    assert kept == ([] if held.inside else ["00-0000000.webp"])
    assert (tmp_path / "report-files").exists() != held.inside


def test_files_of_others_stay(tmp_path):
    folder = tmp_path / "report-files"
    folder.mkdir()
    (folder / "notes.webp").write_bytes(b"mine")
    Pictures(folder, limit=9).tidy()
    assert (folder / "notes.webp").exists()
