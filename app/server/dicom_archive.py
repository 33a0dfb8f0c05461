"""Which DICOM archive visitors may have asked: the word of whoever runs the server, by variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from a3tune.dicomweb.settings import VARIABLES, WebLimits, read_server
from a3tune.errors import RequestError

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb


def read_archive(known: bool, most_mb: float | None, environment: Mapping[str, str]) -> DicomWeb | None:
    """The archive; None where none is named.

    Args:
        known: whether nobody reaches the page but the person at this machine, or people who log in.
        most_mb: what a series may hold, as an upload may; None for no limit.

    Raises:
        RequestError: the variables name none that can be asked, or strangers could ask it.
    """
    server = read_server(environment)
    if server is None:
        return None
    if not known:
        raise RequestError(
            expected="people who log in where A3TUNE_DICOMWEB names an archive of patients",
            got="Here anybody who reaches the page could ask it",
            remedy="Set A3TUNE_LOGIN on a server, listen on this machine alone (--host 127.0.0.1), or leave "
            "A3TUNE_DICOMWEB out",
        )
    # It takes a moment to load, and most servers name none.
    from a3tune.dicomweb.client import DicomWeb

    return DicomWeb(server, WebLimits(size=int((most_mb or 1e6) * 1e6)))


def archive_table() -> str:
    """Every variable about the archive as a table in Markdown."""
    rows = [f"| `{variable.name}` | {variable.why} |" for variable in VARIABLES]
    return "\n".join(["| Variable | What it says |", "| --- | --- |", *rows])
