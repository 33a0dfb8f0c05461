"""A pixel's value in the file's units, the times of frames, where spacings were measured, several frames at once."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file

from a3tune.images import describe_image, load_image
from a3tune.images.load import load_frames
from a3tune.images.values import read_values

STORED = np.arange(12, dtype=np.uint16).reshape(3, 4)


def test_hounsfield_units_are_the_rescaled_values_whatever_the_window():
    values = read_values(get_testdata_file("CT_small.dcm"))
    assert (values.unit, values.slope, values.intercept) == ("HU", 1, -1024)
    assert values.stored[0, :3].tolist() == [175, 180, 166]


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        ({"Modality": "MR"}, ""),
        ({"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": -1000}, "HU"),
        ({"Modality": "CT"}, ""),
        ({"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": 0, "RescaleType": "US"}, ""),
        ({"Modality": "DX", "RescaleSlope": 2, "RescaleIntercept": 0, "RescaleType": "OD"}, "10⁻³ optical density"),
        ({"Modality": "DX", "RescaleSlope": 2, "RescaleIntercept": 0, "RescaleType": "Doe^John"}, ""),
        ({"Modality": "PT", "RescaleSlope": 2, "RescaleIntercept": 0, "Units": "BQML"}, "Bq/ml"),
        ({"Modality": "PT", "RescaleSlope": 2, "RescaleIntercept": 0, "Units": "DOE_JOHN"}, ""),
        ({"Modality": "MR", "Units": "BQML"}, ""),
        ({"SOPClassUID": uid.RTDoseStorage, "DoseGridScaling": 0.5, "DoseUnits": "GY"}, "Gy"),
        ({"SOPClassUID": uid.RTDoseStorage, "DoseUnits": "GY"}, ""),
    ],
)
def test_units_are_those_that_the_header_names_by_a_defined_term(write, elements, unit):
    values = read_values(write(STORED, **elements))
    assert values.unit == unit
    assert np.array_equal(values.stored, STORED)
    assert values.slope == elements.get("DoseGridScaling", elements.get("RescaleSlope", 1))


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_padding_has_no_value_and_other_values_stay_exact(write, kind):
    stored = np.array([[-2000, 5], [np.iinfo(kind).max, -7]], kind)
    values = read_values(write(stored, PixelPaddingValue=-2000, PixelRepresentation=1)).stored
    assert np.isnan(values[0, 0])
    assert values.ravel()[1:].tolist() == stored.ravel()[1:].tolist()


def test_an_inverted_picture_keeps_its_values(write):
    values = read_values(write(STORED, PhotometricInterpretation="MONOCHROME1"))
    assert values.inverted
    assert np.array_equal(values.stored, STORED)


def test_a_picture_of_bytes_has_its_bytes_as_values_and_colours_have_three(tmp_path):
    path = tmp_path / "picture.png"
    grey = STORED.astype(np.uint8)
    Image.fromarray(grey).save(path)
    assert np.array_equal(read_values(path).stored, grey)
    colour = np.stack([grey, grey + 1, grey], axis=-1)
    Image.fromarray(colour).save(path)
    assert np.array_equal(read_values(path).stored, colour)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_several_slices_at_once_are_those_of_one_by_one(tmp_path, packed, axis):
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 60
    path = tmp_path / "volume"
    data = nibabel.Nifti1Image(voxels, np.diag([1, 2, 3, 1])).to_bytes()
    path.write_bytes(gzip.compress(data) if packed else data)
    frames = [3, 0, 2]
    together = load_frames(path, frames, axis=axis, window=(0, 200))
    for frame, image in zip(frames, together, strict=True):
        alone = load_image(path, frame=frame, axis=axis, window=(0, 200))
        assert np.array_equal(image.pixels, alone.pixels)
        facts = "frame", "frame_count", "spacing", "edges", "window", "stored_size", "notes"
        assert [getattr(image, fact) for fact in facts] == [getattr(alone, fact) for fact in facts]
        values = read_values(path, frame=frame, axis=axis)
        assert values.stored.shape == alone.stored_size


def test_several_frames_of_a_dicom_file_are_those_of_one_by_one():
    path = get_testdata_file("rtdose.dcm")
    for frame, image in zip([2, 5], load_frames(path, [2, 5]), strict=True):
        assert np.array_equal(image.pixels, load_image(path, frame=frame).pixels)


@pytest.mark.parametrize(
    ("elements", "times"),
    [
        ({}, [None, None, None]),
        ({"FrameTime": 40}, [40, 40, 40]),
        ({"FrameTime": 0}, [None, None, None]),
        ({"FrameTimeVector": [0, 40, 80]}, [40, 80, 80]),
        ({"FrameTime": 50, "FrameTimeVector": [0, 40, 80]}, [50, 50, 50]),
        ({"FrameTime": 50, "FrameTimeVector": [0, 40, 80], "FrameIncrementPointer": 0x00181065}, [40, 80, 80]),
        ({"CineRate": 20}, [50, 50, 50]),
        ({"RecommendedDisplayFrameRate": 10, "CineRate": 20}, [100, 100, 100]),
    ],
)
def test_times_of_dicom_frames(write, elements, times):
    path = write(np.stack([STORED] * 3), **elements)
    assert [load_image(path, frame=frame).frame_time for frame in range(3)] == times


def test_times_of_an_animation(tmp_path):
    path = tmp_path / "film.gif"
    first, *more = (Image.new("L", (4, 4), grey) for grey in (0, 100, 200))
    first.save(path, save_all=True, append_images=more, duration=[100, 250, 400])
    assert [load_image(path, frame=frame).frame_time for frame in range(3)] == [100, 250, 400]
    first.save(path)
    assert load_image(path).frame_time is None


@pytest.mark.parametrize(
    ("elements", "plane"),
    [
        ({"PixelSpacing": [0.2, 0.2]}, ""),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, "detector"),
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, "detector"),
        ({"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.2, 0.2]}, ""),
        ({"NominalScannedPixelSpacing": [0.2, 0.2]}, "film"),
        ({}, ""),
    ],
)
def test_a_spacing_at_the_detector_is_named_as_such(write, elements, plane):
    assert load_image(write(STORED, **elements)).spacing_plane == plane


def test_whether_the_file_says_itself_how_it_is_shown(write):
    assert not describe_image(write(STORED)).own_window
    assert describe_image(write(STORED, WindowCenter=5, WindowWidth=10)).own_window
