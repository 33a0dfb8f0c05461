"""The Tune tab's plan: method, preset, settings, what it takes, and the start."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from a3tune.errors import RequestError
from app.common.identity import owner_of
from app.common.status import error_status, status
from app.tune.data_panel import chosen_data
from app.tune.service import Plan, TuneService, place_notice
from app.tune.values import ABLATIONS, estimate_text, method_choices, preset_choices

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# The settings with a field of their own: name -> words. All others can be written below them.
_FIELDS = {
    "max_steps": "Steps",
    "epochs": "or epochs",
    "batch_size": "Batch size",
    "gradient_accumulation": "Batches in a step",
    "learning_rate": "Learning rate",
    "ratio": "Alignment weight",
    "evaluate_every": "Validate every",
    "save_every": "Save every",
}


class PlanPanel:
    """Widgets and wiring of the plan.

    Args:
        desk: the tab's services.
        visitor: the visitor's secret.
    """

    def __init__(self, desk: TuneService, visitor: gr.BrowserState) -> None:
        self._desk, self._visitor = desk, visitor

    def place(self) -> None:
        """The widgets."""
        gr.HTML("<h2>2 · Plan</h2>", apply_default_css=False)
        presets = self._desk.presets()
        self._preset = gr.Dropdown(preset_choices(presets), value=presets[0], label="Preset", elem_id="tune-preset")
        self._method = gr.Radio(method_choices(), value="a3", label="Method", elem_id="tune-method")
        with gr.Accordion("Advanced", open=False, elem_id="tune-advanced"):
            self._ablations = gr.CheckboxGroup(
                [(words, name) for name, words in ABLATIONS.items()], label="Ablations", elem_id="tune-ablations"
            )
            with gr.Row(elem_id="tune-fields"):
                self._fields = [
                    gr.Textbox(
                        label=words,
                        placeholder="as in the preset",
                        max_lines=1,
                        min_width=124,
                        elem_id=f"tune-set-{name}",
                    )
                    for name, words in _FIELDS.items()
                ]
            self._checkpointing = gr.Checkbox(
                label="Save memory: compute activations twice (gradient_checkpointing)", elem_id="tune-checkpointing"
            )
            self._others = gr.Textbox(
                label="Other settings, one name=value a line", lines=2, max_lines=8, elem_id="tune-others"
            )
            self._title = gr.Textbox(label="Name of the run", max_length=60, elem_id="tune-title")
        with gr.Row():
            self._measure = gr.Button("Measure one step", elem_id="tune-measure")
            self.start = gr.Button("Start", variant="primary", elem_id="tune-start")
        self.status = gr.HTML(_standing_notice(), elem_id="tune-plan-status", apply_default_css=False)

    @property
    def inputs(self) -> list[gr.components.Component]:
        """What `read` takes, in its order."""
        return [self._preset, self._method, self._ablations, self._checkpointing, self._others, *self._fields]

    @property
    def title(self) -> gr.Textbox:
        """The name of the run."""
        return self._title

    @staticmethod
    def read(preset: str, method: str, ablations: list[str], checkpointing: bool, others: str, *fields: str) -> Plan:
        """The plan of the widgets' values.

        Raises:
            RequestError: a line of the other settings is no name=value.
        """
        settings = {name: text.strip() for name, text in zip(_FIELDS, fields, strict=True) if (text or "").strip()}
        if "epochs" in settings and "max_steps" not in settings:
            settings["max_steps"] = "null"
        if checkpointing:
            settings["gradient_checkpointing"] = "true"
        for line in (others or "").splitlines():
            if line.strip():
                name, equals, value = line.partition("=")
                if not equals:
                    raise RequestError(
                        expected="name=value",
                        got=f"The setting {line.strip()[:60]!r} has no value",
                        remedy="Write seed=4",
                    )
                settings[name.strip()] = value.strip()
        return Plan(preset, method, tuple(ablations or ()), settings)

    def wire(self, data: gr.Dropdown) -> None:
        """Connect measuring; the start is connected by the tab, which shows the run then."""
        self._measure.click(
            self._estimate,
            [self._visitor, data, *self.inputs],
            [self.status],
            concurrency_id="tune-measure",
            concurrency_limit=1,
            **_QUIET,
        )

    def _estimate(self, visitor: str, data: str | None, *plan: Any) -> Iterator[str]:
        yield status("Making one step with your data, in a process of its own …")
        try:
            found = self._desk.measure(owner_of(visitor), chosen_data(data), self.read(*plan))
        except Exception as error:
            yield error_status(error)
            return
        yield estimate_text(found)


def _standing_notice() -> str:
    notice = place_notice()
    return f'<p class="status notice">{html.escape(notice)}</p>' if notice else status("Start when the data is ready.")
