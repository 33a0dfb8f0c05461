"""The Tune tab's ways out: adapters to use, compare and give away, and the same run on other machines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from a3tune.encoding import base64_text
from a3tune.errors import RequestError
from app.common.identity import is_secret, owner_of
from app.common.status import error_status, explain, status, step_status
from app.engine.background import Step
from app.tune.service import TuneService
from app.tune.values import comparison_table
from app.tune.widgets import build_download

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Larger ones are sent to the hub, or fetched from the server's disk.
_MOST_DOWNLOADED = 256 << 20


class AdapterPanel:
    """Widgets and wiring of adapters and other machines.

    Args:
        desk: the tab's services.
        visitor: the visitor's secret.
    """

    def __init__(self, desk: TuneService, visitor: gr.BrowserState) -> None:
        self._desk, self._visitor = desk, visitor

    def place_use(self) -> None:
        """Adapters to use and give away."""
        with gr.Row(equal_height=True, elem_id="tune-own-controls"):
            self.choice = gr.Dropdown(
                [], label="Your adapter", allow_custom_value=True, interactive=True, scale=3, elem_id="tune-own"
            )
            self.inspect = gr.Button(
                "Before and after in Inspect",
                variant="primary",
                interactive=False,
                min_width=180,
                size="sm",
                elem_id="tune-inspect",
            )
            self._compare = gr.Button(
                "Evaluate against base", interactive=False, min_width=150, size="sm", elem_id="tune-compare"
            )
            self._remove = gr.Button("Remove", interactive=False, min_width=80, size="sm", elem_id="tune-remove")
        self.status = gr.HTML(
            status("Adapters are here from a run's first checkpoint on, and in Inspect under “Answer with”."),
            elem_id="tune-use-status",
            apply_default_css=False,
        )
        self._table = gr.HTML("", elem_id="tune-comparison", apply_default_css=False)
        desk = self._desk

        # A plain function: Gradio marks server functions with an attribute, which a bound method cannot take.
        def download_adapter(request: dict[str, Any]) -> dict[str, Any]:
            try:
                title = str(request.get("adapter"))
                content = desk.adapters.zip(owner_of(request.get("visitor")), title)
                if len(content) > _MOST_DOWNLOADED:
                    raise RequestError(
                        expected=f"an adapter of at most {_MOST_DOWNLOADED >> 20} MiB",
                        got=f"It has {len(content) >> 20} MiB",
                        remedy="Push it to the hub, or copy it from the server's disk",
                    )
            except Exception as error:
                return {"error": explain(error)}
            name = re.sub(r"[^A-Za-z0-9.-]+", "-", title).strip("-") or "adapter"
            return {"archive": base64_text(content), "name": f"{name}.zip"}

        self._download = build_download(download_adapter)
        with gr.Accordion("Load an adapter", open=False, elem_id="tune-load"):
            self._adapter = gr.File(
                label="ZIP of a PEFT folder (safetensors only)", file_count="single", height=84, elem_id="tune-adapter"
            )
            with gr.Row(equal_height=True):
                self._hub = gr.Textbox(
                    label="Or from the hub", placeholder="name/repository", scale=3, elem_id="tune-adapter-hub"
                )
                self._load = gr.Button("Load from the hub", size="sm", min_width=140, elem_id="tune-load-hub")
            self._load_status = gr.HTML("", elem_id="tune-load-status", apply_default_css=False)
        with gr.Accordion("Push to the hub", open=False, elem_id="tune-hub-push"):
            self._repository = gr.Textbox(label="Repository", placeholder="your-name/repository", elem_id="tune-repo")
            self._token = gr.Textbox(
                label="Your token with the right to write (used once, kept nowhere)",
                type="password",
                elem_id="tune-token",
            )
            self._push = gr.Button("Push", size="sm", elem_id="tune-push")
            self._push_status = gr.HTML("", elem_id="tune-push-status", apply_default_css=False)

    def place_scale(self) -> None:
        """The same run on other machines."""
        self._write = gr.Button("Write command and config for the plan on the left", size="sm", elem_id="tune-scale")
        self._scale_status = gr.HTML("", elem_id="tune-scale-status", apply_default_css=False)
        # No language: gradio's colours for shell and YAML are too pale to read on white.
        plain = {"language": None, "interactive": False, "wrap_lines": True}
        self._text = gr.Code(label="Command", elem_id="tune-command", **plain)
        self._config = gr.Code(label="config.yaml", elem_id="tune-config", **plain)
        self.folder = gr.File(
            label="Open a run folder that was made elsewhere (ZIP)",
            file_count="single",
            height=84,
            elem_id="tune-folder",
        )

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `values` fills."""
        return [self.choice, self.inspect, self._compare, self._remove, self._download]

    def values(self, visitor: str, name: str = "") -> list[Any]:
        """Values of `outputs` with one of the visitor's adapters chosen; the first one when it is not named or gone."""
        names = list(self._desk.adapters.of(owner_of(visitor))) if is_secret(visitor) else []
        chosen = name if name in names else next(iter(names), None)
        button = gr.update(interactive=chosen is not None)
        return [gr.update(choices=names, value=chosen), button, button, button, _download_value(visitor, chosen)]

    def wire(self, data: gr.Dropdown, plan_inputs: list[gr.components.Component], read_plan) -> None:
        """Connect the widgets.

        Args:
            data: the chosen data set.
            plan_inputs, read_plan: the plan's widgets, and what makes a plan of their values.
        """
        self._read_plan = read_plan
        own = [self._visitor, self.choice]
        self.choice.input(self._choose, own, [*self.outputs, self.status, self._table], queue=False, **_QUIET)
        self._remove.click(self._take_away, own, [*self.outputs, self.status], **_QUIET)
        self._compare.click(
            self._evaluate,
            [*own, data, *plan_inputs],
            [self._table, self.status],
            concurrency_id="tune-compare",
            concurrency_limit=1,
            **_QUIET,
        )
        self._push.click(
            self._send,
            [*own, self._repository, self._token],
            [self._token, self._push_status],
            **_QUIET,
        )
        loaded = [self._load_status, *self.outputs]
        self._adapter.upload(self._take, [self._visitor, self._adapter], [self._adapter, *loaded], **_QUIET)
        self._load.click(self._fetch, [self._visitor, self._hub], loaded, **_QUIET)
        self._write.click(self._scale, plan_inputs, [self._text, self._config, self._scale_status], **_QUIET)

    # ---- events ------------------------------------------------------------------------------

    def _choose(self, visitor: str, name: str | None) -> list[Any]:
        try:
            return [*self.values(visitor, str(name)), "", ""]
        except Exception as error:
            return [*[gr.skip()] * len(self.outputs), error_status(error), gr.skip()]

    def _take_away(self, visitor: str, name: str | None) -> list[Any]:
        try:
            self._desk.adapters.remove(owner_of(visitor), str(name))
            return [*self.values(visitor), status(f"“{name}” was removed from the server.")]
        except Exception as error:
            return [*[gr.skip()] * len(self.outputs), error_status(error)]

    def _evaluate(self, visitor: str, name: str | None, data: str | None, *plan: Any) -> Iterator[list[Any]]:
        try:
            for report in self._desk.compare(owner_of(visitor), str(name), data, self._read_plan(*plan)):
                if isinstance(report, Step):
                    yield [gr.skip(), step_status(report)]
                else:
                    yield [comparison_table(str(name), report), ""]
        except Exception as error:
            yield [gr.skip(), error_status(error)]

    def _send(self, visitor: str, name: str | None, repository: str, token: str) -> Iterator[list[Any]]:
        # The token leaves the page at once.
        yield ["", status("Pushing …")]
        try:
            address = self._desk.adapters.push(owner_of(visitor), str(name), repository.strip(), token)
        except Exception as error:
            yield ["", error_status(error)]
            return
        yield ["", status(f"Pushed to {address}")]

    def _take(self, visitor: str, path: str | None) -> list[Any]:
        if path is None:
            return [gr.skip()] * (2 + len(self.outputs))
        try:
            name = self._desk.adapters.load(owner_of(visitor), Path(path).stem, archive=Path(path))
        except Exception as error:
            return [None, error_status(error), *[gr.skip()] * len(self.outputs)]
        return [None, _loaded(name), *self.values(visitor, name)]

    def _fetch(self, visitor: str, hub_id: str) -> Iterator[list[Any]]:
        same = [gr.skip()] * len(self.outputs)
        yield [status("Fetching …"), *same]
        try:
            name = self._desk.adapters.load(owner_of(visitor), hub_id, hub_id=hub_id)
        except Exception as error:
            yield [error_status(error), *same]
            return
        yield [_loaded(name), *self.values(visitor, name)]

    def _scale(self, *plan: Any) -> list[Any]:
        try:
            config, command = self._desk.launch_text(self._read_plan(*plan))
        except Exception as error:
            return [gr.skip(), gr.skip(), error_status(error)]
        return [command, config, ""]


def _loaded(name: str) -> str:
    return status(f"Loaded as “{name}”: it fits the base model, and you find it in Inspect under “Answer with”.")


def _download_value(visitor: str, name: str | None) -> str:
    return json.dumps({"visitor": visitor, "adapter": name, "ready": name is not None})
