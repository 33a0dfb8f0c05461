"""The initial page: the opening picture, drawn from what the page itself brings, before Gradio's widgets stand."""

from __future__ import annotations

import html
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.headers import NONCE
from app.common.modules import modules_script

_FOLDER = Path(__file__).parent / "static"
# Where Gradio's page begins to be built: what stands before it is there first.
_MARK = b"<gradio-app"
_MANIFEST = b'<link rel="manifest" href="/manifest.json" />'
# The widgets that the picture consists of, by the ids of their elements.
_WIDGETS = ("header", "examples", "suggestions", "viewer")
_SCRIPT = b"<script"
# Of a gzip file: its head, without a name or a time, and the end of its last block.
_PACKED_HEAD, _PACKED_END = b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x03\0"
_DRAW = f'studioModule("common/static/initial_page.js").drawInitialPage({json.dumps(_WIDGETS)});'


class InitialPage:
    """Puts the opening picture into Gradio's page, in front of the element that Gradio builds its widgets in.

    The page then shows the first example with its answers as soon as it arrives: the viewer's own modules, which it
    brings, draw it, and ``initial_page.js`` takes it away when Gradio's viewer has drawn the same. The widgets
    themselves need some seventy requests until they stand.

    Args:
        app: what serves the pages.
        value: the viewer's opening value (see :func:`app.inspect.viewer.values.viewer_value`), asked for with every
            page.
        styles: the theme's style sheet, asked for likewise.
        tabs: the names of the page's tabs, the first of which is on show.
        question: the question that the opening value answers.
        about: what is said of it.
    """

    def __init__(
        self,
        app: ASGIApp,
        value: Callable[[], str],
        styles: Callable[[], str],
        tabs: Sequence[str],
        question: str,
        about: str,
    ) -> None:
        self._app = app
        self._value, self._styles = value, styles
        self._tabs, self._question, self._about = tabs, question, about
        self._script = modules_script()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; only the page itself is changed."""
        inside = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or scope["method"] != "GET" or inside.strip("/"):
            await self._app(scope, receive, send)
            return
        packed = any(name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"])
        start: Message = {}
        body = bytearray()

        async def hold(message: Message) -> None:
            # The page is one short text: it is changed as a whole, and its length told again.
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await self._send(start, bytes(body), packed, scope.get(NONCE, ""), send)
            else:
                await send(message)

        await self._app(scope, receive, hold)

    async def _send(self, start: Message, body: bytes, packed: bool, nonce: str, send: Send) -> None:
        before, mark, after = body.partition(_MARK)
        if mark and start["status"] == 200:
            body = before + self.markup().encode() + mark + after
            # The manifest would be asked for beside the page.
            body = body.replace(_MANIFEST, b"")
        # No quotes: in a text inside a script it does no harm.
        marked = f"<script nonce={nonce}".encode() if mark and nonce and start["status"] == 200 else _SCRIPT
        pieces = body.split(_SCRIPT)
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        body = marked.join(pieces)
        if packed:  # Gradio packs its scripts but not its page
            body = _packed(body, pieces, marked)
            headers += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})

    def markup(self) -> str:
        """The opening picture as HTML with its own style and script."""
        frame = (_FOLDER / "initial_page.html").read_text(encoding="utf-8").replace("{about}", html.escape(self._about))
        names = "".join(f"<span>{html.escape(name)}</span>" for name in self._tabs)
        style = (_FOLDER / "initial_page.css").read_text(encoding="utf-8")
        theme = (_FOLDER / "initial_theme.js").read_text(encoding="utf-8")
        # JSON in which no "<" stands: it can end no script.
        value = self._value().replace("<", "\\u003c")
        return "".join(
            (
                f"<style>{self._styles()}\n{style}</style>",
                frame.replace("{tabs}", names).replace("{question}", html.escape(self._question)),
                f'<script type="application/json" id="opening-value">{value}</script>',
                f"<script>{theme}</script><script>{self._script}</script><script>{_DRAW}</script>",
            )
        )


def _packed(body: bytes, pieces: Sequence[bytes], between: bytes) -> bytes:
    """Pieces of a text with ``between`` between each two of them, as gzip (RFC 1952).

    What stands between is another one with every page and the pieces are mostly the same, so that each is packed by
    itself and kept: to pack the whole page takes some 25 ms, in which the server does nothing else.
    """
    blocks = _block(between).join(map(_kept_block, pieces))
    return _PACKED_HEAD + blocks + _PACKED_END + struct.pack("<II", zlib.crc32(body), len(body) & 0xFFFFFFFF)


def _block(text: bytes) -> bytes:
    # A full flush ends on a whole byte, and what follows refers to nothing in front of it.
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush(zlib.Z_FULL_FLUSH)


# A page has some thirty pieces; few of them change while a server is at work.
_kept_block = lru_cache(maxsize=100)(_block)
