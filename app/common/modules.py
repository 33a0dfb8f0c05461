"""The browser's code: ES modules in the folders of ``app/``, which the page brings itself as one script.

A browser would ask for each of dozens of modules, level by level of their imports, before it could draw anything. So
each becomes a function that is called when its module is first asked for, with ``import`` and ``export`` as plain
assignments; ``studioModule(name)`` in the browser gives what a module exports. Gradio runs a widget's script as the
text of a function: that text is one such call (see :func:`mount_script`). Imports among modules are relative paths, as
on the disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

_APP = Path(__file__).resolve().parents[1]
_TEXTS = {path.relative_to(_APP).as_posix(): path.read_text(encoding="utf-8") for path in sorted(_APP.rglob("*.js"))}
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "(\.[^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (default )?((?:async )?function\*? ?|class |const )(\w+)", re.MULTILINE)
_TRIGGERED = re.compile(r'\btrigger\(("\w+")')

_LOADER = """"use strict";
const studioModule = ((sources) => {
  const made = new Map();
  return function load(name) {
    if (!made.has(name)) {
      made.set(name, null);
      const exported = {};
      sources[name](exported, load);
      made.set(name, exported);
    }
    return made.get(name);
  };
})({
%s
});"""

# Gradio knows a widget's events by their quoted names in its script.
_MOUNT = """// Events: %s
studioModule(%s).default({ element, props, server, trigger, watch }, %s);"""


def mount_script(name: str, **settings: Any) -> str:
    """The ``js_on_load`` of a widget: calls its module's ``default`` with ``{element, props, server, trigger, watch}``
    and ``settings``.

    Args:
        name: the module's path in ``app/``.
        settings: what the module needs besides, as JSON. Gradio's ``props`` would not do: some are not there yet when a
            value comes before the tab was opened.

    Raises:
        KeyError: there is no such module.
    """
    events = sorted({call for module in _with_imports([name]) for call in _TRIGGERED.findall(_TEXTS[module])})
    settings_text = json.dumps(settings, separators=(",", ":"))
    return _MOUNT % (", ".join(events), json.dumps(name), settings_text)


def modules_script() -> str:
    """A script, as a whole, in which ``studioModule(name)`` gives what the module of that path in ``app/`` exports."""
    return _LOADER % "\n".join(f"{json.dumps(name)}(exported, load) {{{_function_body(name)}}}," for name in _TEXTS)


def _function_body(name: str) -> str:
    exports: list[str] = []

    def imported(found: re.Match[str]) -> str:
        return f"const {found[1].replace(' as ', ': ')} = load({json.dumps(_beside(name, found[2]))});"

    def exported(found: re.Match[str]) -> str:
        exports.append(f"default: {found[3]}" if found[1] else found[3])
        return found[2] + found[3]

    text = _EXPORT.sub(exported, _IMPORT.sub(imported, _TEXTS[name]))
    return f"\n{text}Object.assign(exported, {{ {', '.join(exports)} }});\n"


def _with_imports(names: Iterable[str]) -> list[str]:
    """Modules and all that they import, each once."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += [_beside(name, path) for _, path in _IMPORT.findall(_TEXTS[name])]
    return list(found)


def _beside(name: str, path: str) -> str:
    return (_APP / PurePosixPath(name).parent / path).resolve().relative_to(_APP).as_posix()
