"""The letters at a picture's edges: for every way in which a file can lie, looked up on its own coordinates."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from PIL import Image

from a3tune.images import load_image
from a3tune.types import Edges

SIGNED = [
    np.diag(signs) @ np.eye(3, dtype=int)[list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
# Letters of both ends of the axes of DICOM's patient coordinates: left, back, head.
ENDS = [("L", "R"), ("P", "A"), ("H", "F")]
LETTER = {
    tuple(sign * np.eye(3, dtype=int)[axis]): ends[sign < 0] for axis, ends in enumerate(ENDS) for sign in (1, -1)
}
OPPOSITE = dict([*ENDS, *(pair[::-1] for pair in ENDS)])


def seen_edges(pictures):
    """The letters by looking: ``pictures`` are the three coordinates (left, back, head), grey [3, rows, columns]."""
    found = {}
    for ends, picture in zip(ENDS, pictures, strict=True):
        values = picture.astype(int)
        for (first, last), step in (
            (("left", "right"), values[:, -1] - values[:, 0]),
            (("top", "bottom"), values[-1] - values[0]),
        ):
            if (step > 0).all():
                found[last], found[first] = ends
            elif (step < 0).all():
                found[first], found[last] = ends
            else:
                assert not step.any()
    return Edges(**found)


@pytest.mark.parametrize("turn", SIGNED, ids=lambda turn: "".join(nibabel.aff2axcodes(np.pad(turn, (0, 1)))))
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_a_volume_that_lies_in_any_way_is_marked_as_its_coordinates_lie(tmp_path, turn, form):
    shape = np.array([4, 5, 6])[np.abs(turn).argmax(axis=0)]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.5, 2.0, 0.5])
    voxels = np.indices(shape).reshape(3, -1)
    right, front, head = (turn @ voxels).reshape(3, *shape)
    values = np.stack([-right, -front, head], axis=-1).astype(np.int16)
    image = nibabel.Nifti1Image(values, None)
    (image.set_sform if form == "sform" else image.set_qform)(affine, 1)
    (image.set_qform if form == "sform" else image.set_sform)(None, 0)
    path = tmp_path / "volume.nii"
    image.to_filename(path)
    for axis in range(3):
        pictures = [load_image(path, axis=axis, volume=volume, window=(0, 40), square=False) for volume in range(3)]
        looked = seen_edges([picture.pixels[..., 0] for picture in pictures])
        assert pictures[0].edges == looked
        # Radiological display, and nothing lies on its head.
        assert (looked.left, looked.top) == [("A", "H"), ("R", "H"), ("R", "A")][axis]


@pytest.mark.parametrize("codes", [(0, 0), (1, 2)])
def test_a_volume_without_a_stated_orientation_or_with_two_is_not_marked(tmp_path, codes):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    image.set_sform(np.eye(4), codes[0])
    image.set_qform(np.diag([-1.0, 1, 1, 1]), codes[1])
    path = tmp_path / "volume.nii"
    image.to_filename(path)
    read = load_image(path)
    assert read.edges is None
    assert any("name the patient's sides differently" in note for note in read.notes) is (codes[0] > 0)


PLANES = [(across, down) for across, down in itertools.product(LETTER, LETTER) if not np.dot(across, down)]


@pytest.mark.parametrize(("across", "down"), PLANES)
def test_a_dicom_picture_in_any_plane_is_marked_by_its_directions(write, across, down):
    wanted = Edges(OPPOSITE[LETTER[across]], LETTER[across], OPPOSITE[LETTER[down]], LETTER[down])
    stored = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert load_image(write(stored, ImageOrientationPatient=[*across, *down])).edges == wanted
    assert load_image(write(stored, PatientOrientation=[LETTER[across], LETTER[down]])).edges == wanted
    both = {"ImageOrientationPatient": [*across, *down]}
    assert load_image(write(stored, **both, PatientOrientation=[LETTER[across], LETTER[down]])).edges == wanted
    assert load_image(write(stored, **both, PatientOrientation=[OPPOSITE[LETTER[across]], LETTER[down]])).edges is None


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]},
        {"ImageOrientationPatient": [1, 0, 0]},
        {"ImageOrientationPatient": [1, 0, 0], "PatientOrientation": ["L", "P"]},
        {"PatientOrientation": ["L", "R"]},
        {"PatientOrientation": ["L"]},
        {"PatientOrientation": ["LR", "P"]},
        {"PatientOrientation": ["LE", "D"]},
        {"PatientOrientation": ["L", "P"], "AnatomicalOrientationType": "QUADRUPED"},
    ],
)
def test_what_states_no_two_directions_is_not_marked(write, elements):
    assert load_image(write(np.arange(12, dtype=np.uint16).reshape(3, 4), **elements)).edges is None


def test_oblique_pictures_are_marked_with_all_directions_that_count(write):
    half, slight = np.sqrt(0.5), np.sin(np.radians(10))
    stored = np.arange(12, dtype=np.uint16).reshape(3, 4)
    steep = load_image(write(stored, ImageOrientationPatient=[0.8, 0.6, 0, 0, 0, -1])).edges
    assert steep == Edges("RA", "LP", "H", "F")
    assert load_image(write(stored, ImageOrientationPatient=[half, half, 0, 0, 0, -1])).edges == steep
    tilted = [1, 0, 0, 0, np.cos(np.radians(10)), -slight]
    assert load_image(write(stored, ImageOrientationPatient=tilted)).edges == Edges("R", "L", "A", "P")
    mammogram = load_image(write(stored, PatientOrientation=["A", "FR"])).edges
    assert mammogram == Edges("P", "A", "HL", "FR")


def test_other_pictures_are_not_marked(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    assert load_image(tmp_path / "grey.png").edges is None
