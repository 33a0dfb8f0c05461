"""What answers the viewer in the browser when it asks for a head's map or for regions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from a3tune.errors import Cancelled
from app.present import explain, head_map_value, metrics_value, regions_value, target_value
from app.services import Studio

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def viewer_answers(studio: Studio) -> tuple[Answer, ...]:
    """The functions that the viewer calls by their names; each takes and gives a dict, and says in words under
    "error" why it cannot give more."""

    # Plain functions: Gradio marks server functions with an attribute, which a bound method cannot take.
    @_in_words
    def head_map(request: dict[str, Any]) -> dict[str, Any]:
        return head_map_value(studio.head_map(str(request["result"]), request["layer"], request["head"]))

    @_in_words
    def find_regions(request: dict[str, Any]) -> dict[str, Any]:
        return regions_value(studio.regions.find(str(request["board"]), request["prompt"]))

    @_in_words
    def draw_region(request: dict[str, Any]) -> dict[str, Any]:
        ranked, key = studio.regions.draw(str(request["board"]), request["box"], request["prompt"])
        return {**regions_value(ranked), "key": key}

    @_in_words
    def choose_regions(request: dict[str, Any]) -> dict[str, Any]:
        return {"metrics": metrics_value(studio.regions.choose(str(request["board"]), request["chosen"]))}

    @_in_words
    def keep_target(request: dict[str, Any]) -> dict[str, Any]:
        return target_value(*studio.keep_target(str(request["board"]), request["chosen"]))

    @_in_words
    def stop_regions(request: dict[str, Any]) -> dict[str, Any]:
        studio.regions.stop(str(request["board"]))
        return {}

    return head_map, find_regions, draw_region, choose_regions, keep_target, stop_regions


def _in_words(answer: Answer) -> Answer:
    @functools.wraps(answer)
    def safe(request: dict[str, Any]) -> dict[str, Any]:
        try:
            return answer(request)
        except Cancelled:
            return {"error": "Stopped."}
        except Exception as error:
            return {"error": explain(error)}

    return safe
