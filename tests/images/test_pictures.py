"""PNG, JPEG, TIFF, WebP, BMP and GIF in all their colour modes, and arrays."""

from __future__ import annotations

import logging
import os
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from a3tune.errors import ImageError, RequestError
from a3tune.images import MAX_PIXELS, describe_image, image_from_array, load_image
from a3tune.types import Window

COLOUR = np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8)
DEEP = (np.arange(600, dtype=np.uint16) * 7 + 300).reshape(20, 30)


def save(picture: Image.Image, path: Path, **options) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("suffix", "name", "options"),
    [
        ("png", "PNG", {}),
        ("bmp", "BMP", {}),
        ("tiff", "TIFF", {}),
        ("tiff", "TIFF", {"compression": "tiff_lzw"}),
        ("webp", "WEBP", {"lossless": True}),
    ],
)
def test_lossless_colour_is_unchanged(tmp_path, suffix, name, options):
    image = load_image(save(Image.fromarray(COLOUR), tmp_path / f"a.{suffix}", **options))
    assert np.array_equal(image.pixels, COLOUR)
    assert (image.format, image.window, image.modality, image.spacing) == (name, None, None, None)


def test_jpeg_and_the_kind_told_from_the_contents(tmp_path):
    smooth = np.linspace(0, 255, 600).astype(np.uint8).reshape(20, 30)
    path = save(Image.fromarray(smooth), tmp_path / "a.dcm", format="JPEG", quality=95)
    image = load_image(path)
    assert image.format == "JPEG"
    assert np.abs(image.pixels[..., 0].astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(COLOUR), tmp_path / f"a.{suffix}", exif=exif)
    upright = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: COLOUR.transpose(1, 0, 2)[:, ::-1],
        7: COLOUR.transpose(1, 0, 2)[::-1, ::-1],
        8: COLOUR.transpose(1, 0, 2)[::-1],
    }[orientation]
    assert np.array_equal(load_image(path).pixels, upright)


def test_transparency_is_laid_on_black(tmp_path):
    alpha = np.zeros((20, 30), np.uint8)
    alpha[:, 10:20], alpha[:, 20:] = 128, 255
    path = save(Image.fromarray(np.dstack([COLOUR, alpha])), tmp_path / "a.png")
    pixels = load_image(path).pixels
    assert not pixels[:, :10].any()
    assert np.abs(pixels[:, 10:20] - COLOUR[:, 10:20] * (128 / 255)).max() <= 1
    assert np.array_equal(pixels[:, 20:], COLOUR[:, 20:])
    palette = Image.fromarray(np.tile(np.arange(4, dtype=np.uint8), (3, 1)), mode="P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    shown = load_image(save(palette, tmp_path / "p.png", transparency=1)).pixels
    assert shown[0].tolist() == [[255, 0, 0], [0, 0, 0], [0, 0, 255], [9, 9, 9]]


def test_other_colour_modes(tmp_path):
    bits = Image.fromarray(COLOUR[..., 0] > 127)
    assert np.array_equal(load_image(save(bits, tmp_path / "1.png")).pixels[..., 2], (COLOUR[..., 0] > 127) * 255)
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    for suffix in ("tiff", "jpg"):
        pixels = load_image(save(cmyk, tmp_path / f"c.{suffix}")).pixels
        assert np.abs(pixels.mean((0, 1)) - COLOUR.mean((0, 1))).max() < 3
    two = Image.fromarray(np.dstack([COLOUR[..., 0], np.full((20, 30), 255, np.uint8)]), mode="LA")
    assert np.array_equal(load_image(save(two, tmp_path / "la.png")).pixels[..., 1], COLOUR[..., 0])


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_is_windowed(tmp_path, suffix):
    path = save(Image.fromarray(DEEP), tmp_path / f"a.{suffix}")
    image = load_image(path)
    low, high = np.percentile(DEEP, (0.5, 99.5))
    assert image.window == pytest.approx(((low + high) / 2, high - low))
    assert np.abs(image.pixels[..., 0] - np.clip((DEEP - low) / (high - low), 0, 1) * 255).max() <= 0.5 + 1e-9
    chosen = load_image(path, window=(1000, 500))
    assert chosen.window == Window(1000, 500)
    assert np.abs(chosen.pixels[..., 0] - np.clip((DEEP - 750.0) / 500, 0, 1) * 255).max() <= 0.5 + 1e-9
    assert describe_image(path).windowable
    with pytest.raises(RequestError, match="Hounsfield"):
        load_image(path, window="bone")


def test_float_white_is_zero_and_constant_tiff(tmp_path):
    values = DEEP.astype(np.float32) / 1000
    values[3, 4] = np.nan
    pixels = load_image(save(Image.fromarray(values), tmp_path / "f.tiff"), window=(2, 4)).pixels[..., 0]
    assert pixels[3, 4] == 0
    assert np.nanmax(np.abs(pixels - np.clip(values / 4, 0, 1) * 255)) <= 0.5 + 1e-4
    plain = load_image(save(Image.fromarray(DEEP), tmp_path / "p.tiff"), window=(1000, 500)).pixels
    inverted = save(Image.fromarray(DEEP), tmp_path / "w.tiff", tiffinfo={262: 0})
    assert np.array_equal(load_image(inverted, window=(1000, 500)).pixels, 255 - plain)
    constant = save(Image.fromarray(np.full((3, 3), 900, np.uint16)), tmp_path / "c.tiff")
    assert not load_image(constant).pixels.any()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_animations_and_pages_are_frames(tmp_path, suffix):
    greys = (30, 120, 210)
    pages = [Image.new("L", (12, 9), value).convert("RGB") for value in greys]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(pages[0], tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:], **options)
    assert describe_image(path).frame_count == 3
    for frame, value in enumerate(greys):
        image = load_image(path, frame=frame)
        assert (image.frame, image.frame_count, image.pixels[4, 6].tolist()) == (frame, 3, [value] * 3)
    assert load_image(path).frame == 0
    with pytest.raises(RequestError, match="0 to 2"):
        load_image(path, frame=3)


def test_a_window_for_an_8_bit_picture_and_unusable_windows(tmp_path):
    path = save(Image.fromarray(COLOUR), tmp_path / "a.png")
    with pytest.raises(RequestError, match="nothing to window"):
        load_image(path, window=(40, 400))
    for window in ((1, 0), (float("nan"), 2), (1, float("inf")), (1,), (1, 2, 3), 5, ("a", "b")):
        with pytest.raises(RequestError, match="not a window"):
            load_image(path, window=window)
    with pytest.raises(RequestError, match="lung, mediastinum"):
        load_image(path, window="kidney")


def test_nothing_stays_open(tmp_path):
    path = save(Image.fromarray(COLOUR), tmp_path / "a.tiff")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    load_image(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError):
        load_image(path)
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


def test_threads_take_turns_and_leave_the_process_as_it_was(tmp_path):
    paths = [save(Image.fromarray(np.roll(COLOUR, k, axis=0)), tmp_path / f"{k}.png") for k in range(8)]
    filters, level = list(warnings.filters), logging.getLogger("pydicom").level
    wrong: list[int] = []

    def read(number: int) -> None:
        for _ in range(5):
            if not np.array_equal(load_image(paths[number]).pixels, np.roll(COLOUR, number, axis=0)):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert warnings.filters == filters
    assert logging.getLogger("pydicom").level == level


def test_arrays():
    assert np.array_equal(image_from_array(COLOUR).pixels, COLOUR)
    grey = image_from_array(COLOUR[..., 0], modality="CT", spacing=(1.0, 2.0))
    assert (grey.format, grey.modality, grey.spacing) == ("array", "CT", (1.0, 2.0))
    assert np.array_equal(grey.pixels, np.repeat(COLOUR[..., :1], 3, axis=2))
    assert np.array_equal(image_from_array(COLOUR[..., :1]).pixels, grey.pixels)
    transparent = np.dstack([COLOUR, np.zeros((20, 30), np.uint8)])
    assert not image_from_array(transparent).pixels.any()
    mine = COLOUR.copy()
    held = image_from_array(mine)
    mine[:] = 0
    assert np.array_equal(held.pixels, COLOUR)


@pytest.mark.parametrize(
    "array",
    [
        COLOUR.astype(np.float32),
        COLOUR[0, 0],
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.broadcast_to(np.uint8(0), (MAX_PIXELS // 1000 + 1, 1000)),
    ],
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(ImageError):
        image_from_array(array)


@pytest.mark.parametrize("imagej", [False, True])
def test_a_tiff_stack_with_one_directory_is_refused_by_name(tmp_path, imagej):
    stack = np.stack([np.full((8, 9), shade, np.uint8) for shade in (10, 200)])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", imagej=imagej, truncate=True)
    with pytest.raises(ImageError, match="a stack in one piece"):
        load_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", stack, photometric="minisblack", imagej=imagej)
    assert load_image(tmp_path / "b.tif", frame=1).pixels.min() == 200


def test_pictures_of_kinds_that_are_not_supported_are_no_damaged_ones(tmp_path):
    path = tmp_path / "a"

    def refused(words):
        with pytest.raises(ImageError, match=words):
            load_image(path)

    Image.new("P", (4, 3)).save(path, "BMP")
    whole = path.read_bytes()
    path.write_bytes(whole[:46] + (70000).to_bytes(4, "little") + whole[50:])
    refused(r"not supported \(a palette of 70,000 colours for 8 bits a pixel\)")
    path.write_bytes(whole[:14] + (16).to_bytes(4, "little") + whole[18:])
    refused(r"not supported \(a header of 16 bytes\)")
    Image.new("L", (4, 3)).save(path, "GIF")
    path.write_bytes(path.read_bytes()[:6] + bytes(2) + path.read_bytes()[8:])
    refused("its picture is 0 x 3 pixels")
    frames = [Image.new("L", (4, 3), shade) for shade in (0, 90)]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:])
    whole = path.read_bytes()
    first = whole.index(b"fcTL")
    # The last frame's number is the first one's again.
    last = whole.rindex(b"fcTL")
    chunk = whole[last : last + 4] + whole[first + 4 : first + 8] + whole[last + 8 : last + 30]
    path.write_bytes(whole[:last] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + whole[last + 34 :])
    with pytest.raises(ImageError, match="animation contradicts itself"):
        load_image(path, frame=1)
