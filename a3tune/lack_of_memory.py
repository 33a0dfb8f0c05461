"""What happens when memory runs out: it is told as that, with what to lower, and what was taken is given back."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar
from weakref import WeakSet

import torch

from a3tune.errors import NotEnoughMemoryError, is_lack_of_memory, lack_in_words

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spare(Protocol):
    """What is kept for speed alone."""

    def clear(self) -> None:
        """Let it go."""
        ...


_spares: WeakSet[Spare] = WeakSet()
_guard = threading.Lock()  # of the set, which may not grow while it is walked through


def give_up_when_short(spare: Spare) -> None:
    """Have something cleared whenever memory is released, as long as it lives."""
    with _guard:
        _spares.add(spare)


def release_memory() -> None:
    """Let go of what is kept for speed alone, and give it back with all other memory that nothing refers to."""
    with _guard:
        spares = list(_spares)
    for spare in spares:
        spare.clear()
    trim_memory()


def trim_memory() -> None:
    """Give memory that nothing refers to any more back to the system and to the GPU's other users."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if sys.platform == "linux":
        # glibc keeps freed memory for later; other C libraries have no such call.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """A block that says what memory ran out for; what its work had taken is given back before.

    Raises:
        NotEnoughMemoryError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_lack_of_memory(error):
            raise
        got = lack_in_words(error)
        _forget(error)
    else:
        return
    release_memory()
    raise NotEnoughMemoryError(expected=f"enough memory for {what}", got=got, remedy=remedy)


def in_halves(work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> list[Result]:
    """``work(items)``, or where memory runs out the same in two halves, and so on down to single items.

    Raises:
        torch.OutOfMemoryError, MemoryError, RuntimeError, OSError: one item alone takes too much.
    """
    try:
        return work(items)
    except (RuntimeError, MemoryError, OSError) as error:
        if len(items) < 2 or not is_lack_of_memory(error):
            raise
        _forget(error)
    release_memory()
    half = len(items) // 2
    return in_halves(work, items[:half]) + in_halves(work, items[half:])


def _forget(error: BaseException) -> None:
    """Let go of the tensors that an error's frames hold: half a pass would stay in memory with them."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
