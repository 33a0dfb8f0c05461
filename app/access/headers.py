"""What browsers are told with every answer (nothing from other hosts, framed by nobody but its own hub), and what their
own headers say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from app.access.deployment import Deployment

NONCE = "a3tune.nonce"
"""Where a request's scope holds what the page's inline scripts carry."""

_PREFIX = re.compile(r"(?:/[\w.-]+){1,8}")
_SPACE_FRAMES = "https://huggingface.co https://*.huggingface.co https://*.hf.space"

CONTENT = {
    "default-src": "'none'",
    "script-src": "'self' 'unsafe-eval'",
    "worker-src": "'self' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "connect-src": "'self' data: blob:",
    "frame-src": "'none'",
    "object-src": "'none'",
    "manifest-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
"""The content security policy without what changes: the page's own nonce, and who may frame it.

No other host is in it. Gradio makes functions from the text of widgets' scripts ('unsafe-eval') and writes styles into
elements ('unsafe-inline' for styles alone); the page's own modules stand in the page, under its nonce; pictures, fonts
and downloads are data and blobs.
"""


def joined_headers(given: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """A request's headers by their names in lower case; what stands in several of one name counts altogether."""
    found: dict[str, str] = {}
    for raw, value in given:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}{'; ' if name == 'cookie' else ', '}{text}" if name in found else text
    return found


def read_cookie(header: str, name: str) -> str:
    """The cookie of a name; "" where there is none, or several: a page beside this one may have set the other."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    values = [value for known, _, value in pairs if known == name]
    return values[0] if len(values) == 1 else ""


def is_secure(headers: Mapping[str, str], scheme: str) -> bool:
    """Whether the browser asked by https, as a proxy in front says."""
    return "https" in (headers.get("x-forwarded-proto", "").split(",")[0].strip(), scheme)


def cookie_header(name: str, value: str, path: str, *, secure: bool, framed: bool = False, end: bool = False) -> bytes:
    """The value of a header that gives a browser a cookie which no script can read and no other site sends along.

    Args:
        name, value, path: of the cookie.
        secure: whether it goes over https alone.
        framed: whether the page is framed by another site's, for which such cookies are made.
        end: take it away again.
    """
    where = "SameSite=None; Secure; Partitioned" if framed else f"SameSite=Lax{'; Secure' if secure else ''}"
    return f"{name}={value}; Path={path or '/'}; HttpOnly; {where}{'; Max-Age=0' if end else ''}".encode()


def root_of(headers: Mapping[str, str], told: str) -> str:
    """Under which path the page is served: as the server was told, or as a proxy in front says; "" for none."""
    named = headers.get("x-forwarded-prefix", "").rstrip("/")
    return told or (named if _PREFIX.fullmatch(named) else "")


def path_inside(path: str, root: str) -> str:
    """A request's path without the page's own, whether a proxy took it away or not.

    As often as it stands there: what comes behind takes it away once more, and has to see the path that was checked.
    """
    while root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :] or "/"
    return path


def safe_headers(deployment: Deployment, nonce: str = "", *, fixed: bool = False) -> list[tuple[bytes, bytes]]:
    """The headers of an answer.

    Args:
        deployment: where the application runs.
        nonce: what the page's own inline scripts carry; "" for answers that are no page.
        fixed: whether the answer is the same for all visitors and may be kept.
    """
    frames = f"'self' {_SPACE_FRAMES}" if deployment.name == "space" else "'self'"
    content = {**CONTENT, "frame-ancestors": frames}
    if nonce:
        content["script-src"] += f" 'nonce-{nonce}'"
    told = {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in content.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    }
    if deployment.name != "space":
        told["x-frame-options"] = "SAMEORIGIN"
    if not fixed:
        told["cache-control"] = "no-store"
    return [(name.encode(), value.encode()) for name, value in told.items()]
