import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import config, uid
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

from bfjax.data import ImageError, to_float
from bfjax.data.derived import derived_dicom, write_png16
from bfjax.data.dicom import decode_dicom

from .test_dicom import TEST_FILES, dataset, dicom, refusal, written

SHAPE = (6, 7)


def original(bits: int = 12, photometric: str = "MONOCHROME1", **tags) -> bytes:
    rng = np.random.default_rng(0)
    kind = np.uint8 if bits <= 8 else np.uint16
    return dicom(rng.integers(0, 2**bits, SHAPE).astype(kind), bits, photometric, **tags)


def altered(shape=SHAPE, *, seed: int = 1) -> np.ndarray:
    image = np.random.default_rng(seed).random((*shape, 1), np.float32)
    image[0, :3, 0] = 0, 1, 0.5
    return image


@pytest.mark.parametrize("bits", [7, 8, 10, 12, 15, 16])
def test_the_arithmetic_is_that_of_the_docstring(bits, tmp_path):
    image, top, full = altered(), 2**bits - 1, 255 if bits <= 8 else 65535
    derived_dicom(original(bits), image, tmp_path / "new.dcm")
    new = pydicom.dcmread(tmp_path / "new.dcm")
    levels = [round(float(v) * top) for v in image.ravel()]  # half to even, in float64
    np.testing.assert_array_equal(new.pixel_array.ravel(), levels)
    shown = [(2 * full * v + top) // (2 * top) for v in levels]  # rounded, in integers
    got = decode_dicom(tmp_path / "new.dcm")
    assert got.dtype == (np.uint8 if bits <= 8 else np.uint16)
    np.testing.assert_array_equal(got.ravel(), shown)
    assert [(2 * top * v + full) // (2 * full) for v in shown] == levels
    np.testing.assert_allclose(to_float(got), image, atol=0.5 / top + 0.5 / full + 1e-6)
    # for other viewers too, the window shows what is stored
    np.testing.assert_allclose(apply_voi_lut(new.pixel_array, new), new.pixel_array, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_an_image_that_was_not_altered_comes_back_bit_for_bit(bits, tmp_path):
    data = original(bits, RescaleSlope=2, RescaleIntercept=-9, WindowCenter=99, WindowWidth=150)
    image = decode_dicom(data)
    derived_dicom(data, to_float(image), tmp_path / "new.dcm")
    np.testing.assert_array_equal(decode_dicom(tmp_path / "new.dcm"), image)


def test_the_file_is_marked_and_valid(tmp_path, monkeypatch):
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    path = tmp_path / "made" / "new.dcm"
    derived_dicom(original(12), altered(), path)
    new = pydicom.dcmread(path)
    assert all(str(element) for element in new.iterall())  # each value read and validated
    assert new.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    assert new.ImageType == ["DERIVED", "SECONDARY"]
    assert "NOT FOR CLINICAL USE" in new.SeriesDescription
    assert "adversarial bias field" in new.DerivationDescription
    assert "ot for clinical use" in new.DerivationDescription
    assert new.PatientIdentityRemoved == "YES"
    assert len(new.DeidentificationMethod) == 2
    assert new.PhotometricInterpretation == "MONOCHROME2"
    assert (new.BitsAllocated, new.BitsStored, new.HighBit) == (16, 12, 11)
    assert new.PixelRepresentation == 0
    assert (new.WindowCenter, new.WindowWidth) == (2048, 4096)
    assert (new.Rows, new.Columns) == SHAPE
    assert path.stat().st_mode & 0o777 == 0o644
    for tag in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber"):
        assert tag in new
        assert not new[tag].value
    assert not {"RescaleSlope", "FrameOfReferenceUID"} & set(new.dir())


UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


def test_all_uids_are_new_each_time(tmp_path):
    old = {tag: f"1.2.3.{i}" for i, tag in enumerate(UIDS)}
    data, seen = original(**old), set(old.values())
    for name in ("a.dcm", "b.dcm"):
        derived_dicom(data, altered(), tmp_path / name)
        new = pydicom.dcmread(tmp_path / name)
        fresh = {new[tag].value for tag in UIDS}
        assert len(fresh) == 4
        assert not fresh & seen
        assert all(one.is_valid and one.startswith("2.25.") for one in fresh)
        seen |= fresh


@pytest.mark.parametrize(
    ("sop_class", "kept"),
    [
        (uid.ComputedRadiographyImageStorage, True),
        (uid.SecondaryCaptureImageStorage, True),
        (uid.DigitalXRayImageStorageForPresentation, False),
        (uid.CTImageStorage, False),
    ],
)
def test_the_sop_class_is_one_whose_attributes_are_there(sop_class, kept, tmp_path):
    derived_dicom(original(SOPClassUID=sop_class), altered(), tmp_path / "new.dcm")
    new = pydicom.dcmread(tmp_path / "new.dcm")
    assert new.SOPClassUID == (sop_class if kept else uid.SecondaryCaptureImageStorage)
    assert new.file_meta.MediaStorageSOPClassUID == new.SOPClassUID
    assert ("ConversionType" in new) == (new.SOPClassUID == uid.SecondaryCaptureImageStorage)


def test_technical_terms_are_kept_where_they_are_terms(tmp_path):
    tags = {
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "01",
        "PixelSpacing": [0.143, 0.143],
        "ImagerPixelSpacing": [1 / 7, 0.2],
    }
    derived_dicom(original(**tags), altered(), tmp_path / "new.dcm")
    new = pydicom.dcmread(tmp_path / "new.dcm")
    for tag, value in tags.items():
        if tag.endswith("Spacing"):
            np.testing.assert_allclose(list(new[tag].value), value, rtol=1e-12)
        else:
            assert new[tag].value == value
    other = {"Modality": "JANE", "BodyPartExamined": "JANE", "ViewPosition": ["PA", "JANE"]}
    derived_dicom(original(**other, PixelSpacing=[0, 1]), altered(), tmp_path / "new.dcm")
    new = pydicom.dcmread(tmp_path / "new.dcm")
    assert new.Modality == "OT"
    assert (new.BodyPartExamined, new.ViewPosition) == ("", "")
    assert "PixelSpacing" not in new


def test_annotations_burned_into_the_pixels_are_not_said_to_be_removed(tmp_path):
    derived_dicom(original(BurnedInAnnotation="YES"), altered(), tmp_path / "new.dcm")
    new = pydicom.dcmread(tmp_path / "new.dcm")
    assert (new.BurnedInAnnotation, new.PatientIdentityRemoved) == ("YES", "NO")


# Every kind of text, in the places where patients are named and in those where they should not be.
PLANTED = {
    "PatientName": "DOE^JANE",
    "PatientID": "MRN-471147",
    "PatientBirthDate": "19700131",
    "PatientAge": "056Y",
    "PatientAddress": "12 Elm Street",
    "OtherPatientIDs": ["OPID-1", "OPID-2"],
    "InstitutionName": "St. Elsewhere",
    "InstitutionAddress": "Boston 02118",
    "ReferringPhysicianName": "CRAIG^MARK",
    "OperatorsName": "ROSENTHAL^HELEN",
    "AccessionNumber": "ACC-0815",
    "StudyID": "STUDY-77",
    "StudyDate": "20200229",
    "AcquisitionDateTime": "20200229123456.789",
    "ContentTime": "123456.789",
    "StudyDescription": "thorax of Jane",
    "SeriesDescription": "thorax of Jane Doe",
    "ImageComments": "the mayor's wife",
    "DerivationDescription": "cropped by Mark",
    "DeidentificationMethod": "none whatever",
    "BodyPartExamined": "JANES CHEST",
    "ViewPosition": "JANES VIEW",
    "Modality": "JANE",
    "BurnedInAnnotation": "JANE",
    "ImageType": ["ORIGINAL", "PRIMARY", "JANE"],
    "StationName": "BAY-9",
    "DeviceSerialNumber": "SN-31337",
    "Manufacturer": "ACME X-rays",
    "StudyInstanceUID": "1.2.840.99999.1",
    "SeriesInstanceUID": "1.2.840.99999.2",
    "SOPInstanceUID": "1.2.840.99999.3",
    "FrameOfReferenceUID": "1.2.840.99999.4",
    "PixelSpacing": [0.25, 0.25],
}


@pytest.fixture
def plain_uids(monkeypatch):
    """Else some time the digits of a random UID would be those of a birth date."""
    monkeypatch.setattr(uid, "generate_uid", lambda prefix: uid.UID("2.25.99"))


def identifying() -> bytes:
    new = dataset(np.zeros(SHAPE, np.uint16), 12, **PLANTED)
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.PatientName = "1.2.840.99999.5", "DOE^JANE"
    new.SourceImageSequence = new.RequestAttributesSequence = [item]
    private = new.private_block(0x0011, "JANES CREATOR", create=True)
    private.add_new(0x01, "LO", "private Jane")
    new.add_new(0x60000010, "US", SHAPE[0])  # an overlay, a curve, padding behind the pixels
    new.add_new(0x60000022, "LO", "overlay of Jane")
    new.add_new(0x50000010, "US", 1)
    new.add_new(0x50000022, "LO", "curve of Jane")
    new.add_new(0xFFFCFFFC, "OB", b"trailing Jane.")
    new.file_meta.SourceApplicationEntityTitle = "JANES_AE"
    new.preamble = b"preamble of Jane".ljust(128, b"\0")
    return written(new)


IDENTIFYING = identifying()


def test_nothing_that_identifies_is_in_the_file(plain_uids, tmp_path, caplog, recwarn, capfd):
    data = IDENTIFYING
    derived_dicom(data, altered(), tmp_path / "new.dcm")
    new = (tmp_path / "new.dcm").read_bytes()
    values = [
        v for value in PLANTED.values() for v in (value if isinstance(value, list) else [value])
    ]
    kept = {0.25, "ORIGINAL", "PRIMARY"}
    for value in [*(v for v in values if v not in kept), "1.2.840.99999", "ORIGINAL", "Elm"]:
        assert value.encode() in data
        assert value.encode() not in new, value
    for part in (b"jane", b"doe", b"creator"):
        assert part in data.lower()
        assert part not in new.lower()
    parsed = pydicom.dcmread(io.BytesIO(new))
    groups = {tag.group for tag in parsed.keys()}  # noqa: SIM118 (a dataset's items are elements)
    assert groups <= {0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x7FE0}
    assert not any(element.VR == "SQ" for element in parsed)
    assert parsed.PixelSpacing == [0.25, 0.25]
    told = caplog.text + "".join(str(w.message) for w in recwarn) + "".join(capfd.readouterr())
    assert told == ""
    assert [path.name for path in tmp_path.iterdir()] == ["new.dcm"]


def test_of_pydicoms_bundled_files_no_text_gets_through(plain_uids, tmp_path):
    """Whatever text they hold: names, IDs, dates, UIDs, private values, in whatever tag."""
    texts = {"PN", "LO", "SH", "LT", "ST", "UT", "UI", "DA", "TM", "DT", "AE", "UC", "UR"}
    path, count = tmp_path / "new.dcm", 0
    for file in sorted(TEST_FILES.glob("*.dcm")):
        if file.name == "no_meta.dcm" or refusal(file, file.name) is not None:
            continue  # pydicom itself cannot read the first
        derived_dicom(file, altered(decode_dicom(file).shape[:2]), path)
        new = path.read_bytes()
        for element in pydicom.dcmread(file).iterall():
            values = element.value if element.VM > 1 else [element.value]
            for text in map(str, values if element.VR in texts else []):
                if len(text) > 5 and not text.startswith("1.2.840.10008."):
                    count += 1
                    assert text.encode() not in new, (file.name, element.tag, text)
    assert count > 150


def test_errors_name_the_file_and_nothing_in_it(tmp_path):
    data, image = IDENTIFYING, altered()
    (tmp_path / "old.dcm").write_bytes(data)
    for bad, reason in (
        (image[:5], r"image must be \(6, 7, 1\), as .*old\.dcm is, got \(5, 7, 1\)$"),
        (image * 1.01, r"image must lie in \[0, 1\], got 0\.0 to 1\.0"),
        (image - 0.01, r"image must lie in \[0, 1\], got -0\.0"),
        (image * np.float32(np.nan), "got nan to nan"),
    ):
        with pytest.raises(ValueError, match=reason) as caught:
            derived_dicom(tmp_path / "old.dcm", bad, tmp_path / "new.dcm")
        assert "DOE" not in str(caught.value)
    with pytest.raises(ValueError, match=r"old\.dcm is the original itself"):
        derived_dicom(tmp_path / "old.dcm", image, tmp_path / "old.dcm")
    assert (tmp_path / "old.dcm").read_bytes() == data
    for bad in (b"", b"text" * 99, data[:900], dicom(np.zeros((4, 4, 3), np.uint8), 8, "RGB")):
        with pytest.raises(ImageError, match=r"^<bytes>: [^\n]*$"):
            derived_dicom(bad, image, tmp_path / "new.dcm")
    assert [path.name for path in tmp_path.iterdir()] == ["old.dcm"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: derived_dicom(original(), altered(), path),
        lambda path: write_png16(altered(), path),
    ],
    ids=["dicom", "png"],
)
def test_a_file_is_whole_or_not_there(write, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"before"


def test_png_keeps_sixteen_bits(tmp_path):
    image = altered()
    write_png16(image, tmp_path / "made" / "a.png")
    with Image.open(tmp_path / "made" / "a.png") as png:
        assert png.mode == "I;16"
        got = np.asarray(png)
    want = [round(float(v) * 65535) for v in image.ravel()]
    np.testing.assert_array_equal(got.ravel(), want)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    write_png16(to_float(every), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as png:
        np.testing.assert_array_equal(np.asarray(png), every[..., 0])


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, np.inf])
def test_png_names_what_is_out_of_range(bad, tmp_path):
    image = altered()
    image[2, 2] = bad
    with pytest.raises(ValueError, match=r"^image must lie in \[0, 1\], got "):
        write_png16(image, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
