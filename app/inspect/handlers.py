"""What answers the viewer in the browser when it asks for a head's map, for regions for checks or for files."""

from __future__ import annotations

from typing import Any

from app.common.widgets import Answer, server_function
from app.engine.ids import CheckId, RegionSessionId, ResultId
from app.inspect.export_request import export, store
from app.inspect.service import InspectService
from app.inspect.viewer.image_value import image_value, pixel_values
from app.inspect.viewer.values import (
    faithfulness_value,
    file_value,
    head_map_value,
    numbers_value,
    regions_value,
    result_value,
    target_value,
)


def viewer_answers(service: InspectService) -> tuple[Answer, ...]:
    """The functions that the viewer calls by their names; each takes and gives a dict, and says in words under
    "error" why it cannot give more."""

    @server_function
    def head_map(request: dict[str, Any]) -> dict[str, Any]:
        place = ResultId(str(request["result"])), str(request["adapter"]), request["layer"], request["head"]
        return head_map_value(service.results.head_map(*place))

    @server_function
    def frames_ahead(request: dict[str, Any]) -> dict[str, Any]:
        frames = service.frames_ahead(_regions(request), [int(frame) for frame in request["frames"]])
        return {"images": [image_value(opened) for opened in frames]}

    @server_function
    def values(request: dict[str, Any]) -> dict[str, Any]:
        opened, found = service.pixel_values(_regions(request))
        return {"place": opened.place, "frame": opened.image.frame, **pixel_values(found)}

    @server_function
    def past_result(request: dict[str, Any]) -> dict[str, Any]:
        return result_value(service.results.get(ResultId(str(request["result"]))))

    @server_function
    def choose_pair(request: dict[str, Any]) -> dict[str, Any]:
        service.questions.choose_pair(_regions(request), [str(name) for name in request["adapters"]])
        return {}

    @server_function
    def find_regions(request: dict[str, Any]) -> dict[str, Any]:
        return regions_value(service.regions.find(_regions(request), request["prompt"], small=bool(request["small"])))

    @server_function
    def draw_region(request: dict[str, Any]) -> dict[str, Any]:
        small = bool(request["small"])
        ranked, key = service.regions.draw(_regions(request), request["box"], request["prompt"], small=small)
        return {**regions_value(ranked), "key": key}

    @server_function
    def choose_regions(request: dict[str, Any]) -> dict[str, Any]:
        others = [ResultId(str(name)) for name in request["others"]]
        return {"numbers": numbers_value(service.measure(_regions(request), request["chosen"], others))}

    @server_function
    def keep_target(request: dict[str, Any]) -> dict[str, Any]:
        return target_value(*service.keep_target(_regions(request), request["chosen"]))

    @server_function
    def stop_regions(request: dict[str, Any]) -> dict[str, Any]:
        service.regions.stop(_regions(request))
        return {}

    @server_function
    def start_faithfulness(request: dict[str, Any]) -> dict[str, Any]:
        asked = ResultId(str(request["result"])), str(request["adapter"]), str(request["kind"]), request["heads"]
        return {"job": service.faithfulness.start(*asked, request["rows"])}

    @server_function
    def follow_faithfulness(request: dict[str, Any]) -> dict[str, Any]:
        return faithfulness_value(*service.faithfulness.follow(CheckId(str(request["job"]))))

    @server_function
    def stop_faithfulness(request: dict[str, Any]) -> dict[str, Any]:
        service.faithfulness.stop(CheckId(str(request["job"])))
        return {}

    @server_function
    def take_file(request: dict[str, Any]) -> dict[str, Any]:
        return file_value(*export(service, request))

    @server_function
    def store_file(request: dict[str, Any]) -> dict[str, Any]:
        return {"said": store(service, request)}

    checks = start_faithfulness, follow_faithfulness, stop_faithfulness, take_file, store_file
    return (
        *checks,
        head_map,
        frames_ahead,
        values,
        past_result,
        choose_pair,
        find_regions,
        draw_region,
        choose_regions,
        keep_target,
        stop_regions,
    )


def _regions(request: dict[str, Any]) -> RegionSessionId:
    return RegionSessionId(str(request["session"]))
