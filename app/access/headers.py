"""What browsers are told with every answer: nothing from other hosts, framed by nobody but its own hub."""

from __future__ import annotations

from app.access.deployment import Deployment

NONCE = "a3tune.nonce"
"""Where a request's scope holds what the page's inline scripts carry."""

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
