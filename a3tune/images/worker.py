"""The process that decodes files for another one: it is asked over standard input and answers over standard output.

It can do little harm: it may write no file and dump no core, what decoders print goes nowhere, and it ends by itself
when nobody asks any more.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal

from a3tune.errors import A3TuneError, ImageError, ImageMemoryError
from a3tune.images.messages import TooLarge, receive, send

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_READERS = ("a3tune.images.load", "a3tune.images.target", "a3tune.images.masks")
_ALONE = 10.0
# How long after its end a request may still run, in seconds, where nobody is left who would end this process.


def serve(memory: int, output: int) -> None:
    """Answer requests until there are no more.

    A request is (module, name of a function, arguments, keywords, seconds); a reply is (True, result) or (False,
    A3TuneError). The first reply comes unasked, once everything is loaded.

    Args:
        memory: how many bytes may be taken beyond those that the loaded decoders take, where the system can hold it.
        output: how many bytes a reply may take.
    """
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the program in the terminal, which ends this one
    for module in _READERS:
        importlib.import_module(module)
    _limit(memory)
    send(told, (True, None))
    with contextlib.suppress(EOFError, OSError):
        while True:
            module, name, args, kwargs, seconds = receive(asked, trusted=True)
            faulthandler.dump_traceback_later(seconds + _ALONE, exit=True, file=nowhere)
            reply = _answer(module, name, args, kwargs)
            faulthandler.cancel_dump_traceback_later()
            try:
                send(told, reply, output)
            except TooLarge:
                send(told, (False, _too_large(output)))
            del reply


def _answer(module: str, name: str, args: tuple, kwargs: dict) -> tuple[bool, object]:
    try:
        return True, getattr(importlib.import_module(module), name)(*args, **kwargs)
    except A3TuneError as error:
        # Alone: what it was raised from may quote the file.
        error.__cause__ = error.__context__ = None
        return False, error
    except MemoryError:
        return False, ImageMemoryError(
            got="There is not enough memory to read the file",
            expected="a picture that fits into the memory that reading may take",
            remedy="Scale the picture down, or open a part of it",
        )
    except Exception:
        return False, ImageError(
            got="The file cannot be read",
            expected="a complete, unaltered picture file",
            remedy="Open it in the program that made it and export it as PNG",
        )


def _too_large(output: int) -> ImageError:
    return ImageError(
        got="What the file holds is too large to be shown",
        expected=f"a picture that takes at most {output >> 20} MiB",
        remedy="Scale the picture down, or open a part of it",
    )


def _limit(memory: int) -> None:
    if resource is None:
        return
    taken = 0
    with contextlib.suppress(OSError, ValueError):
        # Pages of 4 KiB or more; other systems than Linux neither tell nor hold this limit.
        with open("/proc/self/statm", encoding="ascii") as facts:
            taken = int(facts.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (0, 0))
