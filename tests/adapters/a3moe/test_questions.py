"""The question is found from the ids around it, or the caller is told why not."""

import pytest
import torch

from a3tune.adapters.a3moe import question_spans
from a3tune.adapters.a3moe.questions import PromptTokens
from a3tune.errors import AdapterError

IMAGE = 60
BEFORE = [[IMAGE, 5], [50, 51], [50, 51, 5]]
AFTER = [[52, 53], [5, 52, 53]]
ASKED = [1, 50, 51, 5, IMAGE, IMAGE, 5, 10, 11, 12, 52, 53]


def spans(ids):
    return [tuple(span) for span in question_spans(ids, BEFORE, AFTER, IMAGE)]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (ASKED, [(7, 10)]),
        ([0, 0, *ASKED], [(9, 12)]),
        ([*ASKED, 20, 21, 2], [(7, 10)]),
        ([1, 50, 51, IMAGE, 5, IMAGE, 5, 10, 52, 53], [(7, 8)]),
        ([1, 50, 51, 10, 11, 52, 53], [(3, 5)]),
        ([1, 50, 51, 5, 10, 11, 52, 53], [(4, 6)]),
        ([IMAGE, 5, 10, 11, 5, 52, 53], [(2, 4)]),
        ([*ASKED, 20, 50, 51, 30, 52, 53], [(7, 10), (15, 16)]),
        ([1, 10, 11, 52, 53], [(None, 3)]),
        ([50, 51, 10, 50, 51, 11, 52, 53], [(None, 6)]),
        ([50, 51, 10, IMAGE, 11, 52, 53], [(None, 5)]),
        ([1, 50, 51, 10, 11], []),
        ([50, 51, 52, 53], [(None, 2)]),
    ],
    ids=[
        "one", "padded", "answered", "two images", "no image", "no image, own token", "longer end", "two turns",
        "no beginning", "two beginnings", "image last", "no end", "empty",
    ],
)  # fmt: skip
def test_spans(ids, expected):
    assert spans(ids) == expected


def find(rows, attention=None, **options):
    prompt = PromptTokens(torch.tensor(rows), attention, IMAGE)
    return prompt.find_questions(BEFORE, AFTER, **options)


def test_each_row_has_its_own_question_and_padding_holds_none():
    rows = [[52, 53, *ASKED], [*ASKED, 52, 53]]
    attention = torch.ones(2, len(rows[0]))
    attention[0, :2] = attention[1, -2:] = 0
    expected = torch.zeros(2, len(rows[0]), dtype=torch.bool)
    expected[0, 9:12] = expected[1, 7:10] = True
    assert torch.equal(find(rows, attention), expected)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([*ASKED, 20, 50, 51, 30, 52, 53], "Row 1 holds 2: tokens 7 to 9, tokens 15 to 15"),
        ([1, 50, 51, *[10] * 15], "Row 1 holds none"),
        ([1, *[10] * 15, 52, 53], "Row 1 holds 1: one that ends before token 16 with no certain beginning"),
    ],
)
def test_another_number_than_one_is_refused_and_the_argument_named(ids, message):
    other = [*ASKED, *[20] * (len(ids) - len(ASKED))]
    with pytest.raises(AdapterError, match=message) as caught:
        find([other, ids])
    assert "a3_question_mask" in str(caught.value)


def test_a_later_pass_holds_no_further_question():
    assert find([[20]], continuing=True) is None
    assert find([[20, 21, 22]], continuing=True) is None
    with pytest.raises(AdapterError, match="after the one that was read in an earlier pass"):
        find([ASKED], continuing=True)
