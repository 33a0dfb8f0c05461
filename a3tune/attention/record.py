"""What a capture holds: the attention of one forward pass, or of those that write an answer, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from a3tune.attention.attention_call import AttentionCall
from a3tune.errors import ModelError, RequestError
from a3tune.sequence_positions import Positions
from a3tune.types import AttentionMaps, Head

_WAITING_BUDGET = 1 << 28  # bytes of written words' weights that may wait on a device: 256 MiB


@dataclass(frozen=True, eq=False)
class ReadPrefix:
    """The beginning of a sequence that a key-value cache holds, as a growing record has it.

    Attributes:
        length: how many tokens; all image tokens are among them.
        rows: float32 [heads, rows, patches] of each layer, on the CPU: the text rows among these tokens; empty where
            there are none.
    """

    length: int
    rows: tuple[torch.Tensor, ...]

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(part.nbytes for part in self.rows)


class AttentionRecord:
    """The attention of one forward pass, as a capture yields it; readable once the model has run.

    Weights are post-softmax and before dropout, float32. Without gradients those of a whole pass go to the CPU layer by
    layer, since the maps of all layers would crowd a GPU; with gradients they stay on the model's device, and every
    layer's queries and keys are kept until the record is dropped, also under gradient checkpointing: batch x length x
    (query heads + key heads) x head size numbers a layer, 0.2 GB in all at 7 billion weights for a question of
    700 tokens in half precision. Rows and patches of sequence b are the True positions of the masks' row b, ascending;
    in a growing record the rows of the tokens that were read after those of the masks follow, one after another.

    Attributes:
        heads: the heads that were asked for, or None for all.
    """

    def __init__(
        self,
        rows: torch.Tensor,
        columns: torch.Tensor,
        heads: Sequence[Head] | None,
        share_of_all_heads: bool,
        growing: bool = False,
        behind: Sequence[ReadPrefix] = (),
    ) -> None:
        _check_masks(rows, columns)
        if heads is not None and not heads:
            raise RequestError(expected="at least one head", got="an empty list", remedy="Name heads, or None for all")
        self.heads = None if heads is None else tuple(Head(*head) for head in heads)
        self._shape = tuple(rows.shape)
        self._rows = [Positions.of(row) for row in rows]
        self._columns = [Positions.of(row) for row in columns]
        self._places = [positions.indices.cpu().numpy() for positions in self._columns]
        self._share_of_all = share_of_all_heads or heads is None
        self._with_gradient = torch.is_grad_enabled()
        self._growing = growing
        self._calls: dict[int, AttentionCall] = {}
        # (layer, b) -> [heads wanted, rows, patches] and [heads or heads wanted, rows], of each pass that had rows.
        self._weights: dict[tuple[int, int], list[torch.Tensor]] = {}
        self._shares: dict[tuple[int, int], list[torch.Tensor]] = {}
        self._indices: dict[int, torch.Tensor] = {}
        self._layers: dict[int, int] = {}  # layer -> its number of heads
        self._read: dict[int, int] = {}  # layer -> how many tokens it has read
        self._single: Positions | None = None  # the one row of a pass over one token
        self._begun = self._waiting = 0  # tokens, and bytes of words' weights on a device
        if behind:
            if not growing or heads is not None or len(behind) != len(rows) or len({one.length for one in behind}) > 1:
                raise RequestError(
                    expected="a growing capture of all heads, behind a beginning of one length for each sequence",
                    got="one that is to go on behind something else",
                    remedy="Capture the whole prompts",
                )
            self._begun = behind[0].length
            self._weights = {(layer, b): [part] for b, one in enumerate(behind) for layer, part in enumerate(one.rows)}

    @property
    def layers(self) -> int:
        """How many layers the pass went through."""
        self._require_pass()
        return len(self._layers)

    def rows(self, b: int) -> np.ndarray:
        """int64 [rows], the positions in sequence b that the weights' rows belong to, ascending."""
        behind = np.arange(self._shape[1], max(self._read.values(), default=0))
        return np.concatenate([self._rows[b].indices.cpu().numpy(), behind])

    def weights(self, b: int) -> torch.Tensor:
        """float32 [layers, heads, rows, patches] of sequence b, or [heads asked for, rows, patches] in the order asked
        for when ``heads`` was given."""
        self._require_pass()
        if self.heads is not None:
            return self.select(b, self.heads)
        layers = [self._layer_parts(layer, b) for layer in sorted(self._layers)]
        if any(part.requires_grad for part in layers[0]):
            return torch.stack([torch.cat(parts, dim=1) for parts in layers])
        # Filled in place: a copy of each layer and one of them all would be there at once.
        heads, _, patches = layers[0][0].shape
        rows = sum(part.shape[1] for part in layers[0])
        found = layers[0][0].new_empty(len(layers), heads, rows, patches)
        for whole, parts in zip(found, layers, strict=True):
            start = 0
            for part in _together(parts):
                whole[:, start : start + part.shape[1]] = part
                start += part.shape[1]
        return found

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
        indices = self._named({layer: [head.head for head in wanted] for layer, wanted in per_layer.items()})
        for layer, wanted in per_layer.items():
            chosen = self._select_layer(layer, b, [head.head for head in wanted], indices.get(layer))
            found.update(zip(wanted, chosen, strict=True))
        return torch.stack([found[head] for head in heads])

    def image_share(self, b: int) -> torch.Tensor:
        """float32 [layers, heads, rows]: each row's total weight on the image of sequence b; [heads asked for, rows] in
        the order asked for when ``heads`` was given without ``share_of_all_heads``."""
        self._require_pass()
        if not self._share_of_all:
            return self.weights(b).sum(-1)
        return torch.stack([self._layer_share(layer, b) for layer in sorted(self._layers)])

    def prefix(self, length: int) -> ReadPrefix:
        """What a growing record of all heads of one sequence has of its first ``length`` tokens, copied."""
        self._require_pass()
        rows = int((self._rows[0].indices < length).sum())
        layers = (self._weights[layer, 0][0][:, :rows].clone() for layer in sorted(self._layers))
        return ReadPrefix(length, tuple(layers))

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
        start = self._read.get(layer, self._begun)
        batch, heads, tokens = call.query.shape[:3]
        if not self._growing:
            self._check_whole(layer, call)
        elif batch != self._shape[0]:
            raise RequestError(
                expected=f"passes over the {self._shape[0]} sequence(s) that the masks were made for",
                got=f"a pass over {batch}",
                remedy="Write without beams, or capture a pass over prompt and answer",
            )
        if self._with_gradient and training and not torch.is_grad_enabled():
            raise ModelError(
                expected="a layer that runs with gradients enabled",
                got="reentrant gradient checkpointing, which hides the layer from the gradient of captured weights",
                remedy='Use gradient_checkpointing_kwargs={"use_reentrant": False}',
            )
        self._layers[layer], self._read[layer] = heads, start + tokens
        if torch.is_grad_enabled() and not self._growing:
            self._calls[layer] = call
            return
        wanted = self._wanted(layer)
        chosen = self._wanted_on(layer, call.query.device)
        with torch.no_grad():
            for b in range(batch):
                rows = self._rows_within(b, start, tokens, call.query.device)
                if not len(rows):
                    continue
                if self._share_of_all:
                    every = self._compute(call, b, rows, start + tokens, None)
                    if wanted is not None:
                        self._take(self._shares, (layer, b), every.sum(-1), start)
                        every = every[:0] if chosen is None else every.index_select(0, chosen)
                    # Copied, so that the weights on the rest of the sequence do not stay in memory.
                    self._take(self._weights, (layer, b), every.contiguous(), start)
                elif wanted:
                    weights = self._compute(call, b, rows, start + tokens, chosen)
                    self._take(self._weights, (layer, b), weights.contiguous(), start)

    def _take(
        self, parts: dict[tuple[int, int], list[torch.Tensor]], key: tuple[int, int], part: torch.Tensor, start: int
    ) -> None:
        """Keep what a pass gave: the prompt's as one on the CPU, a word's where it is: small, and waiting for it would
        take longer than computing the word. Those of many words and sequences go to the CPU together."""
        known = parts.setdefault(key, [])
        if start >= self._shape[1]:
            known.append(part)
            self._waiting += 0 if part.device.type == "cpu" else part.nbytes
            if self._waiting > _WAITING_BUDGET:
                for several in (*self._weights.values(), *self._shares.values()):
                    several[:] = _together(several)
                self._waiting = 0
        else:
            known[:] = [torch.cat([*known, part.cpu()], dim=1)] if known else [part.cpu()]

    def _check_whole(self, layer: int, call: AttentionCall) -> None:
        if layer in self._layers:
            raise RequestError(
                expected="one forward pass per capture",
                got=f"layer {layer} ran a second time",
                remedy="Open a new capture for each pass, or a growing one where an answer is written",
            )
        batch, _, length = call.query.shape[:3]
        if (batch, length) != self._shape or call.key.shape[2] != length:
            raise RequestError(
                expected=f"one pass over whole sequences of shape {list(self._shape)} (batch, length)",
                got=f"queries of shape {[batch, length]} that see {call.key.shape[2]} keys",
                remedy="Run the model once on the inputs that the masks were made for; generate in a growing capture",
            )

    def _rows_within(self, b: int, start: int, tokens: int, device: torch.device) -> Positions:
        """The rows that a pass over the ``tokens`` after the first ``start`` gives, counted from its first."""
        if start == 0 and tokens == self._shape[1]:
            self._rows[b] = self._rows[b].to(device)  # once, not for every layer
            return self._rows[b]
        if start >= self._shape[1]:
            if tokens > 1 or self._single is None or self._single.indices.device != device:
                self._single = Positions.run(0, tokens, device)
            return self._single
        behind = torch.arange(self._shape[1], max(self._shape[1], start + tokens))
        positions = torch.cat([self._rows[b].indices.cpu(), behind]) - start
        return Positions(positions[(positions >= 0) & (positions < tokens)]).to(device)

    def _wanted_on(self, layer: int, device: torch.device) -> torch.Tensor | None:
        """The heads wanted as int64 [heads] on a device, sent there once; None for all."""
        wanted = self._wanted(layer)
        if wanted is not None and layer not in self._indices:
            self._indices[layer] = torch.tensor(wanted, dtype=torch.long).to(device, non_blocking=True)
        return self._indices.get(layer)

    def _named(self, heads: dict[int, list[int]]) -> dict[int, torch.Tensor]:
        """int64 [heads] of each layer that is computed from its call, on its device: sent there together."""
        calls = {layer: self._calls[layer] for layer in heads if layer in self._calls}
        flat = torch.tensor([head for layer in calls for head in heads[layer]], dtype=torch.long)
        for device in {call.query.device for call in calls.values()}:  # one, unless layers are spread over several
            flat = flat.to(device, non_blocking=True)
        found = zip(calls, flat.split([len(heads[layer]) for layer in calls]), strict=True)
        return {layer: part.to(calls[layer].query.device) for layer, part in found}

    def _compute(
        self, call: AttentionCall, b: int, rows: Positions, read: int, heads: torch.Tensor | None
    ) -> torch.Tensor:
        """float32 [heads, rows, patches]; ``read`` is how many tokens there are up to the end of this pass."""
        device = call.query.device
        self._columns[b] = self._columns[b].to(device)
        # A cache of a sliding window holds the last keys only; one of a fixed size has room behind the last.
        keys = call.key.shape[2]
        gone, places = max(0, read - keys), self._places[b]
        if not gone and places[-1] < keys:
            return call.weights(b, rows, self._columns[b], heads)
        # What is out of sight, or not yet read, has no weight.
        first, stop = np.searchsorted(places, (gone, gone + keys))
        weights = call.weights(b, rows, self._columns[b].part(first, stop, gone), heads)
        return nn.functional.pad(weights, (int(first), len(places) - int(stop)))

    def _wanted(self, layer: int) -> list[int] | None:
        if self.heads is None:
            return None
        return list(dict.fromkeys(head.head for head in self.heads if head.layer == layer))

    def _layer_parts(self, layer: int, b: int) -> list[torch.Tensor]:
        """float32 [heads wanted, rows, patches] of each pass."""
        if (layer, b) in self._weights:
            return self._weights[layer, b]
        call = self._calls[layer]
        rows = self._rows_within(b, 0, self._shape[1], call.query.device)
        weights = [self._compute(call, b, rows, self._shape[1], self._wanted_on(layer, call.query.device))]
        if torch.is_grad_enabled():  # else a later reader would be handed weights outside the graph
            self._weights[layer, b] = weights
        return weights

    def _layer_weights(self, layer: int, b: int) -> torch.Tensor:
        return _joined(self._layer_parts(layer, b))

    def _layer_share(self, layer: int, b: int) -> torch.Tensor:
        if self.heads is None:
            return self._layer_weights(layer, b).sum(-1)
        if (layer, b) not in self._shares:
            call = self._calls[layer]
            with torch.no_grad():
                rows = self._rows_within(b, 0, self._shape[1], call.query.device)
                self._shares[layer, b] = [self._compute(call, b, rows, self._shape[1], None).sum(-1)]
        return _joined(self._shares[layer, b])

    def _select_layer(self, layer: int, b: int, heads: list[int], indices: torch.Tensor | None) -> torch.Tensor:
        held = self._wanted(layer)
        if held is None or set(heads) <= set(held):
            weights = self._layer_weights(layer, b)
            if heads == held:
                return weights
            return weights[heads if held is None else [held.index(head) for head in heads]]
        if indices is None:
            raise RequestError(
                expected=f"heads of layer {layer} among those captured: {held or 'none'}",
                got=f"heads {sorted(set(heads) - set(held))}",
                remedy="Capture with these heads, or with heads=None",
            )
        rows = self._rows_within(b, 0, self._shape[1], self._calls[layer].query.device)
        return self._compute(self._calls[layer], b, rows, self._shape[1], indices)

    def _require_pass(self) -> None:
        if not self._layers:
            raise ModelError(
                expected="a forward pass of a prepared model inside the capture, in the same thread",
                got="a capture through which no layer ran",
                remedy="Call prepare_capture(model) first and run the model inside the with block",
            )


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(_together(parts), dim=1) if len(parts) > 1 else parts[0]


def _together(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """The parts on the first one's device: those that wait on another one, the last of them, as one."""
    here = [part for part in parts if part.device == parts[0].device]
    away = parts[len(here) :]
    return [*here, torch.cat(away, dim=1).to(parts[0].device)] if away else here


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
