"""Processes that may end at any moment."""

from __future__ import annotations

import psutil


def at_work(process: int) -> bool:
    """Whether the process of that number is there and has not ended."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
