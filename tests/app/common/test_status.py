"""Results as values for the viewer, errors as words."""

from __future__ import annotations

import base64
import errno
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from a3tune.errors import Cancelled, DataError, RequestError
from a3tune.images import ImageDescription, image_from_array
from a3tune.inspection.inspect import Inspection
from a3tune.inspection.views import AdapterView
from a3tune.types import AttentionMaps, Head, PatchGrid, PatchTile, Token, Window
from app.common.status import describe, error_status, explain, model_value, step_status
from app.engine.background import Step
from app.engine.model_generation import ModelGeneration
from app.engine.model_slot import ModelStatus
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.results import Result, ViewNumbers
from app.inspect.viewer.image_value import thumbnail
from app.inspect.viewer.values import finished_status, head_map_value, viewer_value


def halves(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f2").astype(np.float32)


@pytest.fixture
def finished() -> Result:
    """Two layers of three heads, four patches; a template word before the image, two words, two answer tokens."""
    generator = np.random.default_rng(0)
    weights = generator.random((2, 3, 4, 4)).astype(np.float32) / 4
    roles = [
        ("template", "<s>"),
        *[("image", "<image>")] * 4,
        ("question", " is"),
        ("question", " is"),
        ("answer", "no"),
        ("answer", "</s>"),
    ]
    tokens = tuple(Token(place, 10 + place, text, role) for place, (role, text) in enumerate(roles))
    maps = AttentionMaps(weights, np.arange(5, 9), weights.sum(axis=-1))
    view = AdapterView("base", "no", tokens, maps, weights.sum(axis=-1).mean(axis=-1), (Head(1, 2), Head(0, 1)))
    boxes = np.array([[x, y, x + 5, y + 4] for y in (0, 4) for x in (0, 5)], dtype=np.float64)
    grid = PatchGrid(boxes, (PatchTile(0, 2, 2, (0.0, 0.0, 10.0, 8.0)),), 8, 10)
    image = image_from_array(np.full((8, 10), 90, dtype=np.uint8))
    inspection = Inspection("tiny", image, "is is", grid, (view,), seconds={"base.answer": 0.24})
    entropy = np.full((2, 3), 0.25)
    entropy[0, 0] = np.nan
    generation = ModelGeneration("tiny", special_tokens=frozenset({"<s>", "</s>"}))
    opened = OpenedImage(image, ImageDescription("array", None, 8, 10, 1, 0, None, 1, False, None, False))
    return Result("name", inspection, (ViewNumbers({3: (0, 1, 2)}, entropy),), opened, generation)


def result(finished: Result) -> dict:
    return json.loads(viewer_value(finished.opened, finished))["result"]


def only_view(finished: Result) -> dict:
    (view,) = result(finished)["views"]
    return view


def test_maps_are_means_over_the_head_sets(finished):
    weights = finished.inspection.views[0].maps.weights
    value = only_view(finished)
    np.testing.assert_allclose(halves(value["maps"]["mean"]).reshape(4, 4), weights.mean(axis=(0, 1)), rtol=1e-3)
    critical = (weights[1, 2] + weights[0, 1]) / 2
    np.testing.assert_allclose(halves(value["maps"]["critical"]).reshape(4, 4), critical, rtol=1e-3)
    np.testing.assert_allclose(
        halves(value["head_means"]["answer"]).reshape(2, 3, 4),
        weights[:, :, 1],
        rtol=1e-3,
        err_msg="the end token is no word, and a word is written where the one before it is read",
    )
    np.testing.assert_allclose(halves(head_map_value(weights[0, 0])["map"]).reshape(4, 4), weights[0, 0], rtol=1e-3)
    assert value["sinks"] == [[3, [0, 1, 2]]]
    assert value["critical"] == [[1, 2], [0, 1]]
    assert value["entropy"] == [None, 0.25, 0.25, 0.25, 0.25, 0.25]
    assert result(finished)["tiles"] == [{"start": 0, "rows": 2, "columns": 2, "box": [0, 0, 10, 8], "overview": False}]


def test_words_of_the_question_have_their_own_row_and_the_answers_the_one_they_are_written_from(finished):
    tokens = only_view(finished)["tokens"]
    assert [(token["text"], token["row"], token["special"]) for token in tokens] == [
        ("<s>", None, True),
        (" is", 0, False),
        (" is", 1, False),
        ("no", 1, False),
        ("</s>", 2, True),
    ]


def test_markup_in_a_text_cannot_reach_the_page(finished):
    hostile = "</script><script>alert(1)</script>"
    view = finished.inspection.views[0]
    object.__setattr__(view, "answer", hostile)
    text = viewer_value(finished.opened, finished)
    assert "<" not in text
    assert json.loads(text)["result"]["views"][0]["answer"] == hostile
    error = RequestError(expected="words", got="<b>bold</b>", remedy="none")
    assert "<b>" not in error_status(error)
    assert "<b>" not in step_status(Step("<b>", 0.5))


def test_an_image_is_described_by_what_it_is(finished):
    image = finished.inspection.image
    object.__setattr__(image, "modality", "CT")
    object.__setattr__(image, "window", Window(40.0, 400.0))
    object.__setattr__(image, "frame_count", 9)
    assert describe(image) == ("CT · array\n1 of 9", "C 40  W 400", "10 × 8 px")
    assert describe(replace(image, notes=("This is a dose",))).size == "10 × 8 px\nThis is a dose"
    square = replace(image, stored_size=(4, 10), notes=("This is a dose", "Not square at length"))
    assert describe(square).size.splitlines()[-1] == "This is a dose"
    assert thumbnail(image).startswith("data:image/jpeg;base64,")


def test_a_picture_is_encoded_once_as_long_as_it_is_open(finished, monkeypatch):
    first = viewer_value(finished.opened, finished, [finished])
    monkeypatch.setattr("app.inspect.viewer.image_value._data_url", None)
    assert viewer_value(finished.opened, finished, [finished]) == first


def test_what_can_be_opened_again_is_told_in_short(finished):
    (past,) = json.loads(viewer_value(finished.opened, None, [finished]))["history"]
    assert past.pop("thumbnail").startswith("data:image/jpeg;base64,")
    image = finished.inspection.image.sha256
    assert past == {"result": "name", "image": image, "question": "is is", "answers": [["base", "no"]]}


def test_a_foreseen_error_is_told_as_it_is():
    error = RequestError(expected="a question", got="The question is empty", remedy="Write one")
    assert explain(error) == str(error)
    assert 'role="alert"' in error_status(error)
    assert "Cancelled." in error_status(Cancelled())


def test_an_unforeseen_error_is_a_number_here_and_a_place_in_the_log(caplog):
    message = "the name of " + "a patient"
    try:
        raise ValueError(message)
    except ValueError as error:
        with caplog.at_level(logging.ERROR, logger="a3tune.app"):
            words = explain(error)
    (record,) = caplog.records
    number = record.args[1]
    assert number in words
    assert "ValueError" in record.getMessage()
    assert "test_status.py" in record.getMessage()
    assert "name of a patient" not in record.getMessage() + words


def test_times_and_the_model_are_told(finished):
    assert "Answer in 240 ms, with the attention of every head." in finished_status(finished)
    error = RequestError(expected="a folder", got="No folder", remedy="Choose one")
    assert model_value(ModelStatus("failed", "x", False, error))["text"] == str(error)
    assert model_value(ModelStatus("ready", "x", False))["text"] == "ready"
    remarked = ModelStatus("ready", "x", False, remarks=("The processor does not say its patch size.",))
    assert model_value(remarked)["notice"].endswith(" The processor does not say its patch size.")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/tmp/tmp1a/.x.part/run.json is damaged", "run.json is damaged"),
        ("no folder at '/srv/models/llava'", "no folder at 'llava'"),
        ("see (/a/b/c.png), /d/e/f.", "see (c.png), f."),
        ("Accept it at https://huggingface.co/a/b, or give and/or 3/4", None),
        ("owner/name is no folder, 1/2/3 neither; assets/demo/scorer is", None),
    ],
)
def test_no_visitor_reads_where_things_lie_on_the_server(text, shown):
    error = DataError(expected="a", got=text, remedy="b")
    assert explain(error) == f"{_ended(shown or text)} Expected a. b."


def _ended(text):
    return text if text.endswith(".") else f"{text}."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/srv/x"), "disk of the server is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk of the server is full"),
        (RuntimeError("PytorchStreamWriter failed: No space left on device"), "disk of the server is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/x"), "may not write there"),
        (OSError(errno.EROFS, "Read-only file system"), "may not write there"),
        (MemoryError(), "not enough free memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "not enough free memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "not enough free memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough free memory"),
    ],
)
def test_what_the_machine_lacks_is_a_sentence(error, words):
    said = explain(error)
    assert words in said
    assert "Something unexpected" not in said
    assert "/srv" not in said
