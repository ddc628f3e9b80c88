"""Our pixels beside those of pydicom and its plugins, file by file."""

import contextlib
import io
import re
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import pixels, uid

from bfjax.data import ImageError, decode_dicom
from bfjax.data.dicom import is_dicom

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
CASES = (
    *("JPEGLSNearLossless_16.dcm", "MAROTECH_CT_JP2Lossy.dcm", "TOSHIBA_J2K_SIZ1_PixRep0.dcm"),
    *("leadtools-8BitsJpegLossyGrayScale.dcm", "nema-mr1_jply.dcm", "no_meta.dcm"),
)


def opened(path: Path) -> tuple[pydicom.Dataset, np.ndarray]:
    """A file and its stored values; where pydicom needs help, it gets it here."""
    data = path.read_bytes()
    if path.name == "no_meta.dcm":  # a stray byte, then the first element
        original = pydicom.dcmread(io.BytesIO(data[1:]), force=True)
        original.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    else:
        original = pydicom.dcmread(io.BytesIO(data), force=True)
    if path.name in ("JPEG-lossy.dcm", "nema-mr1_jply.dcm"):  # its plugins refuse them
        frame = pydicom.encaps.get_frame(original.PixelData, 0, number_of_frames=1)
        return original, imagecodecs.jpeg_decode(frame)
    stored = pixels.pixel_array(original)
    if path.name == "TOSHIBA_J2K_SIZ1_PixRep0.dcm":  # the sign of the codestream
        stored = stored.view(np.int16)
    return original, stored


def reference(path: Path) -> np.ndarray | None:
    """What a viewer shows, in [0, 1]; `None` where there is no grey image of 8 or 16 bits."""
    original, stored = opened(path)
    if original.SamplesPerPixel != 1 or original.BitsAllocated not in (8, 16) or stored.ndim != 2:
        return None
    if original.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return None
    if path.name == "leadtools-8BitsJpegLossyGrayScale.dcm":  # all of these are empty
        del original.ModalityLUTSequence, original.VOILUTSequence
        del original.RescaleSlope, original.RescaleIntercept
        del original.WindowCenter, original.WindowWidth
    y = pixels.apply_modality_lut(stored, original)
    y = pixels.apply_presentation_lut(pixels.apply_voi_lut(y, original), original)
    low, high = float(y.min()), float(y.max())
    if original.get("WindowWidth"):  # pydicom's full scale after a window
        signed = stored.dtype.kind == "i" and original.PixelRepresentation == 1
        half = 2 ** (original.BitsStored - 1) if signed else 0
        slope, intercept = original.get("RescaleSlope", 1), original.get("RescaleIntercept", 0)
        low = -half * slope + intercept
        high = (2**original.BitsStored - 1 - half) * slope + intercept
    y = (y - low) / (high - low)
    return 1 - y if original.PhotometricInterpretation == "MONOCHROME1" else y


def compare(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            want = reference(path)
        except Exception:  # no image, or damaged
            want = None
        if want is None:
            with pytest.raises(ImageError, match=f"{re.escape(path.name)}: "):
                decode_dicom(path)
            return
        got = decode_dicom(path)
    np.testing.assert_allclose(got[..., 0], want * np.iinfo(got.dtype).max, atol=0.501)
    assert len(np.unique(got)) > 5


@pytest.mark.parametrize("file", sorted(path.name for path in BUNDLED.glob("*.dcm")))
def test_files_of_pydicoms_own_test_set(file):
    compare(BUNDLED / file)


@pytest.mark.filterwarnings("ignore:.*no_meta.dcm. :UserWarning")
def test_the_grey_ones_are_read():
    read = 0
    for path in BUNDLED.glob("*.dcm"):
        with contextlib.suppress(ImageError):
            read += decode_dicom(path).ndim == 3
    assert read >= 19


@pytest.mark.real_data
@pytest.mark.parametrize("file", CASES)
def test_files_that_went_wrong(data_root, file):
    path = data_root / "cases" / "files" / file
    assert is_dicom(path.read_bytes())
    compare(path)
