"""An image that a visit has open, and what can still be read from its file."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from a3tune.bundle import ASSETS, EXAMPLES
from a3tune.encoding import mask_of_text
from a3tune.errors import RequestError
from a3tune.images import ImageDescription, load_image, open_image
from a3tune.images.dicom_source import SourceImage, read_source
from a3tune.images.isolation import trusted_files
from a3tune.images.load import load_frames
from a3tune.images.slices import Series
from a3tune.images.values import PixelValues, from_pixels, read_values, unpack_volume
from a3tune.types import MedicalImage, Window
from app.engine.ids import RegionSessionId

MOST_UNPACKED = 256 << 20
"""How many bytes a packed volume may hold that a visit keeps unpacked while it walks through its slices."""
_GZIP = b"\x1f\x8b"


class Reference(NamedTuple):
    """The answer to a question and where it lies, by the example or the data that the image is of.

    Attributes:
        question: the question.
        mask: bool [height, width], in source pixels; None where it is not known.
        answer: the right answer; "" where it is not known.
        frame, axis, volume: of which picture of the file.
    """

    question: str
    mask: np.ndarray | None = None
    answer: str = ""
    frame: int = 0
    axis: int = 2
    volume: int = 0


class OpenedImage(NamedTuple):
    """An image on show.

    Attributes:
        image: its pixels.
        choices: what can be chosen about it.
        content: the file's bytes, when another window or slice can be read from it.
        regions: where its regions are found.
        key, source: of an example, its name and its file.
        axis, volume: of a volume, what was chosen (see :func:`a3tune.images.load_image`).
        window: what was chosen; None for the file's own.
        convention: that of the model that it was read for, followed or not.
        series: the series of a folder or archive that can be chosen from; none for a single file.
        file: names the file, or the series of it, for as long as it is open.
        reference: the answer to a question about it, and where that lies, where one of these is known.
        sent: the number of its files, by which the page that sent them knows their names; 0 where none did.
    """

    image: MedicalImage
    choices: ImageDescription
    content: bytes | None = None
    regions: RegionSessionId = RegionSessionId("")
    key: str = ""
    source: str = ""
    axis: int = 2
    volume: int = 0
    window: str | Window | None = None
    convention: str | None = None
    series: tuple[Series, ...] = ()
    file: str = ""
    reference: Reference | None = None
    sent: int = 0

    def is_examples_own(self, question: str) -> bool:
        """Whether it is an example, and this the question that comes with it."""
        return bool(self.key) and example_questions().get(self.key) == question

    def reference_mask(self, question: str) -> np.ndarray | None:
        """bool [height, width], source pixels: where the answer to this question lies in the picture; None where that
        is not known."""
        mask = self._known(question).mask
        return mask if mask is not None and mask.shape == (self.image.height, self.image.width) else None

    def reference_answer(self, question: str) -> str:
        """The right answer to this question about the picture; "" where that is not known."""
        return self._known(question).answer

    def _known(self, question: str) -> Reference:
        known = self.reference
        shown = self.image.frame, self.axis, self.volume
        here = known is not None and known.question == question and shown == (known.frame, known.axis, known.volume)
        return known if known is not None and here else Reference(question)

    @property
    def has_source(self) -> bool:
        """Whether its file can say of which patient, study and image it is."""
        return self.content is not None and self.image.format == "DICOM"

    @property
    def place(self) -> str:
        """Names the pixels' grid but for the frame: what is measured on it stays as long as this does."""
        return f"{self.file} {self.axis} {self.volume}"

    @property
    def stack(self) -> str:
        """Names what is shown but for the frame."""
        return f"{self.place} {self.window} {self.convention}"


def open_example(path: Path, key: str, convention: str | None = None) -> OpenedImage:
    """An example as it is shown first, read for a model with this convention; no session has it open yet.

    Raises:
        ImageError: the file is not an image that can be shown.
    """
    with trusted_files():
        opened = open_content(path.read_bytes(), convention)
    return opened._replace(key=key, source=_example_path(path), reference=_example_reference(key, opened.image))


class ExampleReference(NamedTuple):
    """The right answer to an example's first question, and the mask of what that is about, as runs of pixels (see
    :func:`a3tune.encoding.mask_text`); "" where there is none."""

    question: str
    answer: str
    mask: str


@functools.cache
def example_references() -> dict[str, ExampleReference]:
    """Those of the examples that have one, by their keys."""
    entries = json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))
    return {
        one["key"]: ExampleReference(one["questions"][0], one["reference"], one.get("mask", ""))
        for one in entries
        if "reference" in one
    }


@functools.cache
def example_questions() -> dict[str, str]:
    """The question that comes with each example, by their keys."""
    entries = json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))
    return {one["key"]: one["questions"][0] for one in entries}


def _example_reference(key: str, image: MedicalImage) -> Reference | None:
    known = example_references().get(key)
    if known is None:
        return None
    mask = mask_of_text(known.mask, image.height, image.width) if known.mask else None
    return Reference(known.question, mask, known.answer, image.frame)


def _example_path(path: Path) -> str:
    return (EXAMPLES.relative_to(ASSETS.parent) / path.name).as_posix()


def open_content(
    content: bytes,
    convention: str | None,
    series: tuple[Series, ...] | None = None,
    number: int = 1,
    *,
    keeps_source: bool = True,
) -> OpenedImage:
    """An image as it is shown first: of several series the one of this number. ``series`` spares looking for them.
    ``keeps_source`` keeps a DICOM file of which nothing else can be asked for than whose it is."""
    with _file(content) as path:
        series, choices, image = open_image(path, series=series, number=number, convention=convention)
    again = (
        choices.windowable
        or image.frame_count > 1
        or choices.volumes > 1
        or choices.series is not None
        # The values of its stored pixels can be asked for.
        or image.is_resampled
        or (keeps_source and image.format == "DICOM")
    )
    kept, name = content if again else None, secrets.token_urlsafe(6)
    return OpenedImage(image, choices, kept, convention=convention, series=series, file=name)


def read_again(opened: OpenedImage, convention: str | None, **choice: Any) -> MedicalImage:
    """The file of an opened image with other choices (see :func:`a3tune.images.load_image`).

    Raises:
        ImageError, RequestError: they do not fit the file.
    """
    with _file(opened.content or b"") as path:
        return load_image(path, series=opened.choices.series, convention=convention, **choice)


def read_frames(opened: OpenedImage, content: bytes, frames: Sequence[int]) -> tuple[MedicalImage, ...]:
    """Other frames of an opened image from its file or what was packed in it, as it is shown.

    Raises:
        ImageError, RequestError: there are no such frames, or the file cannot be read, or only by unpacking all of it.
    """
    if content.startswith(_GZIP):
        raise RequestError(
            expected=f"a volume that takes at most {MOST_UNPACKED >> 20} MiB unpacked",
            got="This one takes more: its slices are read one by one",
            remedy="Save it without compression",
        )
    choice = {key: getattr(opened, key) for key in ("window", "axis", "volume", "convention")}
    with _file(content) as path:
        return load_frames(path, frames, series=opened.choices.series, **choice)


def read_pixel_values(opened: OpenedImage, content: bytes) -> PixelValues:
    """The values of an opened image; its own pixels where those are all that its file holds."""
    if opened.content is None:
        return from_pixels(opened.image.pixels)
    choice = {key: getattr(opened, key) for key in ("axis", "volume")}
    with _file(content) as path:
        return read_values(path, frame=opened.image.frame, series=opened.choices.series, **choice)


def read_origin(opened: OpenedImage, *, identity: bool) -> SourceImage:
    """Where an opened image lies in the patient, and with ``identity`` of which patient, study and image it is.

    Raises:
        ImageError, RequestError: as :func:`a3tune.images.dicom_source.read_source`.
    """
    if not opened.content:
        if identity:
            raise RequestError(
                expected="a DICOM file of your own on show",
                got="The image on show is none",
                remedy="Leave patient and study out",
            )
        return SourceImage(None)
    choice = {key: getattr(opened, key) for key in ("axis", "volume")}
    with _file(opened.content) as path:
        return read_source(path, frame=opened.image.frame, series=opened.choices.series, identity=identity, **choice)


def unpack_content(content: bytes) -> bytes:
    """A file, unpacked where it is a packed volume that is not too large for that."""
    if not content.startswith(_GZIP):
        return content
    with _file(content) as path:
        return unpack_volume(path, MOST_UNPACKED) or content


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[Path]:
    # The readers need a path; the folder is readable by this user only and gone before the image is shown. The
    # file's own name, which may be a patient's, is not used.
    with tempfile.TemporaryDirectory(prefix="a3tune-") as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        yield path
