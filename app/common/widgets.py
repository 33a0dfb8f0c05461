"""Parts of the page that Gradio has no widget for: how they are read from their folder, what answers them, and the
page's head; and fields of files, which the browser empties itself (see ``common/static/file_field.js``)."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.exceptions import HTTPException

from a3tune.errors import Cancelled
from app.common.modules import mount_script
from app.common.status import error_status, explain, step_status
from app.engine.background import Step
from app.engine.ids import SessionId

EVENT_OPTIONS: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Options of every event: the page shows progress itself, and there is no interface for programs."""

Update = dict[gr.blocks.Block, Any]
"""What an event's handler gives: the components that change, with their new values."""

Answer = Callable[[dict[str, Any]], dict[str, Any]]

_FILES = 'studioModule("common/static/file_field.js")'
_APP = Path(__file__).resolve().parents[1]
GLOSSARY: dict[str, str] = json.loads((_APP / "common" / "static" / "glossary.json").read_text(encoding="utf-8"))
"""A sentence for each word that the page explains."""


def page_session(request: gr.Request) -> SessionId:
    """The session that the page drew for itself when it was loaded."""
    return SessionId(str(request.session_hash))


def build_header(model_status: Callable[[], Mapping[str, Any]], notice: str) -> gr.HTML:
    """The page's head: title, which model speaks and whether it is ready, the visitor's runs at work, the notice.

    Args:
        model_status: answers with ``state``, ``name`` and ``text`` of the model, and the ``runs``, every few seconds.
        notice: what every visitor must know.
    """
    parts = widget_parts("common/static/header", notice=notice, glossary=GLOSSARY)
    return gr.HTML(**parts, server_functions=[model_status], elem_id="header")


def widget_parts(path: str, **settings: Any) -> dict[str, str | bool]:
    """The options of ``gr.HTML`` for a widget of our own.

    Args:
        path: of its ``.html``, ``.css`` and ``.js`` in ``app/``, without the ending.
        settings: what its module needs, see :func:`app.common.modules.mount_script`.
    """
    html, css = ((_APP / f"{path}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css"))
    script = mount_script(f"{path}.js", **settings)
    return {"html_template": html, "css_template": css, "js_on_load": script, "apply_default_css": False}


def focus_on(event: gr.events.Dependency, *ids: str) -> gr.events.Dependency:
    """After an event, give the focus to the element of the first of these ids that is on show and can be used."""
    script = f'() => {{ studioModule("common/static/keyboard.js").focusOn(...{json.dumps(ids)}); }}'
    return event.then(None, None, None, js=script, queue=False, **EVENT_OPTIONS)


def on_files(
    field: gr.File,
    handle: Callable[..., Any],
    inputs: list[gr.components.Component],
    outputs: list[gr.blocks.Block],
    taken: str = "",
    button: gr.Button | None = None,
    **options: Any,
) -> gr.events.Dependency:
    """Take a field's files, when they have come or when a button is pressed.

    Args:
        field: the field, with an ``elem_id``.
        handle: gets their paths, those of a field for a single file the one or None, and then the values of ``inputs``.
        inputs, outputs, options: of the event.
        taken: the script that gives all that the handler gets, where it is not that.
        button: the button.
    """
    event = field.upload if button is None else button.click
    name = json.dumps(field.elem_id)
    # Gradio goes on to the next handler of an event once this one has ended.
    _in_browser(event, field, [field], "takeFiles(id, files)")
    files = f"{_FILES}.{'takenFiles' if button is None else 'takenByButton'}({name})"
    files += "[0] ?? null" if field.file_count == "single" else ""
    script = f"(files, ...more) => {taken or f'[{files}, ...more]'}"
    options = {"trigger_mode": "multiple" if button is None else "once", **options}
    took = event(handle, [field, *inputs], outputs, js=script, **options)
    if button is not None:
        _in_browser(field.upload, field, [field], "arrivedFiles(id, files)")
        took.then(None, None, None, js=f"() => {_FILES}.endWork({name})", queue=False, **EVENT_OPTIONS)
    return took


def on_offered_files(
    field: gr.File,
    handle: Callable[..., Any],
    inputs: list[gr.components.Component],
    outputs: list[gr.blocks.Block],
    button: gr.Button,
    **options: Any,
) -> gr.events.Dependency:
    """As `on_files` with a button, where files may be refused and then stay in their field: ``outputs`` ends with a
    hidden ``gr.JSON`` in which the handler tells those that it took, as ``{"path": ...}``."""
    script = f"(files, ...more) => [{_FILES}.freshFiles(files), ...more]"
    asked = button.click(handle, [field, *inputs], outputs, js=script, **options)
    _in_browser(asked.then, field, [field, outputs[-1]], "settleFiles(id, files, taken)")
    _in_browser(field.upload, field, [field], "arrivedFiles(id, files)")
    return asked


def _in_browser(event: Callable[..., Any], field: gr.File, inputs: list[Any], call: str) -> None:
    named = f"const script = {_FILES}, id = {json.dumps(field.elem_id)};"
    script = f"(files, taken) => {{ {named} return script.{call}; }}"
    event(None, inputs, [field], js=script, queue=False, trigger_mode="multiple", **EVENT_OPTIONS)


def open_wanted(tab: str, *inputs: str) -> str:
    """The script of a tab's opening whose inputs are the visitor, the name of what is on show there, and ``inputs``: in
    place of that name stands what the address asks for on the tab, where it asks for anything."""
    named = ", ".join(("visitor", "shown", *inputs))
    wanted = f'studioModule("common/static/address.js").wantedOn({json.dumps(tab)}) || shown'
    return f"({named}) => [{named.replace('shown', wanted, 1)}]"


def errors_in(status: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates an event's handler, a method or one that yields: what it raises is told in the component that its
    object keeps as ``status``, and nothing else changes."""

    def decorate(handle: Callable[..., Any]) -> Callable[..., Any]:
        def told(panel: Any, error: Exception) -> Update:
            return {getattr(panel, status): error_status(error)}

        @functools.wraps(handle)
        def answer(panel: Any, *values: Any) -> Any:
            try:
                return handle(panel, *values)
            except Exception as error:
                return told(panel, error)

        @functools.wraps(handle)
        def answers(panel: Any, *values: Any) -> Iterator[Any]:
            try:
                yield from handle(panel, *values)
            except Exception as error:
                yield told(panel, error)

        return answers if inspect.isgeneratorfunction(handle) else answer

    return decorate


def follow_work(
    begin: Callable[[], Iterator[Any]], status: gr.HTML, stop: gr.Button, shown: Callable[[Any], Update]
) -> Iterator[Update]:
    """Updates of the page while work goes on in the background.

    Args:
        begin: begins the work; gives its steps, and what comes of it last.
        status: tells the steps, and why it cannot be done.
        stop: the button that ends it, on show meanwhile.
        shown: updates that show what came of it.
    """
    try:
        for report in begin():
            if isinstance(report, Step):
                yield {status: step_status(report), stop: gr.update(visible=True)}
            else:
                yield {status: "", **shown(report), stop: gr.update(visible=False)}
    except Exception as error:
        yield {status: error_status(error), stop: gr.update(visible=False)}


def build_stop(elem_id: str) -> gr.Button:
    """The button of `follow_work`."""
    return gr.Button("Stop", visible=False, size="sm", min_width=80, elem_id=elem_id)


def _words(error: Exception) -> str:
    return "Stopped." if isinstance(error, Cancelled) else explain(error)


_TEXTS = (
    *("action", "adapter", "data", "form", "job", "kind", "name", "objects", "other", "precision", "prompt", "result"),
    "run",
)
_LISTS = ("adapters", "box", "chosen", "keys", "others", "sides")
_FORMS = {**dict.fromkeys((*_TEXTS, "batch", "session", "visitor"), str), **dict.fromkeys(_LISTS, list)}
"""What a script sends under a name, where it sends anything there."""


class _Asked(dict[str, Any]):
    """What a widget's script asks: what it leaves out is told as such."""

    def __missing__(self, name: str) -> Any:
        raise _none_of_the_pages()


def _none_of_the_pages() -> HTTPException:
    """A refusal with the status 400: no page sends this, so that there is none to tell it to."""
    return HTTPException(400, "This request is none that the page sends. Reload the page.")


def server_function(answer: Answer, told: Callable[[Exception], Any] = _words) -> Answer:
    """What a widget's script calls by the name of ``answer``, a function or a method: it takes and gives a dict, and
    says under "error" why it cannot give more: in words, or as ``told`` says. What no script sends ends with the
    status 400."""

    # A plain function: Gradio marks server functions with an attribute, which a bound method cannot take.
    @functools.wraps(answer)
    def safe(request: dict[str, Any]) -> dict[str, Any]:
        try:
            if not isinstance(request, dict) or any(
                value is not None and not isinstance(value, _FORMS.get(name, object)) for name, value in request.items()
            ):
                raise _none_of_the_pages()
            return answer(_Asked(request))
        except HTTPException:
            raise
        except Exception as error:
            return {"error": told(error)}

    return safe


def json_text(value: Any) -> str:
    """A widget's value as JSON in which nothing can read as markup."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
