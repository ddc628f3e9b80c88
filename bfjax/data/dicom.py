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
import logging
import os
import threading
import warnings
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Integer, Shaped
from PIL import Image

from bfjax.data.image import GreyImage, ImageError

Values: TypeAlias = Shaped[np.ndarray, " values"]
Tones: TypeAlias = Float64[np.ndarray, " values"]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_NEEDED = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
)
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg (or python-gdcm)"

_LOCK = threading.Lock()  # warning filters and log levels are the whole process's


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM by its mark, "DICM" behind a preamble of 128 bytes.

    Args:
      data: the file, or its first 132 bytes.

    Returns:
      True where the mark is there.

    Example:
      >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"DICM")
      (True, False)
    """
    return data[128:132] == b"DICM"


def decode_dicom(file: bytes | str | os.PathLike[str], name: str | None = None) -> GreyImage:
    """Decodes one DICOM file to grey as a viewer shows it first, or says why it cannot.

    1. Modality: the modality LUT, else slope · stored + intercept, x.
    2. VOI: the first VOI LUT, else the first window with centre c and width w (PS3.3 C.11.2.1),

           LINEAR        y = (x − (c − 0.5)) / (w − 1) + 0.5, cut to [0, 1]
           LINEAR_EXACT  y = (x − c) / w + 0.5, cut to [0, 1]
           SIGMOID       y = 1 / (1 + exp(−4 (x − c) / w))

       else, where the file has neither, y = (x − min) / (max − min) over the image's own pixels,
       padding (PixelPaddingValue) left out: the range of all storable values would make most
       images of 12 bits nearly black. An image of one value alone is then y = 0.
    3. Presentation: MONOCHROME1 is inverted, 1 − y.

    The result is y in 255ths or 65535ths, rounded. Overlays are not drawn. Refused: colour,
    several frames, float pixels, pixels not stored in 8 or 16 bits each.

    Args:
      file: the encoded bytes, or the path of a file.
      name: what to call the file in errors; by default its path.

    Returns:
      (h, w, 1), uint8 for up to 8 bits stored, else uint16.

    Raises:
      ImageError: the file is empty, truncated, damaged, no DICOM file, holds no image or more than
        Pillow's `Image.MAX_IMAGE_PIXELS`, is of a kind refused above, or is compressed in a way
        that no installed plugin of pydicom can read (the message says what to install).
      ImportError: pydicom is not installed.
      OSError: the path cannot be read.

    Example:
      >>> from pydicom.data import get_testdata_file
      >>> decode_dicom(get_testdata_file("CT_small.dcm")).shape
      (128, 128, 1)
      >>> decode_dicom(b"Dear radiologist,", "letter.dcm")
      Traceback (most recent call last):
      ...
      bfjax.data.image.ImageError: letter.dcm: no DICOM file ("DICM" is missing at byte 128)

    Reference: DICOM PS3.3, C.7.6.3 and C.11.
    """
    data, name = load(file, name)
    with guarded(name):
        dataset = parse(data, name)
        return _render(dataset, _stored(dataset, name), name)


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
        raise ImportError(f"{name}: DICOM needs pydicom: pip install 'bfjax[dicom]'") from error
    return file if isinstance(file, bytes) else Path(file).read_bytes(), name


@contextlib.contextmanager
def guarded(name: str) -> Generator[None]:
    """Silences pydicom: its warnings, log lines and errors may quote the header.

    Args:
      name: of the file.

    Raises:
      ImageError: anything was raised in the block; one raised there passes through.
    """
    logger = logging.getLogger("pydicom")
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        except ImageError:
            raise
        except Exception as error:  # nearly anything, on damaged data
            raise ImageError(f"{name}: damaged or cut short ({type(error).__name__})") from None
        finally:
            logger.setLevel(level)


def parse(data: bytes, name: str) -> Any:
    """Parses a file that holds one grey image; to be called within `guarded`.

    Args:
      data: the file.
      name: of the file.

    Returns:
      pydicom's `FileDataset`, its pixels not yet decoded.

    Raises:
      ImageError: naming what `decode_dicom` refuses.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty (zero bytes)")
    if not is_dicom(data):
        raise ImageError(f'{name}: no DICOM file ("DICM" is missing at byte 128)')
    _refuse_deflated_bomb(data, name)
    dataset = importlib.import_module("pydicom").dcmread(io.BytesIO(data))
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
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and rows * columns > limit:
        raise ImageError(
            f"{name}: {columns}x{rows} pixels exceed the limit of {limit} (a decompression bomb?); "
            "if the file is trusted, raise PIL.Image.MAX_IMAGE_PIXELS"
        )
    allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high = int(dataset.get("HighBit", bits - 1))
    if allocated not in (8, 16) or not 1 <= bits <= allocated or high != bits - 1:
        raise ImageError(f"{name}: {bits} of {allocated} bits up to bit {high} are not read")
    return dataset


def _refuse_deflated_bomb(data: bytes, name: str) -> None:
    """A deflated file is inflated as a whole, before pydicom knows its size."""
    reader = importlib.import_module("pydicom.filereader")
    file = io.BytesIO(data)
    file.seek(132)
    meta = reader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or meta.get("TransferSyntaxUID") != _DEFLATED:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(file.read(), 2 * limit + 2**24)  # two bytes a pixel, and a header
    if inflater.unconsumed_tail:
        raise ImageError(f"{name}: inflates to more than {limit} pixels (a decompression bomb?)")


def _stored(dataset: Any, name: str) -> Integer[np.ndarray, "h w"]:
    """The stored values, decompressed."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax or not syntax.is_transfer_syntax:
        raise ImageError(f"{name}: the header names no known transfer syntax")
    try:
        stored = importlib.import_module("pydicom.pixels").pixel_array(dataset)
    except Exception:
        if not syntax.is_compressed:
            raise
        reason = f"{syntax.name} cannot be decompressed; unless damaged, it needs another decoder"
        raise ImageError(f"{name}: {reason}: {_DECODERS}") from None
    if stored.ndim != 2:  # more than the header says
        raise ImageError(f"{name}: {len(stored)} frames in one file; store each as a file")
    return stored


def _render(dataset: Any, stored: Integer[np.ndarray, "h w"], name: str) -> GreyImage:
    """Every storable value passes through the stages once; the pixels then look it up."""
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    values = np.arange(2**bits) - (2 ** (bits - 1) if signed else 0)
    index = stored.astype(np.int32) - values[0]
    if index.min() < 0 or index.max() >= len(values):
        raise ImageError(f"{name}: pixels beyond the {bits} bits that the header declares")
    present = (np.bincount(index.ravel(), minlength=len(values)) > 0) & ~_padding(values, dataset)
    tones = _voi(_modality(values, dataset, name), dataset, present, name)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        tones = 1 - tones
    full, dtype = (65535, np.uint16) if bits > 8 else (255, np.uint8)
    return np.rint(tones * full).astype(dtype)[index][:, :, None]


def _modality(values: Values, dataset: Any, name: str) -> Values:
    """Stage 1 (PS3.3 C.11.1)."""
    if sequence := dataset.get("ModalityLUTSequence"):
        return _look_up(values, sequence[0], dataset, name)[0]
    slope, intercept = (_number(dataset, tag) for tag in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None:
        return values
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise ImageError(f"{name}: RescaleSlope or RescaleIntercept makes no image")
    return values * slope + intercept


def _voi(x: Values, dataset: Any, present: Bool[np.ndarray, " values"], name: str) -> Tones:
    """Stage 2 (PS3.3 C.11.2), to [0, 1]."""
    if sequence := dataset.get("VOILUTSequence"):
        table, top = _look_up(x, sequence[0], dataset, name)
        return table / top
    center, width = (_number(dataset, tag) for tag in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        if not present.any():
            raise ImageError(f"{name}: every pixel is padding")
        low, high = float(x[present].min()), float(x[present].max())
        return np.clip((x - low) / ((high - low) or 1), 0, 1)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ImageError(f"{name}: VOILUTFunction is none of LINEAR, LINEAR_EXACT, SIGMOID")
    if function == "LINEAR":  # 8 bits of width 256 and centre 128: 0 to 255, both ends included
        center, width = center - 0.5, width - 1
    if not np.isfinite([center, width]).all() or width < 0 or (width == 0 and function != "LINEAR"):
        raise ImageError(f"{name}: WindowWidth or WindowCenter is out of range")
    if function == "SIGMOID":
        return 0.5 + 0.5 * np.tanh(2 * (x - center) / width)  # the logistic, without overflow
    if width == 0:
        return (x > center).astype(np.float64)
    return np.clip((x - center) / width + 0.5, 0, 1)


def _padding(values: Values, dataset: Any) -> Bool[np.ndarray, " values"]:
    """Which storable values mean "no picture here" (PS3.3 C.7.5.1.1.2)."""
    ends = [_number(dataset, tag) for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    ends = [_sixteen_bits(int(end), bool(values[0] < 0)) for end in ends if end is not None]
    return (values >= min(ends, default=np.inf)) & (values <= max(ends, default=-np.inf))


def _look_up(x: Values, lut: Any, dataset: Any, name: str) -> tuple[Values, int]:
    """A LUT's entry for each x, the first and the last one for those beyond, and its top value."""
    entries, first, bits = (int(number) for number in lut.LUTDescriptor)
    entries = entries or 2**16  # which does not fit its 16 bits
    table = lut.LUTData
    if isinstance(table, bytes):
        table = np.frombuffer(table, "<u2" if dataset.original_encoding[1] else ">u2")
        if table.size < entries:  # entries of 8 bits, two in a word
            table = table.astype("<u2").view(np.uint8)
    table = np.atleast_1d(np.asarray(table, np.int64))[:entries]
    if table.size < entries or not 1 <= bits <= 16 or not 0 <= table.min() <= table.max() < 2**bits:
        raise ImageError(f"{name}: the modality or VOI LUT is damaged")
    index = np.rint(x) - _sixteen_bits(first, bool(x.min() < 0))
    return table[np.clip(index, 0, entries - 1).astype(np.int64)], 2**bits - 1


def _sixteen_bits(number: int, signed: bool) -> int:
    """Read as 16 bits of that sign: writers mix up the two where either is allowed."""
    low = -(2**15) if signed else 0
    return (number - low) % 2**16 + low


def _number(dataset: Any, tag: str) -> float | None:
    """The first of the numbers under a tag, or `None`."""
    value = dataset.get(tag)
    numbers = np.atleast_1d(np.asarray([] if value is None else value, np.float64))
    return float(numbers[0]) if numbers.size else None
