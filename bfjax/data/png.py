"""PNG: what Pillow leaves out, 16-bit colour and the transparent value of grey and RGB.

Convention:
    gAMA and colour profiles are not applied: pixels are taken as stored.
"""

from __future__ import annotations

import importlib
import io

import numpy as np
from PIL import Image, ImageFile

from bfjax.data.levels import Levels, to_grey, to_levels
from bfjax.data.remarks import caught

_GREY, _RGB, _PALETTE = 0, 2, 3  # colour types


def decode_png(opened: ImageFile.ImageFile, data: bytes, remarks: list[str]) -> Levels:
    """Decodes a PNG file to grey levels.

    Args:
      opened: Pillow's view of it, not yet loaded.
      data: its bytes.
      remarks: what there is to say about it is appended.

    Returns:
      (h, w) as stored, before any orientation.

    Raises:
      Exception: any, where the file is damaged.

    Reference: Portable Network Graphics, third edition, 11.2 and 11.3.
    """
    with Image.open(io.BytesIO(data)) as copy:
        copy.verify()  # the chunks' checksums, which load() does not look at
    bits, color_type = data[24], data[25]
    depth = 8 if color_type == _PALETTE else bits
    if (used := min(_chunk(data, b"sBIT"), default=depth)) < depth:
        remarks.append(f"sBIT says that {used} of {depth} bits are significant; all are taken")
    opened.load()
    hole = opened.info.pop("transparency", None) if color_type in (_GREY, _RGB) else None
    if bits == 16 and (color_type != _GREY or hole is not None):
        # Pillow keeps 8 of these bits; the codec turns a transparent value into alpha
        with caught() as said:
            samples = importlib.import_module("imagecodecs").png_decode(data)
        remarks += [text for text in said if "Interlace handling" not in text]  # of every such file
        return to_levels(samples, full=65535, alpha=samples.shape[2] in (2, 4))
    grey = to_grey(opened)
    if hole is not None:  # in the file's bits, which Pillow has scaled to 8
        full = 2**bits - 1
        pixels = np.asarray(opened.convert("L" if color_type == _GREY else "RGB"))
        same = pixels == (np.array(hole) & full) * (255 // full)
        grey[same if color_type == _GREY else same.all(-1)] = 0
    return grey


def _chunk(data: bytes, kind: bytes) -> bytes:
    """The content of the first chunk of a kind before the pixels, or nothing."""
    start = 8
    while start + 8 <= len(data):
        length, name = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if name == kind:
            return data[start + 8 : start + 8 + length]
        if name == b"IDAT":
            break
        start += length + 12
    return b""
