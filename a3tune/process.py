"""What a program of this project sets for its whole process; importing the library sets nothing.

OpenMP's threads turn in circles while they wait for one another, for as long as libgomp reads when torch is loaded. As
libgomp is made that is some 15 ms. On a machine whose cores have other work too, the thread that turns takes the core
from the one that it waits for: a product of two small matrices takes 15 ms instead of 20 microseconds.
"""

import ctypes
import gc
import logging
import os
import sys

RUN = "20000"
"""About a millisecond. A run has the cores mostly for itself, and its threads wait a little after each product: to be
woken for the next one costs a third more time at 50 microseconds, nothing at a millisecond."""
SERVER = "1000"
"""About 50 microseconds. In a page's server answers, maps and regions are computed side by side, each by as many
threads as there are cores, beside a browser perhaps: an answer takes twice as long at a millisecond."""

# M_ARENA_MAX of malloc.h; other C libraries that have the call do nothing with it.
_ARENA_MAX, _HEAPS = -8, 2
_COUNT, _OURS = "GOMP_SPINCOUNT", "A3TUNE_SPINCOUNT"


def prepare_process(count: str) -> None:
    """Set up this process; has to be called before torch is loaded.

    Args:
        count: how long threads wait, `RUN` or `SERVER`; what the user has set counts.
    """
    os.environ.update(waiting_variables(count))
    collect_seldom()
    # It tells on every product in 8 bit that the product is one in 8 bit, and at the start what it could also use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def collect_seldom() -> None:
    """Look for garbage among all objects a tenth as often as Python does. What is imported is none of it, and is looked
    through again each time that it has grown by a quarter: a third of the time that torch and Gradio take to load."""
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, 100)


def pause_collecting() -> None:
    """Look for no garbage until `resume_collecting`: for the seconds in which a program loads its libraries."""
    gc.disable()


def resume_collecting() -> None:
    """Look for garbage again, from now on only among what comes: what is loaded by now stays as long as the process."""
    gc.freeze()
    gc.enable()


def share_heaps() -> None:
    """Have all threads of a server take memory from two heaps, where the C library is glibc; to be called before others
    are started, unless the user has said how many there are (``MALLOC_ARENA_MAX``).

    glibc has up to eight for each core. Each visitor's work is done in threads of its own, so that what is freed of one
    lies in another heap than what the next one takes, and all of them stay as large as the largest work that came by:
    memory grew over the first hundreds of visits.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if setting is not None and "MALLOC_ARENA_MAX" not in os.environ:
        setting(_ARENA_MAX, _HEAPS)


def waiting_variables(count: str) -> dict[str, str]:
    """Variables of a process whose threads wait for ``count`` turns; none where the user has set how they wait."""
    # The second variable tells programs that are started from here that it was not the user who set the first.
    ours = "OMP_WAIT_POLICY" not in os.environ and os.environ.get(_COUNT) == os.environ.get(_OURS)
    return {_COUNT: count, _OURS: count} if ours else {}
