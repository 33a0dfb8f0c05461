"""Square pixels: what is resampled, and that masks, boxes and maps come back to the stored grid unchanged."""

from __future__ import annotations

import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from a3tune.images import describe_image, image_from_array, load_image
from a3tune.images.frames import (
    boxes_to_stored,
    image_record,
    labels_to_stored,
    map_to_stored,
    mask_to_source,
    mask_to_stored,
    square_size,
)
from a3tune.images.limits import MAX_PIXELS
from a3tune.types import MedicalImage, Region, ScoredRegion, WeakLabels

GREY = np.random.default_rng(2).integers(0, 256, (24, 40), np.uint8)
SIZES = [((24, 40), (120, 40)), ((24, 40), (24, 52)), ((24, 40), (25, 40)), ((24, 40), (24, 40)), ((7, 11), (19, 11))]


def made(stored: tuple[int, int], shown: tuple[int, int]) -> MedicalImage:
    return MedicalImage(np.zeros((*shown, 3), np.uint8), stored_size=stored)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (1, (24, 40)),
        (5, (120, 40)),
        (0.5, (24, 80)),
        (1.3, (31, 40)),
        (1.000002, (24, 40)),
        (51, (24, 40)),
        (0.01, (24, 40)),
        (float("nan"), (24, 40)),
        (float("inf"), (24, 40)),
    ],
)
def test_the_coarser_direction_gets_more_pixels(aspect, size):
    assert square_size(24, 40, aspect) == size


def test_the_limit_holds_and_the_shape_with_it():
    height, width = square_size(8000, 8000, 4)
    assert height * width <= MAX_PIXELS
    assert height / width == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize(("stored", "shown"), SIZES)
def test_a_mask_goes_there_and_back_unchanged(stored, shown):
    image = made(stored, shown)
    for seed in range(20):
        mask = np.random.default_rng(seed).random(stored) < 0.3
        source = mask_to_source(mask, image)
        assert source.shape == shown
        assert np.array_equal(mask_to_stored(source, image), mask)
    block = np.zeros(stored, bool)
    block[1:6, 2:9] = True
    # The share of the picture that a mask covers, to one row of the new pixels.
    assert mask_to_source(block, image).mean() == pytest.approx(block.mean(), abs=1 / min(shown))


@pytest.mark.parametrize(("stored", "shown"), SIZES)
def test_maps_keep_their_mass_and_boxes_their_place(stored, shown):
    image = made(stored, shown)
    values = np.random.default_rng(4).random(shown)
    back = map_to_stored(values, image)
    assert back.shape == stored
    assert back.mean() == pytest.approx(values.mean())
    if shown == (120, 40):
        assert np.allclose(back, values.reshape(24, 5, 40).mean(axis=1))
    corners = np.array([[0, 0, shown[1], shown[0]]], float)
    assert np.allclose(boxes_to_stored(corners, image), [[0, 0, stored[1], stored[0]]])


def test_a_thin_region_is_not_lost():
    image = made((24, 40), (120, 40))
    thin = np.zeros((120, 40), bool)
    thin[52, 5:9] = True
    region = ScoredRegion(Region(thin, (5, 52, 4, 1)), 20.0, 1, 1.0, "x")
    (kept,) = labels_to_stored(WeakLabels((region,), "x", "s", "c"), image).regions
    assert (kept.region.box, kept.region.area) == ((5, 10, 4, 1), 4)


def test_an_image_that_is_square_is_left_alone():
    image = image_from_array(GREY, spacing=(1.0, 2.0))
    mask = GREY > 100
    assert mask_to_source(mask, image) is mask
    assert mask_to_stored(mask, image) is mask
    assert not image.notes


def dicom(path: Path, **values) -> Path:
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"PixelSpacing": [2.0, 0.5]}, (512, 128)),
        ({"PixelSpacing": [0.5, 0.7]}, (128, 179)),
        ({"PixelSpacing": None, "PixelAspectRatio": [2, 1]}, (256, 128)),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.1, 0.2]}, (128, 256)),
        ({"PixelSpacing": [1, 1], "PixelAspectRatio": [2, 1]}, (128, 128)),
        ({"PixelSpacing": None}, (128, 128)),
        ({"PixelSpacing": None, "PixelAspectRatio": [0, 1]}, (128, 128)),
        ({"PixelSpacing": [0.661468, 0.661469]}, (128, 128)),
    ],
)
def test_dicom_spacing_and_aspect_ratio(tmp_path, values, size):
    path = dicom(tmp_path / "a.dcm", **values)
    image, stored = load_image(path), load_image(path, square=False)
    assert (image.height, image.width) == size
    assert image.stored_size == (128, 128) == stored.pixels.shape[:2]
    assert bool(image.notes) == image.is_resampled == (size != (128, 128))
    assert image.spacing == stored.spacing
    # The same picture on another grid: the mean over each stored pixel is near what was stored.
    back = map_to_stored(image.pixels[..., 0].astype(float), image)
    assert np.abs(back - stored.pixels[..., 0]).mean() < 8
    described = describe_image(path)
    assert (described.height, described.width) == (128, 128)
    record = image_record(image)
    assert (record["height"], record["width"], record["coordinates"]) == (128, 128, "stored pixels")
    assert record["shown"] == {"width": size[1], "height": size[0]}


def test_a_thick_coronal_slice(tmp_path):
    path = tmp_path / "a.nii"
    nibabel.Nifti1Image(np.arange(30 * 20 * 8, dtype=np.int16).reshape(30, 20, 8), np.diag([1, 1, 5, 1])).to_filename(
        path
    )
    assert load_image(path, axis=1).pixels.shape == (40, 30, 3)
    assert load_image(path, axis=0).pixels.shape == (40, 20, 3)
    axial = load_image(path, axis=2)
    assert (axial.pixels.shape, axial.is_resampled) == ((20, 30, 3), False)


def test_resolutions_of_pictures(tmp_path):
    picture = Image.fromarray(GREY)
    picture.save(tmp_path / "a.png", dpi=(200, 100))
    assert load_image(tmp_path / "a.png").pixels.shape == (48, 40, 3)
    picture.save(tmp_path / "a.tif", dpi=(204, 98))
    assert load_image(tmp_path / "a.tif").pixels.shape == (50, 40, 3)
    tifffile.imwrite(tmp_path / "b.tif", GREY.astype(np.uint16) * 9, resolution=(100, 200))
    assert load_image(tmp_path / "b.tif").pixels.shape == (24, 80, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "c.tif", dpi=(200, 100), exif=exif)
    # Turned by a quarter, the pixels that were high are wide.
    assert load_image(tmp_path / "c.tif").pixels.shape == (40, 48, 3)
    for dpi in ((72, 72), (300, 1)):
        picture.save(tmp_path / "d.png", dpi=dpi)
        assert load_image(tmp_path / "d.png").pixels.shape == (24, 40, 3)
    picture.save(tmp_path / "e.jpg", dpi=(200, 100))
    assert load_image(tmp_path / "e.jpg").pixels.shape == (24, 40, 3)
    picture.save(tmp_path / "f.bmp")
    content = bytearray((tmp_path / "f.bmp").read_bytes())
    content[38:46] = struct.pack("<II", 2000, 1000)
    (tmp_path / "f.bmp").write_bytes(content)
    assert load_image(tmp_path / "f.bmp").pixels.shape == (48, 40, 3)
