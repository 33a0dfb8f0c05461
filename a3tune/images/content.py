"""What a reader hands on from one file, and the errors that every reader shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from a3tune.errors import A3TuneError, ImageError, ImageMemoryError, RequestError
from a3tune.images.grey import GreyFrame
from a3tune.images.placement import Placement
from a3tune.types import Edges

if TYPE_CHECKING:
    from a3tune.images.slices import Series

SUPPORTED = "PNG, JPEG, TIFF, WebP, BMP, GIF, DICOM or NIfTI"

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Content:
    """One frame of a file, decoded, with the few facts that may be kept.

    Attributes:
        format: "PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "DICOM" or "NIfTI".
        frame, frame_count: which frame (or slice along the chosen axis) this is, from 0, and how many there are.
        grey: grey values still to be windowed, or None for a picture in colour or of 8 bits.
        rgb: uint8 [height, width, 3], or None when ``grey`` is set.
        alpha: float32 [height, width], opacity from 0 to 1 that is still to be laid on black, or None.
        modality: DICOM modality code, or None.
        spacing: (row, column) distance between pixel centres in millimetres, or None.
        aspect: height of a pixel over its width where the file tells it without millimetres, or None.
        axes: number of slices along the sagittal, coronal and axial axis, or None for anything but a volume.
        volumes: how many volumes (time points, channels) a NIfTI file holds.
        notes: what a reader should know about how the picture was made, in sentences.
        series: the series that the slice was taken from, or None for a single file.
        placement: where the stored pixels lie in the patient, or None.
        edges, spacing_plane, frame_time: as in MedicalImage.
    """

    format: str
    frame: int
    frame_count: int
    grey: GreyFrame | None = None
    rgb: np.ndarray | None = None
    alpha: np.ndarray | None = None
    modality: str | None = None
    spacing: tuple[float, float] | None = None
    aspect: float | None = None
    axes: tuple[int, int, int] | None = None
    volumes: int = 1
    notes: tuple[str, ...] = ()
    series: Series | None = None
    placement: Placement | None = None
    edges: Edges | None = None
    spacing_plane: str = ""
    frame_time: float | None = None

    @property
    def samples(self) -> np.ndarray:
        """The picture as stored: uint8 [height, width, 3], or grey values [height, width]."""
        if self.grey is not None:
            return self.grey.stored
        if self.rgb is None:
            raise ValueError("a picture has grey values or colours")
        return self.rgb

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) as stored."""
        height, width = self.samples.shape[:2]
        return height, width

    @property
    def pixel_aspect(self) -> float:
        """Height of a pixel over its width; 1 where the file does not tell."""
        return self.aspect or 1.0 if self.spacing is None else self.spacing[0] / self.spacing[1]


def choose_frame(frame: int | None, count: int, default: int = 0, what: str = "frame") -> int:
    """The frame that was asked for, or ``default``.

    Raises:
        ImageError: the file holds no frame at all.
        RequestError: ``frame`` is not a whole number from 0 to ``count`` - 1.
    """
    if count < 1:
        raise ImageError(
            got=f"The file says it holds no {what} at all",
            expected=f"at least one {what}",
            remedy="Export the picture again from the program that made it",
        )
    if frame is None:
        return default
    if isinstance(frame, bool) or not isinstance(frame, int | np.integer) or not 0 <= frame < count:
        raise RequestError(
            got=f"There is no {what} {frame!r} in this file",
            expected=f"a whole number from 0 to {count - 1}" if count > 1 else f"{what} 0, the only one",
            remedy=f"Choose one of these {what}s",
        )
    return int(frame)


def pixel_aspect(across: float, down: float) -> float | None:
    """Height of a pixel over its width from two resolutions (pixels per length), where they can be meant.

    Writers leave 0, or unrelated numbers, where they know nothing: beyond 8 to 1 nothing is believed.
    """
    if not (math.isfinite(across) and math.isfinite(down) and across > 0 and down > 0):
        return None
    return across / down if 1 / 8 <= across / down <= 8 else None


def cut_off(name: str) -> ImageError:
    """The error for a file that ends too early; ``name`` is the format's name."""
    return ImageError(
        got=f"The {name} file is cut off: it ends before its picture data does",
        expected=f"a complete {name} file",
        remedy="Copy or download it again from where it came from",
    )


def damaged(name: str) -> ImageError:
    """The error for a file of a known format that cannot be decoded; ``name`` is the format's name."""
    return ImageError(
        got=f"The {name} file is damaged: its contents cannot be decoded",
        expected=f"a complete, unaltered {name} file",
        remedy="Copy it again from where it came from, or open it in the program that made it and export it as PNG",
    )


def unsupported(what: str, remedy: str) -> ImageError:
    """The error for a sound file that holds no picture this program can show."""
    return ImageError(got=what, expected=f"a picture as {SUPPORTED}", remedy=remedy)


def decode(name: str, work: Callable[[], Result], ends_early: Callable[[], bool] = lambda: False) -> Result:
    """Run ``work`` and turn whatever a decoder throws at damaged bytes into one ImageError.

    Decoders answer altered bytes with errors of any type, and their messages may quote header values, patient
    names among them. So every ``Exception`` is caught here, nothing of it is passed on, and the new error is raised
    after the handler has ended, so that not even ``__context__`` leads back to it.

    Args:
        name: the format's name for the error.
        work: reads the file.
        ends_early: asked after a failure: whether the file lacks its end, rather than being altered.

    Raises:
        A3TuneError: raised by ``work`` on purpose, passed on as it is.
        ImageError: anything else went wrong.
    """
    try:
        return work()
    except A3TuneError as error:
        chosen = error
    except MemoryError:
        chosen = ImageMemoryError(
            got=f"There is not enough memory to decode the {name} file",
            expected="a picture that fits into this machine's memory",
            remedy="Scale the picture down, or close other programs",
        )
    except EOFError:
        chosen = cut_off(name)
    except Exception:
        chosen = None
    if chosen is None:
        chosen = cut_off(name) if ends_early() else damaged(name)
    chosen.__context__ = None
    raise chosen
