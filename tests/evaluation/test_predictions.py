"""Answers of other programs: every format that is read, and what cannot be brought to the questions for certain."""

import json
from dataclasses import replace

import openpyxl
import pytest

from a3tune.errors import DataError
from a3tune.evaluation.items import EvaluatedItem, read_items, write_items
from a3tune.evaluation.predictions import bring_to_questions, read_predictions
from a3tune.evaluation.questions import read_evaluation_data
from a3tune.evaluation.report import make_report, write_report
from a3tune.evaluation.scoring import compare_folders, score_predictions
from a3tune.evaluation.summary import comparison_text
from tests.support.tuning_data import write_data

SAID = ("yes", "left lung", "no", "right kidney")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_evaluation_data(write_data(tmp_path_factory.mktemp("answered")))


def texts(path, data):
    items, _ = bring_to_questions(read_predictions(path), data, "theirs")
    return tuple(item.prediction for item in items)


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def questions_of(data):
    return [question.item.question for question in data.questions]


FORMATS = {
    "list": lambda path, data: path.write_text(json.dumps(SAID)),
    "objects": lambda path, data: path.write_text(json.dumps([{"pred": said} for said in SAID])),
    "mapping": lambda path, data: path.write_text(
        json.dumps({question.identifier: said for question, said in zip(data.questions, SAID, strict=True)})
    ),
    "lines": lambda path, data: lines(
        path, [{"id": q.identifier, "response": said} for q, said in zip(data.questions, SAID, strict=True)][::-1]
    ),
    "llava-med": lambda path, data: lines(
        path,
        [
            {
                "question_id": f"far{number}",
                "prompt": "<image>\n" + asked,
                "text": said,
                "answer_id": "x",
                "metadata": {},
            }
            for number, (asked, said) in enumerate(zip(questions_of(data), SAID, strict=True))
        ],
    ),
    "lmms-eval": lambda path, data: lines(
        path,
        [
            {
                "doc_id": number,
                "doc": {"question": asked},
                "target": "t",
                "resps": [[said + "!"]],
                "filtered_resps": [said],
            }
            for number, (asked, said) in enumerate(zip(questions_of(data), SAID, strict=True))
        ][::-1],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read(name, data, tmp_path):
    path = tmp_path / "answers.json"
    FORMATS[name](path, data)
    assert texts(path, data) == SAID


def test_tables_are_read(data, tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["index", "question", "answer", "prediction"])
    for number, (asked, said) in enumerate(zip(questions_of(data), SAID, strict=True)):
        book.active.append([number, asked, "?", said])
    book.save(tmp_path / "vlmevalkit.xlsx")
    assert texts(tmp_path / "vlmevalkit.xlsx", data) == SAID
    table = "index\tquestion\tprediction\n"
    table += "".join(f"{n}\t{q}\t{s}\n" for n, (q, s) in enumerate(zip(questions_of(data), SAID, strict=True)))
    (tmp_path / "answers.tsv").write_text(table)
    assert texts(tmp_path / "answers.tsv", data) == SAID


def numbered(path, data, numbers, *, asked=True):
    return lines(
        path,
        [
            {"index": number, "prediction": SAID[place]} | ({"question": questions_of(data)[place]} if asked else {})
            for place, number in numbers
        ],
    )


def test_numbers_may_begin_at_one(data, tmp_path):
    path = tmp_path / "answers.jsonl"
    whole = numbered(path, data, [(3, 4), (0, 1), (2, 3), (1, 2)], asked=False)
    assert texts(whole, data) == SAID
    # Some alone: the highest number, or the words, say where they begin.
    assert texts(numbered(path, data, [(1, 2), (3, 4)], asked=False), data) == (None, SAID[1], None, SAID[3])
    assert texts(numbered(path, data, [(0, 1), (1, 2)]), data) == (SAID[0], SAID[1], None, None)
    assert texts(numbered(path, data, [(1, 1), (2, 2)]), data) == (None, SAID[1], SAID[2], None)
    with pytest.raises(DataError, match=r"2 answers of 4, numbered from 1 to 2: they may count from 0 or from 1"):
        texts(numbered(path, data, [(1, 1), (2, 2)], asked=False), data)
    # lmms-eval counts from 0.
    rows = [{"doc_id": 1, "resps": [["no"]]}]
    assert texts(lines(path, rows), data) == (None, "no", None, None)


def test_every_system_of_own_items_is_scored(data, tmp_path):
    (tmp_path / "theirs.json").write_text(json.dumps(SAID))
    score_predictions(tmp_path / "theirs.json", data, tmp_path / "one")
    (plain,) = {item.system: item for item in read_items(tmp_path / "one" / "items.jsonl")}.values()
    shown = replace(plain, system="a3", adapter="a3")
    blind = replace(plain, system="a3, text only", adapter="a3", control="text", prediction="nothing")
    rows = [replace(item, number=plain.number) for item in (shown, blind)]
    write_items(tmp_path / "both.jsonl", rows)
    report = score_predictions(tmp_path / "both.jsonl", data, tmp_path / "two")
    assert report.systems == ("a3", "a3, text only")
    assert [(one.adapter, one.control) for one in report.controls[:1]] == [("a3", "text")]
    assert not report.comparisons  # a control is compared with its own adapter alone
    assert any(note.startswith("a3: 3 of 4 questions have no answer") for note in report.notes)


def test_missing_answers_are_gaps(data, tmp_path):
    path = lines(tmp_path / "some.jsonl", [{"id": data.questions[2].identifier, "output": "no"}])
    items, notes = bring_to_questions(read_predictions(path), data, "theirs")
    assert [item.prediction for item in items] == [None, None, "no", None]
    assert "3 of 4 questions have no answer" in notes[0]
    assert items[0].gap


def test_what_says_that_there_is_no_answer_is_a_gap_and_an_empty_one_is_told(data, tmp_path):
    (tmp_path / "some.csv").write_text("index,prediction\n0,yes\n1,\n2,no\n3,right kidney\n")
    path = lines(tmp_path / "some.jsonl", [{"pred": said} for said in ("yes", None, float("nan"), "")])
    for name, said, notes in (
        ("some.csv", ["yes", None, "no", "right kidney"], ["1 of 4 questions have no answer in the file."]),
        (
            path.name,
            ["yes", None, None, ""],
            ["2 of 4 questions have no answer", "1 answer in the file without a word"],
        ),
    ):
        items, told = bring_to_questions(read_predictions(tmp_path / name), data, "theirs")
        assert [item.prediction for item in items] == said
        assert [bool(item.gap) for item in items] == [item.prediction is None for item in items]
        assert not any(item.scores for item in items if item.prediction is None)
        assert all(words in " ".join(told) for words in notes)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"output": "yes"}], "has 1 answers"),
        ([{"output": "yes"}] * 5, "has 5 answers"),
        ([{"id": "nobody", "output": "yes"}, {"id": "rows.csv:10", "output": "no"}], "'nobody'"),
        ([{"id": "rows.csv:10", "output": "yes"}] * 2, "more than once"),
        ([{"doc_id": 9, "output": "yes"}], "number 9"),
        ([{"doc_id": 1, "output": "yes"}, {"doc_id": 1, "output": "no"}], "more than once"),
        ([{"weather": "fine"}], "weather"),
        ([{"output": {"a": 1}}], "under output"),
        ([7], "answer in words"),
        ([{"question": "Is it raining?", "output": "yes"}] * 4, "raining"),
    ],
)
def test_what_does_not_fit_is_told(rows, words, data, tmp_path):
    path = lines(tmp_path / "bad.jsonl", rows)
    with pytest.raises(DataError, match=words):
        bring_to_questions(read_predictions(path), data, "theirs")


def test_answers_in_another_order_are_refused(data, tmp_path):
    rows = [{"question": asked, "output": said} for asked, said in zip(questions_of(data), SAID, strict=True)]
    with pytest.raises(DataError, match="answers"):
        bring_to_questions(read_predictions(lines(tmp_path / "turned.jsonl", [*rows[1:], rows[0]])), data, "theirs")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"\xff\xfe{", "UTF-8"),
        ("a.jsonl", b'{"output": "yes"}\n{"output":', "line 2"),
        ("a.json", b"[" * 100_000, "nested|no JSON"),
        ("a.json", b"3", "holds"),
        ("a.json", b"[]", "has none"),
        ("a.xlsx", b"no book", "Excel"),
        ("a.tsv", b'a\tb\n"x', "table"),
    ],
)
def test_damaged_files_are_told(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_predictions(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "nothing.json")


def test_scored_answers_can_be_read_and_compared(data, tmp_path):
    first = tmp_path / "first.json"
    first.write_text(json.dumps(SAID))
    second = tmp_path / "second.json"
    second.write_text(json.dumps(("no", "left lung", "no", "nothing at all " * 1000)))
    one = score_predictions(first, data, tmp_path / "one")
    score_predictions(second, data, tmp_path / "two")
    assert "taken in the order" in one.notes[0]
    assert texts(tmp_path / "one" / "items.jsonl", data) == SAID
    found = compare_folders(tmp_path / "one", tmp_path / "two", out=tmp_path / "both")
    assert (found.questions, found.only_before, found.only_after) == (4, 0, 0)
    assert list(found.settings) == ["predictions"]
    closed = next(entry for entry in found.comparisons if entry.name == "accuracy")
    assert closed.before == "first (one)"
    # With two images there is no interval, and the words say so.
    assert closed.verdict == "cannot be told from 2 images"
    assert json.loads((tmp_path / "both" / "comparison.json").read_text())["questions"] == 4


def test_folders_that_share_nothing_or_hold_nothing_are_told(data, tmp_path):
    (tmp_path / "empty").mkdir()
    first = tmp_path / "first.json"
    first.write_text(json.dumps(SAID))
    score_predictions(first, data, tmp_path / "one")
    with pytest.raises(DataError, match="cannot be read"):
        compare_folders(tmp_path / "one", tmp_path / "empty")
    other = read_evaluation_data(write_data(tmp_path / "other", images=9, validation=2))
    score_predictions(first, other, tmp_path / "two")
    with pytest.raises(DataError, match="share none"):
        compare_folders(tmp_path / "one", tmp_path / "two")
    (tmp_path / "one" / "items.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(DataError, match="Line 1"):
        compare_folders(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_sha256": [1]}, "Line 1 of items.jsonl is none"),
        ({"number": "7"}, "Line 1 of items.jsonl is none"),
        ({"groups": {"topic": 3}}, "Line 1 of items.jsonl is none"),
        ({"control": {}}, "Line 1 of items.jsonl is none"),
        ({"margin": "wide"}, "Line 1 of items.jsonl is none"),
        ("[" * 100_000, "Line 1 of items.jsonl is none"),
    ],
)
def test_items_of_another_kind_are_told(data, tmp_path, change, words):
    (tmp_path / "first.json").write_text(json.dumps(SAID))
    for name in ("one", "two"):
        score_predictions(tmp_path / "first.json", data, tmp_path / name)
    items = tmp_path / "one" / "items.jsonl"
    first, *others = items.read_text().splitlines()
    spoilt = change if isinstance(change, str) else json.dumps(json.loads(first) | change)
    items.write_text("\n".join([spoilt, *others]))
    with pytest.raises(DataError, match=words):
        compare_folders(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    "made", [None, 3, {"settings": 1.5}, {"settings": {"head_sets": 2}}, {"settings": {"head_sets": [{}]}}]
)
def test_a_report_that_does_not_say_how_it_was_made_is_told(data, tmp_path, made):
    (tmp_path / "first.json").write_text(json.dumps(SAID))
    score_predictions(tmp_path / "first.json", data, tmp_path / "one")
    report = tmp_path / "one" / "report.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"provenance": made}))
    with pytest.raises(DataError, match="does not say with which settings"):
        compare_folders(tmp_path / "one", tmp_path / "one")


def test_other_right_answers_are_refused_and_attention_of_another_kind_is_left_out(data, tmp_path):
    def evaluated(name, critical_heads, mass, answer="left lung"):
        folder = tmp_path / name
        item = EvaluatedItem(
            "a", 0, "base", "1.png", "1", "Where?", answer, "open", "left lung", masks="true",
            attention={"given": {"attention_mass": mass}}, scores={"strict": {"recall": 1.0}},
        )  # fmt: skip
        items = (item, replace(item, id="b", number=1, image_sha256="2"))
        facts = {"settings": {"masks": "true", "critical_heads": critical_heads, "seed": 0}}
        folder.mkdir()
        write_items(folder / "items.jsonl", items)
        write_report(make_report(items, data.record(), facts), folder)
        return folder

    one = evaluated("one", 4, 0.2)
    same, other = (compare_folders(one, evaluated(name, heads, 0.9)) for name, heads in (("two", 4), ("three", 8)))
    assert {entry.name for entry in same.comparisons} == {"recall", "attention_mass"}
    assert not same.notes
    assert {entry.name for entry in other.comparisons} == {"recall"}
    assert other.settings == {"critical_heads": (4, 8)}
    told = comparison_text(other)
    assert "critical_heads: 4 -> 8" in told
    assert "Attention is not compared: it was measured with other critical heads (4 and 8)." in told
    with pytest.raises(DataError, match=r"2 of 2 questions have another right answer in .*four; the first: a"):
        compare_folders(one, evaluated("four", 4, 0.9, "right lung"))
