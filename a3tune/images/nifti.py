"""NIfTI-1 and NIfTI-2 volumes through nibabel, one slice at a time, in radiological display."""

from __future__ import annotations

import gzip
import math
from contextlib import ExitStack
from typing import BinaryIO

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from a3tune.errors import ImageError, RequestError
from a3tune.images.content import Content, choose_frame, cut_off, unsupported
from a3tune.images.grey import GreyFrame
from a3tune.images.limits import MAX_BYTES, check_size
from a3tune.images.orientation_letters import edges_along
from a3tune.images.placement import UNSTATED, Placement
from a3tune.types import Window

AXES = ("sagittal", "coronal", "axial")
"""What a slice at right angles to canonical axis 0, 1 and 2 is called."""

_CIFTI_INTENTS = range(3000, 3100)
# Data types without a value for each voxel: unknown, single bits, whole rows of unknown meaning.
_NO_VALUES = (0, 1, 255)
_CONTRADICTION = (
    "The file's two orientation matrices (sform and qform) name the patient's sides differently: the picture lies as "
    "the sform says, and its sides are not marked"
)
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def read_nifti(stream: BinaryIO, kind: str, frame: int | None, axis: int, volume: int) -> Content:
    """Decode one slice of a volume.

    The volume's axes are first put in the closest anatomical order (right, anterior, superior); ``axis`` and ``frame``
    count in that order, so slice 0 is the leftmost, hindmost or lowest. The slice is laid out in radiological
    display: axial and coronal with the patient's right on the left of the picture, sagittal with anterior on the
    left; anterior up in axial, superior up in the others. The sampling stays as it is (see ``spacing``).

    Colour volumes (RGB24, RGBA32) are shown as they are, complex ones by their magnitude.

    Args:
        stream: the file.
        kind: "NIfTI" or "NIfTI.gz".
        frame: slice from 0, or None for the middle one.
        axis: 0 (sagittal), 1 (coronal) or 2 (axial).
        volume: which volume (time point, channel) of a file with more than three dimensions, from 0.

    Raises:
        ImageError: the file is cut off, damaged, too large, one half of a pair, or without a usable orientation.
        RequestError: there is no such axis, slice or volume.
    """
    if isinstance(axis, bool) or axis not in (0, 1, 2):
        raise RequestError(
            got=f"There is no axis {axis!r}",
            expected="axis 0 (sagittal), 1 (coronal) or 2 (axial)",
            remedy="Choose one of these axes",
        )
    with ExitStack() as stack:
        packed = kind == "NIfTI.gz"
        source = stack.enter_context(gzip.GzipFile(fileobj=stream, mode="rb")) if packed else stream
        head = source.read(8)
        source.seek(0)
        two = (540).to_bytes(4, "little") in (head[:4], head[3::-1])
        _check_single_file(source, two)
        kind_of_header = nibabel.Nifti2Header if two else nibabel.Nifti1Header
        header = kind_of_header.from_fileobj(source, check=False)
        _check_data_type(header)
        _settle_offset(header, stream.seek(0, 2) if not packed else None)
        source.seek(0)
        header.check_fix(error_level=40)
        # nibabel refuses an intercept that is no number; a writer that leaves it so means none.
        if not math.isfinite(header["scl_inter"]):
            header["scl_inter"] = 0
        data = nibabel.arrayproxy.ArrayProxy(source, header, mmap=False)
        shape = _check_shape(header)
        if not packed:
            _check_length(stream, data)
        affine = _affine(header)
        order, signs = _orientation(affine)
        volumes = math.prod(data.shape[3:])
        sizes = (shape[order[0]], shape[order[1]], shape[order[2]])
        count = sizes[axis]
        chosen = choose_frame(frame, count, default=count // 2, what="slice")
        volume = choose_frame(volume, volumes, what="volume")
        rows, columns = (other for other in (2, 1, 0) if other != axis)
        check_size(sizes[rows], sizes[columns])
        index: list[int | slice] = [slice(None)] * len(shape)
        index[order[axis]] = chosen if signs[axis] > 0 else count - 1 - chosen
        extra = np.unravel_index(volume, data.shape[3:], order="F") if volumes > 1 else [0] * len(data.shape[3:])
        # The singleton axes that _check_shape adds to a flat picture are not in the file.
        stored_index = tuple(index[: min(3, len(data.shape))]) + tuple(int(i) for i in extra)
        values = np.asarray(data[stored_index])
        values = values.reshape([size for place, size in enumerate(shape) if place != order[axis]])
        values = _display(values, axis, order, signs)
    grey, rgb = _to_grey_or_colour(values, header)
    placement = _placement(header, affine, shape, order, signs, axis, chosen)
    agree = _forms_agree(header)
    stated = placement is not None and placement.frame_of_reference != UNSTATED and agree
    edges = edges_along(np.array(placement.across), np.array(placement.down)) if placement and stated else None
    return Content(
        format="NIfTI",
        frame=chosen,
        frame_count=count,
        grey=grey,
        rgb=rgb,
        spacing=_spacing(header, affine, order, rows, columns),
        axes=sizes,
        volumes=volumes,
        notes=() if agree else (_CONTRADICTION,),
        placement=placement,
        edges=edges,
    )


def _check_single_file(source: BinaryIO | gzip.GzipFile, two: bool) -> None:
    header = source.read(348)
    source.seek(0)
    if (header[4:7] if two else header[344:347]) in (b"ni1", b"ni2"):
        raise unsupported(
            "This is one half of a NIfTI pair (.hdr and .img)",
            "Convert the pair to a single .nii file and open that",
        )


def _check_data_type(header: nibabel.Nifti1Header) -> None:
    try:
        known = header.get_data_dtype().itemsize > 0
    except (HeaderDataError, KeyError):
        known = False
    if not known or int(header["datatype"]) in _NO_VALUES:
        raise unsupported(
            f"The NIfTI file stores its voxels as data type {int(header['datatype'])}, which is not supported",
            "Convert it to whole numbers of 16 bits or to 32-bit floats",
        )


def _settle_offset(header: nibabel.Nifti1Header, size: int | None) -> None:
    """Put right where the voxels begin in a single file: never inside the header (NIfTI-1, field vox_offset).

    Args:
        header: its offset is changed.
        size: the file's bytes; None where it is packed.

    Raises:
        ImageError: the offset is impossible, and the file's length does not tell another.
    """
    least, offset = type(header).single_vox_offset, float(header["vox_offset"])
    if offset >= least:
        return
    needed = math.prod(int(extent) for extent in header.get_data_shape()) * header.get_data_dtype().itemsize
    begins = [start for start in (least, type(header).sizeof_hdr) if size is None or size == start + needed]
    if (offset != 0 and not (math.isnan(offset) and size is not None)) or not begins:
        raise ImageError(
            got=f"The NIfTI header says that the voxels begin at byte {offset:g}, which lies inside the header",
            expected=f"a vox_offset of {least} or more",
            remedy="Write the file again with the program that made it, or convert it again from the original files",
        )
    header["vox_offset"] = begins[0]


def _check_shape(header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    """The volume's size as three axes; refuses what cannot be a volume before any voxel is read."""
    sizes = tuple(int(size) for size in header.get_data_shape())
    if int(header["intent_code"]) in _CIFTI_INTENTS:
        raise unsupported("This is a CIFTI table of surface data, not a volume", "Choose a volume")
    if len(sizes) < 2:
        raise unsupported("The NIfTI file holds a list of numbers, not a volume", "Choose the volume itself")
    if min(sizes) < 1:
        raise ImageError(
            got=f"The NIfTI file says its volume is {' x '.join(map(str, sizes))} voxels: there is nothing to show",
            expected="at least one voxel along every axis",
            remedy="Export the volume again from the program that made it",
        )
    depth = sizes[2] if len(sizes) > 2 else 1
    shape = (sizes[0], sizes[1], depth)
    if math.prod(shape) * header.get_data_dtype().itemsize > MAX_BYTES:
        raise ImageError(
            got=f"The NIfTI volume is too large: {' x '.join(map(str, shape))} voxels",
            expected="a volume of at most 2 GiB",
            remedy="Cut out the part of interest, or resample it, and try again",
        )
    return shape


def _check_length(stream: BinaryIO, data: nibabel.arrayproxy.ArrayProxy) -> None:
    needed = int(data.offset) + math.prod(data.shape) * data.dtype.itemsize
    size = stream.seek(0, 2)
    stream.seek(0)
    if size < needed:
        raise cut_off("NIfTI")


def _affine(header: nibabel.Nifti1Header) -> np.ndarray:
    """float64 [4, 4] from voxel indices to patient coordinates: the sform where it can be used, else the qform; a
    file that declares neither is taken as lying with its axes along the patient's, by the voxel sizes alone.

    Raises:
        ImageError: a form is declared, and none of those declared says how the volume lies.
    """
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        header = header.copy()
        sizes = np.abs(header["pixdim"][1:4])
        header["pixdim"][1:4] = np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1)
        return header.get_base_affine()
    if usable := _usable_forms(header):
        return usable[0]
    raise ImageError(
        got="The NIfTI file's orientation matrix cannot be used: it does not say which way the patient lies",
        expected="an orientation matrix that can be inverted",
        remedy="Repair its sform or qform, or convert it again from the original DICOM files",
    )


def _forms_agree(header: nibabel.Nifti1Header) -> bool:
    """Whether sform and qform, where both are declared and usable, call the same axes by the same names."""
    return len({nibabel.aff2axcodes(affine) for affine in _usable_forms(header)}) < 2


def _usable_forms(header: nibabel.Nifti1Header) -> list[np.ndarray]:
    """The sform before the qform, as far as they are declared and say how the volume lies."""
    usable = []
    for get in (header.get_sform, header.get_qform):
        try:
            affine, code = get(coded=True)
        except (HeaderDataError, ValueError):
            # A quaternion that is none.
            continue
        if code > 0 and _is_usable(affine):
            usable.append(affine)
    return usable


def _is_usable(affine: np.ndarray) -> bool:
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        return False
    return bool(np.isfinite(nibabel.io_orientation(affine)).all())


def _orientation(affine: np.ndarray) -> tuple[list[int], list[float]]:
    """For canonical axes x, y, z: the stored axis that runs along it, and whether with (1) or against it (-1)."""
    codes = nibabel.io_orientation(affine)
    order = [int(np.flatnonzero(codes[:, 0] == canonical)[0]) for canonical in range(3)]
    return order, [float(codes[stored, 1]) for stored in order]


def _display(values: np.ndarray, axis: int, order: list[int], signs: list[float]) -> np.ndarray:
    """[first, second stored axis] to [rows, columns] with high x / y to the left and high y / z at the top."""
    columns, rows = (canonical for canonical in range(3) if canonical != axis)
    if order[columns] < order[rows]:
        values = values.T
    return values[:: -1 if signs[rows] > 0 else 1, :: -1 if signs[columns] > 0 else 1]


def _to_grey_or_colour(values: np.ndarray, header: nibabel.Nifti1Header) -> tuple[GreyFrame | None, np.ndarray | None]:
    if values.dtype.names:
        return None, np.stack([values[channel] for channel in ("R", "G", "B")], axis=-1)
    if np.iscomplexobj(values):
        values = np.abs(values)
    low, high = float(header["cal_min"]), float(header["cal_max"])
    usable = math.isfinite(low) and math.isfinite(high) and high > low
    window = Window((low + high) / 2, high - low) if usable else None
    return GreyFrame(values, header_window=window, hounsfield=None), None


def _placement(
    header: nibabel.Nifti1Header,
    affine: np.ndarray,
    shape: tuple[int, ...],
    order: list[int],
    signs: list[float],
    axis: int,
    chosen: int,
) -> Placement | None:
    """Where the pixels of the displayed slice lie, see ``_display``: NIfTI counts to the right and the front, DICOM to
    the left and the back."""
    scale = _MILLIMETRES.get(header.get_xyzt_units()[0])
    if scale is None:
        return None
    rows, columns = (other for other in (2, 1, 0) if other != axis)

    def point(row: int, column: int, slice_: int) -> np.ndarray:
        place = {axis: slice_, rows: shape[order[rows]] - 1 - row, columns: shape[order[columns]] - 1 - column}
        voxel = np.zeros(3)
        for canonical, stored in enumerate(order):
            voxel[stored] = place[canonical] if signs[canonical] > 0 else shape[stored] - 1 - place[canonical]
        return (affine @ [*voxel, 1])[:3] * [-scale, -scale, scale]

    origin = point(0, 0, chosen)
    across, down, through = (point(*step) - origin for step in ((0, 1, chosen), (1, 0, chosen), (0, 0, chosen + 1)))
    stated = header["sform_code"] > 0 or header["qform_code"] > 0
    thickness = float(np.linalg.norm(through))
    return Placement(tuple(origin), tuple(across), tuple(down), thickness, None if stated else UNSTATED)


def _spacing(
    header: nibabel.Nifti1Header, affine: np.ndarray, order: list[int], rows: int, columns: int
) -> tuple[float, float] | None:
    """From the same matrix as the orientation, in millimetres."""
    sizes = nibabel.affines.voxel_sizes(affine)
    try:
        scale = _MILLIMETRES[header.get_xyzt_units()[0]]
    except KeyError:
        return None
    return float(sizes[order[rows]] * scale), float(sizes[order[columns]] * scale)
