import base64
import io

import numpy as np
import pytest
from PIL import Image

from bfjax import data
from bfjax.report import pictures
from bfjax.report.standard import cases, load
from tests.report.standard.conftest import make_up


def loaded(folder):
    return load(folder)[0]


def test_the_nearest_of_each_model_come_before_the_next_of_any(audited):
    audits = loaded(audited)
    found = [(audits[a].name, light.log_range) for a, light in cases.order(audits, None)]
    assert found == [("middling", 0.05), ("weak", 0.02), ("middling", 0.15), ("weak", 0.03),
                     ("middling", 0.3), ("weak", 0.04), ("middling", 0.4), ("weak", 0.05),
                     ("weak", 0.1)]  # fmt: skip
    assert len(cases.order(audits, 3)) == 3
    assert cases.order(audits, 0) == []
    with pytest.raises(ValueError, match="--max-cases must not be negative, got -1"):
        cases.order(audits, -1)


def test_images_are_exact_to_8_bits_and_there_once(audited):
    audits = loaded(audited)
    shown = cases.gather(audits, cases.order(audits, None), limit=10**7)
    assert len(shown.facts) == 9
    assert len(shown.images) == 5  # two models were asked about four of them
    source = data.load("phantom", "test", image_size=32, num_examples=6)
    for fact in shown.facts:
        link = shown.images[fact["image"]].removeprefix("data:image/png;base64,")
        with Image.open(io.BytesIO(base64.b64decode(link))) as picture:
            read = np.asarray(picture)
        image = source[source.names.index(fact["file"])]["image"]
        np.testing.assert_array_equal(read, image[..., 0])


def test_no_more_than_fit_are_shown_and_the_nearest_first(audited):
    audits = loaded(audited)
    wanted = cases.order(audits, None)
    whole = cases.gather(audits, wanted, limit=10**7)
    few = cases.gather(audits, wanted, limit=len(whole.images[0]) + len(whole.images[1]) + 2000)
    assert 0 < len(few.facts) < 9
    assert few.facts == whole.facts[: len(few.facts)]
    assert few.images == whole.images[: len(few.images)]
    assert cases.gather(audits, wanted, limit=10) == ([], [])


def test_a_large_image_is_reduced():
    image = np.linspace(0, 1, 448 * 300).reshape(448, 300, 1)
    link = cases._link(image)
    with Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))) as picture:
        assert (picture.size, picture.mode) == (pictures.size(image.shape), "L")


def test_other_images_are_named(tmp_path):
    source = data.load("phantom", "test", image_size=32, num_examples=4)
    for record in source:
        path = tmp_path / "images" / record["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(record["image"][..., 0]).save(path)
    where = str(tmp_path / "images")
    make_up(tmp_path / "out", "one", (0.0, 0.1, 0.2, np.inf), where=where)
    audits = loaded(tmp_path / "out")
    wanted = cases.order(audits, None)
    assert len(cases.gather(audits, wanted, limit=10**7).facts) == 2
    with pytest.raises(FileNotFoundError, match=r"no/such/data.*--data says where"):
        cases.gather(audits, wanted, where="no/such/data", limit=10**7)
    moved = (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="--data says where the images lie now"):
        cases.gather(audits, wanted, limit=10**7)
    assert len(cases.gather(audits, wanted, where=str(moved), limit=10**7).facts) == 2
    path = moved / wanted[0][1].file
    with Image.open(path) as picture:
        dark = Image.fromarray(np.asarray(picture) // 2)
    dark.save(path)
    with pytest.raises(ValueError, match=f"{path.name} .* is not the image that was attacked"):
        cases.gather(audits, wanted, where=str(moved), limit=10**7)
    path.rename(path.with_name("another.png"))
    with pytest.raises(ValueError, match=f"there is no .*{path.name}; see --data"):
        cases.gather(audits, wanted, where=str(moved), limit=10**7)
