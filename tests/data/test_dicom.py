import io
import logging
import math
import re
import sys
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import config, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from bfjax.data import ImageError
from bfjax.data.dicom import decode_dicom, is_dicom

from .conftest import encoded

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
NAME = "DOE^JANE"  # stands for everything in a header that says who the patient is


def dataset(pixels: np.ndarray, bits: int, photometric: str = "MONOCHROME2", **tags) -> Dataset:
    new = Dataset()
    new.SOPClassUID = uid.ComputedRadiographyImageStorage
    new.SOPInstanceUID = uid.generate_uid()
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    new.set_pixel_data(pixels, photometric, bits)
    for tag, value in tags.items():
        setattr(new, tag, value)
    return new


def written(new: Dataset, syntax: uid.UID | None = None) -> bytes:
    file = io.BytesIO()
    if syntax is not None:
        new.file_meta.TransferSyntaxUID = syntax
    new.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicom(pixels: np.ndarray, bits: int, photometric: str = "MONOCHROME2", **tags) -> bytes:
    return written(dataset(pixels, bits, photometric, **tags))


def refusal(file, name: str) -> str | None:
    """The message of the error, if it is one."""
    try:
        assert decode_dicom(file, name).ndim == 3
    except ImageError as error:
        return str(error)
    return None


def every_value(bits: int, *, signed: bool = False) -> np.ndarray:
    """All values that can be stored, as an image."""
    values = np.arange(2**bits) - (2 ** (bits - 1) if signed else 0)
    kind = ("int" if signed else "uint") + ("8" if bits <= 8 else "16")
    return values.astype(kind).reshape(2 ** (bits // 2), -1)


# The three functions of PS3.3 C.11.2.1.2 and C.11.2.1.3, with y_min = 0 and y_max = 1.


def linear(x, c, w):
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 1.0
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x, c, w):
    if x <= c - w / 2:
        return 0.0
    if x > c + w / 2:
        return 1.0
    return (x - c) / w + 0.5


def sigmoid(x, c, w):
    return 1 / (1 + math.exp(-4 * (x - c) / w))


FUNCTIONS = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


def assert_shows(got: np.ndarray, want: np.ndarray, bits: int) -> None:
    """`want` in [0, 1], rounded to the full scale of the depth."""
    full, dtype = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
    assert got.dtype == dtype
    assert got.shape == (*want.shape, 1)
    np.testing.assert_allclose(got[..., 0], want * full, atol=0.5 + 1e-6, rtol=0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_windows_are_the_formulae_of_the_standard(function, bits, signed, photometric):
    pixels = every_value(bits, signed=signed)
    low, size = int(pixels.min()), 2**bits
    inside, whole = (low + 0.3 * size, size / 5), (low + size / 2, size)
    for center, width in (inside, whole, (low + 1.5, 2), (low + size, 3 * size)):
        data = dicom(
            pixels,
            bits,
            photometric,
            WindowCenter=center,
            WindowWidth=width,
            VOILUTFunction=function,
        )
        want = [FUNCTIONS[function](x, center, width) for x in pixels.ravel().tolist()]
        want = np.reshape(want, pixels.shape)
        assert_shows(decode_dicom(data), 1 - want if photometric == "MONOCHROME1" else want, bits)


@pytest.mark.parametrize(
    ("function", "width"), [("LINEAR", 1), ("LINEAR_EXACT", 0.5), ("SIGMOID", 0.001)]
)
def test_the_narrowest_windows_are_steps(function, width):
    pixels = every_value(8)
    data = dicom(pixels, 8, WindowCenter=100, WindowWidth=width, VOILUTFunction=function)
    got = decode_dicom(data).ravel()
    first = {"LINEAR": 100, "LINEAR_EXACT": 101, "SIGMOID": 101}[function]
    assert (got[:100] == 0).all()
    assert (got[first:] == 255).all()


def test_the_window_is_linear_if_nothing_else_is_said_and_the_first_of_several():
    pixels = every_value(8)
    data = dicom(pixels, 8, WindowCenter=[90, 10], WindowWidth=[64, 2])
    want = np.reshape([linear(x, 90, 64) for x in range(256)], pixels.shape)
    assert_shows(decode_dicom(data), want, 8)


@pytest.mark.parametrize("slope", [2.5, 0.01, -1])
def test_rescaling_comes_before_the_window_and_inversion_after(slope):
    pixels = every_value(12, signed=True)
    x = slope * pixels.astype(float) - 1024
    center, width = float(np.median(x)) + 0.1 * abs(slope), 900 * abs(slope) + 1
    tags = {"RescaleSlope": slope, "RescaleIntercept": -1024}
    data = dicom(pixels, 12, "MONOCHROME1", WindowCenter=center, WindowWidth=width, **tags)
    want = np.reshape([1 - linear(v, center, width) for v in x.ravel()], pixels.shape)
    assert_shows(decode_dicom(data), want, 12)


def test_without_a_window_the_range_is_that_of_the_pixels():
    pixels = np.array([[700, 800], [1000, 1100]], np.uint16)
    want = (pixels - 700.0) / 400
    assert_shows(decode_dicom(dicom(pixels, 12)), want, 12)
    assert_shows(decode_dicom(dicom(pixels, 12, "MONOCHROME1")), 1 - want, 12)
    turned = dicom(pixels, 12, RescaleSlope=-0.5, RescaleIntercept=3)
    assert_shows(decode_dicom(turned), 1 - want, 12)
    one = dicom(np.full((2, 3), 9, np.uint8), 8, WindowCenter="", WindowWidth="")
    assert_shows(decode_dicom(one), np.zeros((2, 3)), 8)


def test_padding_does_not_stretch_the_range():
    pixels = np.array([[-2000, -1990, -1980], [100, 150, 200]], np.int16)
    want = np.array([[0, 0, 0], [0, 0.5, 1]])
    tags = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1980}
    assert_shows(decode_dicom(dicom(pixels, 16, **tags)), want, 16)
    high = np.array([[4095, 100, 150, 200]], np.uint16)
    data = dicom(high, 12, "MONOCHROME1", PixelPaddingValue=4095)
    assert_shows(decode_dicom(data), np.array([[0, 1, 0.5, 0]]), 12)
    new = dataset(pixels[:, ::2], 16)
    new.add_new("PixelPaddingValue", "US", 2**16 - 2000)  # a sign lost by the writer
    new.add_new("PixelPaddingRangeLimit", "US", 2**16 - 1980)
    assert_shows(decode_dicom(written(new)), want[:, ::2], 16)
    nothing = dicom(np.full((2, 2), 7, np.uint8), 8, PixelPaddingValue=7)
    with pytest.raises(ImageError, match=r"^x\.dcm: every pixel is padding$"):
        decode_dicom(nothing, "x.dcm")


def lut(table: np.ndarray, first: int, bits: int, vr: str, *, kind: str = "US") -> Dataset:
    item = Dataset()
    first = first % 2**16 if kind == "US" else first
    item.add_new("LUTDescriptor", kind, [len(table) % 2**16, first, bits])
    data = table.tolist() if vr == "US" else table.tobytes()
    item.add_new("LUTData", vr, data if vr == "US" or len(data) % 2 == 0 else data + b"\0")
    return item


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize(
    ("bits", "dtype"), [(8, np.uint8), (8, np.uint16), (10, np.uint16), (16, np.uint16)]
)
def test_a_voi_lut_wins_over_a_window(vr, bits, dtype):
    """As uint8, entries lie two in a word."""
    table = np.random.default_rng(0).integers(0, 2**bits, 101).astype(dtype)
    item = lut(table, 50, bits, vr)
    pixels = every_value(12)
    data = dicom(pixels, 12, WindowCenter=9, WindowWidth=9, VOILUTSequence=[item])
    want = table[np.clip(pixels.astype(int) - 50, 0, 100)] / (2**bits - 1)
    assert_shows(decode_dicom(data), want, 12)


@pytest.mark.parametrize("kind", ["SS", "US"])
def test_a_voi_lut_takes_what_the_modality_gives(kind):
    """The first value mapped is negative, whichever sign its writer gave it."""
    table = (np.arange(2**16, dtype=np.uint16) * 7) % 4096
    pixels = every_value(12)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    data = dicom(pixels, 12, VOILUTSequence=[lut(table, -1000, 12, "OW", kind=kind)], **tags)
    want = table[np.clip(pixels.astype(int) - 1024 + 1000, 0, None)] / 4095
    assert_shows(decode_dicom(data), want, 12)


def test_a_modality_lut_comes_before_the_window():
    table = np.arange(256, dtype=np.uint16)[::-1] ** 2
    pixels = every_value(8)
    tags = {"WindowCenter": 30000, "WindowWidth": 40000}
    data = dicom(pixels, 8, "MONOCHROME1", ModalityLUTSequence=[lut(table, 0, 16, "US")], **tags)
    want = np.reshape([1 - linear(int(v), 30000, 40000) for v in table], pixels.shape)
    assert_shows(decode_dicom(data), want, 8)


@pytest.mark.parametrize("bad", ["too short", "too deep"])
def test_a_damaged_lut_is_an_error(bad):
    table = np.arange(64, dtype=np.uint16) * (64 if bad == "too deep" else 1)
    item = lut(table, 0, 10, "US")
    if bad == "too short":
        item.LUTDescriptor = [65, 0, 10]
    data = dicom(every_value(8), 8, VOILUTSequence=[item])
    with pytest.raises(
        ImageError, match=r"^x\.dcm: the modality, VOI or presentation LUT is damaged$"
    ):
        decode_dicom(data, "x.dcm")


@pytest.mark.parametrize(
    "file", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "examples_overlay.dcm"]
)
def test_real_files_against_pydicoms_own_luts(file):
    original = pydicom.dcmread(get_testdata_file(file, download=False))
    x = apply_modality_lut(original.pixel_array, original)
    y = apply_voi_lut(x, original)
    low, high = float(x.min()), float(x.max())
    if "WindowWidth" in original:  # pydicom's full scale after a window
        half = 2 ** (original.BitsStored - 1) if original.PixelRepresentation else 0
        slope, intercept = original.get("RescaleSlope", 1), original.get("RescaleIntercept", 0)
        low = -half * slope + intercept
        high = (2**original.BitsStored - 1 - half) * slope + intercept
    got = decode_dicom(get_testdata_file(file, download=False))
    assert_shows(got, (y - low) / (high - low), original.BitsStored)
    assert len(np.unique(got)) > 100


def test_all_encodings_of_one_image_give_the_same_pixels():
    want = decode_dicom(TEST_FILES / "MR_small.dcm")
    for kind in ("RLE", "bigendian", "implicit", "expb", "padded", "jp2klossless"):
        got = decode_dicom(TEST_FILES / f"MR_small_{kind}.dcm")
        np.testing.assert_array_equal(got, want, err_msg=kind)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", ["RLELossless", "DeflatedExplicitVRLittleEndian", "Implicit"])
def test_lossless_transfer_syntaxes(bits, signed, syntax):
    pixels = every_value(bits, signed=signed)
    tags = {"WindowCenter": 20, "WindowWidth": 100}
    want = decode_dicom(dicom(pixels, bits, **tags))
    new = dataset(pixels, bits, **tags)
    if syntax == "RLELossless":
        new.compress(uid.RLELossless, generate_instance_uid=False)
        data = written(new)
    else:
        data = written(new, getattr(uid, syntax.replace("Implicit", "ImplicitVRLittleEndian")))
    np.testing.assert_array_equal(decode_dicom(data), want)


def jpeg(photometric: str = "MONOCHROME2", *, cut: bool = False) -> tuple[bytes, bytes]:
    """A DICOM around a JPEG, and the JPEG."""
    pixels = np.add.outer(np.arange(32) * 3, np.arange(40) * 2).astype(np.uint8)
    frame = encoded(Image.fromarray(pixels), "JPEG", quality=75)
    frame = frame[: len(frame) // 2] if cut else frame
    new = dataset(pixels, 8, photometric, WindowCenter=128, WindowWidth=256)
    new.PixelData = encapsulate([frame])
    new["PixelData"].is_undefined_length = True
    return written(new, uid.JPEGBaseline8Bit), frame


def test_jpeg():
    data, frame = jpeg()
    want = np.asarray(Image.open(io.BytesIO(frame)))
    got = decode_dicom(data)
    np.testing.assert_allclose(got[..., 0], want.astype(float), atol=1)  # another decoder rounds
    np.testing.assert_array_equal(decode_dicom(jpeg("MONOCHROME1")[0]), 255 - got)


def test_bits_beyond_those_stored_are_not_the_picture():
    pixels = every_value(12)
    want = decode_dicom(dicom(pixels, 12, WindowCenter=2048, WindowWidth=4096))
    new = dataset(pixels, 12, WindowCenter=2048, WindowWidth=4096)
    new.PixelData = (pixels | 0xA000).tobytes()  # an overlay in the highest bits, as of old
    np.testing.assert_array_equal(decode_dicom(written(new)), want)


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def multi_frame() -> bytes:
    return dicom(np.stack([GREY, GREY]), 8)


def hidden_frame() -> bytes:
    new = dataset(GREY, 8)
    new.PixelData = new.PixelData * 2
    return written(new)


def changed(**tags) -> bytes:
    """With other tags; `None` deletes one."""
    new = dataset(GREY, 8)
    for tag, value in tags.items():
        if value is None:
            del new[tag]
        else:
            setattr(new, tag, value)
    return written(new)


def float_pixels() -> bytes:
    new = dataset(GREY, 8)
    del new.PixelData
    new.FloatPixelData = GREY.astype(np.float32).tobytes()
    return written(new)


def other_syntax() -> bytes:
    """A transfer syntax of someone's own; of as many characters as that it replaces."""
    data, own = changed(), b"1.2.3.40.10008.1.2."
    return data.replace(b"1.2.840.10008.1.2.1", own, 1)


BAD = {
    "zero bytes": (lambda: b"", r"the file is empty \(zero bytes\)"),
    "text": (lambda: b"Dear radiologist,\n" * 20, "no DICOM file"),
    "cut in the preamble": (lambda: changed()[:100], "no DICOM file"),
    "cut in the header": (lambda: changed()[:400], "no pixel data"),
    "cut in the pixels": (lambda: changed()[:-10], "damaged or cut short"),
    "RLE cut": (lambda: (TEST_FILES / "MR_small_RLE.dcm").read_bytes()[:-3000], "no pixel data"),
    "JPEG cut": (lambda: jpeg(cut=True)[0], "JPEG Baseline .* damaged or cut short"),
    "no pixels": (lambda: changed(PixelData=None), "no pixel data"),
    "a report": (lambda: (TEST_FILES / "reportsi.dcm").read_bytes(), "no pixel data"),
    "float pixels": (float_pixels, "float pixels have no known range"),
    "RGB": (lambda: dicom(np.zeros((4, 4, 3), np.uint8), 8, "RGB"), "colour"),
    "palette": (lambda: dicom(GREY, 8, "PALETTE COLOR"), "colour"),
    "several frames": (multi_frame, "2 frames in one file"),
    "a hidden frame": (hidden_frame, "2 frames in one file"),
    "one bit": (lambda: (TEST_FILES / "liver_1frame.dcm").read_bytes(), "1 of 1 bits"),
    "32 bits": (lambda: (TEST_FILES / "rtdose_1frame.dcm").read_bytes(), "32 of 32 bits"),
    "no rows": (lambda: changed(Rows=None), "the header lacks Rows$"),
    "zero rows": (lambda: changed(Rows=0), "damaged"),
    "more rows": (lambda: changed(Rows=7), "damaged or cut short"),
    "high bit": (lambda: changed(BitsStored=6), "6 of 8 bits up to bit 7"),
    "no bits": (lambda: changed(BitsStored=0, HighBit=-1 % 2**16), "0 of 8 bits"),
    "more bits": (lambda: changed(BitsStored=9, HighBit=8), "9 of 8 bits"),
    "slope of 0": (lambda: changed(RescaleSlope=0, RescaleIntercept=1), "RescaleSlope"),
    "shape": (lambda: changed(PresentationLUTShape="LIN OD"), "PresentationLUTShape"),
    "function": (
        lambda: changed(WindowCenter=1, WindowWidth=9, VOILUTFunction="CUBIC"),
        "VOILUTFunction",
    ),
    "transfer syntax": (other_syntax, "transfer syntax"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_by_name_in_one_line(kind, tmp_path):
    make, reason = BAD[kind]
    path = tmp_path / "Röntgen 胸部.dcm"
    path.write_bytes(make())
    for file, name in ((path, None), (make(), str(path))):
        with pytest.raises(ImageError, match=reason) as caught:
            decode_dicom(file, name)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_read_is_an_error_of_reading(tmp_path):
    for path in (tmp_path, tmp_path / "none.dcm"):
        with pytest.raises(OSError, match=str(path)):
            decode_dicom(path)


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "RLELossless"])
def test_truncated_anywhere_is_named_or_whole(syntax):
    new = dataset(GREY[:, :7], 8, WindowCenter=90, WindowWidth=64)
    if syntax == "RLELossless":
        new.compress(uid.RLELossless, generate_instance_uid=False)
    data = written(new)
    whole, named = decode_dicom(data), 0
    for length in range(len(data)):
        try:
            got = decode_dicom(data[:length], "cut.dcm")
        except ImageError as error:
            named += str(error).startswith("cut.dcm: ") and "\n" not in str(error)
        else:  # the last bytes are padding, or the mark of the end
            np.testing.assert_array_equal(got, whole)
    assert named >= len(data) - 12


@pytest.mark.filterwarnings("ignore:x. :UserWarning")
def test_damage_anywhere_gives_an_image_or_an_image_error(caplog):
    data = dicom(GREY, 8, WindowCenter=90, WindowWidth=64, PatientName=NAME, PatientID="ID-4711")
    rng = np.random.default_rng(0)
    told = []
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        told.append(refusal(bytes(damaged), "x"))
    told = [message for message in told if message is not None]
    assert len(told) > 50
    assert not any(part in message for message in told for part in ("DOE", "JANE", "4711"))
    assert not caplog.records


def test_decompression_bomb(monkeypatch):
    data = dicom(np.zeros((300, 200), np.uint8), 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 59_999)
    with pytest.raises(ImageError, match=r"^big\.dcm: 200x300 pixels exceed the limit of 59999"):
        decode_dicom(data, "big.dcm")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    assert decode_dicom(data, "big.dcm").shape == (300, 200, 1)
    bomb = dataset(np.zeros((300, 200), np.uint8), 8)
    bomb.add_new(0x7FE10010, "OB", bytes(2**24))
    data = written(bomb, uid.DeflatedExplicitVRLittleEndian)
    assert len(data) < 2**17
    assert decode_dicom(data).shape == (300, 200, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(ImageError, match=r"^big\.dcm: inflates to more than 20000 pixels"):
        decode_dicom(data, "big.dcm")


def planted(tag: str, fitting: str) -> bytes:
    """A file with the name of the patient where a number or a UID should be."""
    assert len(fitting) == len(NAME)
    new = dataset(GREY, 8, **({"WindowCenter": 9, "WindowWidth": 9} | {tag: fitting}))
    return written(new).replace(fitting.encode(), NAME.encode())


PLANTED = {
    "WindowCenter": "12345678",
    "RescaleSlope": "12345678",
    "NumberOfFrames": "00000001",
    "PixelAspectRatio": "12345678",
    "StudyInstanceUID": "1.2.3.45",
    "PatientBirthDate": "19700131",
    "PhotometricInterpretation": "ABCDEFGH",
    "VOILUTFunction": "ABCDEFGH",
    "SpecificCharacterSet": "ABCDEFGH",
}


@pytest.mark.parametrize("tag", PLANTED)
def test_nothing_of_a_header_gets_out(tag, caplog, recwarn, capfd):
    caplog.set_level(logging.DEBUG)
    data = planted(tag, PLANTED[tag])
    assert NAME.encode() in data
    try:
        decode_dicom(data, "x.dcm")
    except ImageError as error:
        told = "".join(traceback.format_exception(error))
        assert "x.dcm: " in told
    else:
        told = ""
    told += caplog.text + "".join(str(w.message) for w in recwarn) + "".join(capfd.readouterr())
    assert "DOE" not in told
    assert "JANE" not in told


def test_pydicom_itself_would_tell(caplog):
    """Or else the test above proves nothing."""
    original = pydicom.dcmread(io.BytesIO(planted("NumberOfFrames", "00000001")))
    with pytest.warns(UserWarning, match="DOE"):
        _ = original.NumberOfFrames
    assert "DOE" in caplog.text
    original = pydicom.dcmread(io.BytesIO(planted("RescaleSlope", "12345678")))
    with pytest.raises(ValueError, match="DOE"):
        float(original.RescaleSlope)


@pytest.mark.filterwarnings("ignore:no_meta.dcm. :UserWarning")
def test_pydicoms_bundled_files_are_read_or_refused_without_a_word_of_theirs(caplog):
    paths = [path for path in sorted(TEST_FILES.glob("*.dcm")) if is_dicom(path.read_bytes())]
    told = {path.name: refusal(path, path.name) for path in paths}
    assert list(told.values()).count(None) >= 13
    for name, message in told.items():
        if message is not None:
            assert message.startswith(f"{name}: ")
            assert "\n" not in message
            assert not re.search(r"\d{6}|\d\.\d", message.removeprefix(name))
    assert not caplog.records


def test_warnings_and_logging_are_as_before():
    data, bad = changed(), planted("StudyInstanceUID", "1.2.3.45")
    logger = logging.getLogger("pydicom")
    before = list(warnings.filters), logger.level
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: decode_dicom((data, bad)[i % 2]), range(64)))
    with pytest.raises(ImageError):
        decode_dicom(data[:-10])
    assert (list(warnings.filters), logger.level) == before
    assert config.settings.reading_validation_mode == config.WARN


def test_without_pydicom_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    with pytest.raises(ImportError, match=r"^x\.dcm: .*pip install 'bfjax\[dicom\]'$"):
        decode_dicom(changed(), "x.dcm")
