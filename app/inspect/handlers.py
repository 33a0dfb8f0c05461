"""What answers the viewer in the browser when it asks for a head's map, for regions for checks or for files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from a3tune.errors import Cancelled
from app.common.status import explain
from app.inspect.export import take_away
from app.inspect.service import InspectService
from app.inspect.values import (
    faithfulness_value,
    file_value,
    head_map_value,
    numbers_value,
    regions_value,
    result_value,
    target_value,
)

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def viewer_answers(studio: InspectService) -> tuple[Answer, ...]:
    """The functions that the viewer calls by their names; each takes and gives a dict, and says in words under
    "error" why it cannot give more."""

    # Plain functions: Gradio marks server functions with an attribute, which a bound method cannot take.
    @_in_words
    def head_map(request: dict[str, Any]) -> dict[str, Any]:
        place = str(request["result"]), str(request["adapter"]), request["layer"], request["head"]
        return head_map_value(studio.head_map(*place))

    @_in_words
    def past_result(request: dict[str, Any]) -> dict[str, Any]:
        return result_value(studio.results.get(str(request["result"])).finished)

    @_in_words
    def find_regions(request: dict[str, Any]) -> dict[str, Any]:
        return regions_value(studio.regions.find(str(request["board"]), request["prompt"]))

    @_in_words
    def draw_region(request: dict[str, Any]) -> dict[str, Any]:
        ranked, key = studio.regions.draw(str(request["board"]), request["box"], request["prompt"])
        return {**regions_value(ranked), "key": key}

    @_in_words
    def choose_regions(request: dict[str, Any]) -> dict[str, Any]:
        return {"numbers": numbers_value(studio.measure(str(request["board"]), request["chosen"], request["others"]))}

    @_in_words
    def keep_target(request: dict[str, Any]) -> dict[str, Any]:
        return target_value(*studio.keep_target(str(request["board"]), request["chosen"]))

    @_in_words
    def stop_regions(request: dict[str, Any]) -> dict[str, Any]:
        studio.regions.stop(str(request["board"]))
        return {}

    @_in_words
    def start_faithfulness(request: dict[str, Any]) -> dict[str, Any]:
        asked = str(request["result"]), str(request["adapter"]), str(request["kind"]), request["heads"]
        return {"job": studio.faithfulness.start(*asked, request["rows"])}

    @_in_words
    def follow_faithfulness(request: dict[str, Any]) -> dict[str, Any]:
        return faithfulness_value(*studio.faithfulness.follow(str(request["job"])))

    @_in_words
    def stop_faithfulness(request: dict[str, Any]) -> dict[str, Any]:
        studio.faithfulness.stop(str(request["job"]))
        return {}

    @_in_words
    def take_file(request: dict[str, Any]) -> dict[str, Any]:
        return file_value(*take_away(studio, request))

    checks = start_faithfulness, follow_faithfulness, stop_faithfulness, take_file
    return (*checks, head_map, past_result, find_regions, draw_region, choose_regions, keep_target, stop_regions)


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
