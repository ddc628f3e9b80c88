"""From the bytes of an image file to one grey array, or to an error that names the file.

Convention:
    An image here is a NumPy array (h, w, 1): uint8 in [0, 255] from 8-bit files, uint16 in
    [0, 65535] from 16-bit ones. `to_float` takes it to the [0, 1] of the rest of bfjax.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from PIL import Image, ImageFile

from bfjax.data import jpeg2000, png, tiff
from bfjax.data.levels import ImageError, Turned, oriented, plain, refuse_bomb, to_grey
from bfjax.data.remarks import caught, tell

GreyImage: TypeAlias = UInt8[np.ndarray, "h w 1"] | UInt16[np.ndarray, "h w 1"]
FittedImage: TypeAlias = UInt8[np.ndarray, "rows columns 1"] | UInt16[np.ndarray, "rows columns 1"]
Images: TypeAlias = UInt8[np.ndarray, "*shape"] | UInt16[np.ndarray, "*shape"]

POLICIES = ("squash", "pad")

_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0}
_MARKS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n": "PNG", b"BM": "BMP", b"GIF8": "GIF"}


def decode(file: bytes | str | os.PathLike[str], name: str | None = None) -> GreyImage:
    """Decodes one image file to grey, or says why it cannot.

    Palettes are looked up, colour becomes luma (ITU-R 601-2, exact where R = G = B), CMYK goes
    through RGB, what is transparent lies on black (the border of an X-ray), and the orientation
    that the file gives is applied. Up to 8 bits become 8, and 9 to 16 become 16: 0 and 2^bits − 1
    go to the two ends. Pixels are taken as stored: colour profiles and PNG's gamma are not applied.
    TIFF is read by tifffile (`bfjax.data.tiff`), all other formats by Pillow, helped where it would
    drop or shift bits (`bfjax.data.png`, `bfjax.data.jpeg2000`).

    Refused: signed, float and more than 16-bit pixels, whose black and white are not known, colour
    of 16 bits in PPM and SGI, and files of several frames.

    A `UserWarning` names the file if all its pixels are the same, if a range that it declares is
    ignored (PNG's sBIT, TIFF's MaxSampleValue), or if its decoder had something to say.

    JPEG has no checksum: damage in the middle of its data that still decodes is not seen.

    Args:
      file: the encoded bytes, or the path of a file.
      name: what to call the file in errors; by default its path.

    Returns:
      (h, w, 1), uint8 or uint16.

    Raises:
      ImageError: the file is empty, truncated, corrupt, larger than Pillow's
        `Image.MAX_IMAGE_PIXELS`, no image, or of a kind refused above.
      OSError: the path cannot be read.

    Example:
      >>> import io
      >>> from PIL import Image
      >>> tiff = io.BytesIO()
      >>> Image.linear_gradient("L").convert("CMYK").save(tiff, "TIFF")
      >>> decode(tiff.getvalue(), "gradient.tif").shape
      (256, 256, 1)
      >>> decode(b"", "empty.jpeg")
      Traceback (most recent call last):
      ...
      bfjax.data.levels.ImageError: empty.jpeg: the file is empty (zero bytes)
    """
    if name is None:
        name = "<bytes>" if isinstance(file, bytes) else os.fspath(file)
    data = file if isinstance(file, bytes) else Path(file).read_bytes()
    if not data:
        raise ImageError(f"{name}: the file is empty (zero bytes)")
    read = tiff.decode_tiff if data.startswith(tiff.MARKS) else _with_pillow
    with caught() as remarks:
        try:
            grey = read(data, name, remarks)
        except ImageError:
            raise
        except Exception as error:  # decoders raise nearly anything on damaged data
            raise ImageError(f"{name}: cannot be decoded: {_reason(error, data)}") from error
    tell(name, data, remarks + plain(grey))
    return grey[:, :, None]


def _with_pillow(data: bytes, name: str, remarks: list[str]) -> Turned:
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: {str(error).rstrip('.')}; if the file is trusted, raise "
            "PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    with image as opened:
        _refuse(opened, name)
        if opened.format == "PNG":
            grey = png.decode_png(opened, data, remarks)
        elif opened.format == "JPEG2000":
            grey = jpeg2000.decode_jpeg2000(opened, data, name)
        else:
            opened.load()
            grey = to_grey(opened)
        return oriented(grey, opened.getexif().get(0x0112))


def _refuse(image: ImageFile.ImageFile, name: str) -> None:
    """Raises for what Pillow would open but not give back whole; reads only the header."""
    refuse_bomb(image.width, image.height, name)
    # A JPEG's further MPO frames are previews of the same picture; other frames are pictures.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ImageError(f"{name}: {frames} frames in one file; store each as a file of its own")
    if _is_deep(image) and not image.mode.startswith("I") and image.format != "PNG":
        raise ImageError(
            f"{name}: a {image.format} of 16 bits a sample; convert it to a 16-bit PNG"
        )
    kinds = {"F": "32-bit float", "I": "32-bit integer"}
    if image.format == "FITS":  # whose scale and zero Pillow does not apply
        kinds["I;16"] = "16-bit signed"
    if image.mode in kinds and (image.mode, image.format) != ("I", "PPM"):
        raise ImageError(
            f"{name}: a {image.format} of {kinds[image.mode]} pixels, whose black and white are "
            "not known; convert it to 16-bit grey"
        )


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether samples have 16 bits, of which Pillow keeps 8 where it is not grey."""
    for tile in image.tile:
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if tile.codec_name == "SGI16" or ";16" in str(args).replace("BGR;16", ""):  # 5, 6, 5 bits
            return True
        if image.format == "PPM" and isinstance(args[-1], int) and args[-1] > 255:
            return True
    return False


def _reason(error: Exception, data: bytes) -> str:
    """In plain words; what Pillow raises on purpose has some."""
    if isinstance(error, Image.UnidentifiedImageError):
        known = [kind for mark, kind in _MARKS.items() if data.startswith(mark)]
        if not known:
            return "not an image of a known format"
        return f"a damaged {known[0]}, or one of a kind that is not read"
    said = " ".join(str(error).split())
    if said and isinstance(error, OSError | SyntaxError):
        return said
    return "damaged or cut short"


def validate(image_size: int | None, resize: str) -> None:
    """Checks a size and a policy before any file is opened.

    Args:
      image_size: side of the square in pixels, or `None` for the native size.
      resize: name of the policy.

    Raises:
      ValueError: the size is below 1 or the policy is unknown.

    Example:
      >>> validate(224, "crop")
      Traceback (most recent call last):
      ...
      ValueError: resize must be one of 'squash', 'pad', got 'crop'
    """
    if resize not in POLICIES:
        raise ValueError(f"resize must be one of 'squash', 'pad', got {resize!r}")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1, or None for native, got {image_size}")


def fit(image: GreyImage, *, image_size: int | None, resize: str = "squash") -> FittedImage:
    """Brings an image to a square size; one that has it already comes back bit for bit.

    Args:
      image: (h, w, 1), uint8 or uint16.
      image_size: side of the square in pixels, or `None` to leave the image as it is.
      resize: `"squash"`, the aspect ratio is not kept (as Kaggle's users do), or `"pad"`, it is
        kept and the rest, left and right or above and below alike, is black. Both interpolate
        with Pillow's bilinear filter, which widens when it shrinks (no aliasing).

    Returns:
      (image_size, image_size, 1), of the same dtype.

    Raises:
      ValueError: the size is below 1 or the policy is unknown.

    Example:
      >>> import numpy as np
      >>> fit(np.full((2, 4, 1), 9, np.uint8), image_size=4, resize="pad")[:, 0, 0].tolist()
      [0, 9, 9, 0]
    """
    validate(image_size, resize)
    height, width, _ = image.shape
    if image_size is None or (height, width) == (image_size, image_size):
        return image
    # 16-bit pixels go through float, whose resampling is right in every version of Pillow.
    wide = image.dtype == np.uint16
    canvas = np.zeros((image_size, image_size, 1), image.dtype)
    pixels = Image.fromarray(image[:, :, 0].astype(np.float32) if wide else image[:, :, 0])
    rows, columns = image_size, image_size
    if resize == "pad":
        scale = image_size / max(height, width)
        rows, columns = (max(1, round(n * scale)) for n in (height, width))
    resized = np.asarray(pixels.resize((columns, rows), Image.Resampling.BILINEAR))
    if wide:
        resized = np.clip(np.rint(resized), 0, 65535).astype(np.uint16)
    top, left = (image_size - rows) // 2, (image_size - columns) // 2
    canvas[top : top + rows, left : left + columns, 0] = resized
    return canvas


def encode_png(image: GreyImage) -> bytes:
    """Encodes an image without loss; `decode` gives it back bit for bit.

    Args:
      image: (h, w, 1), uint8 or uint16.

    Returns:
      The bytes of a grey PNG file, of 8 or 16 bits.

    Example:
      >>> import numpy as np
      >>> deep = np.array([[[0], [65535]]], np.uint16)
      >>> bool((decode(encode_png(deep)) == deep).all())
      True
    """
    png = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(png, "PNG")
    return png.getvalue()


def to_float(image: Images) -> Float32[np.ndarray, "*shape"]:
    """Stored pixels to intensities, `image / 255` or `image / 65535`.

    Args:
      image: uint8 or uint16, of any shape (an image or a batch).

    Returns:
      float32 in [0, 1], of the same shape.

    Raises:
      ValueError: the dtype is another, so that full scale is not known.

    Example:
      >>> import numpy as np
      >>> to_float(np.array([0, 65535], np.uint16)).tolist()
      [0.0, 1.0]
    """
    scale = _FULL_SCALE.get(str(image.dtype))
    if scale is None:
        raise ValueError(f"to_float takes uint8 or uint16 pixels, got {image.dtype}")
    return cast(np.ndarray, image / np.float32(scale))
