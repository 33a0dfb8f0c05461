"""Slices of a DICOM series from folders, archives and DICOMDIRs, and the frames of multi-frame objects, in order."""

from __future__ import annotations

import io
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, FileMetaDataset, Sequence, dcmread, dcmwrite, uid
from pydicom.data import get_testdata_file

from a3tune.errors import ImageError, RequestError
from a3tune.images import describe_image, find_series, load_image

SIDE = 16
AXIAL, CORONAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]
DICOMDIRS = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"


def one_slice(value: int, place: float | None, orientation=AXIAL, series="1.2.3", **values) -> Dataset:
    """A slice whose pixels all have one value, ``place`` mm along its normal."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    data.PatientName = "SECRET^NAME"
    data.SeriesDescription = "SECRET"
    data.SeriesInstanceUID, data.SeriesNumber = series, int(series.rsplit(".")[-1])
    data.Modality = "CT"
    data.Rows = data.Columns = SIDE
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.WindowCenter, data.WindowWidth, data.VOILUTFunction = 127.5, 255, "LINEAR_EXACT"
    if place is not None:
        normal = np.cross(orientation[:3], orientation[3:])
        data.ImageOrientationPatient = orientation
        data.ImagePositionPatient = (normal * place + [10, 20, 0]).tolist()
    data.PixelData = np.full((SIDE, SIDE), value, np.uint16).tobytes()
    for keyword, content in values.items():
        setattr(data, keyword, content)
    return data


def encode(data: Dataset) -> bytes:
    stream = io.BytesIO()
    dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def series(places=range(0, 50, 5), **values) -> list[bytes]:
    """Slices of value 10, 11, ... in the order of ``places``, which ascend."""
    return [encode(one_slice(10 + n, place, InstanceNumber=99 - n, **values)) for n, place in enumerate(places)]


def put(folder: Path, files: list[bytes], seed=1) -> Path:
    names = [f"{n:03}" for n in range(len(files))]
    random.Random(seed).shuffle(names)
    (folder / "deeper").mkdir(parents=True, exist_ok=True)
    for number, (name, content) in enumerate(zip(names, files, strict=True)):
        (folder / ("deeper" if number % 2 else ".") / f"IM{seed}{name}").write_bytes(content)
    return folder


def pack(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                bundle.write(path, path.relative_to(folder))
    return archive


def values(path: Path, **options) -> list[int]:
    count = describe_image(path, **options).frame_count
    return [int(load_image(path, frame=frame, **options).pixels[3, 4, 0]) for frame in range(count)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, [0, 1, 0, 0, 0, -1]])
def test_slices_are_in_the_order_of_their_places(tmp_path, packed, orientation):
    path = put(tmp_path / "scan", series(orientation=orientation))
    (path / "readme.txt").write_text("no picture")
    (path / ".hidden").write_bytes(b"x")
    path = pack(path, tmp_path / "scan.bin") if packed else path
    assert values(path) == list(range(10, 20))
    image = load_image(path)
    assert (image.frame, image.frame_count, image.format, image.modality) == (5, 10, "DICOM", "CT")
    assert image.notes == ()
    assert describe_image(path).default_frame == 5
    with pytest.raises(RequestError, match="0 to 9"):
        load_image(path, frame=10)


def test_gaps_and_shared_places_are_named(tmp_path):
    places = [0, 5, 10, 25, 30, 35]
    path = put(tmp_path / "gap", series(places))
    assert values(path) == list(range(10, 16))
    (note,) = load_image(path).notes
    assert "15 mm lie between slice 3 and 4, and 5 mm are usual (1 such place)" in note
    path = put(tmp_path / "twice", [*series([0, 5, 10]), *series([0, 5, 10], WindowCenter=100)], 2)
    (note,) = load_image(path).notes
    assert "6 slices lie at 3 places" in note
    path = put(tmp_path / "even", series([0, 5.01, 10, 15.02, 20]))
    assert load_image(path).notes == ()


def test_mixed_series_are_listed_and_chosen_by_number(tmp_path):
    path = put(tmp_path / "mixed", series())
    put(path, series([0, 3, 6], series="1.2.9", Modality="MR"), 2)
    put(path, [encode(one_slice(77, 0, CORONAL))], 3)
    for at in (path, pack(path, tmp_path / "mixed.zip")):
        with pytest.raises(ImageError) as caught:
            load_image(at)
        told = str(caught.value)
        assert "holds 3 series" in told
        assert "CT, 10 slices of 16 x 16 pixels (series number 3)" in told
        assert "3: MR, 3 slices of 16 x 16 pixels (series number 9)" in told
        assert "CT, 1 slice of" in told
        assert "SECRET" not in told
        assert values(at, series=3) == [10, 11, 12]
        found = find_series(at)
        assert [len(one.slices) for one in found][2] == 3
        assert values(at, series=found[2]) == [10, 11, 12]
        assert sorted([values(at, series=1), values(at, series=2)], key=len) == [[77], list(range(10, 20))]
        with pytest.raises(RequestError, match="from 1 to 3"):
            load_image(at, series=4)


def test_objects_that_are_no_slices_do_not_count(tmp_path):
    path = put(tmp_path / "scan", series([0, 5, 10]))
    dose = one_slice(1, 0, SOPClassUID=uid.RTDoseStorage, Modality="RTDOSE", DoseGridScaling=0.1)
    (path / "dose").write_bytes(encode(dose))
    shutil.copy(get_testdata_file("rtstruct.dcm"), path / "structures")
    assert values(path) == [10, 11, 12]


def test_slices_without_a_place_are_in_the_order_of_their_numbers(tmp_path):
    files = [encode(one_slice(10 + n, None, InstanceNumber=n + 1)) for n in range(5)]
    path = put(tmp_path / "scan", files)
    assert values(path) == [10, 11, 12, 13, 14]
    assert "order of their instance numbers" in load_image(path).notes[0]


@pytest.mark.parametrize(
    "apart",
    [
        {"StudyInstanceUID": "1.2.77"},
        {"FrameOfReferenceUID": "1.2.78"},
        {"PixelSpacing": [0.5, 0.8]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
        {"Columns": SIDE // 2, "Rows": 2 * SIDE},
    ],
    ids=lambda apart: next(iter(apart)),
)
def test_what_differs_in_study_place_or_spacing_is_another_series(tmp_path, apart):
    """Under one SeriesInstanceUID, as where names were taken out without care."""
    usual = {"StudyInstanceUID": "1.2.7", "FrameOfReferenceUID": "1.2.8", "PixelSpacing": [0.5, 0.5]}
    path = put(tmp_path / "scan", series([0, 5, 10], **usual))
    put(path, [encode(one_slice(77, 15, **{**usual, **apart}))], 2)
    assert sorted(len(one.slices) for one in find_series(path)) == [1, 3]


def test_files_of_no_series_are_no_volume(tmp_path):
    """Nothing says that loose radiographs belong together; slices of no named series may lie in one patient."""

    def nameless(place: float | None, **values) -> bytes:
        data = one_slice(10 + int(place or 0), place, **values)
        del data.SeriesInstanceUID
        return encode(data)

    loose = put(tmp_path / "loose", [nameless(None, InstanceNumber=n) for n in range(7)])
    alone = put(tmp_path / "alone", [nameless(5 * n) for n in range(3)])
    for path, count in ((loose, 7), (alone, 3), (pack(loose, tmp_path / "loose.zip"), 7)):
        with pytest.raises(ImageError, match=f"These {count} DICOM files do not say which series .* --images"):
            load_image(path)
    placed = put(tmp_path / "placed", [nameless(5 * n, FrameOfReferenceUID="1.2.8") for n in range(3)])
    assert values(placed) == [10, 15, 20]
    # Of one series, in no order: each by itself.
    unordered = put(tmp_path / "unordered", [encode(one_slice(n, None)) for n in range(3)])
    assert [len(one.slices) for one in find_series(unordered)] == [1, 1, 1]


def test_pictures_beside_a_series_are_told(tmp_path):
    path = put(tmp_path / "scan", series())
    for name in ("a", "b"):
        (path / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert load_image(path).notes == ("Left out, since no part of the series: 2 pictures (2 PNG)",)


def test_a_slice_that_cannot_be_read_is_told(tmp_path):
    path = put(tmp_path / "scan", series())
    (path / "bad").write_bytes(series()[0][:500])
    image = load_image(path)
    assert image.frame_count == 10
    assert "1 DICOM file could not be read" in image.notes[0]


def test_slices_without_pixels_are_named_as_what_they_are(tmp_path):
    stripped = one_slice(3, 0)
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(stripped, keyword)
    path = put(tmp_path / "stripped", [encode(stripped)] * 2)
    with pytest.raises(ImageError, match=r"that can be read \(2 files: The DICOM header lacks Rows"):
        load_image(path)
    put(path, series(), 2)
    (note,) = load_image(path).notes
    assert note.startswith("2 DICOM files could not be read and may be missing from the series (2 files: The DICOM")


def test_folders_and_archives_without_slices_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="The folder holds no slice"):
        load_image(tmp_path / "empty")
    (tmp_path / "empty" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"No slice of a DICOM series is here, but 1 picture \(1 PNG\)\. Expected"):
        load_image(pack(tmp_path / "empty", tmp_path / "a.zip"))
    (tmp_path / "empty" / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "empty" / "c.txt").write_text("no picture")
    with pytest.raises(ImageError, match=r"2 pictures \(1 JPEG, 1 PNG\), and nothing in them says that they belong"):
        load_image(pack(tmp_path / "empty", tmp_path / "a.zip"))
    content = bytearray(pack(put(tmp_path / "scan", series()), tmp_path / "b.zip").read_bytes())
    (tmp_path / "cut.zip").write_bytes(content[:500])
    with pytest.raises(ImageError, match="ZIP"):
        load_image(tmp_path / "cut.zip")
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(content)
    with pytest.raises(ImageError, match="encrypted"):
        load_image(tmp_path / "secret.zip")


def test_only_the_chosen_slice_is_decoded(tmp_path, monkeypatch):
    import a3tune.images.series as module

    asked = []
    read = module.read_dicom
    monkeypatch.setattr(module, "read_dicom", lambda stream, frame: asked.append(frame) or read(stream, frame))
    load_image(put(tmp_path / "scan", series()), frame=2)
    assert asked == [0]


def test_a_dicomdir_is_the_series_that_it_lists(tmp_path):
    shutil.copytree(DICOMDIRS, tmp_path / "medium")
    path = tmp_path / "medium" / "DICOMDIR"
    with pytest.raises(ImageError, match="DICOMDIR holds 24 series") as caught:
        load_image(path)
    assert "Doe" not in str(caught.value)
    image = load_image(path, series=1)
    assert (image.format, image.frame_count >= 1) == ("DICOM", True)
    # A file that lies there and is not listed is not part of it.
    before = str(caught.value)
    (tmp_path / "medium" / "more").write_bytes(series()[0])
    with pytest.raises(ImageError) as caught:
        load_image(path)
    assert str(caught.value) == before


def group(**sequences) -> Dataset:
    item = Dataset()
    for name, elements in sequences.items():
        inner = Dataset()
        for keyword, value in elements.items():
            setattr(inner, keyword, value)
        setattr(item, name, Sequence([inner]))
    return item


def enhanced(places: list[float]) -> Dataset:
    data = one_slice(0, None, NumberOfFrames=len(places), SOPClassUID=uid.EnhancedCTImageStorage)
    data.SharedFunctionalGroupsSequence = Sequence([group(PlaneOrientationSequence={"ImageOrientationPatient": AXIAL})])
    data.PerFrameFunctionalGroupsSequence = Sequence(
        [
            group(
                PlanePositionSequence={"ImagePositionPatient": [0, 0, place]},
                PixelMeasuresSequence={"PixelSpacing": [1, 1 + number]},
                PixelValueTransformationSequence={"RescaleSlope": 1, "RescaleIntercept": 100 * number},
                FrameVOILUTSequence={"WindowCenter": 127.5 + 100 * number, "WindowWidth": 255},
            )
            for number, place in enumerate(places)
        ]
    )
    frames = [np.full((SIDE, SIDE), 10 + rank, np.uint16) for rank in np.argsort(np.argsort(places))]
    data.PixelData = np.stack(frames).tobytes()
    return data


def test_frames_of_an_enhanced_object_are_in_the_order_of_their_places(tmp_path):
    path = tmp_path / "a.dcm"
    places = [10.0, 0.0, 15.0, 5.0]
    path.write_bytes(encode(enhanced(places)))
    assert values(path) == [10, 11, 12, 13]
    # Window, rescale and spacing are those of the very frame.
    for shown, stored in enumerate(np.argsort(places)):
        image = load_image(path, frame=shown)
        assert image.spacing == (1, 1 + stored)
        assert image.window.centre == 127.5 + 100 * stored
    (tmp_path / "folder").mkdir()
    shutil.copy(path, tmp_path / "folder")
    assert values(tmp_path / "folder") == [10, 11, 12, 13]


@pytest.mark.parametrize("places", [[0.0, 5.0, 10.0], [10.0, 5.0, 0.0]])
def test_frames_that_go_one_way_stay_as_they_are_stored(tmp_path, places):
    path = tmp_path / "a.dcm"
    path.write_bytes(encode(enhanced(places)))
    assert values(path) == [10 + int(place / 5) for place in places]
    assert dcmread(path).NumberOfFrames == 3
