"""Where files are decoded: in this process, or wherever it was told to.

A program that opens the files of strangers hands over a runner once, at its start; every reader of the library then
works through it, whichever way it is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Runner = Callable[..., object]
"""Runs ``function(*arguments, **keywords)`` somewhere and returns or raises what came of it."""

_runner: Runner | None = None


def decode_through(runner: Runner | None) -> None:
    """Have files decoded by ``runner`` from now on, in all threads of this process; None: in the thread that asks."""
    global _runner
    _runner = runner


def isolable(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A reader that works wherever `decode_through` says; it belongs to a module under its own name."""

    @functools.wraps(function)
    def anywhere(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if _runner is None:
            return function(*args, **kwargs)
        return _runner(anywhere, *args, **kwargs)  # type: ignore[return-value]

    return anywhere
