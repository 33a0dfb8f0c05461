"""Frames ahead: those of one stack only, bounded, the furthest given up first."""

from __future__ import annotations

import numpy as np

from a3tune.types import MedicalImage
from app.inspect.sessions.frame_prefetch import FramesAhead


def frames(*numbers):
    return [MedicalImage(np.zeros((2, 2, 3), np.uint8), frame=number, frame_count=100) for number in numbers]


def test_the_furthest_from_the_one_on_show_are_given_up_first():
    ahead = FramesAhead(most=3 * 12)
    ahead.put("stack", frames(4, 5, 6, 7, 8), 6)
    assert [number for number in range(10) if ahead.get("stack", number)] == [5, 6, 7]
    ahead.put("stack", frames(9), 9)
    assert [number for number in range(10) if ahead.get("stack", number)] == [6, 7, 9]


def test_one_frame_always_stays_and_another_stack_forgets_all():
    ahead = FramesAhead(most=1)
    (frame,) = frames(3)
    ahead.put("stack", [frame], 3)
    assert ahead.get("stack", 3) is frame
    assert ahead.get("other", 3) is None
    assert ahead.get("stack", None) is None
    ahead.put("other", frames(2), 2)
    assert ahead.get("stack", 3) is None
