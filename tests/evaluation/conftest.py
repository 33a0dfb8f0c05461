"""Without Java, METEOR is named as absent: starting it for every report would take seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def without_java() -> Iterator[str | None]:
    """Tests of METEOR itself undo this; it holds for the reports that a module's tests share, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("a3tune.evaluation.report_metrics.java", lambda: None)
        yield shutil.which("java")
