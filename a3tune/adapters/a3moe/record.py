"""Reading out which experts a question and each image patch chose.

``with record_experts() as use: model(...)`` collects the routing of every forward pass on this thread into
``use``. The tensors keep their gradient, so the balance loss of a training step comes from the same record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch

from a3tune.adapters.a3moe.routing import balance_losses
from a3tune.adapters.a3moe.token_spans import SpanWindow
from a3tune.errors import AdapterError


@dataclass(frozen=True, eq=False)
class KeyUse:
    """One key layer's routing: probabilities [N, E] and choice int64 [N, K] of the N image tokens of the batch
    (row after row, in token order), and int64 [N] the row each belongs to."""

    probabilities: torch.Tensor
    choice: torch.Tensor
    rows: torch.Tensor


class ExpertUse:
    """The routing of the forward passes inside one `record_experts` block.

    The readers speak of the last pass that saw a question (or image tokens), which for a generated answer is
    the prompt, and give numpy arrays; layers are in order of depth.
    """

    def __init__(self) -> None:
        self._windows: list[SpanWindow] = []
        self._queries: list[dict[tuple[str, str], torch.Tensor]] = []
        self._keys: list[dict[tuple[str, str], KeyUse]] = []
        self._lost_gradient = False

    def add_query(self, window: SpanWindow, layer: str, adapter: str, gates: torch.Tensor) -> None:
        """Note the gates [B, E] of one query layer; a pass that a checkpoint runs again is not noted twice."""
        self._queries[self._index(window)].setdefault((adapter, layer), gates)

    def add_key(self, window: SpanWindow, layer: str, adapter: str, use: KeyUse, learns: bool) -> None:
        """Note the routing of one key layer; ``learns`` says whether its router is being trained."""
        entries = self._keys[self._index(window)]
        if (adapter, layer) not in entries:
            entries[adapter, layer] = use
            self._lost_gradient |= learns and not use.probabilities.requires_grad

    def query_gates(self, row: int = 0, adapter: str | None = None) -> np.ndarray:
        """float32 [layers, E]: how the question of this row mixes the query experts; rows sum to 1."""
        gates = [gate[row] for gate in self._last(self._queries, adapter).values()]
        return _array(gates).astype(np.float32)

    def key_choice(self, row: int = 0, adapter: str | None = None) -> np.ndarray:
        """int64 [layers, patches, K]: the experts of each image patch of this row, most probable first."""
        uses = self._last(self._keys, adapter).values()
        return _array([use.choice[use.rows == row] for use in uses])

    def key_probabilities(self, row: int = 0, adapter: str | None = None) -> np.ndarray:
        """float32 [layers, patches, E]: the key router's probabilities for each image patch of this row."""
        uses = self._last(self._keys, adapter).values()
        return _array([use.probabilities[use.rows == row] for use in uses]).astype(np.float32)

    def balance_losses(self, batch: int) -> torch.Tensor:
        """Mean of `routing.balance_losses` over the key layers of all recorded passes, with gradient.

        Args:
            batch: how many rows the recorded passes had.

        Returns:
            [batch], float32 or better; 0 when no key layer routed anything (no key experts, or no image).

        Raises:
            AdapterError: the routing was computed without gradient although the routers are being trained, as
                reentrant gradient checkpointing does.
        """
        self._require_gradient()
        losses = [
            balance_losses(use.probabilities, use.choice, use.rows, batch)
            for entries in self._keys
            for use in entries.values()
        ]
        return torch.stack(losses).mean(dim=0) if losses else torch.zeros(batch)

    def _require_gradient(self) -> None:
        if self._lost_gradient:
            raise AdapterError(
                expected="the key routing to carry gradient for the balance loss",
                got="It was computed without gradient, as reentrant checkpointing does",
                remedy="Use gradient_checkpointing_kwargs={'use_reentrant': False}, or drop the balance loss",
            )

    def _index(self, window: SpanWindow) -> int:
        # By identity and from the end: a pass writes all its layers in a row.
        for index in range(len(self._windows) - 1, -1, -1):
            if self._windows[index] is window:
                return index
        self._windows.append(window)
        self._queries.append({})
        self._keys.append({})
        return len(self._windows) - 1

    @staticmethod
    def _last(passes: list[dict], adapter: str | None) -> dict:
        for entries in reversed(passes):
            found = {layer: use for (name, layer), use in entries.items() if adapter in (None, name)}
            if found:
                return dict(sorted(found.items(), key=lambda item: _depth(item[0])))
        raise AdapterError(
            expected="a forward pass with the A3MoE adapter inside record_experts()",
            got="No routing of that kind was recorded",
            remedy="Activate an adapter that has such experts, and pass its token masks",
        )


_RECORD: ContextVar[ExpertUse | None] = ContextVar("a3_expert_use", default=None)


@contextmanager
def record_experts() -> Iterator[ExpertUse]:
    """Collect the routing of all forward passes of this thread inside the block."""
    use = ExpertUse()
    token = _RECORD.set(use)
    try:
        yield use
    finally:
        _RECORD.reset(token)


def current_record() -> ExpertUse | None:
    """The record of the innermost block of this thread, or None."""
    return _RECORD.get()


def _array(tensors: list[torch.Tensor]) -> np.ndarray:
    return torch.stack([tensor.detach() for tensor in tensors]).cpu().numpy()


def _depth(name: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(number) for number in re.findall(r"\d+", name)), name
