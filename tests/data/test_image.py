import itertools
import struct

import numpy as np
import pytest
from PIL import Image

from bfjax.data import ImageError, decode, fit, to_float
from bfjax.data.image import encode_png

from .conftest import encoded

RAMP = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10) * 2


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossless_formats_give_back_their_pixels(format, mode):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(Image.fromarray(RAMP).convert(mode), format, **options)
    got = decode(data, "x")
    assert got.dtype == np.uint8
    assert got.shape == (12, 10, 1)
    # GIF quantises colour, not grey
    np.testing.assert_allclose(got[..., 0], RAMP, atol=4 if (format, mode) == ("GIF", "RGB") else 0)


def test_grey_jpeg_is_bit_identical_to_pillow(tmp_path):
    path = tmp_path / "Röntgen 胸部 é.jpeg"
    path.write_bytes(encoded(Image.fromarray(RAMP), "JPEG", quality=75))
    np.testing.assert_array_equal(decode(path)[..., 0], np.asarray(Image.open(path)))
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"Röntgen 胸部 é\.jpeg: the file is empty"):
        decode(path)


def test_colour_becomes_luma():
    rgb = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    got = decode(encoded(Image.fromarray(rgb), "PNG"), "x")
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(got[..., 0], luma, atol=0.51)


def test_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.putdata([1, 0])
    assert decode(encoded(image, "PNG"), "x").ravel().tolist() == [200, 10]


def test_transparent_lies_on_black():
    rgba = Image.new("RGBA", (3, 1), (200, 200, 200, 255))
    rgba.putpixel((1, 0), (200, 200, 200, 0))
    rgba.putpixel((2, 0), (200, 200, 200, 128))
    assert decode(encoded(rgba, "PNG"), "x").ravel().tolist() == [200, 0, 100]
    assert decode(encoded(rgba.convert("LA"), "PNG"), "x").ravel().tolist() == [200, 0, 100]
    palette = Image.new("P", (2, 1))
    palette.putpalette([90, 90, 90, 200, 200, 200])
    palette.putdata([0, 1])
    data = encoded(palette, "PNG", transparency=1)
    assert decode(data, "x").ravel().tolist() == [90, 0]


def test_cmyk():
    ink = Image.new("CMYK", (8, 8), (0, 0, 0, 255))
    ink.paste((0, 0, 0, 0), (4, 0, 8, 8))
    assert decode(encoded(ink, "TIFF"), "x")[0, ::7, 0].tolist() == [0, 255]
    jpeg = decode(encoded(ink, "JPEG", quality=95), "x")[0, ::7, 0]
    np.testing.assert_allclose(jpeg, [0, 255], atol=3)


def test_one_bit():
    bits = Image.fromarray(np.array([[True, False]]))
    assert decode(encoded(bits, "PNG"), "x").ravel().tolist() == [255, 0]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_kept(format):
    deep = np.array([[0, 1, 255], [256, 40000, 65535]], np.uint16)
    got = decode(encoded(Image.fromarray(deep), format), "x")
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got[..., 0], deep)


def test_sixteen_bits_of_the_other_byte_order_are_kept():
    deep = np.array([[1, 256, 65535]], np.uint16)
    big = Image.frombytes("I;16B", (3, 1), deep.astype(">u2").tobytes())
    got = decode(encoded(big, "TIFF"), "x")
    assert got.dtype == np.dtype(np.uint16)
    np.testing.assert_array_equal(got[..., 0], deep)


def test_several_frames_are_refused_by_name():
    frames = [Image.fromarray(RAMP), Image.fromarray(RAMP.T.copy())]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"^x\.tif: 2 frames"):
        decode(data, "x.tif")


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    data = encoded(Image.fromarray(RAMP), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data, "x")[..., 0], np.rot90(RAMP, -1))


def test_not_an_image():
    with pytest.raises(ImageError, match=r"^notes\.jpeg: cannot be decoded: not an image"):
        decode(b"Dear radiologist,\n", "notes.jpeg")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF"])
def test_truncated_anywhere_is_named_or_whole(format):
    data = encoded(Image.fromarray(RAMP), format)
    whole, named = decode(data, "x"), 0
    for length in range(len(data)):
        try:
            got = decode(data[:length], "cut.file")
        except ImageError as error:
            named += str(error).startswith("cut.file: ") and "\n" not in str(error)
        else:  # the last bytes of a PNG are a checksum of nothing
            np.testing.assert_array_equal(got, whole)
    assert named >= len(data) - 4


def test_a_flipped_bit_in_a_png_is_named_or_harmless():
    data = encoded(Image.fromarray(RAMP), "PNG")
    whole, named = decode(data, "x"), 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        try:
            np.testing.assert_array_equal(decode(bytes(damaged), "x"), whole)
        except ImageError:
            named += 1
    assert named > 0.8 * len(data)  # the end mark's own bytes are harmless


def test_decompression_bomb(monkeypatch):
    data = encoded(Image.new("L", (300, 200)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 59_999)
    with pytest.raises(ImageError, match=r"^big\.png: .*(bomb|60000 pixels)"):
        decode(data, "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    assert decode(data, "big.png").shape == (200, 300, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)  # three times as many: Pillow refuses
    with pytest.raises(ImageError, match=r"^big\.png: .*60000 pixels.*MAX_IMAGE_PIXELS"):
        decode(data, "big.png")


def triangle(inputs: int, outputs: int) -> np.ndarray:
    """Bilinear resampling as a matrix: a triangle filter, as wide as a pixel of the coarser."""
    scale = inputs / outputs
    centers = (np.arange(outputs) + 0.5) * scale
    distance = np.abs(np.arange(inputs) + 0.5 - centers[:, None])
    weights = np.clip(1 - distance / max(scale, 1), 0, None)
    return weights / weights.sum(1, keepdims=True)


SHAPES = [(40, 60), (60, 40), (10, 13), (33, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_squash_against_the_filter_itself(shape, dtype):
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    got = fit(pixels[..., None], image_size=24, resize="squash")
    want = triangle(shape[0], 24) @ pixels @ triangle(shape[1], 24).T
    assert got.dtype == dtype
    np.testing.assert_allclose(got[..., 0], want, atol=1.01)  # Pillow rounds after each axis


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pad_keeps_the_aspect_and_centres_on_black(shape, dtype):
    pixels = np.random.default_rng(2).integers(1, np.iinfo(dtype).max, shape).astype(dtype)
    got = fit(pixels[..., None], image_size=24, resize="pad")[..., 0]
    rows, columns = (round(n * 24 / max(shape)) for n in shape)
    top, left = (24 - rows) // 2, (24 - columns) // 2
    want = np.zeros((24, 24))
    want[top : top + rows, left : left + columns] = (
        triangle(shape[0], rows) @ pixels @ triangle(shape[1], columns).T
    )
    np.testing.assert_allclose(got, want, atol=1.01)
    assert got.dtype == dtype
    assert (got[want == 0] == 0).all()


@pytest.mark.parametrize("resize", ["squash", "pad"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_of_the_size_already_is_bit_identical(resize, dtype):
    pixels = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (9, 9, 1)).astype(dtype)
    np.testing.assert_array_equal(fit(pixels, image_size=9, resize=resize), pixels)
    np.testing.assert_array_equal(fit(pixels[:4], image_size=None, resize=resize), pixels[:4])


def test_a_sliver_can_be_padded():
    got = fit(np.full((1, 1000, 1), 7, np.uint8), image_size=8, resize="pad")
    assert got.sum() == 7 * 8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_round_trip(dtype):
    pixels = np.random.default_rng(4).integers(0, np.iinfo(dtype).max, (5, 6, 1)).astype(dtype)
    np.testing.assert_array_equal(decode(encode_png(pixels), "x"), pixels)


def test_to_float():
    for dtype, full in itertools.product((np.uint8, np.uint16), (1, 3)):
        top = np.iinfo(dtype).max
        got = to_float(np.array([0, full, top], dtype))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, [0, full / top, 1], rtol=1e-7)


def test_to_float_names_another_dtype(unchecked):
    with pytest.raises(ValueError, match="float64"):
        to_float(np.zeros((2, 2, 1)))


def test_unknown_policy_and_size():
    pixels = np.zeros((3, 3, 1), np.uint8)
    with pytest.raises(ValueError, match="'crop'"):
        fit(pixels, image_size=3, resize="crop")
    with pytest.raises(ValueError, match="got 0"):
        fit(pixels, image_size=0)


def test_an_error_of_reading_is_not_an_error_of_decoding(tmp_path):
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "none.png")


def sgi16() -> bytes:
    return struct.pack(">HBBHHHH", 474, 0, 2, 2, 1, 2, 1).ljust(512, b"\0") + bytes(4)


def fits16() -> bytes:
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 2, "NAXIS2": 1, "BZERO": 32768}
    header = "".join(f"{key:8}= {value:>20}".ljust(80) for key, value in cards.items())
    return f"{header}END".ljust(2880).encode() + bytes(2880)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P6 1 1 4095\n\0\1\0\2\0\3", "a PPM of 16 bits a sample; convert"),
        (b"P3 1 1 65535\n1 2 3\n", "a PPM of 16 bits a sample; convert"),
        (sgi16(), "a SGI of 16 bits a sample; convert"),
        (fits16(), "a FITS of 16-bit signed pixels, whose black and white are not known"),
    ],
)
def test_what_pillow_would_cut_or_shift_is_refused(data, reason):
    with pytest.raises(ImageError, match=rf"^x: {reason}"):
        decode(data, "x")


@pytest.mark.parametrize("maxval", [1, 100, 255, 256, 1000, 4095, 65535])
def test_the_white_of_a_pgm_is_its_own(maxval):
    pixels = np.array([0, maxval // 3, maxval])
    got = decode(f"P2 3 1 {maxval}\n{' '.join(map(str, pixels))}\n".encode(), "x")
    assert got.dtype == (np.uint8 if maxval < 256 else np.uint16)
    np.testing.assert_allclose(got.ravel(), pixels / maxval * np.iinfo(got.dtype).max, atol=0.51)


def test_a_bitmap_of_sixteen_bits_a_pixel_has_five_or_six_a_colour():
    pixels = struct.pack("<HHHH", 0xF800, 0x07E0, 0x001F, 0xFFFF)
    header = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    data = struct.pack("<2sIHHI", b"BM", 74, 0, 0, 66) + header + masks + pixels
    assert decode(data, "x").ravel().tolist() == [76, 150, 29, 255]
