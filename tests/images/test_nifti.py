"""NIfTI volumes: anatomical directions, slices, volumes, scaling, on made and on shipped files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from a3tune.errors import ImageError, RequestError
from a3tune.images import AXES, describe_image, load_image
from a3tune.types import Window

SHIPPED = Path(nibabel.__file__).parent / "tests" / "data"
IDENTITY = Window(127.5, 255)

# A patient of 4 x 5 x 6 voxels in right, anterior, superior order, every voxel another grey value.
PATIENT = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


@pytest.fixture
def write(tmp_path):
    def write_file(values: np.ndarray, affine: np.ndarray | None = None, **header) -> Path:
        path = tmp_path / "volume.nii"
        image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
        for name, value in header.items():
            image.header[name] = value
        image.to_filename(path)
        return path

    return write_file


def grey(path: Path, **options) -> np.ndarray:
    return load_image(path, window=IDENTITY, square=False, **options).pixels[..., 0]


def test_radiological_display_of_all_three_axes(write):
    path = write(PATIENT)
    # [row, column]: the patient's right (high x) on the left; anterior (high y) or superior (high z) at the top.
    for row in range(5):
        for column in range(4):
            assert grey(path, axis=2, frame=1)[row, column] == PATIENT[3 - column, 4 - row, 1]
    assert np.array_equal(grey(path, axis=1, frame=2), PATIENT[::-1, 2, ::-1].T)
    assert np.array_equal(grey(path, axis=0, frame=3), PATIENT[3, ::-1, ::-1].T)
    assert AXES == ("sagittal", "coronal", "axial")


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "SRA", "PIR", "ASL", "IPL"])
def test_the_stored_order_makes_no_difference(write, codes):
    canonical = nibabel.Nifti1Image(PATIENT, np.diag([0.5, 1.0, 2.0, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(canonical.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    turned = canonical.as_reoriented(turn)
    assert nibabel.aff2axcodes(turned.affine) == tuple(codes)
    path = write(np.asarray(turned.dataobj), turned.affine)
    assert np.array_equal(grey(path, axis=2, frame=1), PATIENT[::-1, ::-1, 1].T)
    assert np.array_equal(grey(path, axis=1, frame=1), PATIENT[::-1, 1, ::-1].T)
    assert np.array_equal(grey(path, axis=0, frame=1), PATIENT[1, ::-1, ::-1].T)
    assert load_image(path, axis=2).spacing == pytest.approx((1.0, 0.5))
    assert load_image(path, axis=1).spacing == pytest.approx((2.0, 0.5))
    assert load_image(path, axis=0).spacing == pytest.approx((2.0, 1.0))
    assert describe_image(path).axes == (4, 5, 6)


def test_the_middle_slice_is_the_default(write):
    path = write(PATIENT)
    for axis, count in enumerate((4, 5, 6)):
        image = load_image(path, axis=axis)
        assert (image.frame, image.frame_count) == (count // 2, count)
        assert (describe_image(path, axis=axis).default_frame, image.format) == (count // 2, "NIfTI")


def test_volumes_of_a_series(write):
    series = np.stack([PATIENT, PATIENT[::-1]], axis=3)
    path = write(series)
    assert describe_image(path).volumes == 2
    assert np.array_equal(grey(path, frame=1), PATIENT[::-1, ::-1, 1].T)
    assert np.array_equal(grey(path, frame=1, volume=1), PATIENT[:, ::-1, 1].T)
    five = write(series[..., None, :])
    assert np.array_equal(grey(five, frame=1, volume=1), PATIENT[:, ::-1, 1].T)


def test_choices_outside_the_volume(write):
    path = write(PATIENT)
    with pytest.raises(RequestError, match="axis 3"):
        load_image(path, axis=3)
    with pytest.raises(RequestError, match="0 to 5"):
        load_image(path, frame=6)
    with pytest.raises(RequestError, match="volume 1"):
        load_image(path, volume=1)


def test_scaling_header_window_and_units(write):
    path = write(PATIENT, cal_min=20, cal_max=100)
    image = load_image(path, frame=0)
    assert image.window == Window(60, 80)
    values = PATIENT[::-1, ::-1, 0].T
    assert np.abs(image.pixels[..., 0] - np.clip((values - 20) / 80, 0, 1) * 255).max() <= 0.5
    micron = nibabel.Nifti1Image(PATIENT, np.diag([500, 500, 500, 1]))
    micron.header.set_xyzt_units("micron")
    micron.header.set_slope_inter(2, -10)
    micron.to_filename(path)
    assert load_image(path).spacing == pytest.approx((0.5, 0.5))


def test_stored_slope_and_intercept_are_applied(write, tmp_path):
    image = nibabel.Nifti1Image(np.linspace(0, 100, 120).reshape(4, 5, 6), np.eye(4), dtype=np.int16)
    image.to_filename(tmp_path / "scaled.nii")
    assert nibabel.load(tmp_path / "scaled.nii").dataobj.slope != 1
    shown = grey(tmp_path / "scaled.nii", frame=5)
    assert np.abs(shown - np.linspace(0, 100, 120).reshape(4, 5, 6)[::-1, ::-1, 5].T).max() <= 0.51


@pytest.mark.parametrize(
    ("slope", "intercept", "factor", "shift"),
    [
        (1, "nan", 1, 0),
        (2, "inf", 2, 0),
        ("nan", "nan", 1, 0),
        ("nan", 5, 1, 0),
        (0, 7, 1, 0),
        ("inf", 0, 1, 0),
        (2, 5, 2, 5),
        (-1, 120, -1, 120),
    ],
)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_scale_that_is_no_number_counts_as_none(tmp_path, kind, slope, intercept, factor, shift):
    path = tmp_path / "a.nii"
    kind(PATIENT, np.eye(4)).to_filename(path)
    with path.open("r+b") as file:
        place, numbers = (112, "<ff") if kind is nibabel.Nifti1Image else (176, "<dd")
        file.seek(place)
        file.write(struct.pack(numbers, float(slope), float(intercept)))
    values = PATIENT[::-1, ::-1, 1].T * float(factor) + shift
    image = load_image(path, frame=1, window=(100, 300))
    assert np.abs(image.pixels[..., 0] - np.clip((values - 100) / 300 + 0.5, 0, 1) * 255).max() <= 0.5 + 1e-6


TURNED = np.array([[0, 0, 3, 4], [-1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 0, 1]], float)
"""Stored axes to posterior (1 mm), superior (2 mm), right (3 mm)."""


@pytest.mark.parametrize("bad", [np.zeros((3, 4)), np.full((3, 4), np.nan), np.ones((3, 4))], ids=["0", "NaN", "flat"])
def test_the_form_that_can_be_used_is_used(tmp_path, bad):
    path = tmp_path / "a.nii"
    sound = nibabel.Nifti1Image(PATIENT, TURNED)
    sound.set_qform(TURNED, code=1)
    sound.to_filename(path)
    content = path.read_bytes()
    expected = load_image(path, square=False)
    rows = np.asarray(bad, "<f4").tobytes()
    # sform_code 1, then its rows at byte 280 of a NIfTI-1 header.
    path.write_bytes(content[:254] + struct.pack("<h", 1) + content[256:280] + rows + content[328:])
    image = load_image(path, square=False)
    assert np.array_equal(image.pixels, expected.pixels)
    assert image.spacing == pytest.approx((1.0, 3.0))
    # Nor does the qform help once it is undeclared, or no rotation.
    path.write_bytes(path.read_bytes()[:252] + struct.pack("<h", 0) + path.read_bytes()[254:])
    with pytest.raises(ImageError, match="orientation matrix"):
        load_image(path, square=False)
    quaternion = np.full(3, 5, "<f4").tobytes()
    path.write_bytes(content[:254] + struct.pack("<h", 0) + quaternion + content[268:])
    with pytest.raises(ImageError, match="orientation matrix"):
        load_image(path, square=False)


def test_no_form_and_odd_voxel_sizes(tmp_path):
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(PATIENT, None)
    image.header["pixdim"][1:4] = 2, 3, 4
    image.to_filename(path)
    content = path.read_bytes()
    expected = load_image(path, square=False)
    assert (describe_image(path).axes, expected.spacing) == ((4, 5, 6), (3.0, 2.0))
    for sizes, spacing in (((-2, 3, 4), (3.0, 2.0)), ((0, 3, 4), (3.0, 1.0)), ((float("nan"), 3, 4), (3.0, 1.0))):
        path.write_bytes(content[:80] + struct.pack("<fff", *sizes) + content[92:])
        image = load_image(path, square=False)
        assert image.spacing == pytest.approx(spacing)
        assert np.array_equal(image.pixels, expected.pixels)


def test_not_a_number_is_black_and_does_not_stretch_the_window(write):
    values = PATIENT.astype(np.float32)
    values[0, 0, 3] = np.nan
    values[1, 0, 3] = np.inf
    image = load_image(write(values), frame=3)
    assert image.pixels[4, 3].tolist() == [0, 0, 0]
    assert image.pixels[4, 2].tolist() == [0, 0, 0]
    finite = values[..., 3][np.isfinite(values[..., 3])]
    assert image.window.width == pytest.approx(np.ptp(np.percentile(finite, (0.5, 99.5))), rel=1e-5)


def test_colour_and_complex_volumes(write):
    colour = np.zeros((4, 5, 6), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    colour["G"] = PATIENT
    image = load_image(write(colour), frame=1)
    assert np.array_equal(image.pixels[..., 1], PATIENT[::-1, ::-1, 1].T)
    assert not image.pixels[..., 0].any()
    assert np.array_equal(grey(write((PATIENT * 1j).astype(np.complex64)), frame=1), PATIENT[::-1, ::-1, 1].T)


def test_a_flat_picture(write):
    image = load_image(write(PATIENT[:, :, 0].copy()), window=IDENTITY)
    assert np.array_equal(image.pixels[..., 0], PATIENT[::-1, ::-1, 0].T)
    assert image.frame_count == 1


def test_presets_follow_the_values(write):
    computed_tomography = PATIENT * 10 - 1000
    assert load_image(write(computed_tomography), window="lung").window == Window(-600, 1500)
    with pytest.raises(RequestError, match="Hounsfield"):
        load_image(write(PATIENT), window="lung")
    assert describe_image(write(PATIENT)).hounsfield is False
    assert describe_image(write(computed_tomography)).hounsfield is None


@pytest.mark.parametrize("name", ["anatomical.nii", "functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz"])
def test_shipped_volumes_equal_nibabel(name):
    canonical = nibabel.as_closest_canonical(nibabel.load(SHIPPED / name))
    values = np.asarray(canonical.dataobj)
    values = values if values.ndim == 3 else values[..., -1]
    volume = describe_image(SHIPPED / name).volumes - 1
    window = Window(float(values.mean()), float(np.ptp(values)) + 1)
    for axis in range(3):
        for frame in (0, values.shape[axis] - 1):
            image = load_image(SHIPPED / name, axis=axis, frame=frame, volume=volume, window=window, square=False)
            expected = np.take(values, frame, axis=axis)[::-1, ::-1].T
            expected = np.clip((expected - window.centre) / window.width + 0.5, 0, 1) * 255
            assert np.abs(image.pixels[..., 0] - expected).max() <= 0.5 + 1e-6


def test_the_name_does_not_matter(write, tmp_path):
    packed = tmp_path / "scan.dcm"
    packed.write_bytes(gzip.compress(write(PATIENT).read_bytes()))
    assert np.array_equal(grey(packed, frame=1), PATIENT[::-1, ::-1, 1].T)


def test_a_table_is_no_volume():
    with pytest.raises(ImageError, match="CIFTI"):
        load_image(SHIPPED / "row_major.dconn.nii")


@pytest.mark.parametrize(
    ("kind", "at", "pattern", "offset"),
    [
        (nibabel.Nifti1Image, 108, "<f", 0.0),
        (nibabel.Nifti1Image, 108, "<f", float("nan")),
        (nibabel.Nifti2Image, 168, "<q", 0),
    ],
)
def test_voxels_never_begin_inside_the_header(tmp_path, kind, at, pattern, offset):
    kind(PATIENT, np.eye(4)).to_filename(tmp_path / "a.nii")
    expected = grey(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into(pattern, content, at, offset)
    (tmp_path / "a.nii").write_bytes(content)
    assert np.array_equal(grey(tmp_path / "a.nii"), expected)
    # Where the length does not tell, nothing is guessed.
    (tmp_path / "a.nii").write_bytes(content + bytes(100))
    with pytest.raises(ImageError, match=r"the voxels begin at byte .*, which lies inside the header"):
        load_image(tmp_path / "a.nii")


@pytest.mark.parametrize("code", [0, 1, 255, 777])
def test_a_data_type_without_values_is_named(write, code):
    path = write(PATIENT)
    content = bytearray(path.read_bytes())
    struct.pack_into("<h", content, 70, code)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"stores its voxels as data type {code}, which is not supported"):
        load_image(path)
