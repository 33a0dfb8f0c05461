"""What is shown of an inspection as DICOM files: pictures, maps and regions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite

from a3tune.inspection.dicom_captures import captures
from a3tune.inspection.dicom_maps import (
    map_segments,
    mask_segment,
    parametric_maps,
    reference_segment,
    region_segments,
    segmentation,
)
from a3tune.inspection.dicom_study import DicomStudy
from a3tune.inspection.inspect import Inspection
from a3tune.inspection.report import MapStyle, Side
from a3tune.inspection.views import answer_rows
from a3tune.types import WeakLabels
from a3tune.wording import counted


def dicom_objects(
    kind: str,
    sides: Sequence[Side],
    study: DicomStudy,
    style: MapStyle | None = None,
    labels: WeakLabels | None = None,
    target: np.ndarray | None = None,
    level: float | None = None,
    reference: np.ndarray | None = None,
) -> dict[str, Dataset]:
    """DICOM objects by the names of their files.

    Args:
        kind: "pictures" (secondary captures in colour), "maps" (Parametric Maps) or "regions" (a Segmentation of the
            regions, or, without any, of where the maps are high).
        sides: maps of the same image; of pictures one or two.
        study: where they belong, and of whom they are.
        style: how the maps are drawn.
        labels: the regions that are chosen.
        target: bool [height, width], source pixel frame: where the model should have looked.
        level: see :func:`a3tune.inspection.dicom_maps.map_segments`.
        reference: bool [height, width], source pixel frame: where the answer lies, outlined in pictures, a segment of
            its own beside the regions.

    Raises:
        RequestError: the object cannot be made of this image.
    """
    style = style or MapStyle()
    if kind == "pictures":
        return captures(sides, style, study, reference)
    if kind == "maps":
        return parametric_maps(sides, style, study)
    segments = [] if labels is None else region_segments(labels)
    segments += [] if target is None else [mask_segment(target, "target")]
    segments = segments or map_segments(sides, style, level)
    segments += [] if reference is None else [reference_segment(reference)]
    inspection = sides[0].inspection
    return {"regions": segmentation(segments, inspection.image, inspection.question, study)}


def write_dicom(
    inspection: Inspection,
    folder: Path,
    kinds: Sequence[str],
    study: DicomStudy,
    target: np.ndarray | None = None,
) -> list[Path]:
    """Write an inspection as DICOM files: of the first two adapters together, and of each other one.

    Args:
        inspection: what is written: each adapter's map of its answer by its critical heads.
        folder: an existing folder; files of the same names are replaced.
        kinds: as there.
        study: where the objects belong.
        target: as in :func:`dicom_objects`; left out where the inspection has regions, which it was made of.

    Returns:
        what was written.

    Raises:
        RequestError: as :func:`dicom_objects`; nothing was written.
        OSError: the folder cannot be written.
    """
    sides = [_side(inspection, number) for number in range(len(inspection.views))]
    target = None if inspection.labels is not None else target
    made: dict[str, Dataset] = {}
    for kind in kinds:
        # Two are compared, on one scale; each further one has a scale of its own.
        groups = [sides[:2], *([side] for side in sides[2:])] if kind == "pictures" else [sides]
        for group in groups:
            made = {**dicom_objects(kind, group, study, labels=inspection.labels, target=target), **made}
    written = []
    for name, one in made.items():
        written.append(folder / f"{name}.dcm")
        written[-1].write_bytes(dicom_bytes(one))
    return written


def dicom_bytes(made: Dataset) -> bytes:
    """An object as a file."""
    buffer = io.BytesIO()
    dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def _side(inspection: Inspection, number: int) -> Side:
    view = inspection.views[number]
    heads = counted(len(view.critical_heads), "critical head")
    rows = tuple(int(row) for row in answer_rows(view.tokens, view.maps))
    return Side(inspection, view, view.critical_heads, rows, heads, "mean of the answer")
