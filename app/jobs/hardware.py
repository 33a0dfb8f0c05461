"""What can be trained where the application runs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from a3tune.errors import RequestError

DEVICE_FILES = Path("/dev")
_SPACE = re.compile(r"[\w.-]+/[\w.-]+")


def devices() -> tuple[str, ...]:
    """The devices that runs can have, one run each."""
    torch = sys.modules.get("torch")
    # While torch is still being loaded there is no run to start either.
    count = torch.cuda.device_count() if torch is not None and hasattr(torch, "cuda") else 0
    return tuple(f"cuda:{number}" for number in range(count)) or ("cpu",)


def machine_notice() -> str:
    """What cannot be done where the application runs, and what to do about it; "" where all can."""
    if not can_train():
        return (
            "This Space runs on ZeroGPU, which lends a GPU for seconds at a time: a tuning run does not fit. Look "
            "through your data and make a plan here, then duplicate the Space with a GPU of its own, or take the "
            "command under Scale to a machine with a GPU and open the run folder here."
        )
    # The page is built before torch has come, which alone could say what it can use: the system knows the devices.
    if os.environ.get("SPACE_ID") and devices() == ("cpu",) and not any(DEVICE_FILES.glob("nvidia[0-9]*")):
        return (
            "This Space has no GPU: the demo model can be tuned, larger ones would take days. Duplicate the Space with "
            "a GPU, or take the command under Scale to a machine with one. The disk of a Space is emptied when it "
            "restarts: download what you want to keep."
        )
    return ""


def duplicate_address() -> str:
    """Where a visitor makes a copy of this Space of their own, on hardware of their choice; "" where it is none."""
    space = os.environ.get("SPACE_ID", "")
    return f"https://huggingface.co/spaces/{space}?duplicate=true" if _SPACE.fullmatch(space) else ""


def can_train() -> bool:
    """Whether runs can be made here."""
    return not os.environ.get("SPACES_ZERO_GPU")


def check_machine() -> None:
    """Raises:
    RequestError: runs cannot be made here.
    """
    if not can_train():
        raise RequestError(
            expected="a machine that can train for minutes or hours",
            got="ZeroGPU lends a GPU for seconds at a time",
            remedy="Duplicate the Space with a GPU of its own, or use the command under Scale on another machine",
        )
