import pytest

from a3tune.errors import LabelError
from a3tune.labels.scorers.templates import TEMPLATE_SETS, build_prompt, fill_template, kept_count

QUESTION = "Is the heart enlarged?"


@pytest.mark.parametrize(
    ("name", "organ", "expected"),
    [
        ("slake", "Chest_heart", "Medical image of Chest_heart and lungs. Is the heart enlarged?"),
        ("slake", "Abdomen", "Medical imgaing of abdomen.Is the heart enlarged?"),
        ("slake", "Lung", "Medical image of Lung.Is the heart enlarged?"),
        ("vqa-rad", "CHEST", "Medical image of CHEST and lungs. Is the heart enlarged?"),
        ("vqa-rad", "ABD", "Medical imgaing of abdomen CT.Is the heart enlarged?"),
        ("vqa-rad", "HEAD", "Medical image of HEAD.Is the heart enlarged?"),
        ("vqa-rad-boxes", "CHEST", "CHEST and lungs"),
        ("vqa-rad-boxes", "HEAD", "Medical imgaing of the whole brain.Is the heart enlarged?"),
        ("pathvqa", "", "Medical image of pathology.Is the heart enlarged?"),
        ("chest-report", "", "Medical image of lungs and chest X-ray."),
        ("question-only", "", QUESTION),
        ("plain", "", QUESTION),
    ],
)
def test_wordings(name, organ, expected):
    assert build_prompt(f"<image>\n{QUESTION}", name, organ) == expected


def test_number_of_regions_kept():
    assert {name: entry.top_k for name, entry in TEMPLATE_SETS.items()} == {
        "plain": 8,
        "slake": 8,
        "vqa-rad": 8,
        "vqa-rad-boxes": 4,
        "pathvqa": 8,
        "chest-report": 4,
        "question-only": 4,
    }


def test_missing_organ_and_unknown_set():
    with pytest.raises(LabelError, match="organ"):
        build_prompt(QUESTION, "slake")
    with pytest.raises(LabelError, match="nonsense"):
        build_prompt(QUESTION, "nonsense")
    assert build_prompt(QUESTION, "slake", needs_organ=False) == QUESTION
    assert all(entry.rows[-1].match == "" for entry in TEMPLATE_SETS.values()), "one wording must apply"


def test_own_template_keeps_other_braces():
    assert fill_template("{organ} {x}: {question}", "why {y}?", "liver") == "liver {x}: why {y}?"


def test_kept_counts_follow_the_template_unless_named():
    assert kept_count(None, "slake") == 8
    assert kept_count(None, "chest-report") == 4
    assert kept_count(None, "Look: {question}") == 8
    assert kept_count("3", "slake") == 3
    assert kept_count("all", "slake") is None


def test_a_wording_of_ones_own_is_filled():
    assert build_prompt("a cyst", "{organ}: {question}", "liver") == "liver: a cyst"
