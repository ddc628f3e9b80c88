import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bfjax.data import ImageError, decode

from .conftest import encoded


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: np.ndarray, bits: int, color_type: int, *chunks: bytes) -> bytes:
    """A PNG of a kind that Pillow does not write; pixels: (h, w, channels)."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    rows = []
    for row in pixels.reshape(height, -1):
        places = (row[:, None].astype(int) >> np.arange(bits)[::-1]) & 1
        rows.append(b"\0" + np.packbits(places.astype(np.uint8)).tobytes())
    body = chunk(b"IHDR", header) + b"".join(chunks)
    body += chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def random_pixels(bits: int, channels: int) -> np.ndarray:
    pixels = np.random.default_rng(bits).integers(0, 2**bits, (6, 9, channels))
    pixels[0, :2] = [[0], [2**bits - 1]]
    return pixels


def luma(pixels: np.ndarray) -> np.ndarray:
    return pixels @ [0.299, 0.587, 0.114] if pixels.shape[-1] == 3 else pixels[..., 0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("transparent", [False, True])
def test_grey_of_every_depth(bits, transparent):
    pixels = random_pixels(bits, 1)
    hole = 2**bits - 1
    chunks = [chunk(b"tRNS", struct.pack(">H", hole))] if transparent else []
    got = decode(png(pixels, bits, 0, *chunks), "x")[..., 0]
    assert got.dtype == (np.uint16 if bits == 16 else np.uint8)
    want = pixels[..., 0] * (np.iinfo(got.dtype).max // (2**bits - 1))
    if transparent:
        want[pixels[..., 0] == hole] = 0
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["RGB", "a transparent RGB", "grey and alpha", "RGBA"])
def test_colour_and_alpha_keep_their_bits_and_lie_on_black(bits, kind):
    color_type = {"grey and alpha": 4, "RGBA": 6}.get(kind, 2)
    pixels = random_pixels(bits, {2: 3, 4: 2, 6: 4}[color_type])
    hole = pixels[2, 3]
    chunks = [chunk(b"tRNS", struct.pack(">HHH", *hole))] if kind == "a transparent RGB" else []
    got = decode(png(pixels, bits, color_type, *chunks), "x")[..., 0]
    assert got.dtype == (np.uint16 if bits == 16 else np.uint8)
    if color_type == 2:
        want = luma(pixels)
        if chunks:
            want[(pixels == hole).all(-1)] = 0
    else:
        want = luma(pixels[..., :-1]) * pixels[..., -1] / (2**bits - 1)
    np.testing.assert_allclose(got, want, atol=0.51 if bits == 16 or color_type == 2 else 1.51)


@pytest.mark.parametrize(("bits", "used"), [(16, 12), (8, 5)])
def test_significant_bits_are_ignored_with_a_warning(bits, used):
    pixels = random_pixels(bits, 1)
    plain = decode(png(pixels, bits, 0, chunk(b"sBIT", bytes([bits]))), "x")
    with pytest.warns(UserWarning, match=rf"^x\.png: sBIT says that {used} of {bits} bits"):
        got = decode(png(pixels, bits, 0, chunk(b"sBIT", bytes([used]))), "x.png")
    np.testing.assert_array_equal(got, plain)


def test_gamma_is_not_applied():
    pixels = random_pixels(8, 1)
    got = decode(png(pixels, 8, 0, chunk(b"gAMA", struct.pack(">I", 45455))), "x")
    np.testing.assert_array_equal(got, pixels)


def test_without_pixels_the_message_is_in_plain_words():
    data = png(random_pixels(8, 1), 8, 0)
    data = data[: data.index(b"IDAT") - 4] + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"^x\.png: cannot be decoded: damaged or cut short$"):
        decode(data, "x.png")


def test_an_animation_that_is_none_is_told_by_name():
    frames = [Image.new("L", (3, 2), shade) for shade in (10, 90)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    start = data.index(b"acTL")
    broken = data[: start - 4] + chunk(b"acTL", bytes(8)) + data[start + 16 :]
    with pytest.warns(UserWarning, match=r"^x\.png: .*APNG"):
        decode(broken, "x.png")


@pytest.mark.real_data
@pytest.mark.parametrize("file", ["tbbn0g04.png", "xdtn0g01.png"])
def test_files_that_went_wrong(data_root, file):
    path = data_root / "cases" / "files" / file
    if file == "xdtn0g01.png":
        with pytest.raises(ImageError, match=r"damaged or cut short$"):
            decode(path)
        return
    with Image.open(io.BytesIO(path.read_bytes())) as opened:
        stored, hole = np.asarray(opened), opened.info["transparency"] * 17
    got = decode(path)[..., 0]
    np.testing.assert_array_equal(got, np.where(stored == hole, 0, stored))
    assert (got == 0).sum() > 100
