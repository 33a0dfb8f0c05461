"""Samples that are not unsigned bytes: TIFF of every type and layout, deep PNG and JPEG, against the written values."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from a3tune.errors import ImageError, RequestError
from a3tune.images import describe_image, load_image
from a3tune.types import Window

GREY = np.linspace(0, 1, 48 * 64).reshape(48, 64)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
TWELVE_BITS = np.rint(GREY * 3989).astype(np.uint16)


def png(samples: np.ndarray) -> bytes:
    return imagecodecs.png_encode(samples)


def windowed(values: np.ndarray, window: Window) -> np.ndarray:
    return np.clip((values.astype(np.float64) - window.centre) / window.width + 0.5, 0, 1) * 255


def assert_shown(path: Path, values: np.ndarray, **options) -> None:
    """The picture equals ``values`` through its own window; no value wraps or is lost."""
    image = load_image(path, **options)
    expected = windowed(values, image.window)
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert image.pixels.shape[:2] == values.shape[:2]
    assert np.abs(image.pixels - expected).max() <= 0.5 + 1e-4
    assert np.ptp(image.pixels) > 200


SIGNED = GREY * 2 - 1


@pytest.mark.parametrize(
    "values",
    [
        *((SIGNED * np.iinfo(kind).max * 0.9).astype(kind) for kind in (np.int8, np.int16, np.int32, np.int64)),
        *((GREY * np.iinfo(kind).max).astype(kind) for kind in (np.uint16, np.uint32)),
        (GREY * 2**62).astype(np.uint64),
        *((SIGNED * 3).astype(kind) for kind in (np.float16, np.float32, np.float64)),
        TWELVE_BITS,
    ],
    ids=lambda values: f"{values.dtype}-{values.max():.0f}",
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "lzw", "tile": (16, 32)},
        {"compression": "packbits"},
        {"bigtiff": True, "rowsperstrip": 5},
        {"compression": "zlib", "predictor": True},
    ],
    ids=str,
)
def test_grey_of_every_type_and_layout(tmp_path, values, options):
    if options.get("predictor") and (
        values.dtype == np.float16 or (values.dtype.kind in "iu" and values.dtype.itemsize == 8)
    ):
        pytest.skip("tifffile writes no predictor for it")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="minisblack", **options)
    assert_shown(path, values)


def test_minus_one_is_darker_than_zero(tmp_path):
    path = tmp_path / "a.tif"
    for kind in (np.int8, np.int16, np.int32):
        tifffile.imwrite(path, np.array([[-100, -1], [0, 100]], kind))
        below, above = load_image(path).pixels[:, :, 0][(0, 1), (1, 0)]
        assert below < above
    tifffile.imwrite(path, np.arange(-128, 128).astype(np.int8).reshape(16, 16))
    assert np.array_equal(load_image(path).pixels[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_colour_of_sixteen_bits_in_both_layouts(tmp_path, planar, compression):
    values = np.rint(COLOUR * 65535).astype(np.uint16)
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, compression=compression)
    image = load_image(path)
    assert np.abs(image.pixels.astype(int) - (values >> 8)).max() <= 1
    assert image.window == Window(32767.5, 65535)


@pytest.mark.parametrize(
    ("values", "window"),
    [
        (np.rint(COLOUR * 3989).astype(np.uint16), Window(2047.5, 4095)),
        (np.rint(COLOUR * 900).astype(np.uint16), Window(511.5, 1023)),
        (COLOUR.astype(np.float32), Window(0.5, 1)),
        (COLOUR * 4095, Window(2047.5, 4095)),
    ],
)
def test_colour_is_shown_over_the_range_that_it_needs(tmp_path, values, window):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="rgb")
    assert load_image(path).window == window
    assert_shown(path, values)
    assert describe_image(path).windowable
    narrow = load_image(path, window=(window.centre, window.width / 2))
    assert np.abs(narrow.pixels - windowed(values, narrow.window)).max() <= 0.5 + 1e-4


def test_white_is_zero_and_orientation(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, TWELVE_BITS, photometric="minisblack")
    plain = load_image(path).pixels
    tifffile.imwrite(path, TWELVE_BITS, photometric="miniswhite")
    assert np.array_equal(load_image(path).pixels, 255 - plain)
    tifffile.imwrite(path, TWELVE_BITS, extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(load_image(path).pixels, np.rot90(plain, -1))


def test_channels_and_pages_are_frames(tmp_path):
    path = tmp_path / "a.tif"
    two = np.stack([TWELVE_BITS, TWELVE_BITS[::-1]], axis=-1)
    for planar, stored in (("contig", two), ("separate", two.transpose(2, 0, 1))):
        tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=planar)
        assert describe_image(path).frame_count == 2
        for channel in (0, 1):
            assert_shown(path, two[..., channel], frame=channel)
    tifffile.imwrite(path, np.moveaxis(two, -1, 0), photometric="minisblack")
    assert describe_image(path).frame_count == 2
    assert_shown(path, two[..., 1], frame=1)
    with pytest.raises(RequestError, match="0 to 1"):
        load_image(path, frame=2)


def test_jpeg_2000_inside_tiff(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, TWELVE_BITS, compression="jpeg2000")
    assert_shown(path, TWELVE_BITS)


def test_twelve_bits_in_deep_png(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(TWELVE_BITS))
    grey = load_image(path)
    assert_shown(path, TWELVE_BITS)
    opaque = np.full_like(TWELVE_BITS, 65535)
    path.write_bytes(png(np.dstack([TWELVE_BITS, opaque])))
    assert np.array_equal(load_image(path).pixels, grey.pixels)
    path.write_bytes(png(np.dstack([TWELVE_BITS] * 3)))
    assert np.array_equal(load_image(path).pixels, grey.pixels)
    path.write_bytes(png(np.rint(COLOUR * 3989).astype(np.uint16)))
    assert load_image(path).window == Window(2047.5, 4095)


def test_invisible_pixels_are_black_and_do_not_count(tmp_path):
    path = tmp_path / "a.png"
    values, alpha = TWELVE_BITS.copy(), np.full_like(TWELVE_BITS, 65535)
    values[:10], alpha[:10] = 65535, 0
    alpha[10:20] = 32768
    path.write_bytes(png(np.dstack([values, alpha])))
    image = load_image(path)
    assert image.window.width < 4000
    assert not image.pixels[:10].any()
    full = windowed(values[10:20], image.window)
    assert np.abs(image.pixels[10:20, :, 0] - full * (32768 / 65535)).max() <= 1
    tifffile.imwrite(
        tmp_path / "a.tif", np.dstack([values, alpha]), photometric="minisblack", extrasamples=["unassalpha"]
    )
    assert np.array_equal(load_image(tmp_path / "a.tif").pixels, image.pixels)


@pytest.mark.parametrize(
    "encoded",
    [
        imagecodecs.jpeg8_encode(TWELVE_BITS, bitspersample=12, level=98),
        imagecodecs.jpeg8_encode(TWELVE_BITS, bitspersample=16, lossless=True),
        imagecodecs.jpegls_encode(TWELVE_BITS),
    ],
    ids=["12 bits", "lossless", "JPEG-LS"],
)
def test_jpeg_of_more_than_eight_bits(tmp_path, encoded):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded)
    image = load_image(path)
    assert np.abs(image.pixels[..., 0] - windowed(TWELVE_BITS, image.window)).max() <= 2
    path.write_bytes(encoded[: len(encoded) // 2])
    with pytest.raises(ImageError, match=r"cut off|damaged"):
        load_image(path)


def bitmap(bits: int, compression: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, bits, compression, 64, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 256, 0, 0, 54) + head + bytes(256)


def test_a_sound_file_of_an_unsupported_kind_is_named_by_its_property(tmp_path):
    path = tmp_path / "a"
    hierarchical = imagecodecs.jpeg8_encode(np.zeros((8, 8), np.uint8)).replace(b"\xff\xc0", b"\xff\xc5")
    cases = {"hierarchical": hierarchical, "2 bits a pixel": bitmap(2, 0), "compression 4": bitmap(24, 4)}
    tifffile.imwrite(path, TWELVE_BITS, photometric="minisblack")
    tiff = path.read_bytes()
    for tag, value, words in (
        (259, 34676, "SGILOG"),
        (259, 61000, "number 61000"),
        (262, 8, "CIE Lab"),
        (258, 128, "128 bits"),
    ):
        place = tiff.index(struct.pack("<HHI", tag, 3, 1))
        cases[words] = tiff[: place + 8] + struct.pack("<H", value) + tiff[place + 10 :]
    for words, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(ImageError, match=words) as caught:
            load_image(path)
        assert "damaged" not in str(caught.value)


def test_a_deep_tiff_that_ends_early_is_cut_off(tmp_path):
    path = tmp_path / "a.tif"
    for compression in (None, "zlib"):
        noise = np.random.default_rng(1).integers(0, 65535, (48, 64), np.uint16)
        tifffile.imwrite(path, noise, compression=compression)
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(ImageError, match="cut off"):
            load_image(path)


def test_other_pages_than_deep_ones_stay_with_pillow(tmp_path):
    path = tmp_path / "a.tif"
    picture = Image.fromarray(np.rint(COLOUR * 255).astype(np.uint8))
    for mode in ("RGB", "L", "P", "1", "CMYK", "LA", "RGBA"):
        picture.convert(mode).save(path)
        with Image.open(path) as opened:
            expected = np.asarray(opened.convert("RGB"))
        assert np.array_equal(load_image(path).pixels, expected), mode


def test_a_deep_png_that_is_altered_is_damaged(tmp_path):
    path = tmp_path / "a.png"
    content = bytearray(png(TWELVE_BITS))
    place = content.index(b"IDAT") + 40
    content[place : place + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged"):
        load_image(path)
