"""`bfjax attack --native`: files at the originals' size, judged as they are read back."""

import csv
import errno
import io
import json
import re
import shutil
import zipfile
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet
import pydicom
import pytest
from numpy.polynomial.polynomial import polyval2d
from PIL import Image
from pydicom.dataset import Dataset
from scipy.interpolate import RBFInterpolator

from bfjax import cli, data, storage
from bfjax.evaluation import native
from bfjax.evaluation.specification import bias_field_at
from bfjax.field import chunked_polynomial_tps, control_grid, exponents
from bfjax.metrics import wilson_interval
from tests.data.conftest import encoded, write_files
from tests.data.test_derived import PLANTED
from tests.data.test_dicom import dataset, written

SIDE, DEGREE, GRID = 24, 3, 3
CHANGE, LARGEST, OFFSET = 0.2, 0.3, 0.05
CLASSES = ("left", "right")


def sides(image):
    """A classifier: which half is brighter."""
    difference = 20 * (image[:, : SIDE // 2].mean() - image[:, SIDE // 2 :].mean())
    return jnp.stack([difference, -difference])


def corners(image):
    """Another one, that judges."""
    difference = 30 * (image[:8, :8].mean() - image[-8:, -8:].mean())
    return jnp.stack([difference, -difference])


def picture(seed, shape, label, top, dtype):
    """A grey picture, a little brighter on one side, with some black and some white."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    image = 0.5 + 0.25 * np.sin(5 * y + seed) + (0.08 if label == "right" else -0.08) * (x - 0.5)
    image += rng.normal(0, 0.02, shape)
    image[:2], image[-1, :3] = 0, 1
    return np.rint(np.clip(image, 0, 1) * top).astype(dtype)


def png(*arguments):
    return encoded(Image.fromarray(picture(*arguments)), "PNG")


def scan(seed, shape, label) -> bytes:
    """A DICOM file of 12 bits, dark where it is bright, whose header is full of its patient."""
    new = dataset(4095 - picture(seed, shape, label, 4095, np.uint16), 12, "MONOCHROME1", **PLANTED)
    new.WindowCenter, new.WindowWidth = 2048, 4096
    item = Dataset()
    item.PatientName = "DOE^JANE"
    new.RequestAttributesSequence = [item]
    new.private_block(0x0011, "JANES CREATOR", create=True).add_new(0x01, "LO", "private Jane")
    return written(new)


FILES = {
    "left/one.png": png(0, (40, 56), "left", 255, np.uint8),
    "right/one.png": png(1, (40, 56), "right", 65535, np.uint16),  # a name that is there twice
    "left/scan.dcm": scan(2, (33, 47), "left"),
    "right/IM1": scan(3, (30, 25), "right"),
    "right/ü ..\n☢?.png": png(4, (24, 24), "right", 255, np.uint8),
    "right/" + 50 * "long" + ".tif": png(5, (20, 61), "right", 65535, np.uint16),
}
FIELD = {"degree": DEGREE, "min-degree": 0, "grid-size": GRID, "num-steps": 6}
BOUNDS = {"max-change": CHANGE, "max-log-field": LARGEST, "offset": OFFSET}
BOUNDS |= {"log-field-bound": "clip"}


def run(root, out, *more, model="tests.evaluation.test_native:sides"):
    options = {"model": model, "data": root, "split": "all", "image-size": SIDE, "out": out}
    options |= {"batch-size": 4, **FIELD, **BOUNDS}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return cli.main(["attack", *words, "--no-measure", *map(str, more)])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_files(folder, FILES)
    return folder


@pytest.fixture(scope="module")
def out(root, tmp_path_factory):
    """A finished run, to which the native images were added later."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    more = ("--targets", "tests.evaluation.test_native:corners", "--gallery", 1)
    assert run(root, folder, *more) == 0
    assert not (folder / "native.json").exists()
    assert run(root, folder, *more, "--native") == 0
    return folder


def rows_of(out, name="native.csv"):
    with (out / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def equation(out, row, image):
    """Eq. 1, 2 and 4 in float64, by SciPy and NumPy, from the parameters of the shards."""
    stored = storage.read_shards(out / "shards").to_pylist()[row]
    a = np.array(stored["params.coefficients"], np.float64)
    theta = np.array(stored["params.control_points"], np.float64).reshape(-1, 2)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    pixels = np.stack([x.ravel(), y.ravel()], -1)
    spline = RBFInterpolator(control_grid(GRID), theta, kernel="thin_plate_spline", degree=1)
    table = np.zeros((DEGREE + 1, DEGREE + 1))
    table[tuple(np.array(exponents(DEGREE)).T)] = a
    log_field = polyval2d(*np.clip(spline(pixels), -1, 1).T, table).reshape(image.shape)
    log_field = np.clip(log_field, -LARGEST, LARGEST)
    changed = (image + OFFSET) * np.exp(log_field) - OFFSET
    return np.clip(np.clip(changed, image - CHANGE, image + CHANGE), 0, 1)


def clean(name):
    """The original in [0, 1], read without bfjax."""
    if name.endswith((".dcm", "IM1")):
        return (4095 - pydicom.dcmread(io.BytesIO(FILES[name])).pixel_array) / 4095
    image = np.asarray(Image.open(io.BytesIO(FILES[name])))
    return image / (255 if image.dtype == np.uint8 else 65535)


@pytest.mark.slow
def test_the_files_are_the_equation_at_the_originals_size_to_the_last_bit(out):
    rows = rows_of(out)
    assert sorted(row["file"] for row in rows) == sorted(FILES)
    assert sorted(row["written"] for row in rows) == sorted(
        f"adversarial/{path.name}" for path in (out / "adversarial").iterdir()
    )
    for i, row in enumerate(rows):
        image, path = clean(row["file"]), out / row["written"]
        if path.suffix == ".dcm":
            found, top = pydicom.dcmread(path), 4095
            assert (found.BitsStored, found.PhotometricInterpretation) == (12, "MONOCHROME2")
            levels = found.pixel_array
        else:
            levels, top = np.asarray(Image.open(path)), 65535
            assert levels.dtype == np.uint16
        # the originals of 12 bits are read in 65535ths: half of one, besides the rounding
        slack = 0.01 if path.suffix == ".png" else 0.05
        np.testing.assert_allclose(levels, top * equation(out, i, image), atol=0.5 + slack)
        assert np.abs(levels / top - image).max() > 0.02


def test_dicom_comes_out_as_derived_dicom_and_all_else_as_png(out):
    for row in rows_of(out):
        is_dicom = row["file"] in ("left/scan.dcm", "right/IM1")
        assert row["written"].endswith(".dcm" if is_dicom else ".png")
        if is_dicom:
            new = pydicom.dcmread(out / row["written"])
            assert new.ImageType == ["DERIVED", "SECONDARY"]
            assert "NOT FOR CLINICAL USE" in new.SeriesDescription
            assert new.PatientIdentityRemoved == "YES"
            assert not new.PatientName
            assert new.SOPInstanceUID != PLANTED["SOPInstanceUID"]
            assert new.StudyInstanceUID != PLANTED["StudyInstanceUID"]


@pytest.mark.slow
def test_dciodvfy_finds_no_error_in_what_is_written(dciodvfy, tmp_path):
    """Headers as X-ray machines write them, and no header at all."""
    headers = {
        "left/chest.dcm": {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA"},
        "left/breast.dcm": {
            **{"Modality": "MG", "BodyPartExamined": "BREAST", "ViewPosition": "MLO"},
            **{"ImageLaterality": "R", "FrameOfReferenceUID": "1.2.3"},
        },
        "right/limb.dcm": {"Modality": "CR", "BodyPartExamined": "EXTREMITY", "Laterality": "L"},
        "right/other.dcm": {"Modality": "OT", "LossyImageCompression": "01"},
    }
    files = {}
    for i, (name, tags) in enumerate(headers.items()):
        pixels = picture(i, (20 + i, 31), name.split("/")[0], 1023, np.uint16)
        files[name] = written(dataset(pixels, 10, **tags))
    write_files(tmp_path / "scans", files)
    assert run(tmp_path / "scans", tmp_path / "out", "--native") == 0
    new = sorted((tmp_path / "out" / "adversarial").glob("*.dcm"))
    assert len(new) == len(headers)
    assert {path.name: dciodvfy(path) for path in new} == {path.name: [] for path in new}
    kept = [pydicom.dcmread(path) for path in new]
    assert [one.get("BodyPartExamined") for one in kept] == ["BREAST", "CHEST", "EXTREMITY", ""]


def test_what_is_recorded_is_what_a_reader_of_the_files_gets(out):
    rows, told = rows_of(out), json.loads((out / "native.json").read_text())
    before = {row["file"]: row for row in rows_of(out, "records.csv")}
    counts = {"": [], "corners:": []}
    for row in rows:
        path = out / row["written"]
        image = data.decode_dicom(path) if path.suffix == ".dcm" else data.decode(path)
        seen = jnp.asarray(data.to_float(data.fit(image, image_size=SIDE, resize="squash")))
        label = CLASSES.index(row["label"])
        for prefix, model in (("", sides), ("corners:", corners)):
            logits = np.asarray(model(seen), np.float64)
            assert row[f"{prefix}native_prediction"] == CLASSES[logits.argmax()]
            share = np.exp(logits[label]) / np.exp(logits).sum()
            assert float(row[f"{prefix}native_score"]) == pytest.approx(share, abs=1e-5)
            first = before[row["file"]][f"{prefix}clean_prediction"]
            assert row[f"{prefix}clean_prediction"] == first
            fooled = first == row["label"] != row[f"{prefix}native_prediction"]
            assert row[f"{prefix}fooled"] == str(fooled).lower()
            counts[prefix].append((first == row["label"], fooled))
    for prefix, name in (("", "sides"), ("corners:", "corners")):
        correct, fooled = np.sum(counts[prefix], axis=0).tolist()
        low, high = wilson_interval(fooled, correct) if correct else (None, None)
        rate = fooled / correct if correct else None
        want = {"correct": correct, "fooled": fooled, "rate": rate, "low": low, "high": high}
        by_class = told["targets"][name].pop("by_class")
        assert told["targets"][name] == want
        for count in ("correct", "fooled"):
            assert sum(one[count] for one in by_class.values()) == want[count]
    assert told["images"] == len(FILES)
    assert told["targets"]["sides"]["fooled"] > 0
    assert told["targets"]["sides"]["correct"] == len(FILES)


def texts_of(out):
    """All that a folder says, names included, compressed or not."""
    for path in out.rglob("*"):
        yield path.name.encode()
        if path.is_file():
            yield path.read_bytes()
        if path.suffix == ".parquet":
            yield repr(pyarrow.parquet.read_table(path).to_pydict()).encode()
            yield repr(pyarrow.parquet.read_schema(path)).encode()
        if path.suffix == ".png":
            with Image.open(path) as image:
                yield repr(image.info).encode()
                yield image.tobytes()


@pytest.mark.slow
def test_nothing_of_the_patient_is_in_any_file_nor_said(root, tmp_path, capfd, caplog, recwarn):
    out = tmp_path / "out"
    assert run(root, out, "--native", "--gallery", 6) == 0
    assert cli.main(["report", str(out)]) == 0
    told = "".join(capfd.readouterr()) + caplog.text + "".join(str(w.message) for w in recwarn)
    assert "fooled" in told  # it is what was printed
    found = b"\n".join([told.encode(), *texts_of(out)])
    suffixes = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert suffixes == {".csv", ".dcm", ".html", ".json", ".parquet", ".png"}
    planted = [
        str(v)
        for value in PLANTED.values()
        for v in (value if isinstance(value, list) else [value])
    ]
    kept = {"ORIGINAL", "PRIMARY", "0.25"}
    for value in [*planted, "DOE^JANE", "JANES CREATOR", "private Jane", "1.2.840.99999"]:
        if value not in kept:
            assert value.encode() in FILES["left/scan.dcm"] or value.startswith("1.2.840.9999")
            assert value.encode() not in found, value
    assert b"jane" not in found.lower()


def test_an_error_about_a_scan_says_nothing_of_the_patient_either(tmp_path, capfd):
    whole = FILES["left/scan.dcm"]
    write_files(tmp_path / "images", {"a.dcm": whole, "b.dcm": whole[: len(whole) - 500]})
    assert run(tmp_path / "images", tmp_path / "out", "--native") == 1
    said = "".join(capfd.readouterr())
    assert "b.dcm" in said
    assert not any(word in said for word in ("JANE", "Jane", "MRN-471147", "19700131", "ACC-0815"))


def test_a_file_that_is_missing_is_written_again_and_only_that_one(root, out, tmp_path, capsys):
    again = tmp_path / "again"
    shutil.copytree(out, again)
    files = sorted((again / "adversarial").iterdir())
    gone = next(path for path in files if path.suffix == ".png")
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in files}
    gone.unlink()
    arguments = (root, again, "--targets", "tests.evaluation.test_native:corners", "--native")
    assert run(*arguments) == 0
    after = {p: (p.stat().st_ino, p.read_bytes()) for p in (again / "adversarial").iterdir()}
    assert after.pop(gone)[1] == before.pop(gone)[1]
    assert after == before
    for name in ("native.csv", "native.json", "summary.json", "records.csv"):
        assert (again / name).read_bytes() == (out / name).read_bytes(), name
    stamp = (again / "native.json").stat().st_ino
    capsys.readouterr()
    assert run(*arguments) == 0  # nothing is left to do
    assert f"{again}: finished before, nothing was run\n" in capsys.readouterr().out
    assert (again / "native.json").stat().st_ino == stamp


def test_a_full_disk_is_one_line_and_what_was_written_stays(
    root, out, tmp_path, monkeypatch, capsys
):
    again = tmp_path / "again"
    shutil.copytree(out, again)
    shutil.rmtree(again / "adversarial")
    (again / "native.json").unlink()
    write, calls = Path.write_bytes, []

    def full(path, content):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    arguments = (root, again, "--targets", "tests.evaluation.test_native:corners", "--native")
    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"no room for .*adversarial/\d{5}_\S+\.(png|dcm)", line)
    assert not (again / "native.json").exists()
    left = sorted(path.name for path in (again / "adversarial").iterdir())
    whole = sorted(path.name for path in (out / "adversarial").iterdir())
    assert 0 < len(left) < len(whole)
    assert set(left) < set(whole)
    monkeypatch.undo()
    assert run(*arguments) == 0
    assert sorted(path.name for path in (again / "adversarial").iterdir()) == whole
    assert (again / "native.json").read_bytes() == (out / "native.json").read_bytes()


def test_an_original_that_is_no_longer_readable_or_there_is_named(tmp_path, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    write_files(images, FILES)
    assert run(images, out, "--gallery", 0) == 0
    whole = FILES["right/one.png"]
    (images / "right/one.png").write_bytes(whole[: len(whole) // 2])
    assert run(images, out, "--native") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "right/one.png" in line
    (images / "right/one.png").rename(images / "right/other.png")
    assert run(images, out, "--native") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out} holds results of other images: right/one.png is gone" in line
    (images / "right/other.png").write_bytes(whole)
    assert run(images, out, "--native") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "right/one.png is now right/other.png; bring those back" in line


@pytest.mark.slow
def test_from_a_zip_file_they_are_the_same(root, out, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(f"images/{name}", content)
    assert run(tmp_path / "all.zip", tmp_path / "out", "--native") == 0
    for path in (out / "adversarial").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "out" / "adversarial" / path.name).read_bytes()


def test_phantoms_are_written_at_their_own_size(tmp_path):
    arguments = ("phantom", tmp_path / "out", "--split", "test", "--num-images", 2, "--native")
    assert run(*arguments) == 0
    table = storage.read_shards(tmp_path / "out" / "shards").to_pylist()
    source = data.load("phantom", "test", num_examples=2, image_size=SIDE)
    for i, row in enumerate(rows_of(tmp_path / "out")):
        image = data.to_float(source[i]["image"])[..., 0].astype(np.float64)
        levels = np.asarray(Image.open(tmp_path / "out" / row["written"]))
        np.testing.assert_allclose(levels, 65535 * equation(tmp_path / "out", i, image), atol=0.51)
        assert row["native_prediction"] == table[i]["adversarial_prediction"]


@pytest.mark.parametrize(
    "name",
    [
        *("NORMAL/a.png", "a", ".png", "..", "../../etc/passwd", "a/..", "-rf", "a\nb\r\0.png"),
        *(
            "CON/aux.dcm",
            "☢☢☢",
            "x" * 300,
            "a b'\"$(ls)`;|&<>.png",
            "1.2.840.10008.1",
            "a\\b:c.png",
        ),
    ],
)
def test_names_are_harmless(name):
    stem = native.file_stem(7, name)
    assert re.fullmatch(r"00007(_[A-Za-z0-9][A-Za-z0-9._-]*)?", stem)
    assert len(stem) <= 80
    assert native.file_stem(8, name) != stem


def test_a_bound_held_by_scaling_is_not_clipped_again():
    options = {"degree": 2, "grid_size": 2, "min_degree": 0, "max_change": None}
    params = chunked_polynomial_tps((1, 1), degree=2, grid_size=2, min_degree=0).init()
    params = params._replace(coefficients=params.coefficients.at[0].set(0.5))
    image = np.full((3, 4, 1), 0.5)
    held = {"clip": 0.3, "project": 0.5, "tanh": 0.3 * np.tanh(0.5 / 0.3)}
    for bound, log_field in held.items():
        want = np.exp(log_field) / 2
        bounded = options | {"max_log_field": 0.3, "log_field_bound": bound}
        made = native.adversarial_at(partial(bias_field_at, bounded), params, image)
        assert made.dtype == np.float64
        np.testing.assert_allclose(made, want, rtol=1e-12)


def test_the_encoding_is_that_of_the_attack():
    options = {"degree": 2, "grid_size": 2, "min_degree": 0, "border": "clamp"}
    options |= {"encoding": "log", "gamma": 0.4}
    params = chunked_polynomial_tps((1, 1), degree=2, grid_size=2, min_degree=0).init()
    params = params._replace(coefficients=params.coefficients.at[0].set(0.5))
    made = native.adversarial_at(partial(bias_field_at, options), params, np.full((3, 4, 1), 0.5))
    np.testing.assert_allclose(made, 0.5 - 0.4 * 0.5, rtol=1e-12)


def test_a_dry_run_counts_the_files_too_and_writes_nothing(root, tmp_path, capsys):
    assert run(root, tmp_path / "out", "--native", "--dry-run") == 0
    told = capsys.readouterr().out
    assert told.count("images") >= 2
    assert "in all" in told
    assert not (tmp_path / "out").exists()
