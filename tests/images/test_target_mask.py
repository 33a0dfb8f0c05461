"""Masks of every kind on the image that they belong to, against masks drawn by hand, and refused where they do not."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, FileMetaDataset, Sequence, dcmwrite, uid

from a3tune.errors import RequestError
from a3tune.images import load_image
from a3tune.images.target_mask import load_target

ROWS, COLUMNS, SLICES = 20, 28, 5
SPACING, THICKNESS = [1.0, 0.5], 3.0
ORIGIN = np.array([-30.0, 12.0, 100.0])
VOLUME = np.random.default_rng(8).random((SLICES, ROWS, COLUMNS)) < 0.3
"""[slice, row, column]; slice 4 holds nothing."""
VOLUME[4] = False


def measures() -> Dataset:
    item = Dataset()
    item.PixelSpacing, item.SliceThickness = SPACING, THICKNESS
    return item


def base(storage: uid.UID, frame_of_reference="1.2.840.99") -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = storage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    data.FrameOfReferenceUID = frame_of_reference
    return data


def pixels(data: Dataset, values: np.ndarray, bits: int) -> None:
    data.Rows, data.Columns, data.SamplesPerPixel = *values.shape[-2:], 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    if bits == 1:
        packed = np.packbits(values.astype(np.uint8).ravel(), bitorder="little").tobytes()
    else:
        packed = values.astype(f"u{bits // 8}").tobytes()
    data.PixelData = packed + bytes(len(packed) % 2)


def save(data: Dataset, path: Path) -> Path:
    dcmwrite(path, data, enforce_file_format=True)
    return path


@pytest.fixture
def scan(tmp_path) -> Path:
    """A folder with the slices of an axial series whose pixels are twice as high as wide."""
    folder = tmp_path / "scan"
    folder.mkdir()
    for place in range(SLICES):
        data = base(uid.CTImageStorage)
        data.Modality, data.SeriesInstanceUID, data.InstanceNumber = "CT", "1.2.3", SLICES - place
        data.PixelSpacing, data.SliceThickness = SPACING, THICKNESS
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = (ORIGIN + np.array([0, 0, THICKNESS * place])).tolist()
        pixels(data, np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + place, 16)
        save(data, folder / f"{7 * place % 5}.dcm")
    return folder


def expected(place: int, volume: np.ndarray = VOLUME) -> np.ndarray:
    return np.repeat(volume[place], 2, axis=0)


def target(path: Path, scan: Path, place: int, **options) -> np.ndarray:
    image = load_image(scan, frame=place)
    assert (image.height, image.width) == (2 * ROWS, COLUMNS)
    return load_target(path, image, scan, frame=place, **options)


def segmentation(
    path: Path, volume: np.ndarray = VOLUME, *, numbers=(1,), kind="BINARY", shift=0.0, mirrored=False, **changes
) -> Path:
    """A SEG whose frames are the slices of ``volume``, last first, and their opposite for all numbers but the first."""
    data = base(uid.SegmentationStorage)
    data.Modality, data.SegmentationType, data.SegmentsOverlap = "SEG", kind, "NO"
    data.SegmentSequence = Sequence()
    for number in numbers:
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel = number, f"Organ {number}"
        data.SegmentSequence.append(item)
    shared = Dataset()
    orientation = Dataset()
    orientation.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0] if mirrored else [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures()])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    groups, frames = [], []
    corner = ORIGIN + np.array([SPACING[1] * (COLUMNS - 1), 0, 0]) if mirrored else ORIGIN
    for number in numbers:
        for place in reversed(range(SLICES)):
            group, position, segment = Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = (corner + np.array([shift, 0, THICKNESS * place])).tolist()
            segment.ReferencedSegmentNumber = number
            group.PlanePositionSequence = Sequence([position])
            group.SegmentIdentificationSequence = Sequence([segment])
            groups.append(group)
            frame = volume[place] if number == numbers[0] else ~volume[place]
            frames.append(frame[:, ::-1] if mirrored else frame)
    data.PerFrameFunctionalGroupsSequence, data.NumberOfFrames = Sequence(groups), len(groups)
    frames = np.stack(frames)
    if kind == "FRACTIONAL":
        data.MaximumFractionalValue = 200
        pixels(data, np.where(frames, 100, 99), 8)
    else:
        pixels(data, frames, 1)
    for keyword, value in changes.items():
        setattr(data, keyword, value)
    return save(data, path)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_segmentation_lies_where_its_frames_say(scan, tmp_path, kind, mirrored):
    path = segmentation(tmp_path / "a.dcm", kind=kind, mirrored=mirrored)
    for place in range(4):
        assert np.array_equal(target(path, scan, place), expected(place))
    with pytest.raises(RequestError, match=r"a\.dcm is empty on this slice"):
        target(path, scan, 4)


def test_a_segment_is_chosen_by_number_or_name(scan, tmp_path):
    path = segmentation(tmp_path / "a.dcm", numbers=(2, 7))
    for name in ("2", "Organ 2", " organ 2"):
        assert np.array_equal(target(path, scan, 1, segment=name), expected(1))
    assert np.array_equal(target(path, scan, 1, segment="7"), expected(1, ~VOLUME))
    for name in (None, "3", "organ"):
        with pytest.raises(RequestError, match=r"holds 2 segments \(numbers 2, 7\)") as caught:
            target(path, scan, 1, segment=name)
        assert "Organ 2" not in str(caught.value)


def test_a_segmentation_of_other_coordinates_or_pixels_is_refused(scan, tmp_path):
    path = segmentation(tmp_path / "a.dcm", FrameOfReferenceUID="1.2.840.98")
    with pytest.raises(RequestError, match="another frame of reference"):
        target(path, scan, 1)
    with pytest.raises(RequestError, match="other pixels"):
        target(segmentation(tmp_path / "b.dcm", shift=0.2), scan, 1)
    # A whole pixel aside is the same raster.
    aside = target(segmentation(tmp_path / "c.dcm", shift=0.5), scan, 1)
    assert np.array_equal(aside[:, 1:], expected(1)[:, :-1])
    assert not aside[:, 0].any()


def nifti(path: Path, volume: np.ndarray, codes="LPS") -> Path:
    """``volume`` [slice, row, column] in the coordinates of the scan, its axes turned to ``codes``."""
    affine = np.diag([-SPACING[1], -SPACING[0], THICKNESS, 1])
    affine[:3, 3] = ORIGIN * [-1, -1, 1]
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0).astype(np.int16), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(codes)
    )
    image = image.as_reoriented(turn)
    image.to_filename(path)
    return path


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SRA", "PIR"])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_nifti_mask_lies_on_dicom_slices(scan, tmp_path, codes, suffix):
    path = nifti(tmp_path / f"a.{suffix}", VOLUME, codes)
    for place in range(4):
        assert np.array_equal(target(path, scan, place), expected(place))
    with pytest.raises(RequestError, match="is empty on this slice"):
        target(path, scan, 4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("codes", ["LPS", "RAS", "SRA"])
def test_a_nifti_mask_lies_on_a_nifti_image(tmp_path, axis, codes):
    picture = nifti(tmp_path / "image.nii", np.arange(VOLUME.size).reshape(VOLUME.shape))
    path = nifti(tmp_path / "mask.nii", VOLUME, codes)
    image = load_image(picture, axis=axis, frame=2)
    found = load_target(path, image, picture, axis=axis, frame=2)
    drawn = load_image(nifti(tmp_path / "same.nii", VOLUME), axis=axis, frame=2, square=False, window=(0.5, 1)).pixels
    rows, columns = (np.arange(size) * old // size for size, old in zip(found.shape, drawn.shape, strict=False))
    assert found.shape == (image.height, image.width)
    assert np.array_equal(found, drawn[np.ix_(rows, columns)][..., 0] > 0)


def test_grey_values_choose_among_labels(scan, tmp_path):
    labels = VOLUME * 1 + (np.arange(SLICES)[:, None, None] == 2) * VOLUME * 4
    path = nifti(tmp_path / "a.nii", labels)
    assert np.array_equal(target(path, scan, 2, segment="5"), expected(2))
    with pytest.raises(RequestError, match=r"no pixel of the value 1 on this slice \(but 5\)"):
        target(path, scan, 2, segment="1")


def test_a_volume_elsewhere_is_refused(scan, tmp_path):
    path = nifti(tmp_path / "a.nii", VOLUME[:2])
    with pytest.raises(RequestError, match="does not reach this slice"):
        target(path, scan, 3)
    # The codes of qform and sform, at bytes 252 and 254 of a header.
    unstated = nifti(tmp_path / "b.nii", VOLUME)
    content = unstated.read_bytes()
    unstated.write_bytes(content[:252] + bytes(4) + content[256:])
    with pytest.raises(RequestError, match="another frame of reference"):
        target(unstated, scan, 1)
    fine, coarse = nibabel.load(nifti(tmp_path / "fine.nii", VOLUME)), tmp_path / "coarse.nii"
    nibabel.Nifti1Image(np.asarray(fine.dataobj)[::2], fine.affine @ np.diag([2, 1, 1, 1])).to_filename(coarse)
    with pytest.raises(RequestError, match="other pixels"):
        target(coarse, scan, 1)
    Image.fromarray(np.zeros((ROWS, COLUMNS), np.uint8)).save(tmp_path / "flat.png")
    with pytest.raises(RequestError, match="the image does not"):
        load_target(path, load_image(tmp_path / "flat.png"), tmp_path / "flat.png")


def test_a_picture_is_drawn_in_stored_pixels(scan, tmp_path):
    Image.fromarray(VOLUME[1].astype(np.uint8) * 3).save(tmp_path / "a.png")
    assert np.array_equal(target(tmp_path / "a.png", scan, 1), expected(1))
    assert np.array_equal(target(tmp_path / "a.png", scan, 1, segment="3"), expected(1))
    Image.fromarray(expected(1)).save(tmp_path / "shown.png")
    with pytest.raises(RequestError, match=r"shown.png has 28 x 40 pixels.*28 x 20"):
        target(tmp_path / "shown.png", scan, 1)


def structures(path: Path, outlines: dict[int, list], frame_of_reference="1.2.840.99") -> Path:
    """An RTSTRUCT; outlines are lists of (row, column) corners and a slice, by structure."""
    data = base(uid.RTStructureSetStorage)
    data.Modality = "RTSTRUCT"
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(), Sequence()
    for number, drawn in outlines.items():
        item, contours = Dataset(), Dataset()
        item.ROINumber, item.ROIName = number, f"Organ {number}"
        item.ReferencedFrameOfReferenceUID = frame_of_reference
        contours.ReferencedROINumber, contours.ContourSequence = number, Sequence()
        for place, corners in drawn:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(corners)
            steps = [(column * SPACING[1], row * SPACING[0], place * THICKNESS) for row, column in corners]
            contour.ContourData = (ORIGIN + np.array(steps)).round(6).ravel().tolist()
            contours.ContourSequence.append(contour)
        data.StructureSetROISequence.append(item)
        data.ROIContourSequence.append(contours)
    return save(data, path)


def square(top: float, left: float, bottom: float, right: float) -> list[tuple[float, float]]:
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def test_the_outlines_of_a_structure_are_filled(scan, tmp_path):
    whole, hole, island = square(1.5, 2.5, 10.5, 12.5), square(3.5, 4.5, 6.5, 8.5), square(12.5, 20.5, 14.5, 22.5)
    path = structures(tmp_path / "s.dcm", {3: [(1, whole), (1, hole), (1, island), (2, island)], 4: [(1, hole)]})
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[2:11, 3:13] = True
    mask[4:7, 5:9] = False
    mask[13:15, 21:23] = True
    assert np.array_equal(target(path, scan, 1, segment="organ 3"), np.repeat(mask, 2, axis=0))
    only = np.zeros_like(mask)
    only[13:15, 21:23] = True
    assert np.array_equal(target(path, scan, 2, segment="3"), np.repeat(only, 2, axis=0))
    with pytest.raises(RequestError, match="no outline of this structure on this slice"):
        target(path, scan, 4, segment="3")
    with pytest.raises(RequestError, match=r"holds 2 structures \(numbers 3, 4\)"):
        target(path, scan, 1)
    other = structures(tmp_path / "o.dcm", {3: [(1, whole)]}, "1.2.840.98")
    with pytest.raises(RequestError, match="another frame of reference"):
        target(other, scan, 1)


def test_a_slanted_outline_covers_the_centres_inside_it(scan, tmp_path):
    path = structures(tmp_path / "s.dcm", {1: [(0, [(2, 2), (2, 20), (18, 2)])]})
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    # The line from (2, 20) to (18, 2), and nothing on it but by chance.
    inside = (rows >= 2) & (columns > 2) & (columns <= 20 - (rows - 2) * 18 / 16)
    found = target(path, scan, 0)[::2]
    assert (found != inside).sum() <= ROWS
    assert abs(int(found.sum()) - 144) <= 12
