"""The browser's code: ES modules in the folders of ``app/``, served under an address that changes with their content.

Gradio runs a widget's script as the text of a function, which can import nothing by itself: that text is one dynamic
import of the widget's module, whose ``default`` export gets what Gradio gives (see :func:`mount_script`). Imports among
modules are relative paths, the same on the disk as in the browser.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_APP = Path(__file__).resolve().parents[1]
_FILES = {path.relative_to(_APP).as_posix(): path.read_bytes() for path in sorted(_APP.rglob("*.js"))}
_VERSION = hashlib.sha256(b"\0".join(part for name, text in _FILES.items() for part in (name.encode(), text)))
# Relative to the page, so that it holds under whatever path the page is served.
_ADDRESS = f"modules/{_VERSION.hexdigest()[:16]}/"
_IMPORTED = re.compile(r'\bfrom "(\.[^"]+)";')
_TRIGGERED = re.compile(r'\btrigger\(("\w+")')

# Gradio knows a widget's events by their quoted names in its script.
_MOUNT = """// Events: %s
const mount = (module) => module.default({ element, props, server, trigger, watch }, %s);
if (props.module) mount(props.module);
else import(new URL(%s, document.baseURI)).then(mount, () => {
  element.textContent = "This part of the page could not be loaded. Reload the page.";
});"""


def mount_script(name: str, **settings: Any) -> str:
    """The ``js_on_load`` of a widget: imports its module, or takes it from ``props`` where it is at hand, and calls its
    ``default({element, props, server, trigger, watch}, settings)``.

    Args:
        name: the module's path in ``app/``.
        settings: what the module needs besides, as JSON. Gradio's ``props`` would not do: some are not there yet when a
            value comes before the tab was opened.

    Raises:
        KeyError: there is no such module.
    """
    events = sorted({call for module in _with_imports([name]) for call in _TRIGGERED.findall(_text(module))})
    settings_text = json.dumps(settings, separators=(",", ":"))
    return _MOUNT % (", ".join(events), settings_text, json.dumps(_ADDRESS + name))


def bundled_script(names: Mapping[str, str], script: str) -> str:
    """HTML of a module script that imports modules which the page brings itself, with all that they import, instead of
    asking for each. Like all module scripts it runs once the page is there, in their order; the first must be this.

    Args:
        names: the paths in ``app/`` of the modules, by the names that the script knows them by.
        script: what to do with them.
    """
    texts = {_ADDRESS + name: _text(name) for name in _with_imports(names.values())}
    # "<" is written as an escape, so that no text can end the script.
    brought = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    imports = "".join(f'import * as {known} from "./{_ADDRESS}{name}";\n' for known, name in names.items())
    return (
        f'<script type="application/json" id="modules">{brought}</script>'
        f"<script>{_text('common/static/module_map.js')}</script>"
        f'<script type="module">{imports}{script}</script>'
    )


def _with_imports(names: Iterable[str]) -> list[str]:
    """Modules and all that they import, each once."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += [_beside(name, path) for path in _IMPORTED.findall(_text(name))]
    return list(found)


def _beside(name: str, path: str) -> str:
    return (_APP / PurePosixPath(name).parent / path).resolve().relative_to(_APP).as_posix()


def _text(name: str) -> str:
    return _FILES[name].decode("utf-8")


class ModuleFiles:
    """Middleware that serves the modules, read once, and nothing else from the disk.

    Args:
        app: what serves all else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope.get("path", "").removeprefix(scope.get("root_path", "")).removeprefix("/")
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or not inside.startswith("modules/"):
            await self._app(scope, receive, send)
            return
        content = _FILES.get(inside.removeprefix(_ADDRESS)) if inside.startswith(_ADDRESS) else None
        response: Response = PlainTextResponse("There is no such module.", 404)
        if content is not None:
            # The address names the content: it need never be asked for again.
            forever = {"cache-control": "public, max-age=31536000, immutable"}
            response = Response(content, media_type="text/javascript", headers=forever)
        await response(scope, receive, send)
