"""What a capture holds: the attention of one forward pass, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from a3tune.errors import ModelError, RequestError
from a3tune.positions import Positions
from a3tune.types import AttentionMaps, Head

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

    def weights(self, b: int, rows: Positions, columns: Positions, heads: list[int] | None) -> torch.Tensor:
        """float32 [heads, rows, columns] of sequence b; memory stays bounded by working through rows in chunks.

        Where the columns are neighbours this is a view of the weights on the whole sequence.
        """
        groups = self.query.shape[1] // self.key.shape[1]
        key, mask = self.key[b], self.mask
        if mask is not None:
            mask = mask[b if mask.shape[0] > 1 else 0]
        if heads is not None:
            chosen = torch.tensor(heads, device=key.device)
            serving = torch.tensor([head // groups for head in heads], device=key.device)
            key, groups = key.index_select(0, serving), 1
            mask = mask.index_select(0, chosen) if mask is not None and mask.shape[0] > 1 else mask
        # Autocast would run the product in half precision again.
        with torch.autocast(key.device.type, enabled=False):
            key = key.float().transpose(1, 2)
            chunk = max(1, _SCORE_BUDGET // (key.shape[0] * groups * key.shape[2]))
            parts = []
            for part in rows.split(chunk):
                query = part.take(self.query[b], 1)
                query = query if heads is None else query.index_select(0, chosen)
                parts.append(columns.take(self._weights(query, key, mask, part, groups), 2))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _weights(
        self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, rows: Positions, groups: int
    ) -> torch.Tensor:
        heads, length = query.shape[0], key.shape[2]
        # Query heads that share a key head are stacked as more rows of it, so keys are never repeated.
        stacked = (query.float() * self.scaling).reshape(heads // groups, groups * len(rows), -1)
        scores = torch.matmul(stacked, key).view(heads, len(rows), length)
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


class AttentionRecord:
    """The attention of one forward pass, as a capture yields it; readable once the model has run.

    Weights are post-softmax and before dropout, float32, on the model's device. Rows and patches of sequence b are
    the True positions of the masks' row b, ascending.

    Attributes:
        heads: the heads that were asked for, or None for all.
    """

    def __init__(
        self, rows: torch.Tensor, columns: torch.Tensor, heads: Sequence[Head] | None, share_of_all_heads: bool
    ) -> None:
        _check_masks(rows, columns)
        if heads is not None and not heads:
            raise RequestError(expected="at least one head", got="an empty list", remedy="Name heads, or None for all")
        self.heads = None if heads is None else tuple(Head(*head) for head in heads)
        self._shape = tuple(rows.shape)
        self._rows = [Positions.of(row) for row in rows]
        self._columns = [Positions.of(row) for row in columns]
        self._share_of_all = share_of_all_heads or heads is None
        self._with_gradient = torch.is_grad_enabled()
        self._calls: dict[int, AttentionCall] = {}
        self._weights: dict[tuple[int, int], torch.Tensor] = {}  # (layer, b) -> [heads wanted, rows, patches]
        self._shares: dict[tuple[int, int], torch.Tensor] = {}  # (layer, b) -> [heads or heads wanted, rows]
        self._layers: dict[int, int] = {}  # layer -> its number of heads

    @property
    def layers(self) -> int:
        """How many layers the pass went through."""
        self._require_pass()
        return len(self._layers)

    def rows(self, b: int) -> np.ndarray:
        """int64 [rows], the positions in sequence b that the weights' rows belong to, ascending."""
        return self._rows[b].indices.cpu().numpy()

    def weights(self, b: int) -> torch.Tensor:
        """float32 [layers, heads, rows, patches] of sequence b, or [heads asked for, rows, patches] in the order asked
        for when ``heads`` was given."""
        self._require_pass()
        if self.heads is not None:
            return self.select(b, self.heads)
        return torch.stack([self._layer_weights(layer, b) for layer in sorted(self._layers)])

    def select(self, b: int, heads: Sequence[Head]) -> torch.Tensor:
        """float32 [heads, rows, patches] of sequence b for the named heads, in that order.

        With gradients enabled any head may be named, so heads can be chosen from :meth:`image_share` after the pass;
        otherwise they must be among those asked for.

        Raises:
            RequestError: a head that the model does not have or the record does not hold.
        """
        self._require_pass()
        heads = [Head(*head) for head in heads]
        for head in heads:
            if not 0 <= head.head < self._layers.get(head.layer, 0):
                raise RequestError(
                    expected=f"heads within {len(self._layers)} layers x {max(self._layers.values())} heads, from 0",
                    got=f"layer {head.layer}, head {head.head}",
                    remedy="Choose heads that the model has",
                )
        per_layer = {layer: [head for head in heads if head.layer == layer] for layer in {head.layer for head in heads}}
        found: dict[Head, torch.Tensor] = {}
        for layer, wanted in per_layer.items():
            found.update(zip(wanted, self._select_layer(layer, b, [head.head for head in wanted]), strict=True))
        return torch.stack([found[head] for head in heads])

    def image_share(self, b: int) -> torch.Tensor:
        """float32 [layers, heads, rows]: each row's total weight on the image of sequence b; [heads asked for, rows] in
        the order asked for when ``heads`` was given without ``share_of_all_heads``."""
        self._require_pass()
        if not self._share_of_all:
            return self.weights(b).sum(-1)
        return torch.stack([self._layer_share(layer, b) for layer in sorted(self._layers)])

    def maps(self, b: int) -> AttentionMaps:
        """The weights of every head for sequence b, detached, as numpy arrays.

        Raises:
            RequestError: only some heads were asked for.
        """
        if self.heads is not None:
            raise RequestError(
                expected="a capture of all heads",
                got=f"a capture of {len(self.heads)} heads",
                remedy="Capture with heads=None, or read weights()",
            )
        with torch.no_grad():
            weights = self.weights(b).cpu()
        return AttentionMaps(weights.numpy(), self.rows(b), weights.sum(-1).numpy())

    def add(self, layer: int, call: AttentionCall, training: bool) -> None:
        """Take in one layer's call; for the attention function, not for readers.

        Args:
            layer: the layer's number.
            call: what its attention was called with.
            training: whether the layer is in training mode.
        """
        if layer in self._layers:
            raise RequestError(
                expected="one forward pass per capture",
                got=f"layer {layer} ran a second time",
                remedy="Open a new capture for each pass",
            )
        batch, heads, length = call.query.shape[:3]
        if (batch, length) != self._shape or call.key.shape[2] != length:
            raise RequestError(
                expected=f"one pass over whole sequences of shape {list(self._shape)} (batch, length)",
                got=f"queries of shape {[batch, length]} that see {call.key.shape[2]} keys",
                remedy="Run the model once on the inputs that the masks were made for; generate outside of a capture",
            )
        if self._with_gradient and training and not torch.is_grad_enabled():
            raise ModelError(
                expected="a layer that runs with gradients enabled",
                got="reentrant gradient checkpointing, which hides the layer from the gradient of captured weights",
                remedy='Use gradient_checkpointing_kwargs={"use_reentrant": False}',
            )
        self._layers[layer] = heads
        if torch.is_grad_enabled():
            self._calls[layer] = call
            return
        wanted = self._wanted(layer)
        for b in range(batch):
            if self._share_of_all:
                every = self._compute(call, b, None)
                self._shares[layer, b] = every.sum(-1)
                # Copied, so that the weights on the rest of the sequence do not stay in memory.
                self._weights[layer, b] = every.contiguous() if wanted is None else every[wanted]
            elif wanted:
                self._weights[layer, b] = self._compute(call, b, wanted).contiguous()

    def _compute(self, call: AttentionCall, b: int, heads: list[int] | None) -> torch.Tensor:
        device = call.query.device  # to which the places are moved once, not for every layer
        self._rows[b], self._columns[b] = self._rows[b].to(device), self._columns[b].to(device)
        return call.weights(b, self._rows[b], self._columns[b], heads)

    def _wanted(self, layer: int) -> list[int] | None:
        if self.heads is None:
            return None
        return list(dict.fromkeys(head.head for head in self.heads if head.layer == layer))

    def _layer_weights(self, layer: int, b: int) -> torch.Tensor:
        if (layer, b) in self._weights:
            return self._weights[layer, b]
        weights = self._compute(self._calls[layer], b, self._wanted(layer))
        if torch.is_grad_enabled():  # else a later reader would be handed weights outside the graph
            self._weights[layer, b] = weights
        return weights

    def _layer_share(self, layer: int, b: int) -> torch.Tensor:
        if self.heads is None:
            return self._layer_weights(layer, b).sum(-1)
        if (layer, b) not in self._shares:
            with torch.no_grad():
                every = self._compute(self._calls[layer], b, None)
                self._shares[layer, b] = every.sum(-1)
        return self._shares[layer, b]

    def _select_layer(self, layer: int, b: int, heads: list[int]) -> torch.Tensor:
        held = self._wanted(layer)
        if held is None or set(heads) <= set(held):
            weights = self._layer_weights(layer, b)
            if heads == held:
                return weights
            return weights[heads if held is None else [held.index(head) for head in heads]]
        if layer not in self._calls:
            raise RequestError(
                expected=f"heads of layer {layer} among those captured: {held or 'none'}",
                got=f"heads {sorted(set(heads) - set(held))}",
                remedy="Capture with these heads, or with heads=None",
            )
        return self._compute(self._calls[layer], b, heads)

    def _require_pass(self) -> None:
        if not self._layers:
            raise ModelError(
                expected="a forward pass of a prepared model inside the capture, in the same thread",
                got="a capture through which no layer ran",
                remedy="Call prepare_capture(model) first and run the model inside the with block",
            )


def _check_masks(rows: torch.Tensor, columns: torch.Tensor) -> None:
    for name, mask in (("rows", rows), ("columns", columns)):
        if mask.dtype != torch.bool or mask.dim() != 2 or mask.shape != rows.shape:
            raise RequestError(
                expected="rows and columns as bool tensors of one shape [batch, length]",
                got=f"{name} of type {mask.dtype} with shape {list(mask.shape)}",
                remedy="Pass the masks that the encoded prompt carries",
            )
        if not bool(mask.any(dim=1).all()):
            raise RequestError(
                expected=f"at least one position in {name} of every sequence",
                got="a sequence without one",
                remedy="Leave sequences without image or text out of the capture",
            )
