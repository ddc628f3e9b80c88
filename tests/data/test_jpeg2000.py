import imagecodecs
import numpy as np
import pytest

from bfjax.data import ImageError, decode


def samples(bits: int, channels: int, *, signed: bool = False) -> np.ndarray:
    random = np.random.default_rng(bits)
    low = -(2 ** (bits - 1)) if signed else 0
    kind = f"{'int' if signed else 'uint'}{8 if bits <= 8 else 16}"
    pixels = random.integers(low, low + 2**bits, (24, 20, channels)).astype(kind)
    pixels[0, :2] = [[low], [low + 2**bits - 1]]
    return pixels


def encoded(pixels: np.ndarray, bits: int, codecformat: str) -> bytes:
    return imagecodecs.jpeg2k_encode(
        pixels, level=0, reversible=True, bitspersample=bits, codecformat=codecformat, mct=False
    )


@pytest.mark.parametrize("bits", [1, 4, 7, 8, 9, 10, 12, 15, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("codecformat", ["jp2", "j2k"])
def test_every_depth_fills_its_range(bits, channels, codecformat):
    pixels = samples(bits, channels)
    got = decode(encoded(pixels.squeeze(), bits, codecformat), "x")[..., 0]
    want = pixels / (2**bits - 1)
    alpha = want[..., -1] if channels in (2, 4) else 1
    want = (want[..., :3] @ [0.299, 0.587, 0.114] if channels > 2 else want[..., 0]) * alpha
    assert got.dtype == (np.uint8 if bits <= 8 else np.uint16)
    np.testing.assert_allclose(
        got, want * np.iinfo(got.dtype).max, atol=1.51 if bits == 8 else 0.51
    )


@pytest.mark.parametrize("bits", [8, 12])
def test_signed_pixels_are_refused(bits):
    data = encoded(samples(bits, 1, signed=True).squeeze(), bits, "jp2")
    with pytest.raises(ImageError, match=rf"^x\.jp2: a JPEG 2000 of {bits} bits, signed: its"):
        decode(data, "x.jp2")


def test_truncated_anywhere_is_named():
    data = encoded(samples(12, 1).squeeze(), 12, "j2k")
    for length in range(1, len(data) - 2, 7):
        with pytest.raises(ImageError, match=r"^cut\.j2k: [^\n]*$"):
            decode(data[:length], "cut.j2k")
