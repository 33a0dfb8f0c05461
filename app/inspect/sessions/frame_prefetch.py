"""Frames near the one on show, decoded before anybody asks for them."""

from __future__ import annotations

from collections.abc import Iterable

from a3tune.types import MedicalImage
from app.inspect.sessions.opened_image import OpenedImage, unpack_content

MOST_BYTES = 64 << 20
"""How many bytes of pixels a visit keeps ahead."""
MOST_AT_ONCE = 8
"""How many frames are decoded in one go."""


class FramesAhead:
    """Frames of one stack by their numbers; those furthest from the one on show are given up first.

    Args:
        most: how many bytes of pixels they may hold together.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._stack = ""
        self._frames: dict[int, MedicalImage] = {}
        self._source: tuple[str, bytes] = "", b""

    def source(self, opened: OpenedImage) -> bytes:
        """The bytes to read from: the file's, of a packed volume what is in it, which is kept until another one comes.

        Raises:
            ImageError: it cannot be unpacked.
        """
        name, content = self._source
        if name != opened.file:
            content = unpack_content(opened.content or b"")
            self._source = opened.file, content
        return content

    def get(self, stack: str, frame: int | None) -> MedicalImage | None:
        """The frame, where it is there and of this stack."""
        return self._frames.get(frame) if stack == self._stack and frame is not None else None

    def put(self, stack: str, images: Iterable[MedicalImage], near: int) -> None:
        """Keep frames of a stack; another stack's are forgotten.

        Args:
            stack: its name.
            images: the frames.
            near: the frame on show.
        """
        if stack != self._stack:
            self._stack, self._frames = stack, {}
            if not stack.startswith(self._source[0]):
                self._source = "", b""
        self._frames |= {image.frame: image for image in images}
        while len(self._frames) > 1 and sum(map(_bytes, self._frames.values())) > self._most:
            del self._frames[max(self._frames, key=lambda frame: abs(frame - near))]


def _bytes(image: MedicalImage) -> int:
    return image.pixels.nbytes + (0 if image.model_pixels is None else image.model_pixels.nbytes)
