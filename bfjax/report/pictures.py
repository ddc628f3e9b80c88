"""The pictures of a page: several panels in one WebP file, in the page or beside it."""

from __future__ import annotations

import base64
import io
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from bfjax import storage

SIDE = 224
"""Panels are reduced to this many pixels along their longer side."""
GUTTER = 2
"""Each panel's first and last column is repeated so often: scaled, no neighbour shines in."""
QUALITY = 78
_PATTERN = "[0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9][0-9].webp"

DIVERGING = "PuOr_r"  # that of evaluation.gallery
SEQUENTIAL = "magma"

Panel = UInt8[np.ndarray, "h w 3"]


def grey(image: Float[np.ndarray, "h w c"]) -> Panel:
    """An image as a panel.

    Args:
      image: (h, w, 1) or (h, w, 3) in [0, 1].

    Returns:
      (h, w, 3), 8 bits.

    Example:
      >>> grey(np.array([[[0.0], [1.0]]])).tolist()
      [[[0, 0, 0], [255, 255, 255]]]
    """
    return np.broadcast_to(_bytes(image), (*image.shape[:2], 3))


def diverging(values: Float[np.ndarray, "h w"], *, span: float) -> Panel:
    """Signed values as colours: purple below 0, white at 0, orange above.

    Args:
      values: (h, w).
      span: the colours end at ± this.

    Returns:
      (h, w, 3), 8 bits.

    Example:
      >>> (diverging(np.zeros((1, 1)), span=1.0) > 240).all().item()
      True
    """
    return _bytes(matplotlib.colormaps[DIVERGING]((values / span + 1) / 2)[..., :3])


def blended(values: Float[np.ndarray, "h w"], image: Float[np.ndarray, "h w c"]) -> Panel:
    """A map in [0, 1] as colours over an image.

    Args:
      values: (h, w), the map.
      image: what lies under it.

    Returns:
      (h, w, 3), 8 bits.

    Example:
      >>> blended(np.ones((1, 1)), np.zeros((1, 1, 1))).shape
      (1, 1, 3)
    """
    colours = matplotlib.colormaps[SEQUENTIAL](values)[..., :3]
    return _bytes(0.6 * colours + 0.4 * image.mean(-1, keepdims=True))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of the panels of an image.

    Args:
      shape: (h, w, ...) of the image.

    Returns:
      Pixels.

    Example:
      >>> size((448, 896, 1)), size((32, 32, 1))
      ((224, 112), (32, 32))
    """
    scale = min(1, SIDE / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def join(panels: Sequence[Panel]) -> bytes:
    """Panels beside each other as one WebP file.

    Args:
      panels: of one size.

    Returns:
      The file; panel k begins at the column k (w + 2 GUTTER) + GUTTER.

    Example:
      >>> join([np.zeros((8, 8, 3), np.uint8)] * 2)[8:12]
      b'WEBP'
    """
    wanted = size(panels[0].shape)
    columns = []
    for panel in panels:
        fitted = Image.fromarray(np.ascontiguousarray(panel))
        if fitted.size != wanted:
            fitted = fitted.resize(wanted, Image.Resampling.LANCZOS)
        columns.append(np.pad(np.asarray(fitted), ((0, 0), (GUTTER, GUTTER), (0, 0)), "edge"))
    file = io.BytesIO()
    Image.fromarray(np.concatenate(columns, 1)).save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


class Pictures:
    """Pictures that go into the page as long as it stays small, and else beside it.

    Args:
      folder: where they go once the page would be too large; not made before.
      limit: how many bytes they, and what the page says of them, may take within it.
    """

    def __init__(self, folder: Path, *, limit: int):
        self.folder, self._limit = folder, limit
        self._names: list[str] = []
        self._held: list[bytes] = []
        self._size = 0

    @property
    def inside(self) -> bool:
        """Whether the page holds them."""
        return self._size <= self._limit

    def add(self, name: str, picture: bytes, *, text: int = 0) -> None:
        """Takes one more.

        Args:
          name: its file name, should it need one.
          picture: a WebP file.
          text: how many bytes the page says of it.
        """
        self._names.append(name)
        self._held.append(picture)
        self._size += text + 4 * ((len(picture) + 2) // 3)  # of base64
        if not self.inside:
            for name, held in zip(self._names[-len(self._held) :], self._held, strict=True):
                with storage.replacing(self.folder / name) as temporary:
                    temporary.write_bytes(held)
            self._held.clear()

    def links(self) -> list[str]:
        """What the page's `src` attributes say, in the order in which pictures were added."""
        if self.inside:
            return [
                "data:image/webp;base64," + base64.b64encode(held).decode() for held in self._held
            ]
        folder = urllib.parse.quote(self.folder.name, safe="")
        return [f"{folder}/{name}" for name in self._names]

    def tidy(self) -> None:
        """Deletes the pictures of an earlier page that this one does not show."""
        kept = set() if self.inside else set(self._names)
        for path in self.folder.glob(_PATTERN):
            if path.name not in kept:
                path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
