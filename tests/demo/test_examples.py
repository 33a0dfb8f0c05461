"""The bundled examples are what the command writes, and their captions say what the bundled model does."""

import json

import pytest

from a3tune.bundle import EXAMPLES
from a3tune.cli.main import main
from a3tune.demo.examples import LIST_NAME, Outcome
from a3tune.encoding import mask_of_text
from a3tune.images import load_image


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The list that the command writes now, beside the pictures: its results are measured anew."""
    folder = tmp_path_factory.mktemp("examples")
    assert main(["demo", "examples", "--out", str(folder)]) == 0
    return folder, json.loads((folder / LIST_NAME).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundled():
    return json.loads((EXAMPLES / LIST_NAME).read_text(encoding="utf-8"))


def test_the_bundled_examples_are_those_that_the_command_writes(written, bundled):
    folder, entries = written
    assert len(entries) == len(bundled) >= 8
    for entry, there in zip(entries, bundled, strict=True):
        assert {key: entry[key] for key in ("key", "file", "title", "questions")} == {
            key: there[key] for key in ("key", "file", "title", "questions")
        }
        drawn, shipped = load_image(folder / entry["file"]), load_image(EXAMPLES / entry["file"])
        assert drawn.pixels.shape == shipped.pixels.shape
        # Another processor may round a soft edge the other way.
        assert abs(drawn.pixels.astype(int) - shipped.pixels).max() <= 2
        assert entry["questions"][-1] == "Describe the image."


def test_every_caption_says_what_the_bundled_model_does(written, bundled):
    drawn = [(entry, there) for entry, there in zip(written[1], bundled, strict=True) if "outcomes" in there]
    assert len(drawn) == 6
    for entry, there in drawn:
        assert there["reference"] == entry["reference"]
        drawn_mask, shipped_mask = (mask_of_text(one.get("mask", ""), 1, 300 * 300) for one in (entry, there))
        assert (drawn_mask ^ shipped_mask).sum() <= 0.02 * shipped_mask.sum()
        assert ("mask" in there) == (there["outcomes"]["base"]["mass"] is not None)
        assert f"{there['questions'][0]} Reference answer: {there['reference']}." in there["about"]
        for name, told in there["outcomes"].items():
            found = entry["outcomes"][name]
            assert {key: told[key] for key in ("answer", "right", "pointing")} == {
                key: found[key] for key in ("answer", "right", "pointing")
            }
            assert told["right"] == (told["answer"] == there["reference"])
            if told["mass"] is not None:
                assert told["mass"] == pytest.approx(found["mass"], abs=0.01)
            assert Outcome(**told).words(name)[1:] in there["about"]


def test_the_opening_example_shows_what_tuning_does_where_it_works(bundled):
    base, tuned = (bundled[0]["outcomes"][name] for name in ("base", "a3"))
    assert not base["right"]
    assert not base["pointing"]
    assert tuned["right"]
    assert tuned["pointing"]
    assert tuned["mass"] > max(0.4, base["mass"])


def test_the_second_example_is_told_as_one_where_tuning_fails(bundled):
    assert not bundled[1]["outcomes"]["a3"]["right"]
    assert f"a3 says \u201c{bundled[1]['outcomes']['a3']['answer']}\u201d: wrong" in bundled[1]["about"]
