"""One answer's scores: equal to the research code's where that is asked for, and without its faults elsewhere."""

import json
from pathlib import Path

import pytest

from a3tune.evaluation.multiple_choice import chosen_option, closest_option, options_of, reference_option_hit
from a3tune.evaluation.text_normalisation import normalise_reference, normalise_strict
from a3tune.evaluation.vqa import polarity, score_closed, score_open

GOLDEN = json.loads((Path(__file__).parents[1] / "files" / "golden_vqa_metrics.json").read_text(encoding="utf-8"))
CHOICES = GOLDEN["multiple_choice"]


@pytest.mark.parametrize("case", GOLDEN["normalize_word"], ids=lambda case: repr(case["inp"]))
def test_the_reference_normalisation_is_the_research_codes(case):
    assert normalise_reference(case["inp"]) == case["norm"]
    assert normalise_reference(case["inp"].lower()) == case["lower_then_norm"]


@pytest.mark.parametrize("item", GOLDEN["items"], ids=lambda item: f"{item['gt']}-{item['pred']}"[:40])
def test_the_reference_scores_are_the_research_codes(item):
    assert normalise_reference(item["gt"].lower()) == item["gt_norm"]
    assert normalise_reference(item["pred"].lower()) == item["pred_norm"]
    expected = dict(item["run_eval"])
    if item["answer_type"] == "CLOSED":
        found = score_closed("reference", item["gt"], item["pred"])
        assert found == {"accuracy": expected["closed_hit"]}
    else:
        found = score_open("reference", item["gt"], item["pred"])
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("case", CHOICES, ids=lambda case: f"{case['pred']}-{case['label_from']}")
def test_the_reference_choice_is_the_research_codes(case):
    label = case["label"].lower() if case["label_from"] == "conversations" else case["label"]
    assert closest_option(case["pred"], case["options"]) == case["index_pred"]
    assert closest_option(label, case["options"]) == case["index_label"]
    assert reference_option_hit(case["pred"], label, case["options"]) == bool(case["correct"])


@pytest.mark.parametrize(
    ("answer", "prediction", "right"),
    [
        ("no", "The heart size is normal.", False),
        ("no", "There is a nodule", False),
        ("no", "I do not know", False),
        ("no", "yes or no", False),
        ("yes", "yes and no", False),
        ("no", "There is no nodule", True),
        ("yes", "Yes, there is no doubt", True),
        ("Yes", "YES.", True),
        ("no", "", False),
        ("right", "right", True),
        ("right", "The right side, not the left.", True),
        ("right", "left", False),
        ("right", "left and right", False),
        ("left and right", "left and right", True),
        ("MRI", "No, this is an MRI", True),
        ("PA", "It is not PA", False),
        ("PA", "a pack", False),
        ("", "no", False),
        ("not seen", "The nodule is not seen", True),
        ("benign", "malignant", False),
        ("yes", "That is not true.", False),
        ("no", "Not correct", True),
        ("no", "There is no true mass", True),
        ("no", "No, no mass.", True),
        ("yes", "It is not incorrect", False),
        ("yes", "Yes/No", False),
        ("True", "yes", True),
        ("False", "No.", True),
        ("MRI", "CT or MRI", False),
        ("CT", "CT/MRI", False),
        ("CT", "Not MRI but CT", True),
        ("right side", "right", True),
        ("right", "The right-sided lung", True),
        ("left side", "the right side", False),
    ],
)
def test_strict_closed_answers(answer, prediction, right):
    assert score_closed("strict", answer, prediction) == {"accuracy": float(right)}


def test_words_that_hold_no_are_not_no():
    assert [polarity(text) for text in ("normal", "nodule", "know", "none of it", "No", "assistant: yes")] == [
        None, None, None, None, "no", "yes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Absent.", "no"), ("negative", "no"), ("Negative for pneumothorax", "no"), ("The mass is absent", "no"),
        ("present", "yes"), ("Positive", "yes"), ("A mass is present in the left lung", "yes"), ("Mass present", "yes"),
        ("not present", "no"), ("A mass isn't present.", "no"), ("It is not absent", "yes"),
        ("No mass is present", "no"), ("There is no mass present", "no"), ("Yes, though the other is absent", "yes"),
        ("absent or present", None), ("present/absent", None), ("It may be present", None),
        ("I do not know whether it is present", None), ("It cannot be said to be present", None),
        ("The mass is present, the effusion is absent", None), ("Gram-positive cocci are seen", None),
        ("nothing at present", None), ("Present image shows a lung", None), 
        ("Absent. The lungs are clear.", "no"), ("normal", None), ("Nothing is present", None),
    ],
)  # fmt: skip
def test_what_is_present_or_positive_is_yes_and_what_is_absent_or_negative_no(said, meant):
    assert polarity(said, "Is there a mass?") == meant
    assert [score_closed("strict", answer, said)["accuracy"] for answer in ("yes", "no")] == [
        meant == "yes",
        meant == "no",
    ]


def test_a_question_after_what_is_absent_is_answered_by_it():
    asked = "Is the left kidney absent?"
    assert [polarity(said, asked) for said in ("Absent", "present", "not absent", "Yes")] == ["yes", "no", "no", "yes"]
    assert score_closed("strict", "yes", "It is absent", question=asked)["accuracy"] == 1
    assert polarity("negative", "Is the test positive or negative?") is None
    assert score_closed("strict", "negative", "not positive, it is negative")["accuracy"] == 1


def test_strict_open_scores_count_a_repeated_word_once():
    scores = score_open("strict", "brain", "brain brain brain")
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == 1
    assert score_open("strict", "brain brain tumor", "brain tumor")["recall"] == pytest.approx(2 / 3)
    assert score_open("strict", "brain", "brain")["exact_match"] == 1
    assert score_open("strict", "brain", "the brain")["exact_match"] == 1
    assert score_open("strict", "brain", "brain stem")["exact_match"] == 0
    assert score_open("strict", "", "brain") == dict.fromkeys(scores, 0.0)
    assert score_open("strict", "brain", "") == dict.fromkeys(scores, 0.0)
    long = score_open("strict", "heart size is normal", "heart size is normal")
    assert long == dict.fromkeys(scores, 1.0)


def test_an_answer_of_three_thousand_words_is_scored():
    scores = score_open("strict", "right lung", "right lung " * 1500)
    assert scores["recall"] == 1
    assert scores["precision"] == pytest.approx(1 / 1500)
    assert score_open("reference", "right lung", "right lung " * 1500)["recall"] == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1,000 ml", "1000ml"),
        ("two lesions", "2 Lesions!"),
        ("T1-weighted", "t1 weighted"),
        ("air‑fluid level", "air-fluid level"),
        ("can’t be seen", "can't be seen"),
        ("The lung", "lung."),
        ("1.5cm", "1.5 cm"),
        ("50 %", "50%"),
    ],
)
def test_the_strict_normalisation_joins_spellings(first, second):
    assert normalise_strict(first) == normalise_strict(second)


@pytest.mark.parametrize(("first", "second"), [("none", "0"), ("1.5", "15"), ("5.0 mm", "50 mm"), ("lung", "lungs")])
def test_the_strict_normalisation_keeps_meanings_apart(first, second):
    assert normalise_strict(first) != normalise_strict(second)


ORGANS = ("Left lung", "Right lung", "Heart")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1), ("(b)", 1), ("B. Right lung", 1), ("The answer is C.", 2), ("Answer: A", 0), ("heart", 2),
        ("The right lung is shown", 1), ("lung", None), ("left lung or right lung", None), ("", None), ("D", None),
        ("B. Heart", 2), ("It is not the heart", None), ("not heart", None), ("The heart, not the left lung", 2),
        ("I would say that the answer is C, since it beats", 2), ("the answer is A thing of beauty", None),
    ],
)  # fmt: skip
def test_an_option_is_chosen_where_it_is_certain(text, index):
    assert chosen_option(text, ORGANS) == index


def test_an_article_is_no_letter_and_a_longer_option_wins():
    assert chosen_option("a mass in the lung", ("lung", "mass in the lung")) == 1
    assert chosen_option("A mass", ("cyst", "mass")) == 1
    assert chosen_option("MRI", ("X-ray", "Magnetic resonance imaging (MRI)")) == 1
    assert not score_closed("strict", "liver", "", ("liver", "lung"))["accuracy"]


def test_an_option_that_denies_is_not_meant_by_what_it_denies():
    assert chosen_option("effusion", ("no effusion", "pneumothorax")) is None
    assert chosen_option("There is no effusion", ("no effusion", "effusion")) == 0
    assert chosen_option("not an effusion", ("no effusion seen", "effusion")) is None


@pytest.mark.parametrize("said", ["Assistant: {}", "assistant\n{}", "###Assistant: {}", " ASSISTANT : {}"])
def test_who_speaks_is_no_part_of_an_answer(said):
    assert score_closed("strict", "Heart", said.format("C"), ORGANS) == {"accuracy": 1}
    assert polarity(said.format("Absent. The lungs are clear."), "Is there a mass?") == "no"
    assert score_open("strict", "left lung", said.format("left lung"))["exact_match"] == 1
    assert score_open("strict", "left lung", said.format("left lung"))["precision"] == 1
    assert score_open("reference", "left lung", said.format("left lung"))["precision"] < 1
    assert score_open("strict", "assistant surgeon", "assistant surgeon")["exact_match"] == 1


def test_options_are_read_off_the_question():
    assert options_of("Which organ?\nA. lung\nB. liver\nC. none of these") == ("lung", "liver", "none of these")
    assert options_of("Which organ?") == ()
    assert options_of("Which?\nA. only one") == ()
    assert options_of("Which?\nB. lung\nC. liver") == ()
    for text in ("Which? A: lung, B: liver", "Which? (A) lung (B) liver", "Which?\na. lung\nb. liver\nOne letter."):
        assert options_of(text, "liver") == ("lung", "liver")
        assert options_of(text, "heart") == ()
