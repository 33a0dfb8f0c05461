"""Two sets of maps for the same words: where they differ, and which heads moved most. Pure numpy.

Maps are compared over tokens that both have: the same token at the same position. Two adapters read the same prompt,
but their answers part at some word; what stands behind it is different text, and its attention is no comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from a3tune.attention.critical_heads import head_maps, head_set_map, rows_at
from a3tune.attention.metrics import attention_mass
from a3tune.errors import RequestError
from a3tune.types import AttentionMaps, Head, Token


@dataclass(frozen=True)
class HeadChange:
    """What became of one head.

    Attributes:
        head: layer and head.
        moved: total variation distance between its attention before and after, 0 to 1: the share of its attention that
            went somewhere else (to other patches, or to or from what is no patch).
        share_before, share_after: its attention to the image, 0 to 1.
        mass_before, mass_after: share of that inside the target, 0 to 1; NaN without a target.
    """

    head: Head
    moved: float
    share_before: float
    share_after: float
    mass_before: float
    mass_after: float


def shared_positions(sequences: Sequence[Sequence[Token]]) -> tuple[int, ...]:
    """Positions of the tokens that all sequences begin with, up to the first difference.

    Args:
        sequences: the tokens of each view, in order.

    Raises:
        RequestError: there is no sequence.
    """
    if not sequences:
        raise RequestError(expected="at least one sequence", got="none", remedy="Pass the tokens of each view")
    positions = []
    for together in zip(*sequences, strict=False):
        if len({(token.id, token.position) for token in together}) > 1:
            break
        positions.append(together[0].position)
    return tuple(positions)


def common_tokens(sequences: Sequence[Sequence[Token]], maps: AttentionMaps) -> tuple[int, ...]:
    """Positions of the tokens to compare views at when nobody chose any.

    Those from which the answers are written, up to and with the first word in which they differ: it was chosen after
    the same text in each of them. Without an answer, the last token of the prompt.

    Args:
        sequences: the tokens of each view, in order.
        maps: of any of the views; tells which tokens stand after the image.

    Returns:
        At least one position, ascending.

    Raises:
        RequestError: the views share no token after the image.
    """
    shared = set(shared_positions(sequences)) & {int(position) for position in maps.rows}
    answered = [token.read_at for token in sequences[0] if token.role == "answer" and token.read_at in shared]
    prompt = [token.position for token in sequences[0] if token.role != "answer" and token.position in shared]
    if not answered and not prompt:
        raise RequestError(
            expected="views of one question about one image",
            got="They share no token after the image",
            remedy="Compare views that were made together",
        )
    return tuple(answered or prompt[-1:])


def compared_maps(
    before: AttentionMaps,
    after: AttentionMaps,
    positions: Sequence[int],
    heads_before: Sequence[Head],
    heads_after: Sequence[Head] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The head sets' mean maps before and after, at the same tokens, and after less before.

    Args:
        positions: sequence positions, as from `common_tokens`.
        heads_before, heads_after: the head sets; the same for both when ``heads_after`` is None.

    Returns:
        Three float32 [patches].

    Raises:
        RequestError: the maps have other patches, a position has no row, or a head does not exist.
    """
    _check_patches(before, after)
    first = head_set_map(before, heads_before, rows_at(before, positions))
    second = head_set_map(after, heads_before if heads_after is None else heads_after, rows_at(after, positions))
    return first, second, second - first


def head_changes(
    before: AttentionMaps,
    after: AttentionMaps,
    positions: Sequence[int],
    coverage: np.ndarray | None = None,
) -> tuple[HeadChange, ...]:
    """Every head's change at the same tokens, the one that moved most first.

    Args:
        positions: sequence positions, as from `common_tokens`.
        coverage: float [patches], 0 to 1: how much of each patch the target covers, if one is known.

    Raises:
        RequestError: the maps have other layers, heads or patches, or a position has no row.
    """
    _check_patches(before, after)
    if (before.layers, before.heads) != (after.layers, after.heads):
        raise RequestError(
            expected=f"maps of {before.layers} layers with {before.heads} heads",
            got=f"The other maps have {after.layers} layers with {after.heads} heads",
            remedy="Compare adapters of one model",
        )
    heads = [Head(layer, head) for layer in range(before.layers) for head in range(before.heads)]
    maps = [head_maps(item, heads, rows_at(item, positions)).astype(np.float64) for item in (before, after)]
    shares = [item.sum(axis=1) for item in maps]
    # What does not go to the image goes elsewhere: one more place, so that the distance is one of whole rows.
    moved = 0.5 * (np.abs(maps[1] - maps[0]).sum(axis=1) + np.abs(shares[1] - shares[0]))
    unknown = np.full(len(heads), np.nan)
    masses = [unknown if coverage is None else attention_mass(item, coverage) for item in maps]
    order = np.argsort(-moved, kind="stable")
    columns = (moved, *shares, *masses)
    return tuple(HeadChange(heads[index], *(float(column[index]) for column in columns)) for index in order)


def _check_patches(before: AttentionMaps, after: AttentionMaps) -> None:
    if before.weights.shape[3] != after.weights.shape[3]:
        raise RequestError(
            expected=f"maps of one image, {before.weights.shape[3]} patches",
            got=f"The other maps have {after.weights.shape[3]}",
            remedy="Compare views of one question about one image",
        )
