"""Headers at the edge of the standard, or beyond it: read as meant, with a warning by name."""

import io

import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_presentation_lut

from bfjax.data import ImageError, decode_dicom
from bfjax.data.dicom import is_dicom

from .test_dicom import assert_shows, dataset, dicom, every_value, linear, lut, written

PIXELS = every_value(12)
RAMP = PIXELS / 4095


@pytest.mark.parametrize("used", [8, 10, 12, 15])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_a_lut_of_fewer_bits_than_declared_fills_the_range(used, vr):
    table = np.linspace(0, 2**used - 1, 4096).round().astype(np.uint16)
    data = dicom(PIXELS, 12, VOILUTSequence=[lut(table, 0, 16, vr)])
    with pytest.warns(UserWarning, match=rf"^x\.dcm: its VOI LUT .* than the {used} it uses"):
        got = decode_dicom(data, "x.dcm")
    assert_shows(got, table[PIXELS] / (2**used - 1), 12)


@pytest.mark.parametrize("first", [-2048, -1])
def test_the_first_value_mapped_may_be_negative(first):
    pixels = every_value(12, signed=True)
    table = np.random.default_rng(0).integers(0, 2**16, 4096).astype(np.uint16)
    data = dicom(pixels, 12, VOILUTSequence=[lut(table, first, 16, "OW", kind="SS")])
    assert_shows(decode_dicom(data), table[np.clip(pixels - first, 0, 4095)] / 65535, 12)


@pytest.mark.parametrize(
    "sequence", ["ModalityLUTSequence", "VOILUTSequence", "PresentationLUTSequence"]
)
@pytest.mark.parametrize("items", ["none", "empty", "without values", "then one", "explained"])
def test_items_without_a_lut_are_absent(sequence, items):
    item = Dataset()
    if items == "without values":
        item.add_new("LUTDescriptor", "US", None)
        item.add_new("LUTData", "US", None)
    if items == "explained":
        item.LUTExplanation = "none"
    value = [] if items == "none" else [item]
    want = RAMP
    if items == "then one":
        value.append(lut(np.arange(4096, dtype=np.uint16)[::-1] * 16, 0, 16, "US"))
        want = 1 - RAMP
    data = dicom(PIXELS, 12, **{sequence: value})
    got = decode_dicom(data)
    np.testing.assert_allclose(got[..., 0], want * 65535, atol=16)


NO_WIDTH = {"LINEAR": (0, 0.5, -3), "LINEAR_EXACT": (0, -1), "SIGMOID": (0, -1)}


@pytest.mark.parametrize(("function", "width"), [(f, w) for f, ws in NO_WIDTH.items() for w in ws])
def test_a_window_without_width_is_none(function, width):
    tags = {"WindowCenter": 9, "WindowWidth": width, "VOILUTFunction": function}
    with pytest.warns(UserWarning, match=r"^x\.dcm: its window has no width"):
        got = decode_dicom(dicom(PIXELS // 2 + 1, 12, **tags), "x.dcm")
    assert_shows(got, (PIXELS // 2) / 2047, 12)


@pytest.mark.parametrize("text", [b"abcd", b"1,5 ", b"NaN ", b"\\", b"Inf "])
def test_a_number_that_is_none(text):
    data = dicom(PIXELS, 12, WindowCenter=2000, WindowWidth=1111)
    with pytest.warns(UserWarning, match=r"^x\.dcm: its window has no width"):
        got = decode_dicom(data.replace(b"1111", text.ljust(4)), "x.dcm")
    assert_shows(got, RAMP, 12)
    data = dicom(PIXELS, 12, RescaleIntercept=0, RescaleSlope=1111)
    with pytest.raises(ImageError, match=r"^x\.dcm: RescaleSlope or RescaleIntercept"):
        decode_dicom(data.replace(b"1111", text.ljust(4)), "x.dcm")


@pytest.mark.parametrize("tag", ["WindowCenter", "WindowWidth"])
def test_half_a_window_is_none(tag):
    with pytest.warns(UserWarning, match=r"^x\.dcm: its window has no width"):
        got = decode_dicom(dicom(PIXELS, 12, **{tag: 1000}), "x.dcm")
    assert_shows(got, RAMP, 12)


@pytest.mark.parametrize("where", ["Shared", "PerFrame"])
def test_the_functional_groups_of_one_frame(where):
    window, rescale, group = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 3000, 1600
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -1000
    group.FrameVOILUTSequence, group.PixelValueTransformationSequence = [window], [rescale]
    data = dicom(PIXELS, 12, **{f"{where}FunctionalGroupsSequence": [group], "NumberOfFrames": 1})
    want = [linear(2 * x - 1000, 3000, 1600) for x in PIXELS.ravel().tolist()]
    assert_shows(decode_dicom(data), np.reshape(want, PIXELS.shape), 12)


def test_the_first_window_with_a_width_is_taken():
    data = dicom(PIXELS, 12, WindowCenter=[0, 1000], WindowWidth=[0, 800])
    want = [linear(x, 1000, 800) for x in PIXELS.ravel().tolist()]
    assert_shows(decode_dicom(data), np.reshape(want, PIXELS.shape), 12)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE", ""])
def test_the_presentation_inverts_once(photometric, shape):
    data = dicom(PIXELS, 12, photometric, PresentationLUTShape=shape)
    dark = photometric == "MONOCHROME1" or shape == "INVERSE"
    assert_shows(decode_dicom(data), 1 - RAMP if dark else RAMP, 12)


def test_a_presentation_lut():
    table = (np.linspace(0, 1, 4096) ** 2 * 65535).round().astype(np.uint16)
    new = dataset(PIXELS, 12, PresentationLUTSequence=[lut(table, 0, 16, "US")])
    assert_shows(decode_dicom(written(new)), apply_presentation_lut(PIXELS, new) / 65535, 12)
    new.PhotometricInterpretation = "MONOCHROME1"
    with pytest.raises(ImageError, match=r"^x\.dcm: MONOCHROME1 with a presentation LUT"):
        decode_dicom(written(new), "x.dcm")


def jpeg2000(stored: np.ndarray, bits: int, *, signed: bool, **tags) -> bytes:
    """A header of one sign around a codestream of the other, or of the same."""
    frame = encode_array(stored, bits_stored=bits, photometric_interpretation=2)
    unsigned = stored.view(f"uint{8 * stored.itemsize}") & (2**bits - 1)
    new = dataset(unsigned.astype(f"uint{8 * stored.itemsize}"), bits, **tags)
    new.PixelData, new.PixelRepresentation = encapsulate([bytes(frame)]), int(signed)
    new["PixelData"].is_undefined_length = True
    return written(new, uid.JPEG2000Lossless)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_the_sign_of_jpeg_2000(bits, stream, header):
    """Signed if either says so."""
    pixels = np.tile(every_value(bits, signed=stream or header), (4, 4) if bits == 8 else 1)
    kind = pixels.dtype.itemsize * 8
    stored = pixels if stream else (pixels.view(f"uint{kind}") & (2**bits - 1))
    tags = {"WindowCenter": 9, "WindowWidth": 100}
    data = jpeg2000(
        stored.astype(f"{'int' if stream else 'uint'}{kind}"), bits, signed=header, **tags
    )
    want = decode_dicom(dicom(pixels, bits, **tags))
    if stream and not header:
        with pytest.warns(UserWarning, match=r"^x\.dcm: its JPEG 2000 codestream is signed"):
            got = decode_dicom(data, "x.dcm")
    else:
        got = decode_dicom(data, "x.dcm")
    np.testing.assert_array_equal(got, want)


SYNTAXES = ["ImplicitVRLittleEndian", "ExplicitVRLittleEndian", "ExplicitVRBigEndian"]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("lacking", ["preamble", "preamble and mark", "file meta", "syntax"])
def test_what_comes_before_the_header_may_be_missing(syntax, lacking):
    new = dataset(PIXELS, 12, WindowCenter=900, WindowWidth=800)
    data = written(new, getattr(uid, syntax))
    want, says = decode_dicom(data), "(it names no transfer syntax|DICOM without its preamble)"
    if lacking == "preamble":
        data = data[128:]
    elif lacking == "preamble and mark":
        data = data[132:]
    elif lacking == "file meta":
        data = data[132 + 12 + int.from_bytes(data[140:144], "little") :]
    else:  # under a number that means nothing
        data = data.replace(b"\2\0\x10\0UI", b"\2\0\x11\0UI", 1)
    assert is_dicom(data[:132])
    with pytest.warns(UserWarning, match=rf"^x\.dcm: {says}"):
        got = decode_dicom(data, "x.dcm")
    np.testing.assert_array_equal(got, want)


def test_compressed_and_not_saying_how():
    data = jpeg2000(PIXELS, 12, signed=False).replace(b"\2\0\x10\0UI", b"\2\0\x11\0UI", 1)
    with pytest.raises(ImageError, match=r"^x\.dcm: compressed, and the header does not say how"):
        decode_dicom(data, "x.dcm")


def test_a_hint_to_install_only_where_it_helps(monkeypatch):
    data = jpeg2000(PIXELS, 12, signed=False)
    decoder = pydicom.pixels.get_decoder(uid.JPEG2000Lossless)
    with pytest.raises(ImageError, match=r"damaged or cut short; no decoder takes it$"):
        decode_dicom(data.replace(b"\xff\x51", b"\xff\x50"), "x.dcm")
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"pylibjpeg": ("pylibjpeg>=2.0",)})
    with pytest.raises(ImageError, match=r"needs a decoder: pip install 'bfjax\[dicom\]'$"):
        decode_dicom(data, "x.dcm")
    with pytest.raises(ImageError, match=r"^x\.dcm: MPEG2 .* is not read"):
        decode_dicom(written(pydicom.dcmread(io.BytesIO(data)), uid.MPEG2MPML), "x.dcm")


def test_one_value_alone_is_told_once_for_a_file():
    data = dicom(np.full((3, 4), 7, np.uint8), 8)
    flat = r"^flat\.dcm: every pixel is the same \(0 of 255\)"
    with pytest.warns(UserWarning, match=flat) as said:
        _ = [decode_dicom(data, "flat.dcm") for _ in range(3)]
    assert len(said) == 1
