"""JPEG 2000: what Pillow shifts, the samples of other than 8 bits; 8 bits are Pillow's.

Convention:
    Bits and signs are those of the codestream, which the header of a JP2 file merely repeats.
"""

from __future__ import annotations

import importlib

import numpy as np
from PIL import ImageFile

from bfjax.data.levels import ImageError, Levels, to_grey, to_levels

_START = b"\xff\x4f\xff\x51"  # of a codestream, and its size
_MODES = {"L": 1, "I;16": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def decode_jpeg2000(opened: ImageFile.ImageFile, data: bytes, name: str) -> Levels:
    """Decodes a JPEG 2000 file to grey levels.

    Args:
      opened: Pillow's view of it, not yet loaded.
      data: its bytes.
      name: what to call the file in errors.

    Returns:
      (h, w).

    Raises:
      ImageError: signed samples, more than 16 bits, or components or a palette of other bits.
      Exception: any other, where the file is damaged.

    Reference: ISO/IEC 15444-1, A.5.1.
    """
    start = data.index(_START)
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    kinds = {*data[start + 42 : start + 42 + 3 * count : 3]}
    signed, bits = max(kinds) > 127, (max(kinds) & 127) + 1
    if signed or bits > 16:
        raise ImageError(
            f"{name}: a JPEG 2000 of {bits} bits{', signed' * signed}: its black and white are not "
            "known; convert it to unsigned 16-bit grey"
        )
    if kinds == {7}:
        opened.load()
        return to_grey(opened)
    if len(kinds) > 1 or _MODES.get(opened.mode) != count:
        raise ImageError(
            f"{name}: a JPEG 2000 of {opened.mode} pixels of {bits} bits is not read; convert it "
            "to grey"
        )
    samples = importlib.import_module("imagecodecs").jpeg2k_decode(data)
    samples = np.atleast_3d(samples)
    return to_levels(samples, full=2**bits - 1, alpha=count in (2, 4))
