"""Maps before and after: the tokens that both have, the difference, and the heads that moved."""

import numpy as np
import pytest

from a3tune.attention.comparison import common_tokens, compared_maps, head_changes, shared_positions
from a3tune.errors import RequestError
from a3tune.types import AttentionMaps, Head, Token

ROLES = ("image", "image", "question", "template", "answer", "answer")


def tokens(*ids, roles=ROLES):
    return tuple(Token(position, number, f" {number}", roles[position]) for position, number in enumerate(ids))


def maps(weights, first_row=2):
    weights = np.asarray(weights, np.float32)
    rows = np.arange(first_row, first_row + weights.shape[2])
    return AttentionMaps(weights, rows, weights.sum(axis=-1))


@pytest.fixture
def before():
    # 1 layer, 2 heads, 4 rows, 2 patches.
    return maps(np.full((1, 2, 4, 2), 0.25))


def test_views_share_what_stands_before_their_first_difference():
    first, second = tokens(9, 9, 1, 2, 5, 6), tokens(9, 9, 1, 2, 5, 7)
    assert shared_positions([first, second]) == (0, 1, 2, 3, 4)
    assert shared_positions([first, first[:3]]) == (0, 1, 2)
    assert shared_positions([first]) == (0, 1, 2, 3, 4, 5)
    with pytest.raises(RequestError, match="none"):
        shared_positions([])


def test_answers_are_compared_where_their_common_words_and_the_first_that_differs_are_written(before):
    first, second = tokens(9, 9, 1, 2, 5, 6), tokens(9, 9, 1, 2, 5, 7)
    assert common_tokens([first, second], before) == (3, 4)
    assert common_tokens([first, first], before) == (3, 4)


def test_answers_that_differ_at_once_are_compared_where_they_were_chosen(before):
    assert common_tokens([tokens(9, 9, 1, 2, 5, 6), tokens(9, 9, 1, 2, 8)], before) == (3,)


def test_views_of_different_prompts_cannot_be_compared(before):
    with pytest.raises(RequestError, match="no token after the image"):
        common_tokens([tokens(9, 9, 1, 2, 5, 6), tokens(9, 9, 4, 2, 5, 6)], before)


def test_the_difference_is_after_less_before_at_the_tokens_named(before):
    weights = np.full((1, 2, 4, 2), 0.25)
    weights[0, 1, 3] = [0.75, 0.05]
    first, second, difference = compared_maps(before, maps(weights), [5], [Head(0, 1)])
    np.testing.assert_allclose(first, [0.25, 0.25])
    np.testing.assert_allclose(second, [0.75, 0.05], rtol=1e-6)
    np.testing.assert_allclose(difference, [0.5, -0.2], rtol=1e-6)
    *_, difference = compared_maps(before, maps(weights), [5], [Head(0, 1)], [Head(0, 0)])
    np.testing.assert_allclose(difference, [0, 0], atol=1e-7)
    *_, difference = compared_maps(before, maps(weights), [4], [Head(0, 1)])
    np.testing.assert_allclose(difference, [0, 0], atol=1e-7)


def test_heads_are_ordered_by_the_share_of_attention_that_moved(before):
    weights = np.full((1, 2, 4, 2), 0.25)
    # Head 1 takes 0.3 from the text and moves 0.1 between patches: 0.4 of its attention is somewhere else.
    weights[0, 1, 3] = [0.65, 0.15]
    still, moved = Head(0, 0), Head(0, 1)
    changes = head_changes(before, maps(weights), [5], np.array([1.0, 0.0]))
    assert [change.head for change in changes] == [moved, still]
    assert changes[0].moved == pytest.approx(0.4)
    assert (changes[0].share_before, changes[0].share_after) == pytest.approx((0.5, 0.8))
    assert (changes[0].mass_before, changes[0].mass_after) == pytest.approx((0.5, 0.65 / 0.8))
    assert changes[1].moved == 0


def test_without_a_target_there_is_no_mass(before):
    assert all(np.isnan(change.mass_before) for change in head_changes(before, before, [2, 3]))


def test_maps_of_other_images_or_models_are_refused(before):
    with pytest.raises(RequestError, match="2 patches"):
        compared_maps(before, maps(np.full((1, 2, 4, 3), 0.1)), [2], [Head(0, 0)])
    with pytest.raises(RequestError, match="3 heads"):
        head_changes(before, maps(np.full((1, 3, 4, 2), 0.1)), [2])
    with pytest.raises(RequestError, match="no attention row"):
        head_changes(before, before, [1])
