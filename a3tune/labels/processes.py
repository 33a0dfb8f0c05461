"""Labelling by several processes, each of which makes the labels of its share of the images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import PartialState

from a3tune.labels.tasks import TaskList

_TIMEOUT = timedelta(days=2)


@contextmanager
def launched(device: str) -> Iterator[PartialState | None]:
    """The processes that a launcher (``accelerate launch``, torchrun) has started; None where this one is alone.

    Args:
        device: "auto", "cpu" or "cuda"; on a GPU each process gets its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=_TIMEOUT)
    try:
        yield state
    finally:
        state.destroy_process_group()


def share_of(work: TaskList, index: int, count: int) -> TaskList:
    """The tasks of one process of several: every ``count``-th image with all of its questions.

    Args:
        work: all tasks.
        index: which process, from 0.
        count: how many there are.
    """
    images = list(dict.fromkeys(task.image for task in work.tasks))[index::count]
    own = set(images)
    return TaskList(tuple(task for task in work.tasks if task.image in own), root=work.root)
