"""Which attention heads look at the image: the visual attention ratio and the critical heads.

The selection follows "Focus on What Matters: Enhancing Medical Vision-Language Models with Automatic Attention
Alignment Tuning" (A3Tune), ACL 2025: heads are ranked by the share of the text tokens' attention that goes to the
image, over all layers pooled, and the K highest are the critical (visual) heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

from a3tune.errors import ModelError, RequestError
from a3tune.types import AttentionMaps, Head

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, torch.Tensor)


def visual_ratio(image_share: ArrayOrTensor, rows: ArrayOrTensor | None = None) -> ArrayOrTensor:
    """The share of attention that each head gives to the image, averaged over the text tokens after it.

    With A the post-softmax attention of layer l and head h, R the text rows that stand after the image and I the
    image tokens: ``ratio[l, h] = sum_{i in R} sum_{j in I} A[i, j] / sum_{i in R} sum_j A[i, j]``. Every row of A
    sums to 1, so the denominator is the number of rows.

    Args:
        image_share: float [..., layers, heads, rows], 0 to 1: each row's total weight on the image tokens, as in
            :class:`~a3tune.types.AttentionMaps`. Rows before the image must not be in it, or be masked by ``rows``.
        rows: bool [rows], which rows count; all when None.

    Returns:
        float32 [..., layers, heads], 0 to 1; float64 stays float64. A tensor for a tensor (on its device, with its
        gradient), an array for an array.

    Raises:
        RequestError: no row is left to average over, or ``rows`` has another length than the row axis.
    """
    length = image_share.shape[-1]
    if rows is not None:
        if tuple(rows.shape) != (length,):
            raise RequestError(
                expected=f"a row mask with one entry for each of the {length} text rows",
                got=f"The row mask has shape {tuple(rows.shape)}",
                remedy="Pass the mask that belongs to these attention maps",
            )
        image_share = image_share[..., rows]
    if image_share.shape[-1] == 0:
        raise RequestError(
            expected="at least one text token after the image",
            got="No text token stands after the image",
            remedy="Put the question after the image, or choose other tokens",
        )
    # Half-precision sums over hundreds of rows lose the third digit, so the mean runs in single precision or better.
    if isinstance(image_share, torch.Tensor):
        return image_share.to(torch.promote_types(image_share.dtype, torch.float32)).mean(dim=-1)
    dtype = np.float64 if image_share.dtype == np.float64 else np.float32
    return image_share.mean(axis=-1, dtype=np.float64).astype(dtype)


def critical_heads(ratio: np.ndarray | torch.Tensor, k: int) -> tuple[Head, ...]:
    """The k heads with the highest visual ratio over all layers pooled, highest first.

    Equal ratios keep their order layer by layer, head by head, so the choice is the same on every run.

    Args:
        ratio: float [layers, heads] from :func:`visual_ratio`; gradients are not followed.
        k: how many heads, 1 to layers x heads.

    Raises:
        RequestError: ``k`` is not a whole number in that range, or ``ratio`` has not two dimensions.
        ModelError: a ratio is not a finite number, so the heads cannot be ranked.
    """
    if isinstance(ratio, torch.Tensor):
        # First to the CPU: Apple's GPUs know no float64, also not on the way.
        ratio = ratio.detach().cpu().double().numpy()
    if ratio.ndim != 2:
        raise RequestError(
            expected="visual ratios as [layers, heads]",
            got=f"The visual ratios have shape {ratio.shape}",
            remedy="Select the heads of one sequence at a time",
        )
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= ratio.size:
        raise RequestError(
            expected=f"a whole number of critical heads from 1 to {ratio.size} ({ratio.shape[0]} layers of "
            f"{ratio.shape[1]} heads)",
            got=f"{k!r} critical heads were asked for",
            remedy="Choose a number in this range",
        )
    if not np.isfinite(ratio).all():
        raise ModelError(
            expected="finite attention weights",
            got=f"The visual ratio of {int((~np.isfinite(ratio)).sum())} of {ratio.size} heads is not a number",
            remedy="Load the model in float32 or bfloat16, since float16 may overflow",
        )
    order = np.argsort(-ratio.ravel(), kind="stable")[:k]
    return tuple(Head(int(index) // ratio.shape[1], int(index) % ratio.shape[1]) for index in order)


def rows_at(maps: AttentionMaps, positions: Sequence[int]) -> np.ndarray:
    """Indices on the row axis of ``maps`` for tokens given by their position in the sequence.

    Args:
        maps: attention of one sequence.
        positions: sequence positions as in ``Token.position``; each must be a text token after the first image token.

    Returns:
        int64 [len(positions)], in the order of ``positions``.

    Raises:
        RequestError: a position has no row.
    """
    wanted = np.asarray(positions, dtype=np.int64)
    indices = np.searchsorted(maps.rows, wanted)
    known = np.isin(wanted, maps.rows)
    if not known.all():
        raise RequestError(
            expected="tokens that stand after the image, since earlier ones cannot see it",
            got=f"Position {int(wanted[~known][0])} has no attention row",
            remedy="Choose a word of the question or of the answer",
        )
    return indices


def head_maps(maps: AttentionMaps, heads: Sequence[Head], rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """One map per chosen head: the plain mean of its attention over the chosen rows.

    Args:
        maps: attention of one sequence.
        heads: which heads, in the order wanted.
        rows: indices on the row axis (see :func:`rows_at`), or a bool mask [rows]; all rows when None.

    Returns:
        float32 [len(heads), patches]; each map sums to the head's mean share of attention on the image.

    Raises:
        RequestError: no head or no row is chosen, or one of them does not exist.
    """
    if len(heads) == 0:
        raise RequestError(
            expected="at least one attention head", got="The head set is empty", remedy="Choose a head or a head set"
        )
    for layer, head in heads:
        if not (0 <= layer < maps.layers and 0 <= head < maps.heads):
            raise RequestError(
                expected=f"layers 0 to {maps.layers - 1} and heads 0 to {maps.heads - 1}",
                got=f"Layer {layer}, head {head} does not exist",
                remedy="Choose a head of this model",
            )
    indices = _row_indices(rows, len(maps.rows))
    layers, columns = np.asarray(heads, dtype=np.int64).T
    # Heads and rows are picked in one step, so that only what is averaged gets copied: [heads, rows, patches].
    chosen = maps.weights[layers[:, None], columns[:, None], indices[None, :]]
    return chosen.mean(axis=1, dtype=np.float64).astype(np.float32)


def head_set_map(
    maps: AttentionMaps, heads: Sequence[Head], rows: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """One map for a set of heads: the plain mean over the chosen heads and rows.

    No head is rescaled before the mean, so a head that gives more attention to the image weighs more, as it does
    in A3Tune's alignment loss.

    Args, Raises: as :func:`head_maps`.

    Returns:
        float32 [patches]; sums to the mean share of attention on the image.
    """
    return head_maps(maps, heads, rows).mean(axis=0, dtype=np.float64).astype(np.float32)


def _row_indices(rows: Sequence[int] | np.ndarray | None, length: int) -> np.ndarray:
    indices = np.arange(length) if rows is None else np.asarray(rows)
    if indices.dtype == np.bool_ and indices.shape == (length,):
        indices = np.flatnonzero(indices)
    if indices.size == 0:
        raise RequestError(
            expected="at least one text token", got="No text token is chosen", remedy="Choose a word, or all words"
        )
    if (
        indices.ndim != 1
        or not np.issubdtype(indices.dtype, np.integer)
        or indices.min() < 0
        or indices.max() >= length
    ):
        raise RequestError(
            expected=f"indices of text tokens from 0 to {length - 1}, or a mask of length {length}",
            got=f"The chosen rows are {indices.dtype.name} of shape {indices.shape} outside that range",
            remedy="Choose tokens of this sequence",
        )
    return indices
