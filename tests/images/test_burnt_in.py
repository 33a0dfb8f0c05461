"""What is said about text that may be burnt into a DICOM picture."""

from __future__ import annotations

import pytest
from pydicom import uid

from a3tune.images import describe_image, load_image
from a3tune.images.burnt_in import WHAT_TO_DO
from tests.support.damaged_files import SECRET, dicom_file


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"BurnedInAnnotation": "YES"}, "The header says that text is burnt into the picture"),
        ({"Modality": "US"}, "Pictures of this kind (ultrasound)"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, "Pictures of this kind (secondary captures)"),
        ({"SOPClassUID": uid.MultiFrameTrueColorSecondaryCaptureImageStorage}, "(secondary captures)"),
        ({"ConversionType": "WSD"}, "(secondary captures)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "(screen saves)"),
        ({"ImageType": "SCREEN SAVE"}, "(screen saves)"),
        ({}, ""),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "BurnedInAnnotation": SECRET}, ""),
        ({"BurnedInAnnotation": "NO"}, ""),
        ({"BurnedInAnnotation": "NO", "Modality": "US"}, ""),
    ],
)
def test_the_header_tells(tmp_path, header, words):
    path = tmp_path / "picture"
    path.write_bytes(dicom_file(**header))
    notes = [note for note in load_image(path).notes if WHAT_TO_DO in note]
    assert len(notes) == bool(words)
    assert all(words in note for note in notes)
    assert [note for note in describe_image(path).notes if WHAT_TO_DO in note] == notes
    assert SECRET not in str(notes)
