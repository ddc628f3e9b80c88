import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from bfjax.data import ImageError, decode

from .conftest import encoded

FILES = ["12bit.cropped.tif", "flower-rgb-planar-16.tif", "minisblack-2c-8b-alpha.tiff"]
SIGNED = [("8bit.s.tif", 8), ("int8.tif", 8), ("int16.tif", 16)]
TURNS = {  # what undoes each orientation, in TIFF 6.0's words
    1: lambda a: a,
    2: lambda a: a[:, ::-1],  # the 0th column is the right side
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),  # the 0th row is the right side
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a),
}


def tiff(samples: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **({"photometric": "minisblack"} | options))
    return file.getvalue()


def handmade(
    pixels: np.ndarray, bits: int, photometric: int, order: str = "<", *more: tuple[int, list[int]]
) -> bytes:
    """A TIFF of any depth, packed, without a library; pixels: (h, w, channels)."""
    height, width, channels = pixels.shape
    places = (pixels.reshape(height, -1)[:, :, None].astype(int) >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(places.reshape(height, -1).astype(np.uint8), axis=1)
    if dict(more).get(266) == [2]:
        rows = np.packbits(np.unpackbits(rows, bitorder="little"))
    if bits == 16:
        rows = rows.reshape(-1, 2)[:, :: 1 if order == ">" else -1]
    tags = {256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [photometric]}
    tags |= {277: [channels], 278: [height], 279: [rows.size]} | dict(more)
    tags[273] = [8]
    start, entries, values = 8 + rows.size + rows.size % 2, b"", b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(packed) > 4:
            field, values = struct.pack(f"{order}I", after + len(values)), values + packed
        else:
            field = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + field
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, start)
    body = head + rows.tobytes() + bytes(rows.size % 2)
    return body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values


def full_random(bits: int, *shape: int) -> np.ndarray:
    pixels = np.random.default_rng(bits).integers(0, 2**bits, shape)
    pixels[0, :2] = np.reshape([0, 2**bits - 1], (2, *[1] * (pixels.ndim - 2)))
    return pixels.astype(np.uint8 if bits <= 8 else np.uint16)


def rescaled(luma: np.ndarray, bits: int) -> np.ndarray:
    return luma / (2**bits - 1) * (255 if bits <= 8 else 65535)


def assert_levels(got: np.ndarray, want: np.ndarray, bits: int) -> None:
    assert got.dtype == (np.uint8 if bits <= 8 else np.uint16)
    np.testing.assert_allclose(got[..., 0], want, atol=0.51)


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("photometric", ["white is zero", "black is zero", "RGB"])
@pytest.mark.parametrize("order", "<>")
def test_every_depth_fills_its_range(bits, photometric, order):
    number = ["white is zero", "black is zero", "RGB"].index(photometric)
    pixels = full_random(bits, 7, 9, 3 if photometric == "RGB" else 1)
    got = decode(handmade(pixels, bits, number, order), "x")
    luma = pixels @ [0.299, 0.587, 0.114] if photometric == "RGB" else pixels[..., 0].astype(float)
    want = 2**bits - 1 - luma if photometric == "white is zero" else luma
    assert_levels(got, rescaled(want, bits), bits)


@pytest.mark.parametrize("bits", [1, 4, 8, 12])
def test_fill_order(bits):
    pixels = full_random(bits, 7, 10, 1)
    got = decode(handmade(pixels, bits, 1, ">", (266, [2])), "x")
    assert_levels(got, rescaled(pixels[..., 0], bits), bits)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("extra", ["unspecified", "assocalpha", "unassalpha"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_alpha_lies_on_black(bits, planar, extra, colours, bigtiff):
    pixels = full_random(bits, 7, 9, colours + 1)
    stored = np.moveaxis(pixels, -1, 0) if planar == "separate" else pixels
    data = tiff(
        stored,
        photometric="rgb" if colours == 3 else "minisblack",
        planarconfig=planar,
        extrasamples=[extra],
        bigtiff=bigtiff,
    )
    luma = pixels[..., :3] @ [0.299, 0.587, 0.114] if colours == 3 else pixels[..., 0].astype(float)
    if extra == "unassalpha":
        luma = luma * pixels[..., -1] / (2**bits - 1)
    assert_levels(decode(data, "x"), luma, bits)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", ["lzw", "packbits", "zlib", "zstd", "lzma", "jpeg2000"])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 3}])
def test_lossless_compressions(bits, compression, layout):
    pixels = full_random(bits, 33, 20)
    got = decode(tiff(pixels, compression=compression, **layout), "x")
    np.testing.assert_array_equal(got[..., 0], pixels)


@pytest.mark.parametrize("bits", [8, 16])
def test_inks(bits):
    c, m, y, k = np.moveaxis(full_random(bits, 7, 9, 4) / (2**bits - 1), -1, 0)
    luma = 0.299 * (1 - c) * (1 - k) + 0.587 * (1 - m) * (1 - k) + 0.114 * (1 - y) * (1 - k)
    data = tiff(full_random(bits, 7, 9, 4), photometric="separated")
    assert_levels(decode(data, "x"), luma * (2**bits - 1), bits)


@pytest.mark.parametrize("scale", [1, 257])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_palette_has_bits_of_its_own(scale, bits):
    table = np.random.default_rng(0).integers(0, 256, (3, 2**bits))
    pixels = full_random(bits, 7, 9, 1)
    colormap = (320, (table * scale).ravel().tolist())
    want = np.array([0.299, 0.587, 0.114]) @ table
    assert_levels(decode(handmade(pixels, bits, 3, "<", colormap), "x"), want[pixels[..., 0]], 8)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "1", "P", "CMYK", "RGBX", "LA", "RGBA"])
def test_pillows_modes_are_what_pillow_reads(mode):
    rgb = Image.fromarray(full_random(8, 7, 9, 3))
    if mode == "LAB":
        data = encoded(Image.frombytes("LAB", rgb.size, rgb.tobytes()), "TIFF")
    else:
        data = encoded(rgb.convert(mode), "TIFF")
    want = Image.open(io.BytesIO(data)).convert("RGB").convert("L")
    np.testing.assert_allclose(decode(data, "x")[..., 0], np.asarray(want, float), atol=1)


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation(orientation):
    pixels = full_random(16, 7, 9)
    data = tiff(pixels, extratags=[(274, 3, 1, orientation, True)], metadata=None)
    np.testing.assert_array_equal(decode(data, "x")[..., 0], TURNS[orientation](pixels))


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("int8", "8 bits, signed"),
        ("int16", "16 bits, signed"),
        ("int32", "32 bits, signed"),
        ("uint32", "32 bits"),
        ("float16", "16 bits, float"),
        ("float32", "32 bits, float"),
        ("complex64", "64 bits, complex"),
    ],
)
def test_pixels_without_black_and_white_are_refused_by_bits_and_kind(dtype, kind):
    with pytest.raises(ImageError, match=rf"^x\.tif: a TIFF of {kind}: its black and white"):
        decode(tiff(np.ones((4, 4), dtype)), "x.tif")


@pytest.mark.parametrize("tag", [281, 341])
def test_a_declared_range_is_ignored_with_a_warning(tag):
    pixels = full_random(12, 7, 9)
    data = tiff(pixels, extratags=[(tag, 3, 1, 4095, True)])
    with pytest.warns(UserWarning, match=r"^x\.tif: the range of samples .* 0 to 65535"):
        got = decode(data, "x.tif")
    np.testing.assert_array_equal(got[..., 0], pixels)
    np.testing.assert_array_equal(decode(tiff(pixels, extratags=[(tag, 3, 1, 65535, True)])), got)


def untagged(data: bytes, tag: int) -> bytes:
    """Under a number that means nothing."""
    assert data.count(struct.pack("<HH", tag, 3)) == 1
    return data.replace(struct.pack("<HH", tag, 3), struct.pack("<HH", 65000, 3))


GREY = full_random(8, 7, 9)
REFUSED = {
    "several pages": (lambda: tiff(np.stack([GREY] * 3)), "3 frames"),
    "hidden pages": (lambda: tiff(np.stack([GREY] * 3), truncate=True), "3 frames"),
    "an ImageJ stack": (lambda: tiff(np.stack([GREY] * 3), imagej=True), "3 frames"),
    "a volume": (lambda: tiff(np.stack([GREY] * 16), volumetric=True, tile=(16, 16, 16)), "frames"),
    "previews": (lambda: tiff(GREY, subfiletype=1), "previews"),
    "bands": (lambda: tiff(np.stack([GREY] * 5, -1), planarconfig="contig"), "5 samples"),
    "no photometric": (lambda: untagged(tiff(GREY), 262), "which of its values is black"),
    "undeclared alpha": (
        lambda: untagged(tiff(np.stack([GREY] * 4, -1), photometric="rgb"), 338),
        "0 of which are declared as extra",
    ),
    "a filter array": (lambda: tiff(GREY, photometric="cfa"), "CFA pixels"),
    "other inks": (
        lambda: tiff(
            np.stack([GREY] * 4, -1), photometric="separated", extratags=[(332, 3, 1, 2, True)]
        ),
        "SEPARATED pixels",
    ),
    "a missing strip": (lambda: tiff(np.zeros_like(GREY), compression="zlib")[:-1], "cut short"),
    "text": (lambda: b"II*\0Dear radiologist", "damaged or cut short"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(kind):
    make, reason = REFUSED[kind]
    with pytest.raises(ImageError, match=rf"^x\.tif: .*{reason}"):
        decode(make(), "x.tif")


def test_reduced_copies_are_not_frames():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(GREY, photometric="minisblack", metadata=None)
        writer.write(GREY[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(decode(file.getvalue(), "x")[..., 0], GREY)


def test_decompression_bomb(monkeypatch):
    data = tiff(GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 62)
    with pytest.raises(ImageError, match=r"^big\.tif: 9x7 pixels exceed the limit of 62"):
        decode(data, "big.tif")


def test_what_tifffile_logs_is_told_with_the_name_of_the_file(caplog, capfd):
    data = tiff(GREY, software="someone's", metadata=None)
    start = data.index(struct.pack("<HH", 305, 2)) + 2  # Software, to a type that is none
    damaged = data[:start] + b"\xfe\0" + data[start + 2 :]
    with pytest.warns(UserWarning, match=r"^x\.tif: .*TiffTag 305") as said:
        np.testing.assert_array_equal(decode(damaged, "x.tif")[..., 0], GREY)
    assert len(said) == 1
    assert not caplog.records
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.real_data
@pytest.mark.parametrize("file", FILES)
def test_files_that_went_wrong(data_root, file):
    path = data_root / "cases" / "files" / file
    with tifffile.TiffFile(path) as opened:
        page = opened.pages[0]
        samples, bits = page.asarray().astype(float), page.bitspersample
    if file.startswith("flower"):
        samples = np.einsum("chw,c->hw", samples, [0.299, 0.587, 0.114])
    if file.startswith("minisblack"):
        samples = samples[0]  # multiplied with its alpha already
    assert_levels(decode(path), rescaled(samples, bits), bits)


@pytest.mark.real_data
@pytest.mark.parametrize(("file", "bits"), SIGNED)
def test_signed_files_are_refused(data_root, file, bits):
    with pytest.raises(ImageError, match=f"{file}: a TIFF of {bits} bits, signed"):
        decode(data_root / "cases" / "files" / file)
