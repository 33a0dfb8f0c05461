"""What the page is told of a finished evaluation: the report's own numbers, and the questions behind each."""

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from a3tune.errors import DataError, RequestError
from a3tune.evaluation.right_reason import CELLS
from app.evaluate.results import EvaluationReader, ItemFilter, download, results_value, with_told

ROOT = Path(__file__).resolve().parents[3]


def test_the_table_of_right_reasons_is_counted_at_every_threshold(folder):
    value = results_value(EvaluationReader().read(folder))
    steps = {step["threshold"]: step for step in value["reasons"]}
    assert steps[2.0]["counts"]["a3"] == dict(zip(CELLS, (2, 1, 1, 1), strict=True))
    assert steps[1.0]["counts"]["a3"] == dict(zip(CELLS, (3, 0, 1, 1), strict=True))
    (moved,) = steps[2.0]["flows"]
    assert (moved["before"], moved["after"]) == ("base", "a3")
    assert sorted(map(tuple, moved["flows"])) == [
        (CELLS[0], CELLS[0], 1), (CELLS[3], CELLS[0], 1), (CELLS[3], CELLS[1], 1), (CELLS[3], CELLS[3], 1),
    ]  # fmt: skip
    accuracy = next(metric for metric in value["metrics"] if metric["name"] == "accuracy" and metric["system"] == "a3")
    assert accuracy["interval"]["value"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("p", "low", "high", "told"),
    [(0.03, 0.01, 0.2, True), (0.03, -0.01, 0.2, False), (0.07, 0.01, 0.2, False), (None, 0.01, 0.2, False),
     (0.03, None, None, False)],
)  # fmt: skip
def test_two_are_told_apart_as_their_verdict_says(p, low, high, told):
    entry = {"p_holm": p, "difference": {"low": low, "high": high}, "verdict": "as it is"}
    assert with_told([entry]) == [{**entry, "told": told}]


def test_what_a_report_compares_says_whether_it_is_told(folder):
    comparisons = results_value(EvaluationReader().read(folder))["comparisons"]
    assert comparisons
    for one in comparisons:
        assert one["told"] is (", told apart by" in one["verdict"])


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        ({"kind": "all"}, [0, 1, 2, 3, 4]),
        ({"kind": "fixed"}, [1, 2]),
        ({"kind": "broken"}, []),
        ({"kind": "broken", "before": "a3", "after": "base"}, [1, 2]),
        ({"kind": "place"}, [2]),
        ({"kind": "place", "threshold": 1.0}, []),
        ({"kind": "wrong"}, [3, 4]),
        ({"kind": "gap"}, [4]),
        ({"kind": "cell", "cell": CELLS[0]}, [0, 1]),
        ({"kind": "flow", "cell": CELLS[3], "cell_after": CELLS[1]}, [2]),
        ({"kind": "all", "group": "topic", "value": "side"}, [0, 1]),
        ({"kind": "group", "group": "topic", "value": "side"}, [0, 1]),
        ({"kind": "all", "text": "MASS, 3"}, [3]),
    ],
)
def test_a_filter_keeps_its_questions(folder, chosen, numbers):
    reader = EvaluationReader()
    found = reader.page(reader.read(folder), ItemFilter(**{"before": "base", "after": "a3", **chosen}), 0)
    assert [item["number"] for item in found["items"]] == numbers
    assert found["count"] == len(numbers)


def test_a_question_has_both_sides_and_its_picture(folder):
    reader = EvaluationReader()
    found = reader.page(reader.read(folder), ItemFilter("all", "base", "a3"), 1)
    first, *_, last = found["items"]
    assert [side["right"] for side in first["sides"]] == [False, True]
    assert [side["cell"] for side in first["sides"]] == [CELLS[3], CELLS[0]]
    assert len(base64.b64decode(first["sides"][0]["map"])) == 2 * 4
    assert first["place"]["tiles"][0]["columns"] == 2
    assert first["picture"].startswith("data:image/jpeg")
    assert last["picture"] == "", "its image is gone"
    assert last["sides"][0]["prediction"] is None


def test_no_path_of_an_item_leads_out_of_the_data(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes((tmp_path / "data/images/0.png").read_bytes())
    text = (folder / "items.jsonl").read_text().replace("images/0.png", "../secret.png")
    (folder / "items.jsonl").write_text(text)
    reader = EvaluationReader()
    found = reader.read(folder)
    with pytest.raises(RequestError, match="gone with its data set"):
        reader.picture(found, found.by_system["base"][0])


def test_downloads_are_the_files_of_the_folder_and_no_others(folder):
    found = EvaluationReader().read(folder)
    assert base64.b64decode(download(found, "report.csv")) == (folder / "report.csv").read_bytes()
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(download(found, "figures.zip")))) as archive:
        assert sorted(archive.namelist()) == [
            "numbers.pdf", "numbers.png", "transitions_1.pdf", "transitions_1.png",
        ]  # fmt: skip
    for name in ("../secret.png", "evaluation.json", "", "lmms_eval.zip"):
        with pytest.raises(RequestError, match="There is no"):
            download(found, name)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [(("all", "base", "b3"), "no 'b3'"), (("best", "base", "a3"), "'best'")],
)
def test_a_filter_that_names_what_is_not_there_is_refused(folder, chosen, words):
    reader = EvaluationReader()
    with pytest.raises(RequestError, match=words):
        reader.page(reader.read(folder), ItemFilter(*chosen), 0)


def test_an_evaluation_that_is_written_anew_is_read_anew_and_a_damaged_one_told(folder):
    reader = EvaluationReader()
    first = reader.read(folder)
    assert reader.read(folder) is first
    reader.forget(folder)
    assert reader.read(folder) is not first
    (folder / "items.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="Line 1"):
        reader.read(folder)


def test_a_server_reads_results_without_what_computes():
    code = "import sys, app.evaluate.results; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"torch", "nltk", "statsmodels", "matplotlib"} == set()


def test_a_questions_mask_is_the_datas_own_on_the_pixels_of_its_image(folder):
    reader, data = EvaluationReader(), folder.parent / "data"
    found = reader.read(folder)
    items = next(iter(found.by_system.values()))
    rows = [
        {"image": items[number].image, "question": items[number].question, "answer": items[number].answer, **marks}
        for number, marks in ((0, {"boxes": [[3, 4, 5, 6]]}), (1, {}))
    ]
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mask = reader.reference_mask(found, items[0])
    assert mask.shape == (20, 30)
    assert mask.sum() == mask[4:10, 3:8].sum() == 30
    assert reader.reference_mask(found, items[1]) is None
    assert reader.reference_mask(found, items[2]) is None
