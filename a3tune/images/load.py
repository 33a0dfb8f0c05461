"""A file or an array to a MedicalImage, and what there is to choose in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from a3tune.errors import ImageError, RequestError
from a3tune.images.content import Content
from a3tune.images.conventions import check_convention, misfit, model_picture, told
from a3tune.images.frames import resample, square_size
from a3tune.images.grey import not_hounsfield, resolve_window, show
from a3tune.images.isolation import isolable
from a3tune.images.limits import check_size
from a3tune.images.read import read_content, read_contents
from a3tune.images.series import find_series
from a3tune.images.slices import Series
from a3tune.types import MedicalImage, Window


@dataclass(frozen=True)
class ImageDescription:
    """What a file offers to choose from; no other fact of it is held.

    Attributes:
        format: "PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "DICOM" or "NIfTI".
        modality: DICOM modality code, or None.
        height, width: size of the default frame in stored pixels.
        frame_count: frames, pages or (along the chosen axis) slices.
        default_frame: the frame that is shown when none is named.
        axes: numbers of sagittal, coronal and axial slices of a volume, or None.
        volumes: how many volumes a NIfTI file holds (time points, channels).
        windowable: whether a window can be chosen.
        header_window: the window the file suggests, or None.
        own_window: whether the file itself says how it is to be shown, by a window or a lookup table.
        hounsfield: whether the window presets apply; None when only the values of a slice can tell (NIfTI), where
            those of the default slice reach down to air.
        series: the series of a folder or archive, to be given to ``load_image``; None for a single file.
        notes: what a reader should know about how the default frame is made, in sentences.
    """

    format: str
    modality: str | None
    height: int
    width: int
    frame_count: int
    default_frame: int
    axes: tuple[int, int, int] | None
    volumes: int
    windowable: bool
    header_window: Window | None
    hounsfield: bool | None
    own_window: bool = False
    series: Series | None = None
    notes: tuple[str, ...] = ()


@isolable
def load_image(
    path: str | os.PathLike[str],
    *,
    window: Window | tuple[float, float] | str | None = None,
    frame: int | None = None,
    axis: int = 2,
    volume: int = 0,
    series: int | Series | None = None,
    square: bool = True,
    convention: str | None = None,
    insist: bool = False,
) -> MedicalImage:
    """Read one picture from a PNG, JPEG, TIFF, WebP, BMP, GIF, DICOM or NIfTI file, or one slice of a DICOM series from
    a folder, a ZIP archive or the medium of a DICOMDIR (slices are in the order of their places).

    The kind is told from the contents, never from the name. Of a header only modality, spacing, window,
    orientation and frame times are kept.
    Nothing stays open; several threads may read at the same time (they take turns, unless
    :mod:`a3tune.images.isolation` has files decoded elsewhere).

    Values of more than 8 bits, DICOM and NIfTI are shown with, in this order: the window asked for, the window
    that the file names (several: the first), its VOI table, all values of a DICOM picture of 8 bits or fewer, or
    the percentiles 0.5 to 99.5 of the frame (of large frames an even selection; DICOM padding left out). A constant
    frame without a window is black, and so is padding under any window. ``notes`` say what is no picture of a body (a
    dose, a segmentation, a parametric map), and where a window of width 1 or less is not read by the letter of its
    function: LINEAR is made for whole numbers, and would show fractions in black and white only.

    Where the file tells that its pixels are not square (pixel spacing, pixel aspect ratio, voxel sizes of the plane,
    unequal resolutions of a TIFF, PNG or BMP file), the shown picture is resampled to square ones: the direction with
    the larger pixels gets more of them, by linear interpolation. ``stored_size`` names the grid of the file.

    Args:
        path: the file, folder or archive.
        window: a name in ``WINDOW_PRESETS``, a Window in the file's units, or None.
        frame: frame, page or slice from 0. None: the first; of a volume the middle slice.
        axis: of a volume: 0 sagittal, 1 coronal, 2 axial slices, patient's right on the left of the picture;
            other files have no axis and ignore it.
        volume: of a NIfTI file with a time or channel axis: which volume from 0; other files ignore it.
        series: of several series in a folder or archive: which, from 1, as the error lists them, or the one that
            ``describe_image`` found there, which spares looking for it again.
        square: False leaves the pixels as stored.
        convention: a name in :data:`a3tune.images.conventions.CONVENTIONS`: what the model was trained to see of
            computed tomography becomes ``model_pixels`` where the values are known to be Hounsfield units; where they
            are not the model gets the usual picture, and a note says why. A NIfTI file cannot say what its values
            are: there a window preset says so, or ``insist``.
        insist: refuse a picture for which the convention cannot be followed.

    Raises:
        ImageError: the file is missing, empty, cut off, damaged, encrypted, too large (64 megapixels, 2 GiB) or of a
            kind that cannot be shown.
        RequestError: no such frame, axis or volume; an unknown preset; a window for a picture that has none; a
            preset for values that are not Hounsfield units; an unknown convention, or one that is insisted on and does
            not fit.
    """
    chosen = resolve_window(window)
    if convention is not None:
        check_convention(convention)
    content = read_content(path, frame, axis, volume, series)
    stated = insist or isinstance(window, str)
    return _show(content, chosen, convention, square=square, stated=stated, insist=insist)


@isolable
def load_frames(
    path: str | os.PathLike[str],
    frames: Sequence[int],
    *,
    window: Window | tuple[float, float] | str | None = None,
    axis: int = 2,
    volume: int = 0,
    series: int | Series | None = None,
    convention: str | None = None,
) -> tuple[MedicalImage, ...]:
    """Several frames of a file as ``load_image`` gives each, the file opened once.

    Args, Raises: as ``load_image``.
    """
    chosen = resolve_window(window)
    if convention is not None:
        check_convention(convention)
    stated = isinstance(window, str)
    return tuple(
        _show(content, chosen, convention, square=True, stated=stated, insist=False)
        for content in read_contents(path, frames, axis, volume, series)
    )


def _show(
    content: Content, window: Window | str | None, convention: str | None, *, square: bool, stated: bool, insist: bool
) -> MedicalImage:
    notes: tuple[str, ...] = ()
    if content.grey is None:
        if window is not None:
            raise RequestError(
                got="This picture has 8-bit or colour values, there is nothing to window",
                expected="grey values of more than 8 bits, DICOM grey values or a NIfTI volume for a window",
                remedy="Leave the window out",
            )
        pixels, notes = content.samples, ()
    else:
        pixels, window, notes = show(content.grey, window)
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    if content.alpha is not None:
        pixels = np.rint(pixels * content.alpha[:, :, None]).astype(np.uint8)
    stored_size = (pixels.shape[0], pixels.shape[1])
    size = square_size(*stored_size, aspect=content.pixel_aspect) if square else stored_size
    pixels = resample(pixels, size)
    model_pixels, remarks = _by_convention(content, convention, stated=stated, insist=insist)
    notes = (*content.notes, *notes, *remarks)
    if pixels.shape[:2] != stored_size:
        notes = (*notes, _resampled(stored_size, pixels.shape[:2]))
    return MedicalImage(
        pixels,
        format=content.format,
        modality=content.modality,
        spacing=content.spacing,
        window=window,
        frame=content.frame,
        frame_count=content.frame_count,
        stored_size=stored_size,
        notes=notes,
        model_pixels=None if model_pixels is None else resample(model_pixels, size),
        convention=None if model_pixels is None else convention,
        edges=content.edges,
        spacing_plane=content.spacing_plane,
        frame_time=content.frame_time,
    )


def _by_convention(
    content: Content, convention: str | None, *, stated: bool, insist: bool
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """What the model is given by a convention, uint8 [stored height, stored width, 3] or None, and notes on it."""
    if convention is None:
        return None, ()
    why = misfit(content.grey, stated=stated)
    if why is None and content.grey is not None:
        return model_picture(content.grey, convention), (told(convention),)
    if insist:
        raise RequestError(
            got=f"The convention {convention} does not fit this picture: {why}",
            expected="a computed tomography picture in Hounsfield units for this convention",
            remedy="Leave the convention out, or open the DICOM file or NIfTI volume that the picture was made from",
        )
    if content.modality not in (None, "CT"):
        # A convention for computed tomography is not missed in a radiograph.
        return None, ()
    return None, (
        "The model is given this picture as it is shown. Of computed tomography it expects Hounsfield units as "
        f"colours ({convention}), which cannot be made here: {why}",
    )


def _resampled(stored: tuple[int, int], shown: tuple[int, int]) -> str:
    return (
        f"The file's pixels are not square: {stored[1]} x {stored[0]} stored ones are shown as {shown[1]} x {shown[0]} "
        "square ones, on the page and to the model; files that are written give places in stored pixels"
    )


@isolable
def describe_image(
    path: str | os.PathLike[str], *, axis: int = 2, series: int | Series | None = None
) -> ImageDescription:
    """Tell what can be chosen in a file; decodes its default frame, so a file that can be described can be shown.

    Raises:
        ImageError, RequestError: as ``load_image``.
    """
    return _describe(read_content(path, None, axis, 0, series))


@isolable
def open_image(
    path: str | os.PathLike[str],
    *,
    series: tuple[Series, ...] | None = None,
    number: int = 1,
    convention: str | None = None,
) -> tuple[tuple[Series, ...], ImageDescription, MedicalImage]:
    """A file as it is shown first: what ``find_series``, ``describe_image`` and ``load_image`` give, read once.

    Args:
        path: the file, folder or archive.
        series: what ``find_series`` found in it before, which spares looking again.
        number: which of several series to open, from 1.
        convention: as ``load_image``.

    Raises:
        ImageError, RequestError: as ``load_image``.
    """
    if convention is not None:
        check_convention(convention)
    series = find_series(path) if series is None else series
    content = read_content(path, None, 2, 0, series[number - 1] if series else None)
    image = _show(content, None, convention, square=True, stated=False, insist=False)
    return series, _describe(content), image


def _describe(content: Content) -> ImageDescription:
    grey = content.grey
    notes = content.notes if grey is None else (*content.notes, *show(grey, None)[2])
    height, width = content.stored_size
    return ImageDescription(
        format=content.format,
        modality=content.modality,
        height=height,
        width=width,
        frame_count=content.frame_count,
        default_frame=content.frame,
        axes=content.axes,
        volumes=content.volumes,
        windowable=grey is not None,
        header_window=None if grey is None else grey.header_window,
        hounsfield=False if grey is None or not_hounsfield(grey, stated=True) else grey.hounsfield,
        own_window=grey is not None and (grey.header_window is not None or grey.table is not None),
        series=content.series,
        notes=notes,
    )


def image_from_array(
    array: np.ndarray, *, modality: str | None = None, spacing: tuple[float, float] | None = None
) -> MedicalImage:
    """Make an image from 8-bit pixels that are already in memory.

    Args:
        array: uint8 [height, width] grey, [height, width, 1] grey, [height, width, 3] RGB, or [height, width, 4]
            RGBA, laid on black. Copied.
        modality, spacing: as in MedicalImage.

    Raises:
        ImageError: another type or shape, an empty array or one above 64 megapixels.
    """
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            got=f"The array is {array.dtype.name} with shape {array.shape}",
            expected="uint8 with shape [height, width], [height, width, 3] or [height, width, 4]",
            remedy="Scale the values to 0..255 and convert them to uint8",
        )
    check_size(*array.shape[:2])
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 4:
        alpha = array[:, :, 3:].astype(np.uint16)
        array = ((array[:, :, :3] * alpha + 127) // 255).astype(np.uint8)
    pixels = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array.copy()
    return MedicalImage(pixels, modality=modality, spacing=spacing)
