"""The routes that the page needs; every other one of Gradio's is not there."""

from __future__ import annotations

import re
from typing import NamedTuple

API = "/gradio_api"
HEARTBEAT = f"{API}/heartbeat/"
UPLOAD = f"{API}/upload"

_READ, _SEND = ("GET", "HEAD"), ("POST",)
# Names of files as Gradio and this project give them: no hidden file, no folder above.
_FILE = r"(?:[\w-][\w.-]*/)*[\w-][\w.@-]*"


class Route(NamedTuple):
    """A route that may be asked.

    Attributes:
        methods: how.
        path: the whole path, as a regular expression.
        shown: the same for people.
        why: what the page needs it for.
    """

    methods: tuple[str, ...]
    path: str
    shown: str
    why: str


ROUTES = (
    Route(_READ, "/", "/", "the page"),
    Route(_READ, f"/(?:assets|static)/{_FILE}", "/assets/…, /static/…", "Gradio's scripts, styles and fonts"),
    Route(_READ, r"(?:/gradio_api)?/theme\.css", "/theme.css", "the page's style"),
    Route(_READ, r"/favicon\.ico|/robots\.txt", "/favicon.ico, /robots.txt", "what browsers ask for"),
    Route(_READ, "/healthz|/readyz", "/healthz, /readyz", "machines that ask whether the server lives and can answer"),
    Route(_READ, "/metrics", "/metrics", "machines that collect the server's numbers"),
    Route(_READ, "/config/?", "/config", "the page's own description, for Gradio's script where the page has none"),
    Route(_READ, f"{API}/info/?", f"{API}/info", "the same, of its events"),
    Route(_READ, f"{API}/app_id/?", f"{API}/app_id", "whether the server is still the same after a lost connection"),
    Route(_READ, f"{API}/startup-events", f"{API}/startup-events", "Gradio's own start, which asks itself"),
    Route(_READ, rf"{HEARTBEAT}[\w-]+", f"{HEARTBEAT}…", "whether a page is still open"),
    Route(_READ, f"{API}/queue/data", f"{API}/queue/data", "the answers to a page's events"),
    Route(_READ, f"{API}/upload_progress", f"{API}/upload_progress", "how far an upload is"),
    Route(_SEND, UPLOAD, UPLOAD, "a file of the visitor's"),
    Route(_SEND, f"{API}/queue/join", f"{API}/queue/join", "an event that takes long"),
    Route(_SEND, f"{API}/run/predict/?", f"{API}/run/predict", "an event that is done at once"),
    Route(_SEND, f"{API}/component_server/?", f"{API}/component_server", "what the page's own widgets ask"),
    Route(_SEND, f"{API}/cancel", f"{API}/cancel", "the end of an event that is of no use any more"),
)
"""All that there is."""

NAMES_ITS_PAGE = re.compile(rf"{API}/(?:queue/join|run/predict/?|component_server/?|cancel)")
"""The routes whose body says which page asks."""

HEALTH = ("/healthz", "/readyz")
"""Asked by machines, under whatever name they know this one by."""

_PATTERNS = tuple((route.methods, re.compile(route.path)) for route in ROUTES)


def is_route(method: str, path: str) -> bool:
    """Whether there is such a route."""
    return any(method in methods and pattern.fullmatch(path) for methods, pattern in _PATTERNS)


def routes_table() -> str:
    """Every route as a table in Markdown."""
    rows = ["| Route | For |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| {route.methods[0]} `{route.shown}` | {route.why} |" for route in ROUTES)])
