"""What a widget's script asks, and what it is told."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from a3tune.errors import RequestError
from app.common.widgets import server_function


@server_function
def read_page(request):
    if request["name"] == "gone":
        raise RequestError(expected="a page", got="There is none", remedy="Choose another")
    return {"name": request["name"], "box": request.get("box")}


def test_what_cannot_be_given_is_told_in_words_and_what_no_script_sends_is_refused():
    assert read_page({"name": "a", "box": None, "other": "x"}) == {"name": "a", "box": None}
    assert "There is none" in read_page({"name": "gone"})["error"]
    for unfit in (None, 1, "x", [], {}, {"name": 5}, {"name": ["a"]}, {"name": "a", "box": {"x": 1}}):
        with pytest.raises(HTTPException) as told:
            read_page(unfit)
        assert told.value.status_code == 400
