"""TIFF, by tifffile: every depth, photometric interpretation and layout, or a refusal by name.

Convention:
    MinSampleValue and MaxSampleValue are not applied (TIFF 6.0 has them for statistics alone), nor
    are colour profiles. Reduced copies of an image, and images within an image, are not looked at.
"""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from bfjax.data.levels import ImageError, Turned, oriented, refuse_bomb, to_grey, to_levels

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # of either byte order; "+" is BigTIFF

# Names as tifffile has them, and how many samples a pixel has but for an alpha.
_COLOURS = {"MINISWHITE": 1, "MINISBLACK": 1, "PALETTE": 1, "RGB": 3, "SEPARATED": 4}
_JPEG = 7
_STRAIGHT = 2  # ExtraSamples: an alpha that the colours are not yet multiplied with
_KINDS = {2: "{} bits, signed", 3: "{} bits, float", 5: "{} bits, complex", 6: "{} bits, complex"}
_PILLOWS = ("YCBCR", "CIELAB")  # which Pillow, by libtiff, turns into RGB


def decode_tiff(data: bytes, name: str, remarks: list[str]) -> Turned:
    """Decodes a TIFF file to grey levels.

    WhiteIsZero is inverted, a palette is looked up, and RGB, CMYK and YCbCr become luma; what is
    transparent lies on black. n bits a sample, 0 to 2^n − 1, fill the range of 8 bits for n ≤ 8,
    else of 16.

    Args:
      data: the file.
      name: what to call it in errors.
      remarks: what there is to say about it is appended.

    Returns:
      (h, w), turned as the file says.

    Raises:
      ImageError: signed, float or complex samples, or more than 16 bits of them; another
        photometric interpretation or compression; several images.
      Exception: any other, where the file is damaged.

    Reference: TIFF 6.0 (Aldus, 1992), and tifffile.
    """
    tifffile = importlib.import_module("tifffile")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = _page(file, name)
        photometric = _photometric(page, name)
        full = 2 ** _bits(page, name) - 1
        remarks += _ranges(page, full)
        if photometric in _PILLOWS:
            ends = np.add(page.dataoffsets, page.databytecounts)
            if ends.max() > len(data):  # of which libtiff would complain on stderr, without a name
                raise ImageError(f"{name}: a TIFF that is cut short")
            with Image.open(io.BytesIO(data)) as opened:
                opened.load()  # and turns it
                return to_grey(opened)
        if page.compression not in tifffile.TIFF.DECOMPRESSORS:
            codec = getattr(page.compression, "name", page.compression)
            raise ImageError(f"{name}: a TIFF compressed by {codec}, which is not read")
        # (planes, 1, h, w, samples), decoded by this thread, whose remarks are caught
        stored = page.asarray(maxworkers=1).reshape(page.shaped)
    samples = np.moveaxis(stored[:, 0], 0, 2).reshape(*stored.shape[2:4], -1)
    samples = samples.astype(np.uint16)  # from bool, or from the other byte order
    colours, alpha = np.split(samples, [_COLOURS[photometric]], axis=2)
    if photometric == "PALETTE":  # its colours have bits of their own
        colours, alpha, full = _looked_up(colours, page.colormap), alpha * (255 / full), 255
    if photometric == "MINISWHITE":
        colours = full - colours
    if photometric == "SEPARATED":
        paper = full - colours.astype(np.float64)
        colours = paper[:, :, :3] * paper[:, :, 3:] / full
    if straight := _STRAIGHT in page.extrasamples:
        colours = np.concatenate([colours, alpha], axis=2)
    return oriented(to_levels(colours, full=full, alpha=straight), page.tags.valueof(274))


def _page(file: Any, name: str) -> Any:
    """The one image of full size, its header checked."""
    pages = [file.pages[i] for i in range(len(file.pages))]  # not endless where they form a ring
    pages = [page for page in pages if not page.is_reduced]
    if not pages:
        known = "of reduced previews alone" if len(file.pages) else "that is damaged or cut short"
        raise ImageError(f"{name}: a TIFF {known}")
    # ImageJ and others keep further images behind the first, and say so in its description
    hidden = max(series.size // max(1, series.keyframe.size) for series in file.series)
    page = pages[0].aspage()
    frames = len(pages) if len(pages) > 1 else max(hidden, page.imagedepth)
    if frames > 1:
        raise ImageError(f"{name}: {frames} frames in one file; store each as a file of its own")
    refuse_bomb(page.imagewidth, page.imagelength, name)
    refuse_bomb(page.tilewidth, page.tilelength, name)
    if 0 in page.databytecounts:  # which tifffile would fill with black
        raise ImageError(f"{name}: a TIFF without some of its pixels; damaged or cut short")
    return page


def _bits(page: Any, name: str) -> int:
    """Bits of a sample, of all alike."""
    bits, kind = page.bitspersample, page.sampleformat
    if not isinstance(bits, int) or not isinstance(kind, int):
        raise ImageError(f"{name}: a TIFF whose samples differ in their bits")
    if kind in _KINDS or not 1 <= bits <= 16:
        raise ImageError(
            f"{name}: a TIFF of {_KINDS.get(kind, '{} bits').format(bits)}: its black and white "
            "are not known; convert it to unsigned 16-bit grey"
        )
    return bits


def _photometric(page: Any, name: str) -> str:
    """How samples are to be taken; and that there are as many as that."""
    if 262 not in page.tags:
        raise ImageError(f"{name}: a TIFF that does not say which of its values is black")
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if photometric == "YCBCR" and page.compression == _JPEG:
        photometric = "RGB"  # by its codec
    if photometric in _PILLOWS and page.bitspersample == 8:
        return photometric
    if photometric not in _COLOURS or page.tags.valueof(332, default=1) != 1:  # other inks
        raise ImageError(f"{name}: a TIFF of {photometric} pixels is not read; convert it to grey")
    extra = len(page.extrasamples)
    if extra > 1 or page.samplesperpixel != _COLOURS[photometric] + extra:
        raise ImageError(
            f"{name}: a TIFF of {photometric} pixels of {page.samplesperpixel} samples, {extra} of "
            "which are declared as extra; convert it to grey"
        )
    return photometric


def _ranges(page: Any, full: int) -> list[str]:
    """Declared ranges (MinSampleValue and on) that are not that of the bits."""
    ends = {280: 0, 281: full, 340: 0, 341: full}
    values = {tag: np.atleast_1d(page.tags.valueof(tag, default=end)) for tag, end in ends.items()}
    if all((value == ends[tag]).all() for tag, value in values.items()):
        return []
    return [f"the range of samples that it declares is ignored: 0 to {full} are black to white"]


def _looked_up(
    samples: Shaped[np.ndarray, "h w 1"], colormap: Shaped[np.ndarray, "3 entries"]
) -> Shaped[np.ndarray, "h w 3"]:
    """Colours of 8 bits. Entries have 16, though old writers filled 8 of them."""
    colours = colormap >> 8 if colormap.max() > 255 else colormap
    return np.moveaxis(colours[:, samples[:, :, 0]], 0, 2)
