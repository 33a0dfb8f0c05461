"""What models are given of computed tomography: values by hand, what is refused, what is noted."""

from __future__ import annotations

import re

import nibabel
import numpy as np
import pytest
from PIL import Image

from a3tune.errors import RequestError
from a3tune.images import CONVENTIONS, load_image
from a3tune.images.frames import image_record, resample
from a3tune.images.grey import GreyFrame, show_span
from a3tune.types import MedicalImage

NAME = "medgemma-ct"
# Hounsfield units with what red, green and blue are: (v + 1024) * 255 / 2048, (v + 135) * 255 / 350, v * 255 / 80,
# each clipped and rounded, halves to even.
BY_HAND = {
    -2000: (0, 0, 0),
    -1024: (0, 0, 0),
    -1000: (3, 0, 0),
    -135: (111, 0, 0),
    -100: (115, 26, 0),
    0: (128, 98, 0),
    8: (128, 104, 26),
    40: (132, 128, 128),
    80: (137, 157, 255),
    215: (154, 255, 255),
    1024: (255, 255, 255),
    3071: (255, 255, 255),
}
VALUES = np.tile(np.array(list(BY_HAND), np.int16), (4, 1))
COLOURS = np.tile(np.array(list(BY_HAND.values()), np.uint8), (4, 1, 1))
CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}


def write_nifti(tmp_path, values: np.ndarray):
    # Rows and columns of the axial slice, as it is displayed, are the volume's y and x from their ends.
    volume = np.repeat(values.T[::-1, ::-1, None], 3, axis=2)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "volume.nii")
    return tmp_path / "volume.nii"


def test_known_values_become_the_colours_that_a_hand_gives(write):
    path = write((VALUES + 1024).astype(np.int16), **CT)
    image = load_image(path, convention=NAME)
    np.testing.assert_array_equal(image.model_pixels, COLOURS)
    np.testing.assert_array_equal(image.model_input, COLOURS)
    assert image.convention == image_record(image)["convention"] == NAME
    assert "red \N{MINUS SIGN}1024 to 1024, green \N{MINUS SIGN}135 to 215, blue 0 to 80" in image.notes[-1]
    usual = load_image(path)
    np.testing.assert_array_equal(image.pixels, usual.pixels)
    assert image.sha256 == usual.sha256
    assert usual.model_pixels is usual.convention is image_record(usual)["convention"] is None
    assert usual.model_input is usual.pixels


@pytest.mark.parametrize("window", [(40, 80), "lung"])
def test_the_window_for_the_eye_changes_nothing_for_the_model(write, window):
    image = load_image(write((VALUES + 1024).astype(np.int16), **CT), convention=NAME, window=window)
    np.testing.assert_array_equal(image.model_pixels, COLOURS)


def test_fractions_inversion_and_padding(write):
    stored = (2 * (VALUES + 1024)).astype(np.int16)
    stored[0, :4] = -9000
    path = write(
        stored, **{**CT, "RescaleSlope": 0.5}, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=-9000
    )
    image = load_image(path, convention=NAME)
    expected = COLOURS.copy()
    expected[0, :4] = 0
    np.testing.assert_array_equal(image.model_pixels, expected)


def test_values_that_are_no_numbers_are_black_and_floats_are_not_rounded_first():
    grey = show_span(GreyFrame(np.array([[np.nan, np.inf, 0.4, 79.6]])), 0, 80)
    np.testing.assert_array_equal(grey, [[0, 0, 1, 254]])


def test_the_models_picture_has_square_pixels_too(write):
    image = load_image(write((VALUES + 1024).astype(np.int16), **CT, PixelSpacing=[3, 1]), convention=NAME)
    assert image.pixels.shape == image.model_pixels.shape == (12, len(BY_HAND), 3)
    np.testing.assert_array_equal(image.model_pixels, resample(COLOURS, (12, len(BY_HAND))))


def test_a_volume_needs_somebody_to_say_that_it_is_computed_tomography(tmp_path):
    path = write_nifti(tmp_path, VALUES)
    silent = load_image(path, convention=NAME)
    assert silent.model_pixels is None
    assert "does not say whether its values are Hounsfield units" in silent.notes[-1]
    for said in ({"window": "lung"}, {"insist": True}):
        np.testing.assert_array_equal(load_image(path, convention=NAME, **said).model_pixels, COLOURS)
    assert load_image(path, convention=NAME, window=(40, 400)).model_pixels is None
    with pytest.raises(RequestError, match="its values do not look like Hounsfield units"):
        load_image(write_nifti(tmp_path, np.abs(VALUES)), convention=NAME, insist=True)


@pytest.mark.parametrize(
    ("elements", "noted"),
    [
        ({"Modality": "CT"}, True),  # without a rescale: values of a scanner's own
        ({**CT, "RescaleType": "US"}, True),
        ({"Modality": "MR"}, False),
        ({"Modality": "PT", "RescaleSlope": 2, "RescaleIntercept": 0, "RescaleType": "BQML"}, False),
    ],
)
def test_other_values_are_given_as_shown_and_refused_where_it_is_insisted(write, elements, noted):
    path = write(VALUES, **elements)
    image = load_image(path, convention=NAME)
    assert image.model_pixels is image.convention is None
    np.testing.assert_array_equal(image.model_input, load_image(path).pixels)
    why = "the file does not say that its values are Hounsfield units"
    assert any(why in note for note in image.notes) == noted
    with pytest.raises(RequestError, match=f"{NAME} does not fit this picture: {why}"):
        load_image(path, convention=NAME, insist=True)


def test_a_picture_of_8_bits_is_given_as_it_is(tmp_path):
    path = tmp_path / "slice.png"
    Image.fromarray(COLOURS).save(path)
    image = load_image(path, convention=NAME)
    assert image.model_pixels is None
    assert "8-bit or colour values" in image.notes[-1]
    with pytest.raises(RequestError, match="8-bit or colour values"):
        load_image(path, convention=NAME, insist=True)


def test_an_unknown_convention_is_refused(write):
    with pytest.raises(RequestError, match=re.escape(f"one of {', '.join(CONVENTIONS)}")):
        load_image(write(VALUES, **CT), convention="medgemma")


def test_the_two_pictures_must_have_one_size():
    pixels = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match=r"model_pixels must be \(4, 5, 3\)"):
        MedicalImage(pixels, model_pixels=pixels[:3])


def test_the_first_medgemmas_red_window_is_wider_below(write):
    stored = np.array([[-1225, -100, 1025, 40]], np.int16).repeat(4, axis=0) + 1024
    image = load_image(write(stored, **CT), convention="medgemma-1-ct", insist=True)
    assert image.model_pixels[0].tolist() == [[0, 0, 0], [128, 26, 0], [255, 255, 255], [143, 128, 128]]
