"""From the bytes of a DICOM file to one grey array, or to an error that names the file alone.

Convention:
    An image is a NumPy array (h, w, 1) as in `bfjax.data.image`: uint8 in [0, 255] where the file
    stores up to 8 bits a pixel, uint16 in [0, 65535] where it stores 9 to 16. Stored values pass
    through the standard's three stages in its order (PS3.3 C.11): modality, values of interest
    (VOI), presentation. High is bright, and full scale is the full range after the VOI stage.

    A DICOM header says who the patient is. None of its text gets into a message, a warning or a
    log line: what pydicom says about a file is replaced by words of our own.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

from PIL import Image

from bfjax.data.dicom_pixels import INSTALL, stored_values
from bfjax.data.dicom_tones import render
from bfjax.data.image import GreyImage
from bfjax.data.levels import ImageError, plain, refuse_bomb
from bfjax.data.remarks import caught, tell

_GREY = ("MONOCHROME1", "MONOCHROME2")
_NEEDED = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
)
_DEFLATED = "1.2.840.10008.1.2.1.99"

# tag, value representation; or tag, length
_FIRST = re.compile(rb"(?:[\x02\x08]\0.\0|\0\x08\0.)(?:CS|DA|LO|OB|SH|TM|UI|UL)", re.DOTALL)
_FIRST_IMPLICIT = re.compile(rb"\x08\0[\0-\x23]\0.\0\0\0", re.DOTALL)


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM, by its mark or, where there is none, by its first element.

    The mark is "DICM" behind a preamble of 128 bytes. Without it a file begins, at once or after
    part of a preamble, with an element of group 2 or 8.

    Args:
      data: the file, or its first 132 bytes.

    Returns:
      True where the file is DICOM.

    Example:
      >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"DICM")
      (True, False)
    """
    return _start(data) is not None


def _start(data: bytes) -> int | None:
    """Where its preamble, or else its first element, is; `None` where a file is not DICOM."""
    if data[128:132] == b"DICM":
        return 0
    if found := _FIRST.search(data, 0, 132):
        return found.start()
    return 0 if _FIRST_IMPLICIT.match(data) else None


def decode_dicom(file: bytes | str | os.PathLike[str], name: str | None = None) -> GreyImage:
    """Decodes one DICOM file to grey as a viewer shows it first, or says why it cannot.

    1. Modality: the modality LUT, else slope · stored + intercept, x.
    2. VOI: the first VOI LUT, else the first window with centre c and width w ≥ 1, or > 0 for the
       latter two (PS3.3 C.11.2.1),

           LINEAR        y = (x − (c − 0.5)) / (w − 1) + 0.5, cut to [0, 1]
           LINEAR_EXACT  y = (x − c) / w + 0.5, cut to [0, 1]
           SIGMOID       y = 1 / (1 + exp(−4 (x − c) / w))

       else, where the file has neither, y = (x − min) / (max − min) over the image's own pixels,
       padding (PixelPaddingValue) left out: the range of all storable values would make most
       images of 12 bits nearly black. An image of one value alone is then y = 0.
    3. Presentation: the presentation LUT, else MONOCHROME1 or the shape INVERSE is inverted, 1 − y.

    Of an enhanced object, 1 and the window come from the functional groups of its one frame. The
    result is y in 255ths or 65535ths, rounded. Overlays are not drawn. Items without a LUT count as
    absent. A LUT fills the range that its entries use, where the header declares more.
    Refused: colour, several frames, float pixels, pixels not stored in 8 or 16 bits each.

    A `UserWarning` names the file if all its pixels come out the same, and wherever its header was
    not followed to the letter: no preamble, no transfer syntax (the one by which the header can be
    read), a window without width, a LUT narrower than declared, a JPEG 2000 codestream that is
    signed under an unsigned header.

    Args:
      file: the encoded bytes, or the path of a file.
      name: what to call the file in errors; by default its path.

    Returns:
      (h, w, 1), uint8 for up to 8 bits stored, else uint16.

    Raises:
      ImageError: the file is empty, truncated, damaged, no DICOM file, holds no image or more than
        Pillow's `Image.MAX_IMAGE_PIXELS`, is of a kind refused above, or is compressed in a way
        that no decoder here reads (the message says what to install, where that helps).
      ImportError: pydicom is not installed.
      OSError: the path cannot be read.

    Example:
      >>> from pydicom.data import get_testdata_file
      >>> decode_dicom(get_testdata_file("CT_small.dcm")).shape
      (128, 128, 1)
      >>> decode_dicom(b"Dear radiologist,", "letter.dcm")
      Traceback (most recent call last):
      ...
      bfjax.data.levels.ImageError: letter.dcm: no DICOM file ("DICM" is missing at byte 128)

    Reference: DICOM PS3.3, C.7.6.3 and C.11.
    """
    data, name = load(file, name)
    remarks: list[str] = []
    with guarded(name):
        dataset = parse(data, name, remarks=remarks)
        grey = render(dataset, stored_values(dataset, name, remarks), name, remarks)
    tell(name, data, remarks + plain(grey))
    return grey[:, :, None]


def load(file: bytes | str | os.PathLike[str], name: str | None = None) -> tuple[bytes, str]:
    """The bytes of a file, and its name for errors.

    Args:
      file: bytes or a path.
      name: by default the path.

    Returns:
      Both.

    Raises:
      ImportError: pydicom, which all that follows needs, is not installed.
      OSError: the path cannot be read.
    """
    if name is None:
        name = "<bytes>" if isinstance(file, bytes) else os.fspath(file)
    try:
        importlib.import_module("pydicom.pixels")  # by name: an optional dependency
    except ImportError as error:
        raise ImportError(f"{name}: DICOM needs pydicom: {INSTALL}") from error
    return file if isinstance(file, bytes) else Path(file).read_bytes(), name


@contextlib.contextmanager
def guarded(name: str) -> Generator[None]:
    """Silences pydicom: its warnings, log lines and errors may quote the header.

    Args:
      name: of the file.

    Raises:
      ImageError: anything was raised in the block; one raised there passes through.
    """
    with caught():
        try:
            yield
        except ImageError:
            raise
        except Exception as error:  # nearly anything, on damaged data
            raise ImageError(f"{name}: damaged or cut short ({type(error).__name__})") from None


def parse(data: bytes, name: str, *, remarks: list[str] | None = None) -> Any:
    """Parses a file that holds one grey image; to be called within `guarded`.

    Args:
      data: the file.
      name: of the file.
      remarks: what there is to say about it is appended.

    Returns:
      pydicom's `FileDataset`, its pixels not yet decoded.

    Raises:
      ImageError: naming what `decode_dicom` refuses.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty (zero bytes)")
    if (start := _start(data)) is None:
        raise ImageError(f'{name}: no DICOM file ("DICM" is missing at byte 128)')
    data = data[start:]
    refuse_deflated_bomb(io.BytesIO(data), name)
    dataset = importlib.import_module("pydicom").dcmread(io.BytesIO(data), force=True)
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ImageError(f"{name}: float pixels have no known range; store integers")
    if "PixelData" not in dataset:
        raise ImageError(f"{name}: no pixel data (cut short, or DICOM of another kind than images)")
    if missing := [tag for tag in _NEEDED if dataset.get(tag) in (None, "")]:
        raise ImageError(f"{name}: the header lacks {', '.join(missing)}")
    if dataset.SamplesPerPixel != 1 or dataset.PhotometricInterpretation not in _GREY:
        raise ImageError(f"{name}: colour; only MONOCHROME1 and MONOCHROME2 are read")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) != 1:
        raise ImageError(f"{name}: {frames} frames in one file; store each as a file of its own")
    refuse_bomb(int(dataset.Columns), int(dataset.Rows), name)
    allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high = int(dataset.get("HighBit", bits - 1))
    if allocated not in (8, 16) or not 1 <= bits <= allocated or high != bits - 1:
        raise ImageError(f"{name}: {bits} of {allocated} bits up to bit {high} are not read")
    _name_syntax(dataset, name, [] if remarks is None else remarks)
    if remarks is not None and data[128:132] != b"DICM":
        remarks.append('DICOM without its preamble ("DICM" is missing at byte 128)')
    return dataset


def _name_syntax(dataset: Any, name: str, remarks: list[str]) -> None:
    """Without one in the header, the syntax is that by which the header could be read."""
    if dataset.file_meta.get("TransferSyntaxUID"):
        return
    if dataset["PixelData"].is_undefined_length:
        raise ImageError(f"{name}: compressed, and the header does not say how")
    uid = importlib.import_module("pydicom.uid")
    implicit, little = dataset.original_encoding
    names = ("ExplicitVRBigEndian", "ExplicitVRLittleEndian", "ImplicitVRLittleEndian")
    chosen = getattr(uid, names[bool(little) + bool(implicit)])
    dataset.file_meta.TransferSyntaxUID = chosen
    remarks.append(f"it names no transfer syntax; read as {chosen.name}")


def refuse_deflated_bomb(file: Any, name: str) -> None:
    """A deflated file is inflated as a whole, before pydicom knows its size, even for its header.

    Args:
      file: opened; it stays at its beginning.
      name: of it.

    Raises:
      ImageError: it inflates to more than Pillow's `Image.MAX_IMAGE_PIXELS` of two bytes.
    """
    reader = importlib.import_module("pydicom.filereader")
    file.seek(132 if file.read(132)[128:] == b"DICM" else 0)
    meta = reader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and meta.get("TransferSyntaxUID") == _DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflater.decompress(file.read(), 2 * limit + 2**24)  # two bytes a pixel, and a header
        if inflater.unconsumed_tail:
            raise ImageError(
                f"{name}: inflates to more than {limit} pixels (a decompression bomb?)"
            )
    file.seek(0)
