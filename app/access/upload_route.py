"""Taking an upload in: into a folder that nobody can guess, within what a visit may bring."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from gradio.route_utils import GradioMultiPartParser, GradioUploadFile, MultiPartException
from gradio.routes import file_upload_statuses
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.access.visits import Visits

_MOST_FILES = 1000
# Uploads whose progress can be asked.
_MOST_FOLLOWED = 1000


async def take_upload(request: Request, visit: str, visits: Visits, progress: str) -> Response:
    """Take the files of a request in.

    Args:
        request: a form with parts named "files".
        visit: whose they are.
        visits: all visits.
        progress: the name by which the page asks how far it is; "" for none.

    Returns:
        where each file lies, as Gradio's page expects it.

    Raises:
        RequestError: they are more than the visit may bring.
    """
    folder = visits.begin_upload(visit)
    if progress:
        drop_unfollowed()
        file_upload_statuses.track(progress)
    most = visits.deployment.upload_file_mb
    placed: list[Path] = []
    try:
        parser = GradioMultiPartParser(
            request.headers,
            _counted(request, visit, visits, folder),
            max_files=_MOST_FILES,
            max_fields=10,
            upload_dir=folder,
            max_file_size=float("inf") if most is None else most * 1e6,
            upload_id=progress or None,
            upload_progress=file_upload_statuses if progress else None,
        )
        try:
            form = await parser.parse()
        except OSError:
            # Gradio closes what it has begun to write at its own errors only.
            for file in parser._files_to_close_on_error:
                with suppress(OSError):
                    file.close()
            raise
        files = [part for part in form.getlist("files") if isinstance(part, GradioUploadFile)]
        for part in files:
            part.file.close()
        named = [(Path(part.file.name), _name(part.filename)) for part in files]
        placed = await run_in_threadpool(visits.end_upload, visit, folder, named)
    except MultiPartException as error:
        if most is not None and "size exceeded" in error.message:
            return JSONResponse(
                {"detail": str(visits.deployment.refusal("upload_file_mb", "This file is larger"))}, 413
            )
        return JSONResponse({"detail": "This is no form with files"}, 400)
    finally:
        if not placed:
            await run_in_threadpool(visits.end_upload, visit, folder)
        if progress:
            file_upload_statuses.set_done(progress)
    return JSONResponse([str(path) for path in placed])


def drop_unfollowed() -> None:
    """Let go of the uploads that nobody follows, and of names that were asked for and are no upload's, but for the last
    ones: Gradio drops what was followed to its end, and nothing else."""
    for name in list(file_upload_statuses._statuses)[:-_MOST_FOLLOWED]:
        file_upload_statuses.stop_tracking(name)
    for name in list(file_upload_statuses._signals)[:-_MOST_FOLLOWED]:
        del file_upload_statuses._signals[name]


async def _counted(request: Request, visit: str, visits: Visits, folder: Path) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        visits.grow_upload(visit, folder, size)
        yield chunk


def _name(given: str | None) -> str:
    """A file's name without what could leave its folder."""
    name = re.sub(r"[^\w. ()^-]", "", Path(given or "").name)[-120:].strip(". ")
    return name or "file"
