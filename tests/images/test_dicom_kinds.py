"""Objects that are no pictures open as what they are, or are refused by their own names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread, uid

from a3tune.errors import ImageError
from a3tune.images import describe_image, load_image
from a3tune.images.burnt_in import WHAT_TO_DO

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


def test_a_dose_is_a_map_in_gray(write):
    steps = np.arange(12, dtype=np.uint32).reshape(3, 4) * 1000
    fields = {"SOPClassUID": uid.RTDoseStorage, "Modality": "RTDOSE", "DoseGridScaling": "0.002", "DoseUnits": "GY"}
    image = load_image(write(steps, **fields))
    assert image.window == pytest.approx((11, 22))
    assert np.abs(image.pixels[..., 0] - steps / 11000 * 255).max() <= 0.5 + 1e-9
    assert ["radiation dose, in gray" in note for note in image.notes] == [True]
    assert describe_image(write(steps, **fields)).notes == image.notes
    assert image.modality == "RTDOSE"
    # Its modality alone tells it too; without a scale its values stay the file's steps.
    image = load_image(write(steps, Modality="RTDOSE", SOPClassUID=None))
    assert "DoseGridScaling is missing" in image.notes[0]
    assert image.window == (5500, 11000)
    relative = load_image(write(steps, **{**fields, "DoseUnits": "RELATIVE"}))
    assert "relative to a reference dose" in relative.notes[0]


def test_shipped_doses_are_told_in_every_encoding():
    shown = load_image(SHIPPED / "rtdose_1frame.dcm")
    assert "radiation dose" in shown.notes[0]
    assert shown.window.centre - shown.window.width / 2 == pytest.approx(0, abs=1e-9)
    for name in ("rtdose_expb_1frame.dcm", "rtdose_rle_1frame.dcm"):
        assert np.array_equal(load_image(SHIPPED / name).pixels, shown.pixels)


def _segment(number: int) -> Dataset:
    item, inner = Dataset(), Dataset()
    inner.ReferencedSegmentNumber = number
    item.SegmentIdentificationSequence = [inner]
    return item


def test_segmentations_say_which_segment_a_frame_shows(write):
    masks = np.zeros((2, 4, 8), np.uint8)
    masks[0, 1:3], masks[1, :, 2:5] = 1, 1
    fields = {
        "SOPClassUID": uid.SegmentationStorage,
        "Modality": "SEG",
        "SegmentationType": "BINARY",
        "PerFrameFunctionalGroupsSequence": [_segment(3), _segment(7)],
        "BitsAllocated": 1,
        "BitsStored": 1,
        "PixelData": np.packbits(masks.reshape(-1), bitorder="little").tobytes(),
    }
    for frame, number in ((0, 3), (1, 7)):
        image = load_image(write(masks, **fields), frame=frame)
        assert image.pixels[..., 0].tolist() == (masks[frame] * 255).tolist()
        assert f"white is segment {number}," in image.notes[0]


def test_fractional_segmentations_and_label_maps_are_shown_whole(write):
    shares = np.array([[0, 10, 50, 100]], np.uint8)
    fields = {"SOPClassUID": uid.SegmentationStorage, "Modality": "SEG", "SegmentationType": "FRACTIONAL"}
    image = load_image(write(shares, **fields, MaximumFractionalValue=200))
    assert image.pixels[0, :, 0].tolist() == [0, 13, 64, 128]
    assert "how far a segment fills" in image.notes[0]
    labels = np.array([[0, 1, 2, 4]], np.uint16)
    image = load_image(write(labels, SOPClassUID=LABEL_MAP, Modality="SEG", SegmentationType="LABELMAP"))
    assert image.pixels[0, :, 0].tolist() == [0, 64, 128, 255]
    assert "segment's number" in image.notes[0]


def test_parametric_maps_say_so(write):
    image = load_image(write(np.arange(12, dtype=np.uint16).reshape(3, 4), SOPClassUID=uid.ParametricMapStorage))
    assert "parametric map" in image.notes[0]


def test_pictures_have_no_note():
    assert load_image(SHIPPED / "CT_small.dcm").notes == ()
    (note,) = load_image(SHIPPED / "SC_rgb_jpeg_dcmtk.dcm").notes
    assert WHAT_TO_DO in note


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (uid.GrayscaleSoftcopyPresentationStateStorage, "Grayscale Softcopy Presentation State"),
        (uid.RTStructureSetStorage, "RT Structure Set"),
        (uid.RTPlanStorage, "RT Plan"),
        (uid.EnhancedSRStorage, "Enhanced SR"),
        (uid.EncapsulatedPDFStorage, "Encapsulated PDF"),
        (uid.KeyObjectSelectionDocumentStorage, "Key Object Selection"),
        (uid.TwelveLeadECGWaveformStorage, "ECG Waveform"),
        (uid.MRSpectroscopyStorage, "MR Spectroscopy"),
        (uid.SpatialRegistrationStorage, "Spatial Registration"),
        (uid.SurfaceSegmentationStorage, "Surface Segmentation"),
        (uid.RealWorldValueMappingStorage, "Real World Value Mapping"),
        (uid.RawDataStorage, "Raw Data"),
    ],
)
def test_objects_without_a_picture_are_refused_by_name(write, kind, name):
    path = write(np.zeros((2, 2), np.uint8), SOPClassUID=kind, Modality="OT")
    data = dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(ImageError, match=f"holds no picture .*{name}"):
        load_image(path)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"Modality": "RTSTRUCT"}, "RT Structure Set"),
        ({"Modality": "PR"}, "Presentation State"),
        ({"Modality": "SR"}, "SR"),
        ({"Modality": None, "EncapsulatedDocument": b"%PDF"}, "Encapsulated PDF"),
        ({"Modality": None, "StructureSetROISequence": [Dataset()]}, "RT Structure Set"),
    ],
)
def test_objects_that_do_not_say_their_class_are_known_by_what_they_hold(write, fields, name):
    path = write(np.zeros((2, 2), np.uint8), SOPClassUID="1.2.3.4", Rows=None, Columns=None, **fields)
    data = dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(ImageError, match=f"holds no picture .*{name}"):
        load_image(path)


def test_pixels_on_a_server_are_named(write):
    path = write(np.zeros((2, 2), np.uint8), PixelDataProviderURL="https://example.org/jpip")
    data = dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(ImageError, match="JPIP") as caught:
        load_image(path)
    assert "example.org" not in str(caught.value)


def test_a_segmentation_without_pixels_is_no_other_kind_of_object(write):
    path = write(np.zeros((2, 2), np.uint8), SOPClassUID=uid.SegmentationStorage)
    data = dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(ImageError, match="no pixel data"):
        load_image(path)
