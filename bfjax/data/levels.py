"""Grey levels: what decoders give, brought to the full range of 8 or 16 bits.

Convention:
    Levels are (h, w), uint8 in [0, 255] or uint16 in [0, 65535]. Samples are (h, w, channels),
    unsigned, in [0, full].
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image

Levels: TypeAlias = UInt8[np.ndarray, "rows columns"] | UInt16[np.ndarray, "rows columns"]
Turned: TypeAlias = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]

_LUMA = (0.299, 0.587, 0.114)
_LUMA_8 = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # as Pillow rounds them: one image, one grey


class ImageError(ValueError):
    """A file that cannot be decoded rightly; the message is one line and begins with its name."""


def to_levels(
    samples: Shaped[np.ndarray, "h w channels"], *, full: int, alpha: bool = False
) -> Levels:
    """Grey or RGB samples to grey levels, round(top · luma · alpha / full).

    Args:
      samples: one or three channels, and one more if there is an alpha.
      full: the sample that is white, and opaque. Up to 255 gives 8 bits, more gives 16.
      alpha: the last channel says how much of the others lies on black.

    Returns:
      (h, w).

    Example:
      >>> to_levels(np.array([[[0], [1], [4095]]], np.uint16), full=4095).tolist()
      [[0, 16, 65535]]

    Reference: ITU-R BT.601.
    """
    colours = samples.shape[2] - alpha
    top, dtype = (255, np.uint8) if full <= 255 else (65535, np.uint16)
    if samples.shape[2] == 1 and full == top:
        return samples[:, :, 0].astype(dtype)
    grey = samples[:, :, 0].astype(np.float64)
    if colours == 3:
        grey = sum(w * samples[:, :, i] for i, w in enumerate(_LUMA_8 if full <= 255 else _LUMA))
    if alpha:
        grey *= samples[:, :, -1] / full
    return np.floor(grey * (top / full) + 0.5).astype(dtype)


def to_grey(image: Image.Image) -> Levels:
    """Pillow's image to grey levels.

    Args:
      image: loaded, of 8 bits in any mode that Pillow converts to RGB, or of 16 bits grey.

    Returns:
      (h, w).

    Example:
      >>> to_grey(Image.new("LA", (2, 1), (200, 128))).tolist()
      [[100, 100]]
    """
    if image.mode.startswith("I"):  # I;16 and its byte orders; PGM's 16 bits come as I
        return np.asarray(image).astype(np.uint16)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return np.array(image.convert("L"))


def oriented(grey: Levels, orientation: object) -> Turned:
    """Turns a stored image the way up that its file says.

    Args:
      grey: (h, w) as stored.
      orientation: the value of TIFF's and EXIF's tag 274; anything but 2 to 8 changes nothing.

    Returns:
      (h, w), or (w, h) for 5 to 8.

    Example:
      >>> oriented(np.array([[1, 2]], np.uint8), 6).tolist()
      [[1], [2]]

    Reference: TIFF 6.0, Orientation.
    """
    flips = {2: "x", 3: "xy", 4: "y", 5: "t", 6: "tx", 7: "txy", 8: "ty"}
    for flip in flips.get(orientation, "") if isinstance(orientation, int) else "":
        grey = {"x": grey[:, ::-1], "y": grey[::-1], "t": grey.T}[flip]
    return np.ascontiguousarray(grey)


def plain(grey: Levels) -> list[str]:
    """The remark that an image of one single level deserves: no classifier can see anything in it.

    Args:
      grey: (h, w).

    Returns:
      None or one.

    Example:
      >>> plain(np.zeros((4, 4), np.uint8))
      ['every pixel is the same (0 of 255)']
    """
    if (grey != grey.flat[0]).any():
        return []
    return [f"every pixel is the same ({grey.flat[0]} of {np.iinfo(grey.dtype).max})"]


def refuse_bomb(width: int, height: int, name: str) -> None:
    """Raises for a header that declares more pixels than Pillow would decode.

    Args:
      width: in pixels.
      height: in pixels.
      name: of the file.

    Raises:
      ImageError: more than Pillow's `Image.MAX_IMAGE_PIXELS`.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ImageError(
            f"{name}: {width}x{height} pixels exceed the limit of {limit} (a decompression bomb?); "
            "if the file is trusted, raise PIL.Image.MAX_IMAGE_PIXELS"
        )
