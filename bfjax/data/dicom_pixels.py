"""DICOM's pixels: decompressed by the same decoder wherever the extra is installed."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Integer, Shaped

from bfjax.data.levels import ImageError

Stored: TypeAlias = Shaped[np.ndarray, "*frames rows columns"]

_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")  # baseline and extended

# In this order, whatever else is installed: decoders of lossy JPEG differ in their rounding.
_PLUGINS = ("pydicom", "pyjpegls", "pylibjpeg", "pillow", "gdcm")
_EXTRA = {"pyjpegls", "pylibjpeg"}  # what the extra installs
INSTALL = "pip install 'bfjax[dicom]'"


def stored_values(dataset: Any, name: str, remarks: list[str]) -> Integer[np.ndarray, "h w"]:
    """The stored values of one frame, decompressed.

    Args:
      dataset: pydicom's, its header checked.
      name: of the file.
      remarks: what there is to say about it is appended.

    Returns:
      (rows, columns); the type is signed where the values are.

    Raises:
      ImageError: nothing here can decompress it (the message says what to install, where that
        helps), or there are several frames.
      Exception: any other, where uncompressed pixels are damaged.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax or not syntax.is_transfer_syntax:
        raise ImageError(f"{name}: the header names no known transfer syntax")
    if syntax.is_compressed:
        stored = _decompressed(dataset, syntax, name, remarks)
    else:
        stored = importlib.import_module("pydicom.pixels").pixel_array(dataset)
    if stored.ndim != 2:  # more than the header says
        raise ImageError(f"{name}: {len(stored)} frames in one file; store each as a file")
    return stored


def _decompressed(dataset: Any, syntax: Any, name: str, remarks: list[str]) -> Stored:
    pixels = importlib.import_module("pydicom.pixels")
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError:
        raise ImageError(f"{name}: {syntax.name} is not read; store it in another form") from None
    available = decoder.available_plugins
    for plugin in _PLUGINS:
        if plugin not in available:
            continue
        with contextlib.suppress(Exception):
            stored = pixels.pixel_array(dataset, decoding_plugin=plugin)
            break
    else:
        stored = _twelve_bits(dataset) if syntax in _JPEG else None
    if stored is not None:
        return _codestream_sign(stored, dataset, plugin, name, remarks)
    missing = {text.split()[0] for text in decoder.missing_dependencies} & _EXTRA
    if missing and "pydicom" not in available:
        raise ImageError(f"{name}: {syntax.name} needs a decoder: {INSTALL}")
    raise ImageError(f"{name}: {syntax.name}: damaged or cut short; no decoder takes it")


def _twelve_bits(dataset: Any) -> Stored | None:
    """JPEG by libjpeg-turbo, which also takes Huffman codes that other decoders refuse."""
    with contextlib.suppress(Exception):
        stored = importlib.import_module("imagecodecs").jpeg8_decode(_frame(dataset))
        if stored.shape == (dataset.Rows, dataset.Columns):
            return stored
    return None


def _frame(dataset: Any) -> bytes:
    encaps = importlib.import_module("pydicom.encaps")
    return encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)


def _codestream_sign(
    stored: Stored, dataset: Any, plugin: str, name: str, remarks: list[str]
) -> Stored:
    """Signed JPEG 2000 under an unsigned header. pydicom sees to the other way round."""
    syntaxes = importlib.import_module("pydicom.uid").JPEG2000TransferSyntaxes
    if dataset.file_meta.TransferSyntaxUID not in syntaxes or dataset.PixelRepresentation == 1:
        return stored
    utils = importlib.import_module("pydicom.pixels.utils")
    found = utils.get_j2k_parameters(_frame(dataset))
    if not found.get("is_signed"):
        return stored
    if plugin != "pylibjpeg":  # others shift the values before they hand them on
        raise ImageError(f"{name}: signed JPEG 2000, unsigned header: needs {INSTALL}")
    remarks.append("its JPEG 2000 codestream is signed, its header is not; read as signed")
    bits = found["precision"]
    values = stored.astype(np.int32) & (2**bits - 1)
    return values - (values >> (bits - 1) << bits)
