"""Without Java, METEOR is named as absent: starting it for every report would take seconds."""

import shutil

import pytest


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """Tests of METEOR itself undo this."""
    monkeypatch.setattr("a3tune.evaluation.report_metrics.java", lambda: None)
    return shutil.which("java")
