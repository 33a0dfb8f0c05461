"""An inspection as DICOM: read back, of nobody unless it is asked for, and tied to its source then."""

from __future__ import annotations

import io
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ParametricMapStorage, SecondaryCaptureImageStorage, SegmentationStorage

from a3tune.errors import RequestError
from a3tune.geometry.patch_grid import to_source
from a3tune.images import load_image
from a3tune.images.dicom_source import SourceImage, read_source
from a3tune.images.frames import mask_to_stored
from a3tune.images.target_mask import load_target
from a3tune.inspection.dicom_export import dicom_bytes, dicom_objects, write_dicom
from a3tune.inspection.dicom_study import DicomStudy
from a3tune.inspection.inspect import inspect_image
from a3tune.inspection.report import LEAST_EDGE, MapStyle, Side
from a3tune.inspection.views import answer_rows
from a3tune.types import Region, ScoredRegion, WeakLabels
from tests.support.dicom_rules import broken_rules

QUESTION = "Gibt es eine Läsion?"
KINDS = ("pictures", "maps", "regions")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A CT slice whose pixels are not square, of a patient whose name is not ASCII."""
    header = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    header.PixelSpacing = [0.8, 0.6]
    header.SpecificCharacterSet = "ISO_IR 100"
    header.PatientName = "Müller^Jürgen"
    header.PatientSex = "X"  # as scanners write it, and no term of the standard
    path = tmp_path_factory.mktemp("scan") / "scan.dcm"
    header.save_as(path)
    return path


@pytest.fixture(scope="module")
def patient(scan):
    return pydicom.dcmread(scan)


@pytest.fixture(scope="module")
def inspection(tiny_model, scan):
    return inspect_image(tiny_model("llava"), load_image(scan), QUESTION, max_new_tokens=3)


def side(inspection):
    view = inspection.views[0]
    rows = tuple(int(row) for row in answer_rows(view.tokens, view.maps))
    return Side(inspection, view, view.critical_heads, rows, "critical heads", "mean of the answer")


def with_regions(inspection):
    """Two regions that overlap."""
    masks = np.zeros((2, inspection.image.height, inspection.image.width), bool)
    masks[0, 20:60, 30:90] = masks[1, 40:80, 10:50] = True
    regions = [
        ScoredRegion(Region(mask, (0, 0, *mask.shape[::-1])), 30.0 - rank, rank, 0.5, "Läsion")
        for rank, mask in enumerate(masks, start=1)
    ]
    return replace(inspection, labels=WeakLabels(tuple(regions), "Läsion", "litemedsam", "demo")), masks


def read_back(made):
    """The objects as a reader gets them, by name."""
    return {name: pydicom.dcmread(io.BytesIO(dicom_bytes(one))) for name, one in made.items()}


def all_objects(inspection, study):
    return read_back(
        {name: one for kind in KINDS for name, one in dicom_objects(kind, [side(inspection)], study).items()}
    )


def test_every_object_has_what_the_standard_asks_and_says_what_it_is_for(inspection, scan):
    for identity in (False, True):
        objects = all_objects(inspection, DicomStudy(read_source(scan, identity=identity)))
        kinds = {name: one.SOPClassUID for name, one in objects.items()}
        assert kinds == {
            "view_image": SecondaryCaptureImageStorage,
            "view_base": SecondaryCaptureImageStorage,
            "map_base": ParametricMapStorage,
            "regions": SegmentationStorage,
        }
        for name, one in objects.items():
            assert broken_rules(one) == [], name
            assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
            assert "research" in one.SeriesDescription
            assert "Not a medical device" in one.DerivationDescription
            assert QUESTION in one.ImageComments
        assert len({one.SOPInstanceUID for one in objects.values()}) == 4
        # Pictures are one series; a map and a segmentation are of other kinds.
        assert len({one.SeriesInstanceUID for one in objects.values()}) == 3


def test_the_rules_see_what_is_missing(inspection, scan):
    made = all_objects(inspection, DicomStudy(read_source(scan)))
    del made["map_base"].SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    made["view_image"].Modality = ""
    del made["regions"].SegmentSequence[0].SegmentLabel
    broken = [broken_rules(made[name]) for name in ("map_base", "view_image", "regions")]
    assert "no RealWorldValueMappingSequence" in broken[0]
    assert any("Modality is empty" in rule for rule in broken[1])
    assert any("no SegmentLabel" in rule for rule in broken[2])


def test_without_being_asked_they_are_of_nobody(inspection, scan, patient):
    study = DicomStudy(read_source(scan))
    for name, one in all_objects(inspection, study).items():
        assert one.StudyInstanceUID == study.study_uid != patient.StudyInstanceUID
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate"):
            assert not one[keyword].value, (name, keyword)
        raw = dicom_bytes(one)
        secret = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
        for keyword in secret:
            assert str(patient[keyword].value).encode() not in raw, (name, keyword)
        for name_part in ("Müller", "Jürgen"):
            assert not any(name_part.encode(code) in raw for code in ("utf-8", "latin-1"))
        assert "SourceImageSequence" not in one
        assert "ReferencedSeriesSequence" not in one


def test_on_request_they_are_of_the_patient_and_refer_to_the_image(inspection, scan, patient):
    for name, one in all_objects(inspection, DicomStudy(read_source(scan, identity=True))).items():
        for keyword in ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyID"):
            assert one[keyword].value == patient[keyword].value, (name, keyword)
        assert one.SeriesInstanceUID != patient.SeriesInstanceUID
        (series,) = one.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == patient.SeriesInstanceUID
        references = [*one.SourceImageSequence, *series.ReferencedInstanceSequence]
        for group in one.get("PerFrameFunctionalGroupsSequence", ()):
            references += group.DerivationImageSequence[0].SourceImageSequence
            assert one.FrameOfReferenceUID == patient.FrameOfReferenceUID
        assert len(references) == {"map_base": 3, "regions": 3}.get(name, 2)
        for reference in references:
            assert reference.ReferencedSOPInstanceUID == patient.SOPInstanceUID
            assert reference.ReferencedSOPClassUID == patient.SOPClassUID
            assert "ReferencedFrameNumber" not in reference


def test_of_an_image_with_frames_the_frame_is_referred_to(inspection, scan):
    source = read_source(scan, identity=True)
    frames = replace(source, identity=replace(source.identity, frame=7))
    for one in all_objects(inspection, DicomStudy(frames)).values():
        assert one.SourceImageSequence[0].ReferencedFrameNumber == 7
        for group in one.get("PerFrameFunctionalGroupsSequence", ()):
            assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 7


def test_a_capture_has_the_picture_and_a_notice_below_it(inspection, scan):
    made = read_back(dicom_objects("pictures", [side(inspection)], DicomStudy()))
    pixels = made["view_image"].pixel_array
    height = pixels.shape[0] - 34
    assert max(height, pixels.shape[1]) >= LEAST_EDGE
    image = load_image(scan)
    rows, columns = height // image.height, pixels.shape[1] // image.width
    small = pixels[:height].reshape(image.height, rows, image.width, columns, 3).mean(axis=(1, 3))
    assert np.abs(small - image.pixels).mean() < 6
    assert pixels[height:].max() > 200
    view = made["view_base"]
    assert (view.PhotometricInterpretation, view.SamplesPerPixel, view.BurnedInAnnotation) == ("RGB", 3, "YES")
    assert np.ptp(view.pixel_array[:height].astype(int), axis=2).max() > 30, "the map is in colour"


def test_of_two_maps_there_are_both_beside_each_other_and_the_difference(inspection):
    one = side(inspection)
    other = replace(one, rows=one.rows[:1])
    made = read_back(dicom_objects("pictures", [one, other], DicomStudy()))
    assert list(made) == ["view_image", "view_A_base", "view_B_base", "view_difference", "view_both"]
    a, b, both = (made[f"view_{name}"].pixel_array for name in ("A_base", "B_base", "both"))
    assert np.array_equal(both[:, : a.shape[1]], a)
    assert np.array_equal(both[:, -b.shape[1] :], b)


def test_a_map_is_on_the_stored_pixels_where_they_lie(inspection, scan, patient):
    study = DicomStudy(read_source(scan))
    made = dicom_objects("maps", [side(inspection)], study, MapStyle(smooth=False))
    read = highdicom.pm.ParametricMap.from_dataset(read_back(made)["map_base"])
    values = side(inspection).values()
    even = to_source(values, inspection.grid, smooth=False) / values.mean()
    stored = read.get_frames()[0]
    assert stored.shape == (patient.Rows, patient.Columns) != even.shape
    # One direction has more square pixels than stored ones: their mean is the same.
    assert stored.mean() == pytest.approx(even.mean(), rel=1e-5)
    assert stored.max() == pytest.approx(even.max(), rel=1e-5)
    shared, frame = read.SharedFunctionalGroupsSequence[0], read.PerFrameFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    assert measures.PixelSpacing == patient.PixelSpacing == [0.8, 0.6]
    assert measures.SliceThickness == patient.SliceThickness
    assert (frame.get("PlanePositionSequence") or shared.PlanePositionSequence)[0].ImagePositionPatient == (
        patient.ImagePositionPatient
    )
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == patient.ImageOrientationPatient


def test_regions_come_back_as_masks_of_the_image_and_may_overlap(inspection, scan, tmp_path):
    labelled, masks = with_regions(inspection)
    (path,) = write_dicom(labelled, tmp_path, ["regions"], DicomStudy(read_source(scan, identity=True)))
    segments = highdicom.seg.segread(path)
    assert [one.SegmentLabel for one in segments.SegmentSequence] == ["1: Läsion", "2: Läsion"]
    stored = segments.get_pixels_by_source_instance([pydicom.dcmread(scan).SOPInstanceUID], combine_segments=False)[0]
    for number, mask in enumerate(masks):
        assert np.array_equal(stored[..., number].astype(bool), mask_to_stored(mask, inspection.image))
        # The library's own reader finds them where they were.
        found = load_target(path, inspection.image, scan, segment=str(number + 1))
        assert np.array_equal(found, mask)


def test_without_regions_a_segmentation_has_where_the_maps_are_high(inspection, scan):
    study = DicomStudy(read_source(scan))
    one = side(inspection)
    even = to_source(one.values(), inspection.grid)
    for level, cut in ((None, 0.5), (0.8, 0.8)):
        made = read_back(dicom_objects("regions", [one], study, level=level))["regions"]
        assert made.SegmentSequence[0].SegmentLabel.startswith(f"attention, base: from {cut:.0%}")
        expected = mask_to_stored(even >= cut * even.max(), inspection.image)
        assert np.array_equal(made.pixel_array.astype(bool), expected)


def test_the_reference_mask_is_drawn_into_pictures_and_is_a_segment_of_its_own(inspection, scan):
    study, (labelled, masks) = DicomStudy(read_source(scan)), with_regions(inspection)
    plain, drawn = (
        read_back(dicom_objects("pictures", [side(inspection)], study, reference=mask)) for mask in (None, masks[1])
    )
    for name, one in drawn.items():
        changed = (one.pixel_array != plain[name].pixel_array).any(axis=2)
        times = changed.shape[1] // inspection.image.width
        rows, columns = (np.flatnonzero(changed[:-34].any(axis=axis)) / times for axis in (1, 0))
        corners = rows[0], rows[-1], columns[0], columns[-1]
        assert corners == pytest.approx((40, 80, 10, 50), abs=1), "along the mask's border"
        assert changed[-34:].any(), "the notice tells of it"
    for labels, others in (
        (labelled.labels, ["1: Läsion", "2: Läsion"]),
        (None, ["attention, base: from 50% of its highest on"]),
    ):
        objects = dicom_objects("regions", [side(inspection)], study, labels=labels, reference=masks[1])
        made = read_back(objects)["regions"]
        assert broken_rules(made) == []
        *names, name = (one.SegmentLabel for one in made.SegmentSequence)
        assert (names, name) == (others, "Reference mask")
        assert np.array_equal(made.pixel_array[-1].astype(bool), mask_to_stored(masks[1], inspection.image))


def test_what_cannot_be_said_for_certain_is_refused(inspection, scan):
    nowhere = DicomStudy()
    for kind, name in (("maps", "Parametric Map"), ("regions", "Segmentation")):
        with pytest.raises(RequestError, match=name):
            dicom_objects(kind, [side(inspection)], nowhere)
    # A projection says no place, but whose it is: a segmentation can refer to it, a map has to lie somewhere.
    projection = DicomStudy(SourceImage(None, None, read_source(scan, identity=True).identity))
    made = read_back(dicom_objects("regions", [side(inspection)], projection))["regions"]
    assert broken_rules(made) == []
    assert "FrameOfReferenceUID" not in made
    with pytest.raises(RequestError, match="Parametric Map"):
        dicom_objects("maps", [side(inspection)], projection)


def test_descriptions_fit_whether_letters_or_bytes_are_counted(inspection, scan):
    named = replace(inspection, model="A model · with ünusual letters " * 4)
    for kind in ("pictures", "maps"):
        for made in read_back(dicom_objects(kind, [side(named)], DicomStudy(read_source(scan)))).values():
            texts = [made.SeriesDescription, made.get("ContentDescription", "")]
            assert all(len(text.encode()) <= 64 for text in texts)
            assert texts[0].startswith("A3Tune attention")
            assert made.Laterality == ""
    regions = read_back(dicom_objects("regions", [side(named)], DicomStudy(read_source(scan))))["regions"]
    assert "Laterality" not in regions


def test_an_inspection_is_written_with_each_adapter(inspection, scan, tmp_path):
    three = replace(
        inspection, views=tuple(replace(inspection.views[0], adapter=name) for name in ("base", "lora", "a3"))
    )
    written = write_dicom(three, tmp_path, KINDS, DicomStudy(read_source(scan)))
    assert sorted(path.stem for path in written) == [
        "map_a3", "map_base", "map_lora", "regions", "view_A_base", "view_B_lora", "view_a3", "view_both",
        "view_difference", "view_image",
    ]  # fmt: skip
    assert len(pydicom.dcmread(tmp_path / "regions.dcm").SegmentSequence) == 3
    with pytest.raises(RequestError):
        write_dicom(three, tmp_path / "none", ["maps"], DicomStudy())
    assert not (tmp_path / "none").exists()
