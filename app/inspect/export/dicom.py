"""What is on show as DICOM files."""

from __future__ import annotations

import io
import zipfile

from a3tune.inspection.dicom_study import DicomStudy
from app.engine import library
from app.inspect.export.shown import Shown
from app.inspect.sessions.opened_image import read_origin

DICOM_OBJECTS = ("pictures", "maps", "regions")


def dicom_files(shown: Shown, objects: str, *, identity: bool) -> dict[str, bytes]:
    """DICOM files by name.

    Args:
        shown: what is on show.
        objects: one of :data:`DICOM_OBJECTS`, see :func:`a3tune.inspection.dicom_export.dicom_objects`.
        identity: whether they are of the patient and study of the opened file, and refer to its image; else they are of
            nobody.

    Raises:
        ImageError, RequestError: the image cannot be written so.
    """
    study = DicomStudy(read_origin(shown.opened, identity=identity))
    # What the page hides below a share of the scale is not where the map is high.
    hidden = shown.settings["look"].get("threshold")
    level = float(hidden) if isinstance(hidden, (int, float)) and 0 < hidden < 1 else None
    made = library.dicom_objects(objects, shown.sides, study, shown.style, shown.labels, level=level)
    return {name: library.dicom_bytes(one) for name, one in made.items()}


def packed(files: dict[str, bytes]) -> bytes:
    """Files as a ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.dcm", content)
    return buffer.getvalue()
