"""Who visits: a secret that only the visitor's browser keeps, so that what is theirs is found again."""

from __future__ import annotations

import hashlib

import gradio as gr

from a3tune.errors import RequestError
from app.access.identity import asking
from app.access.visits import is_secret
from app.engine.ids import OwnerId

# Gradio wants a key for what it stores and sends it to every browser: it protects nothing, the secret does.
STORAGE = "a3tune-visitor"
_KEY = "a3tune-studio-visitor"
_DRAW = """(known) => studioModule("common/static/visitor.js").visitorOf(known)"""


def build_visitor(page: gr.Blocks) -> gr.BrowserState:
    """The visitor's secret, drawn when a browser comes for the first time.

    It has to stand outside of all tabs: what lies in a tab that was not opened yet is not there.
    """
    visitor = gr.BrowserState("", storage_key=STORAGE, secret=_KEY)
    page.load(None, [visitor], [visitor], js=_DRAW, queue=False, show_progress="hidden", api_visibility="private")
    return visitor


def owner_of(secret: object) -> OwnerId:
    """The name under which a visitor's things are kept: that of whoever is logged in, else a hash of the secret, which
    itself is written nowhere.

    Raises:
        RequestError: this is no secret that `new_secret` made.
    """
    asker = asking()
    if asker is not None and asker.identity.owner is not None:
        asker.keeps_under(asker.identity.owner)
        return asker.identity.owner
    if not isinstance(secret, str) or not is_secret(secret):
        raise RequestError(
            expected="a browser that keeps this page's data",
            got="The page does not know who you are",
            remedy="Reload the page, and let the browser store data for it",
        )
    owner = OwnerId(hashlib.sha256(secret.encode()).hexdigest()[:40])
    if asker is not None:
        asker.keeps_under(owner)
    return owner
