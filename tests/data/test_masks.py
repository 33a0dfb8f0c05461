"""Masks of a data set that say where they lie: checked against the image's own place, and read as its target."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, FileMetaDataset, Sequence, dcmread, dcmwrite, uid

from a3tune.data.masks import true_mask
from a3tune.data.read import read_dataset
from a3tune.data.repair import repair_dataset
from a3tune.images import load_image

SIDE = 8
LEFT = np.zeros((SIDE, SIDE), bool)
LEFT[2:6, 1:4] = True
RIGHT = LEFT[:, ::-1]


def base(storage: uid.UID) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = storage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    data.FrameOfReferenceUID = "1.2.840.99"
    return data


def pixels(data: Dataset, values: np.ndarray) -> None:
    data.Rows, data.Columns, data.SamplesPerPixel = *values.shape[-2:], 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelData = values.astype("<u2").tobytes()


def item(**values: object) -> Dataset:
    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


@pytest.fixture
def folder(tmp_path) -> Path:
    """Slices at 0 and 5 mm, and masks of the first one: a NIfTI volume, a SEG and an RTSTRUCT of two structures."""
    for place in (0, 5):
        data = base(uid.CTImageStorage)
        data.Modality, data.PixelSpacing, data.SliceThickness = "CT", [1, 1], 5
        data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [10, 20, place]
        pixels(data, np.arange(SIDE * SIDE).reshape(SIDE, SIDE))
        dcmwrite(tmp_path / f"slice{place}.dcm", data, enforce_file_format=True)
    Image.fromarray(np.full((SIDE, SIDE), 90, np.uint8)).save(tmp_path / "flat.png")

    affine = np.diag([-1.0, -1.0, 5.0, 1.0])
    affine[:3, 3] = [-10, -20, 0]
    labels = np.stack([(LEFT * 1 + RIGHT * 3).T, np.zeros((SIDE, SIDE))], axis=2)
    nibabel.Nifti1Image(labels.astype(np.int16), affine).to_filename(tmp_path / "labels.nii.gz")

    seg = base(uid.SegmentationStorage)
    seg.Modality, seg.SegmentationType, seg.MaximumFractionalValue = "SEG", "FRACTIONAL", 1
    seg.SegmentSequence = Sequence([item(SegmentNumber=n, SegmentLabel=f"Organ {n}") for n in (1, 2)])
    seg.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PixelMeasuresSequence=Sequence([item(PixelSpacing=[1, 1], SliceThickness=5)]),
                PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
            )
        ]
    )
    seg.PerFrameFunctionalGroupsSequence = Sequence(
        [
            item(
                PlanePositionSequence=Sequence([item(ImagePositionPatient=[10, 20, 0])]),
                SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=number)]),
            )
            for number in (1, 2)
        ]
    )
    seg.NumberOfFrames = 2
    pixels(seg, np.stack([LEFT, RIGHT]))
    dcmwrite(tmp_path / "seg.dcm", seg, enforce_file_format=True)

    structures = base(uid.RTStructureSetStorage)
    structures.Modality = "RTSTRUCT"
    structures.StructureSetROISequence = Sequence(
        [item(ROINumber=4, ROIName="Left", ReferencedFrameOfReferenceUID="1.2.840.99")]
    )
    outline = [
        coordinate for x, y in ((0.5, 1.5), (3.5, 1.5), (3.5, 5.5), (0.5, 5.5)) for coordinate in (10 + x, 20 + y, 0)
    ]
    contour = item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourData=outline)
    structures.ROIContourSequence = Sequence([item(ReferencedROINumber=4, ContourSequence=Sequence([contour]))])
    dcmwrite(tmp_path / "structures.dcm", structures, enforce_file_format=True)
    return tmp_path


def read(folder: Path, *rows: tuple[str, str, str, str]):
    lines = [
        f"{image},Where {n}?,here,{mask},{segment},{values}" for n, (image, mask, segment, values) in enumerate(rows)
    ]
    (folder / "rows.csv").write_text("\n".join(["image,question,answer,mask,segment,mask_values", *lines]))
    return read_dataset(folder / "rows.csv")


@pytest.mark.parametrize(
    ("mask", "segment", "values", "expected"),
    [
        ("labels.nii.gz", "", "", LEFT | RIGHT),
        ("labels.nii.gz", "3", "", RIGHT),
        ("labels.nii.gz", "", '"[1, 7]"', LEFT),
        ("seg.dcm", "Organ 2", "", RIGHT),
        ("seg.dcm", "1", "", LEFT),
        ("seg.dcm", "", '"[1, 2]"', LEFT | RIGHT),
        ("structures.dcm", "", "", LEFT),
        ("structures.dcm", "left", "", LEFT),
    ],
)
def test_masks_that_say_where_they_lie_are_targets(folder, mask, segment, values, expected):
    dataset = read(folder, ("slice0.dcm", mask, segment, values))
    assert dataset.faults == ()
    (found,) = dataset.items
    assert np.array_equal(true_mask(found, load_image(found.image)), expected)


def test_a_repaired_data_set_keeps_its_segments(folder, tmp_path_factory):
    dataset = read(folder, ("slice0.dcm", "seg.dcm", "Organ 2", ""))
    table = repair_dataset(dataset, ["split"], tmp_path_factory.mktemp("copy") / "data")
    assert read_dataset(table, images=folder).items[0].segment == "Organ 2"


@pytest.mark.parametrize(
    ("image", "mask", "segment", "words"),
    [
        ("flat.png", "labels.nii.gz", "", "labels.nii.gz says where it lies, the image does not"),
        ("flat.png", "seg.dcm", "1", "seg.dcm says where it lies, the image does not"),
        ("slice0.dcm", "seg.dcm", "", r"seg.dcm holds 2 segments"),
        ("slice0.dcm", "seg.dcm", "Spleen", "none of that number or name"),
        ("flat.png", "flat.png", "liver", "names a segment by a word"),
    ],
)
def test_masks_that_do_not_fit_are_named_with_their_row(folder, image, mask, segment, words):
    dataset = read(folder, ("slice0.dcm", "structures.dcm", "", ""), (image, mask, segment, ""))
    assert [item.line for item in dataset.items] == [2]
    (fault,) = dataset.faults
    assert (fault.kind, fault.severity, fault.line) == ("mask", "error", 3)
    assert words in fault.what


def test_a_mask_of_another_frame_of_reference_is_refused(folder):
    data = dcmread(folder / "seg.dcm")
    data.FrameOfReferenceUID = "1.2.840.98"
    data.save_as(folder / "seg.dcm")
    (fault,) = read(folder, ("slice0.dcm", "seg.dcm", "1", "")).faults
    assert "another frame of reference" in fault.what


@pytest.mark.parametrize("mask", ["labels.nii.gz", "structures.dcm", "black.png"])
def test_a_mask_that_marks_nothing_there_is_told_and_the_row_counts(folder, mask):
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(folder / "black.png")
    dataset = read(folder, ("slice5.dcm", mask, "", ""))
    assert [(fault.kind, fault.severity) for fault in dataset.faults] == [("empty-mask", "warning")]
    assert f"{mask} marks nothing" in dataset.faults[0].what
    assert true_mask(dataset.items[0], load_image(dataset.items[0].image)) is None
