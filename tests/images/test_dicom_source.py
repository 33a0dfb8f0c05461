"""Whose and where an image is: read of the very slice or frame, and refused where a file does not say it."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.data import get_testdata_file

from a3tune.bundle import EXAMPLES
from a3tune.errors import ImageError
from a3tune.images.dicom_source import read_source
from a3tune.images.messages import receive, send


@pytest.fixture(scope="module")
def scan():
    return get_testdata_file("CT_small.dcm")


def test_without_being_asked_nothing_of_a_patient_is_read(scan):
    patient = pydicom.dcmread(scan)
    found = read_source(scan)
    assert found.identity is None
    assert found.thickness == float(patient.SliceThickness)
    assert found.placement.origin == tuple(map(float, patient.ImagePositionPatient))
    read = repr(found)
    for value in (patient.PatientName, patient.PatientID, patient.StudyInstanceUID, patient.StudyDate):
        assert str(value) not in read


def test_a_slice_of_an_archive_is_that_slice(scan, tmp_path):
    expected = []
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for place in (3, 1, 2):
            slice_ = pydicom.dcmread(scan)
            slice_.SOPInstanceUID = f"1.2.3.{place}"
            slice_.ImagePositionPatient[2] = -10 * place
            slice_.save_as(tmp_path / "one.dcm")
            archive.write(tmp_path / "one.dcm", str(place))
            expected.append((-10 * place, slice_.SOPInstanceUID))
    for frame, (height, name) in enumerate(sorted(expected)):
        found = read_source(tmp_path / "series.zip", frame=frame, identity=True)
        assert (found.placement.origin[2], found.identity.sop_instance, found.identity.frame) == (height, name, None)


def test_of_several_frames_the_one_on_show_is_named_as_it_is_stored(scan, tmp_path):
    header = pydicom.dcmread(scan)
    place, turn = header.ImagePositionPatient, header.ImageOrientationPatient
    places = [10.0, 0.0, 15.0, 5.0]
    groups = []
    for height in places:
        position, orientation, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient, orientation.ImageOrientationPatient = [*place[:2], height], turn
        group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [orientation]
        groups.append(group)
    header.PerFrameFunctionalGroupsSequence, header.NumberOfFrames = groups, len(places)
    header.PixelData *= len(places)
    header.save_as(tmp_path / "frames.dcm")
    for frame, height in enumerate(sorted(places)):
        found = read_source(tmp_path / "frames.dcm", frame=frame, identity=True)
        assert (found.identity.frame, found.placement.origin[2]) == (places.index(height) + 1, height)


def test_a_volume_lies_somewhere_and_is_nobodys(tmp_path):
    assert read_source(EXAMPLES / "real_mr.nii.gz").placement is not None
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "plain.png")
    assert read_source(tmp_path / "plain.png").placement is None
    for path in (EXAMPLES / "real_mr.nii.gz", tmp_path / "plain.png"):
        with pytest.raises(ImageError, match="patient, study and image"):
            read_source(path, identity=True)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"])
def test_who_it_is_is_never_guessed(scan, tmp_path, keyword):
    header = pydicom.dcmread(scan)
    delattr(header, keyword)
    header.save_as(tmp_path / "incomplete.dcm")
    with pytest.raises(ImageError, match=f"no {keyword}"):
        read_source(tmp_path / "incomplete.dcm", identity=True)


def test_what_was_read_passes_from_the_process_that_reads(scan):
    told, here = io.BytesIO(), read_source(scan, identity=True)
    send(told, (True, here))
    told.seek(0)
    assert receive(told) == (True, here)
