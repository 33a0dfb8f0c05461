"""Results as words: what the page says about images, errors, steps and the model."""

from __future__ import annotations

import errno
import html
import logging
import re
import secrets
import traceback
from collections.abc import Iterable
from typing import NamedTuple

from a3tune.errors import A3TuneError, Cancelled, is_lack_of_memory
from a3tune.types import MedicalImage
from a3tune.wording import RESEARCH_NOTICE
from app.engine.background import Step
from app.engine.model_slot import ModelStatus

log = logging.getLogger("a3tune.app")

_PATH = re.compile(r"(?<![\w:/.~-])/(?:[^\s/'\"<>|:*?]+/)+([^\s/'\"<>|:*?]*)")
_DISK_FULL = ("No space left on device", "Disk quota exceeded")

DEMO_NOTICE = "The demo model knows synthetic phantoms only: its words about real images mean nothing."


class ImageWords(NamedTuple):
    """What the page says about an image, in short lines; nothing that names a patient is known here.

    Attributes:
        what: modality and format, and which of several frames it is.
        window: the window that the picture was made with; "" without one.
        size: its pixels, and what is to be known of them.
    """

    what: str
    window: str
    size: str


def describe(image: MedicalImage) -> ImageWords:
    """An image in words; what changes while one looks comes first, since a narrow page cuts off the end."""
    what = [" · ".join(part for part in (image.modality, image.format) if part)]
    if image.frame_count > 1:
        what.append(f"{image.frame + 1} of {image.frame_count}")
    window = "" if image.window is None else f"C {image.window.centre:g}  W {image.window.width:g}"
    size = [f"{image.width} × {image.height} px"]
    if image.is_resampled:
        size.append(f"made square from {image.stored_size[1]} × {image.stored_size[0]}")
    # The last note of a resampled image says at length what the line above does.
    size += image.notes[:-1] if image.is_resampled else image.notes
    return ImageWords("\n".join(what), window, "\n".join(size))


def explain(error: BaseException) -> str:
    """The error in words for the page.

    An error that the library foresaw is told as it is, and so is what the machine lacks. For any other the reader gets
    a number, under which the log holds the type and the place; its message is not logged, since it may quote the file.
    """
    if isinstance(error, A3TuneError):
        return without_folders(str(error))
    if lack := _lack(error):
        log.error("%s: %s", type(error).__name__, lack)
        return lack
    number = secrets.token_hex(3)
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("Unexpected %s, number %s\n%s", type(error).__name__, number, frames)
    return (
        f"Something unexpected went wrong (number {number} in the server's log). "
        "Your image is still open. Try again, or choose another image."
    )


def without_folders(text: str) -> str:
    """A text in which of each absolute path the last part is left: where things lie on the server is no visitor's
    matter."""
    return _PATH.sub(lambda path: path[1], text)


def _lack(error: BaseException) -> str:
    """What the machine lacks for the work, in words; "" for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    # torch and safetensors tell of a full disk in errors of their own.
    if number in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error) for words in _DISK_FULL):
        return (
            "The disk of the server is full, so nothing of this was kept. "
            "Delete runs or data that are no longer needed, or tell whoever runs the server, and try again."
        )
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "The server may not write there. Tell whoever runs it: its folder needs to be writable."
    if is_lack_of_memory(error):
        return "There is not enough free memory on the server for this. Try again later, or with a smaller image."
    return ""


def error_status(error: BaseException) -> str:
    """The error as the page's status line."""
    if isinstance(error, Cancelled):
        return status("Cancelled.")
    return warning_status(explain(error))


def warning_status(text: str) -> str:
    """A status line that cannot be missed."""
    return f'<p class="status error" role="alert">{html.escape(text)}</p>'


def status(text: str) -> str:
    """A quiet status line."""
    return f'<p class="status" role="status">{html.escape(text)}</p>'


def address_status(wanted: str | None, known: Iterable[str]) -> str:
    """The status line of a list that was opened for what an address names: a warning where that is not among what the
    visitor has, "" else."""
    if not wanted or wanted in known:
        return ""
    return warning_status(
        "The address names what is not here: it was deleted, or is another visitor's. The newest of yours is on show."
    )


def step_status(step: Step) -> str:
    """A status line with a progress bar."""
    share = f"{100 * min(max(step.share, 0.0), 1.0):.0f}"
    return (
        f'<p class="status busy" role="status">{html.escape(step.what)} …</p>'
        f'<progress max="100" value="{share}" aria-label="{html.escape(step.what, quote=True)}"></progress>'
    )


def model_value(model: ModelStatus) -> dict[str, str | int]:
    """What the page's head says about the model, the notice below it, and the number that tells models apart."""
    texts = {
        "loading": f"{model.note or 'loading'} …",
        "ready": "ready",
        "failed": "" if model.error is None else explain(model.error),
    }
    notice = " ".join((RESEARCH_NOTICE, *((DEMO_NOTICE,) if model.demo else ()), *model.remarks))
    return {
        "state": model.state,
        "name": model.name,
        "text": texts[model.state],
        "notice": notice,
        "number": model.number,
    }
