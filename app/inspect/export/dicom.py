"""What is on show as DICOM files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from pydicom import Dataset

from a3tune.inspection.dicom_study import DicomStudy
from app.engine import library
from app.inspect.export.current_view import Shown
from app.inspect.sessions.opened_image import read_origin


def dicom_objects(shown: Shown, objects: str, *, identity: bool) -> dict[str, Dataset]:
    """DICOM objects by the names of their files.

    Args:
        shown: what is on show.
        objects: one of `DICOM_OBJECTS`, see :func:`a3tune.inspection.dicom_export.dicom_objects`.
        identity: whether they are of the patient and study of the opened file, and refer to its image; else they are of
            nobody.

    Raises:
        ImageError, RequestError: the image cannot be written so.
    """
    study = DicomStudy(read_origin(shown.opened, identity=identity))
    # What the page hides below a share of the scale is not where the map is high.
    hidden = shown.settings["look"].get("threshold")
    level = float(hidden) if isinstance(hidden, (int, float)) and 0 < hidden < 1 else None
    return library.dicom_objects(
        objects, shown.sides, study, shown.style, shown.labels, level=level, reference=shown.reference
    )


def as_file(name: str, objects: str, made: Mapping[str, Dataset]) -> tuple[str, str, bytes]:
    """One object as a DICOM file, several as a ZIP archive of them: its name, its media type, its bytes.

    Args:
        name: how the name begins.
        objects: what they are, for the archive's name.
        made: objects by the names of their files.
    """
    files = {part: library.dicom_bytes(one) for part, one in made.items()}
    if len(files) == 1:
        ((part, content),) = files.items()
        return f"{name}-{part}.dcm", "application/dicom", content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in files.items():
            archive.writestr(f"{part}.dcm", content)
    return f"{name}-{objects}.zip", "application/zip", buffer.getvalue()
