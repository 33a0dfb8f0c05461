"""Weights that stay in their file: read where they are at work, and let go after each block of the image encoder.

ViT-H's weights take 2.6 GB in float32, one of its 32 blocks 80 MB. On Linux, for a model on the processor, the blocks'
weights are mapped from the checkpoint, and the pages of a block are given back when it has run: the system reads them
again from the file, or from its own cache of it. Only pages are given back that hold what the file holds, which no
code of a model without gradients writes to. Elsewhere, on a GPU, for weights of another precision than float32, and
for files that cannot be mapped (``torch.save`` before 2020), the weights are copied into memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import finalize

import psutil
import torch
from segment_anything.modeling import Sam

from a3tune.checkpoints import check_finite, load_strictly, weights_digest
from a3tune.errors import LabelError
from a3tune.labels.segmenters.point_grid import attend_head_by_head

_BLOCKS = "image_encoder.blocks."
_GIVES_BACK = sys.platform == "linux"


def stay_in_their_file(device: torch.device) -> bool:
    """Whether the weights of a model on a device stay in their file, if that is one as they are published now."""
    return _GIVES_BACK and device.type == "cpu"


class WeightPages:
    """The pages of memory that show a file as it is on the disk.

    Args:
        path: the file, mapped already.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        # Held open, so that a file that took its place under the same name is not mistaken for it.
        self._file = os.open(path, os.O_RDONLY)
        finalize(self, os.close, self._file)
        self._stamp = self._stamped()
        self._areas = _unwritten_mappings(path)

    def hold(self, weight: torch.Tensor) -> bool:
        """Whether a weight lies in the file and nowhere else."""
        start, end = _extent(weight)
        return any(first <= start and end <= last for first, last in self._areas)

    def let_go(self, weights: Iterable[torch.Tensor]) -> None:
        """Give the memory of those weights back that lie in the file; their values stay what they are."""
        for weight in weights:
            if self.hold(weight):
                start, end = _extent(weight)
                start -= start % mmap.PAGESIZE
                ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)

    def check(self) -> None:
        """Refuse weights that are no longer those that were loaded.

        Raises:
            LabelError: something wrote into the file.
        """
        if self._stamped() != self._stamp:
            raise LabelError(
                expected="a checkpoint that stays as it is while it is in use",
                got=f"{self._name} was written to after it had been loaded",
                remedy="Load it again; put a new version beside it, or move it into its place, instead of over it",
            )

    def _stamped(self) -> tuple[int, int]:
        facts = os.fstat(self._file)
        return facts.st_size, facts.st_mtime_ns


def load_sam(
    build: Callable[[], Sam], state: dict[str, torch.Tensor], path: Path, *, purpose: str, device: torch.device
) -> tuple[Any, str]:
    """Make a model of a checkpoint.

    Args:
        build: makes the model; its own weights are not used.
        state: the weights that were read from ``path``, by their authors' names; emptied, so that nothing that is
            copied is held twice.
        purpose: what the weights are for, as it should read in an error.
        device: where the model goes.

    Returns:
        the model in evaluation mode without gradients, and the digest of its weights.

    Raises:
        LabelError: the weights do not fit.
    """
    pages = WeightPages(path)

    def check(weight: torch.Tensor) -> None:
        check_finite([weight], name=path.name, purpose=purpose)
        pages.let_go([weight])

    digest = weights_digest(state, after=check)
    with torch.device("meta"):
        model = build()
    kinds = {name: value.dtype for name, value in model.state_dict().items()}
    weights, kept = {}, {}
    for name in list(state):
        value, kind = state.pop(name).detach(), kinds.get(name)
        if name.startswith(_BLOCKS) and value.is_contiguous() and value.dtype == kind and pages.hold(value):
            weights[name] = kept[name] = value
        else:
            weights[name] = _copied(value, kind)
            pages.let_go([value])
    load_strictly(model, weights, name=path.name, purpose=purpose, assign=True)
    attend_head_by_head(model.eval().requires_grad_(False)).to(device)
    if kept and stay_in_their_file(device):
        model.image_encoder.register_forward_pre_hook(lambda *_: pages.check())
        for index, block in enumerate(model.image_encoder.blocks):
            own = [value for name, value in kept.items() if name.startswith(f"{_BLOCKS}{index}.")]
            block.register_forward_hook(partial(_let_go, pages, own))
    return model, digest


def _let_go(pages: WeightPages, weights: list[torch.Tensor], *_: object) -> None:
    pages.let_go(weights)


def _copied(value: torch.Tensor, kind: torch.dtype | None) -> torch.Tensor:
    wanted = kind if kind is not None and kind.is_floating_point == value.is_floating_point() else value.dtype
    return value.to(wanted, copy=True, memory_format=torch.contiguous_format)


def _extent(weight: torch.Tensor) -> tuple[int, int]:
    """First address of a contiguous weight, and the one after its last."""
    return weight.data_ptr(), weight.data_ptr() + weight.nbytes


def _unwritten_mappings(path: Path) -> list[tuple[int, int]]:
    """First and last address of each private mapping of a file that nothing has written into; none but on Linux."""
    if not _GIVES_BACK:
        return []
    known = os.path.realpath(path)
    found = []
    # A system that does not tell gets copies.
    with suppress(psutil.Error, OSError, ValueError):
        for mapping in psutil.Process().memory_maps(grouped=False):
            # A page that was written to is a copy of the process's own, and counts as anonymous.
            if mapping.path == known and mapping.perms.endswith("p") and not mapping.anonymous and not mapping.swap:
                first, _, last = mapping.addr.partition("-")
                found.append((int(first, 16), int(last, 16)))
    return found
