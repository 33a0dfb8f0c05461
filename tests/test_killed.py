"""What was saved outlives a process that is killed; `python -m benchmarks.killed` does it for more, and oftener."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.killed import kill_once


def test_killed_at_random_moments_a_server_loses_nothing_that_it_kept(tmp_path: Path) -> None:
    chance = random.Random(3)
    saved = [kill_once("keeping", tmp_path, chance)[0] for _ in range(2)]
    assert 0 < saved[0] < saved[1]
