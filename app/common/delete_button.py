"""Deleting what is chosen: the page asks first, names what goes, and takes it back for a minute."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.common.identity import owner_of
from app.common.status import error_status, status
from app.common.studio_folder import UNDO_SECONDS
from app.common.widgets import EVENT_OPTIONS, Update, errors_in, focus_on
from app.engine.ids import OwnerId

_TOLD = "Deleted; you can take it back for {} seconds."
_OFFER = f"""(deleted) => {{
    const left = Math.round((deleted?.until || 0) - Date.now() / 1000);
    const told = {json.dumps(status(_TOLD))}.replace("{{}}", left);
    return left > 0 ? [told, {{ visible: true, __type__: "update" }}] : [undefined, undefined];
}}"""


class DeleteButton:
    """A button that deletes, with its question and its way back.

    Args:
        words: what stands on the button.
        elem_id: the button's; those of the others begin with it.
    """

    def __init__(self, words: str, elem_id: str) -> None:
        self._words, self._elem_id = words, elem_id

    def build_button(self, **options: Any) -> None:
        """The button."""
        self.button = gr.Button(self._words, size="sm", elem_id=self._elem_id, **options)

    def build_question(self) -> None:
        """What is asked before, what is told after, and the button that takes it back."""
        with gr.Column(visible=False, elem_id=f"{self._elem_id}-question") as self._question:
            self._asked = gr.HTML("", apply_default_css=False)
            with gr.Row():
                self._yes = gr.Button("Delete it", variant="stop", size="sm", elem_id=f"{self._elem_id}-yes")
                self._no = gr.Button("Keep it", size="sm", elem_id=f"{self._elem_id}-no")
        self._status = gr.HTML("", elem_id=f"{self._elem_id}-status", apply_default_css=False)
        self._undo = gr.Button("Undo", visible=False, size="sm", elem_id=f"{self._elem_id}-undo")
        # What was asked about, whatever is chosen by then, and what can be taken back, also after a reload.
        self._candidate = gr.State("")
        self._deleted = gr.BrowserState({}, storage_key=f"a3tune-{self._elem_id}", secret=self._elem_id)

    def wire(
        self,
        chosen: list[gr.components.Component],
        outputs: list[gr.blocks.Block],
        describe: Callable[[OwnerId, Any], str],
        delete: Callable[[OwnerId, Any], str],
        restore: Callable[[OwnerId, Any], None],
        shown: Callable[[str, Any], Update],
    ) -> list[gr.events.Dependency]:
        """Connect the widgets.

        Args:
            chosen: the visitor's secret, and the name of what is chosen.
            outputs: what ``shown`` changes.
            describe: the question, which names what goes.
            delete: deletes by name, and gives by what it is restored.
            restore: takes it back.
            shown: updates that show the page without what was deleted (None), or with what is back.

        Returns:
            the events after which something was deleted or is back.
        """
        self._describe, self._delete, self._restore, self._shown = describe, delete, restore, shown
        visitor, own = chosen[0], [self._question, self._asked, self._status, self._undo]
        own += [self._candidate, self._deleted]
        options = {"queue": False, **EVENT_OPTIONS}
        no, undo = f"{self._elem_id}-no", f"{self._elem_id}-undo"
        # With the page, and where it changes.
        gr.on(None, None, [self._deleted], [self._status, self._undo], js=_OFFER, **options)
        focus_on(self.button.click(self._ask, chosen, own, **options), no)
        focus_on(self._no.click(lambda: gr.update(visible=False), None, self._question, **options), self._elem_id)
        return [
            focus_on(self._yes.click(self._go, [visitor, self._candidate], [*own, *outputs], **options), undo),
            focus_on(
                self._undo.click(self._take_back, [visitor, self._deleted], [*own, *outputs], **options), self._elem_id
            ),
        ]

    @errors_in("_status")
    def _ask(self, visitor: str, name: str | None) -> Update:
        words = html.escape(self._describe(owner_of(visitor), name))
        return {
            self._question: gr.update(visible=True),
            self._asked: f"<p>{words} For a minute you can take it back.</p>",
            self._status: "",
            self._undo: gr.update(visible=False),
            self._candidate: name,
        }

    def _go(self, visitor: str, name: str) -> Update:
        hidden = {self._question: gr.update(visible=False)}
        try:
            deleted = self._delete(owner_of(visitor), name)
            shown = self._shown(visitor, None)
        except Exception as error:
            return {**hidden, self._status: error_status(error)}
        kept = {"name": deleted, "until": time.time() + UNDO_SECONDS}
        told = status(_TOLD.format(f"{UNDO_SECONDS:.0f}"))
        return {**hidden, **shown, self._status: told, self._undo: gr.update(visible=True), self._deleted: kept}

    def _take_back(self, visitor: str, deleted: Any) -> Update:
        hidden = {self._undo: gr.update(visible=False), self._deleted: {}}
        try:
            name = str(deleted["name"])
            self._restore(owner_of(visitor), name)
            return {**hidden, **self._shown(visitor, name), self._status: status("It is back.")}
        except Exception as error:
            return {**hidden, self._status: error_status(error)}
