"""Where files from outside are read: in this process, or wherever it was told to.

A program that opens the files of strangers hands over a runner once, at its start; every reader of the library then
works through it, whichever way it is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Runner = Callable[..., object]
"""Runs ``function(*arguments, **keywords)`` somewhere and returns or raises what came of it. Where they name
``on_progress`` or ``should_stop``, it calls these meanwhile."""

_runner: Runner | None = None
_WRITERS: set[tuple[str, str]] = set()
_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


def decode_through(runner: Runner | None) -> None:
    """Have files decoded by ``runner`` from now on, in all threads of this process; None: in the thread that asks."""
    global _runner
    _runner = runner


@contextmanager
def trusted_files() -> Iterator[None]:
    """Have files decoded in the thread that asks for the length of a ``with`` block: a program's own, no stranger's."""
    before = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(before)


def isolable(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A reader that works wherever `decode_through` says; it belongs to a module under its own name."""

    @functools.wraps(function)
    def anywhere(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if _runner is None or _trusted.get():
            return function(*args, **kwargs)
        return _runner(anywhere, *args, **kwargs)  # type: ignore[return-value]

    return anywhere


def writing(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """An `isolable` reader that writes files, as one that unpacks does."""
    anywhere = isolable(function)
    _WRITERS.add((function.__module__, function.__name__))
    return anywhere


def may_write(function: Callable[..., object]) -> bool:
    """Whether a reader writes files."""
    return (function.__module__, function.__name__) in _WRITERS
