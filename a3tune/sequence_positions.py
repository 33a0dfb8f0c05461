"""Positions in a sequence, taken from tensors; neighbours, the usual case, come as a view."""

from __future__ import annotations

import torch


class Positions:
    """Places on one axis of a tensor, ascending. Neighbours are taken as a view: nothing is copied.

    Made from masks on the CPU they never make the program wait for an accelerator.

    Attributes:
        indices: int64 [count].
    """

    def __init__(self, indices: torch.Tensor) -> None:
        first, last = (int(indices[0]), int(indices[-1])) if len(indices) else (0, -1)
        self.indices, self._first = indices, first if last - first + 1 == len(indices) else None

    @classmethod
    def of(cls, mask: torch.Tensor) -> Positions:
        """Where a bool mask [length] is True."""
        return cls(mask.nonzero().squeeze(1))

    @classmethod
    def run(cls, start: int, stop: int, device: torch.device) -> Positions:
        """The positions from ``start`` up to ``stop``."""
        return cls._known(torch.arange(start, stop, device=device), start)

    @classmethod
    def _known(cls, indices: torch.Tensor, first: int | None) -> Positions:
        # Looking into a tensor would wait for the accelerator.
        positions = cls.__new__(cls)
        positions.indices, positions._first = indices, first
        return positions

    def __len__(self) -> int:
        return self.indices.shape[0]

    def to(self, device: torch.device) -> Positions:
        """The same positions on a device; nobody waits for the copy."""
        if self.indices.device == device:
            return self
        return self._known(self.indices.to(device, non_blocking=device.type != "cpu"), self._first)

    def take(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """The tensor at these positions of a dimension; a view where they are neighbours."""
        if self._first is not None:
            return tensor.narrow(dim, self._first, len(self))
        return tensor.index_select(dim, self.indices)

    def part(self, first: int, stop: int, origin: int) -> Positions:
        """Those from number ``first`` up to number ``stop``, counted from the position ``origin``."""
        start = None if self._first is None or first == stop else self._first + first - origin
        return self._known(self.indices[first:stop] - origin, start)

    def split(self, size: int) -> list[Positions]:
        """The positions in pieces of at most ``size``."""
        if len(self) <= size:
            return [self]
        starts = [None if self._first is None else self._first + done for done in range(0, len(self), size)]
        return [self._known(*part) for part in zip(self.indices.split(size), starts, strict=True)]
