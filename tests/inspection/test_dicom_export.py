"""Pictures of an inspection as DICOM: read back, of nobody unless it is asked for, and tied to their source then."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage

from a3tune.errors import ImageError
from a3tune.images import load_image
from a3tune.inspection.dicom_export import write_captures
from a3tune.inspection.inspect import inspect_image
from a3tune.inspection.report import LEAST_EDGE


@pytest.fixture(scope="module")
def source():
    return get_testdata_file("CT_small.dcm")


@pytest.fixture
def inspection(tiny_model, source):
    return inspect_image(tiny_model("llava"), load_image(source), "Is there a mass?", max_new_tokens=3)


def test_a_capture_has_the_picture_and_nothing_of_a_patient(inspection, source, tmp_path):
    written = write_captures(inspection, tmp_path)
    assert [path.name for path in written] == ["view_image.dcm", "view_base.dcm"]
    image, view = (pydicom.dcmread(path) for path in written)
    patient = pydicom.dcmread(source)
    for capture in (image, view):
        assert capture.SOPClassUID == SecondaryCaptureImageStorage
        assert capture.file_meta.MediaStorageSOPInstanceUID == capture.SOPInstanceUID
        assert (capture.PhotometricInterpretation, capture.SamplesPerPixel, capture.BitsAllocated) == ("RGB", 3, 8)
        assert capture.BurnedInAnnotation == "YES"
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber"):
            assert not capture[keyword].value, keyword
        assert not capture.PatientOrientation
        assert "SourceImageSequence" not in capture
        assert capture.StudyInstanceUID != patient.StudyInstanceUID
    assert image.StudyInstanceUID == view.StudyInstanceUID
    assert image.SeriesInstanceUID == view.SeriesInstanceUID
    assert image.SOPInstanceUID != view.SOPInstanceUID
    raw = written[1].read_bytes()
    for value in (patient.PatientID, str(patient.PatientName), patient.StudyInstanceUID, patient.SOPInstanceUID):
        assert value.encode() not in raw

    # The grey picture is that of the image, and a band below it, which hides nothing, has the notice.
    pixels = image.pixel_array
    height = pixels.shape[0] - 34
    assert max(height, pixels.shape[1]) == LEAST_EDGE
    small = pixels[:height].reshape(128, height // 128, 128, height // 128, 3).mean(axis=(1, 3))
    assert np.abs(small - load_image(source).pixels).mean() < 6
    assert pixels[height:].max() > 200
    assert np.ptp(view.pixel_array[:height].astype(int), axis=2).max() > 30, "the map is in colour"


def test_on_request_a_capture_is_of_the_patient_and_refers_to_its_source(inspection, source, tmp_path):
    patient = pydicom.dcmread(source)
    for path in write_captures(inspection, tmp_path, "source", source):
        capture = pydicom.dcmread(path)
        for keyword in ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyID"):
            assert capture[keyword].value == patient[keyword].value, keyword
        assert capture.SeriesInstanceUID != patient.SeriesInstanceUID
        (reference,) = capture.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == patient.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == patient.SOPClassUID


def test_a_patient_is_never_guessed(inspection, tmp_path):
    (tmp_path / "scan.png").write_bytes(b"\x89PNG no DICOM")
    for source in (None, tmp_path, tmp_path / "scan.png"):
        with pytest.raises(ImageError, match="one DICOM file"):
            write_captures(inspection, tmp_path, "source", source)
    header = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    del header.StudyInstanceUID
    header.save_as(tmp_path / "no_study.dcm")
    with pytest.raises(ImageError, match="no StudyInstanceUID"):
        write_captures(inspection, tmp_path, "source", tmp_path / "no_study.dcm")
    assert not list(tmp_path.glob("view_*"))
