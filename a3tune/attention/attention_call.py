"""What one layer's attention was called with, and the weights that follow from it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch

from a3tune.sequence_positions import Positions

_SCORE_BUDGET = 1 << 24  # float32 scores that one step may hold at once: 64 MiB


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """What one layer's attention was called with: all that its weights follow from.

    Attributes:
        query: [batch, heads, length, dim].
        key: [batch, key heads, length, dim]; a key head serves heads / key heads query heads in a row.
        mask: [batch or 1, heads or 1, length, at least length]: bool (True = seen) or added to the scores; or None.
        scaling: factor of the scores.
        softcap: scores are bent to ``softcap * tanh(score / softcap)``, when given.
        causal: without a mask, row i sees columns 0 to i only.
    """

    query: torch.Tensor
    key: torch.Tensor
    mask: torch.Tensor | None
    scaling: float
    softcap: float | None
    causal: bool

    def weights(self, b: int, rows: Positions, columns: Positions, heads: torch.Tensor | None) -> torch.Tensor:
        """float32 [heads, rows, columns] of sequence b; memory stays bounded by working through rows in chunks.

        Where the columns are neighbours this is a view of the weights on the whole sequence.

        Args:
            heads: int64 [heads] on the call's device; None for all.
        """
        groups = self.query.shape[1] // self.key.shape[1]
        key, mask = self.key[b], self.mask
        if mask is not None:
            mask = mask[b if mask.shape[0] > 1 else 0]
        if heads is not None:
            key, groups = key.index_select(0, heads // groups), 1
            mask = mask.index_select(0, heads) if mask is not None and mask.shape[0] > 1 else mask
        # Autocast would run the product in half precision again.
        half = torch.is_autocast_enabled(key.device.type)
        with torch.autocast(key.device.type, enabled=False) if half else nullcontext():
            key = key.float().transpose(1, 2)
            chunk = max(1, _SCORE_BUDGET // (key.shape[0] * groups * key.shape[2]))
            parts = []
            for part in rows.split(chunk):
                query = part.take(self.query[b], 1)
                query = query if heads is None else query.index_select(0, heads)
                parts.append(columns.take(self._weights(query, key, mask, part, groups), 2))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _weights(
        self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, rows: Positions, groups: int
    ) -> torch.Tensor:
        heads, length = query.shape[0], key.shape[2]
        # Query heads that share a key head are stacked as more rows of it, so keys are never repeated.
        stacked = (query.float() * self.scaling).reshape(heads // groups, groups * len(rows), -1)
        scores = torch.bmm(stacked, key).view(heads, len(rows), length)
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if mask is not None:
            mask = rows.take(mask, 1)[:, :, :length]
        elif self.causal:
            mask = torch.arange(length, device=key.device) <= rows.indices[:, None]
        if mask is not None and mask.dtype == torch.bool:
            # In place where no gradient needs the history of the view.
            fill = scores.masked_fill if scores.requires_grad else scores.masked_fill_
            scores = fill(~mask, -torch.inf)
        elif mask is not None:
            scores = scores + mask
        return torch.softmax(scores, dim=-1)
