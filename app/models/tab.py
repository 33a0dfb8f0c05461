"""The Models tab: what can be loaded, what it takes, fetching and loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from a3tune.errors import RequestError
from app.access.identity import audit, require
from app.common.widgets import Answer, server_function, widget_parts
from app.models.service import ModelService
from app.models.values import catalogue_value, error_value, offer_value

if TYPE_CHECKING:
    from a3tune.catalogue import Kind


_CHANGE = "change what all visitors share"


def locked() -> str:
    """Why whoever asks may change nothing here; "" where they may."""
    try:
        require("operator", _CHANGE)
    except RequestError as error:
        return str(error)
    return ""


def build_models(service: ModelService) -> gr.HTML:
    """Builds the tab inside the running ``gr.Blocks`` context; it asks the server by itself what there is.

    Args:
        service: what fetches and loads.
    """
    parts = widget_parts("models/static/models")
    return gr.HTML(**parts, server_functions=list(model_answers(service)), elem_id="models")


def model_answers(service: ModelService) -> tuple[Answer, Answer, Answer]:
    """The functions that the page in the browser calls by their names."""

    def kind_of(request: dict[str, Any]) -> Kind:
        return cast("Kind", str(request.get("kind")))

    def models_state(_request: dict[str, Any]) -> dict[str, Any]:
        return {**catalogue_value(service.show()), "locked": locked()}

    def models_named(request: dict[str, Any]) -> dict[str, Any]:
        require("operator", _CHANGE)
        return {"entry": offer_value(service.describe(kind_of(request), str(request.get("name", ""))))}

    def models_act(request: dict[str, Any]) -> dict[str, Any]:
        require("operator", _CHANGE)
        kind, name = kind_of(request), str(request.get("name", ""))
        if request.get("action") == "cancel":
            audit("model-cancel")
            service.cancel()
        elif request.get("action") == "download":
            audit("model-download", kind=kind, source=name)
            service.download(kind, name)
        else:
            audit("model-load", kind=kind, source=name)
            service.load(kind, name, str(request.get("precision", "auto")), request.get("offload") is True)
        return {}

    state, named, act = (server_function(answer, error_value) for answer in (models_state, models_named, models_act))
    return state, named, act
