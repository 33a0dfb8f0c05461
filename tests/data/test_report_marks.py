"""Marks of a report's form: those are told and taken out that hospitals' systems leave, and no words of a report."""

from __future__ import annotations

import pytest

from a3tune.data.report_marks import first_mark, without_marks


@pytest.mark.parametrize(
    ("report", "plain"),
    [
        ("Seen on ___ at 3.", "Seen on at 3."),
        ("Dr. [**Last Name (STitle) 12**] was told.", "Dr. was told."),
        ("The XXXX are clear. xxxx.", "The are clear. ."),
        ("Lungs clear. FINAL REPORT", "Lungs clear."),
        ("FINAL REPORT The lungs are clear.", "The lungs are clear."),
        ("FINAL REPORT EXAMINATION: CHEST. FINDINGS: Clear.", "EXAMINATION: CHEST. FINDINGS: Clear."),
        ("FINAL REPORT. Clear lungs. No mass.", "Clear lungs. No mass."),
        ("PRELIMINARY RADIOLOGY REPORT: Clear.", "Clear."),
        (" Final Report \nClear.", "Clear."),
        ("PROVISIONAL REPORT\nSeen by [REDACTED] and <De-identified>.", "Seen by and ."),
        ("WET READ: ___ 9:14 PM\nNo change.", "9:14 PM\nNo change."),
    ],
)
def test_every_mark_that_is_told_is_taken_out(report, plain):
    assert first_mark(report)
    assert without_marks(report) == plain
    assert first_mark(plain) is None


@pytest.mark.parametrize(
    "report", ["Karyotype 47,XXX.", "The final report follows.", "a_b", "FINAL REPORTS", "Tube (removed)."]
)
def test_words_of_a_report_are_no_marks(report):
    assert first_mark(report) is None
