"""The Tune tab's ways out: adapters to use and give away, and the same run on other machines."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from a3tune.errors import RequestError
from app.jobs import owner_of
from app.present import error_status, explain, status
from app.tabs.tune_widgets import build_download
from app.tuning import TuneDesk

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Larger ones are sent to the hub, or fetched from the server's disk.
_MOST_DOWNLOADED = 256 << 20


class UsePart:
    """Widgets and wiring of adapters and other machines.

    Args:
        desk: the tab's services.
        visitor: the visitor's secret.
    """

    def __init__(self, desk: TuneDesk, visitor: gr.BrowserState) -> None:
        self._desk, self._visitor = desk, visitor

    def place_use(self) -> None:
        """Adapters to use and give away."""
        gr.HTML(
            "<p>An adapter can be downloaded from the run's first checkpoint on. To see it in Inspect, unpack the "
            "archive and start the page with <code>--adapter NAME=FOLDER</code>.</p>",
            apply_default_css=False,
        )
        desk = self._desk

        # A plain function: Gradio marks server functions with an attribute, which a bound method cannot take.
        def download_adapter(request: dict[str, Any]) -> dict[str, Any]:
            try:
                owner, run = owner_of(request.get("visitor")), str(request.get("run"))
                content = desk.zip_adapter(owner, run)
                if len(content) > _MOST_DOWNLOADED:
                    raise RequestError(
                        expected=f"an adapter of at most {_MOST_DOWNLOADED >> 20} MiB",
                        got=f"It has {len(content) >> 20} MiB",
                        remedy="Push it to the hub, or copy it from the server's disk",
                    )
                title = desk.view(owner, run).title
            except Exception as error:
                return {"error": explain(error)}
            name = re.sub(r"[^A-Za-z0-9.-]+", "-", title).strip("-") or "adapter"
            return {"archive": base64.b64encode(content).decode("ascii"), "name": f"{name}.zip"}

        self.download = build_download(download_adapter)
        with gr.Accordion("Push to the hub", open=False):
            self._repository = gr.Textbox(label="Repository", placeholder="your-name/repository", elem_id="tune-repo")
            self._token = gr.Textbox(
                label="Your token with the right to write (used once, kept nowhere)",
                type="password",
                elem_id="tune-token",
            )
            self._push = gr.Button("Push", elem_id="tune-push")
            self._push_status = gr.HTML("", elem_id="tune-push-status", apply_default_css=False)
        with gr.Accordion("Load an adapter", open=False, elem_id="tune-load"):
            self._adapter = gr.File(
                label="ZIP of a PEFT folder (safetensors only)", file_count="single", height=84, elem_id="tune-adapter"
            )
            self._hub = gr.Textbox(label="Or from the hub", placeholder="name/repository", elem_id="tune-adapter-hub")
            self._load = gr.Button("Load from the hub", elem_id="tune-load-hub")
            self._load_status = gr.HTML("", elem_id="tune-load-status", apply_default_css=False)

    def place_scale(self) -> None:
        """The same run on other machines."""
        self._text = gr.Code(label="Command", language="shell", interactive=False, elem_id="tune-command")
        self._config = gr.Code(label="config.yaml", language="yaml", interactive=False, elem_id="tune-config")
        self._write = gr.Button("Write command and config for the plan on the left", elem_id="tune-scale")
        self._scale_status = gr.HTML("", elem_id="tune-scale-status", apply_default_css=False)
        self.folder = gr.File(
            label="Open a run folder that was made elsewhere (ZIP)",
            file_count="single",
            height=84,
            elem_id="tune-folder",
        )

    def wire(self, run: gr.Dropdown, plan_inputs: list[gr.components.Component], read_plan) -> None:
        """Connect the widgets."""
        self._read_plan = read_plan
        self._push.click(
            self._send,
            [self._visitor, run, self._repository, self._token],
            [self._token, self._push_status],
            **_QUIET,
        )
        self._adapter.upload(self._take, [self._visitor, self._adapter], [self._adapter, self._load_status], **_QUIET)
        self._load.click(self._fetch, [self._visitor, self._hub], [self._load_status], **_QUIET)
        self._write.click(self._scale, plan_inputs, [self._text, self._config, self._scale_status], **_QUIET)

    # ---- events ------------------------------------------------------------------------------

    def _send(self, visitor: str, run: str | None, repository: str, token: str) -> Iterator[list[Any]]:
        # The token leaves the page at once.
        yield ["", status("Pushing …")]
        try:
            address = self._desk.push_adapter(owner_of(visitor), str(run), repository.strip(), token)
        except Exception as error:
            yield ["", error_status(error)]
            return
        yield ["", status(f"Pushed to {address}")]

    def _take(self, visitor: str, path: str | None) -> list[Any]:
        if path is None:
            return [gr.skip(), gr.skip()]
        try:
            title = self._desk.load_adapter(owner_of(visitor), Path(path).stem, archive=Path(path))
        except Exception as error:
            return [None, error_status(error)]
        return [None, _loaded(title)]

    def _fetch(self, visitor: str, hub_id: str) -> Iterator[str]:
        yield status("Fetching …")
        try:
            title = self._desk.load_adapter(owner_of(visitor), hub_id, hub_id=hub_id)
        except Exception as error:
            yield error_status(error)
            return
        yield _loaded(title)

    def _scale(self, *plan: Any) -> list[Any]:
        try:
            config, command = self._desk.launch_text(self._read_plan(*plan))
        except Exception as error:
            return [gr.skip(), gr.skip(), error_status(error)]
        return [command, config, ""]


def _loaded(title: str) -> str:
    return status(f"Loaded as “{title}”: it fits the base model.")
