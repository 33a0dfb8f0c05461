"""What is known about a data set, as the page tells it: layout, counts, sizes, faults, and a gallery."""

from __future__ import annotations

import html
from collections.abc import Mapping

from a3tune.data.formats.faults import DataFault
from a3tune.encoding import data_url
from a3tune.wording import counted, listed
from app.tune.data.service import CheckedData

_FAULTS_SHOWN = 40


NO_DATA = (
    '<div class="report" data-items="0"><p class="verdict">No data yet. What happens here:</p><dl>'
    "<dt>The phantom sample</dt><dd>Drawn images with questions, answers and regions that were found for them. "
    "Use it and press Start: some three minutes on two cores to an adapter, its curves, and the same question before "
    "and after.</dd>"
    "<dt>Your own data</dt><dd>A ZIP, or images with a table of the columns image, question and answer; the layouts of "
    "LLaVA, VQA-RAD, SLAKE, PathVQA, OmniMedVQA and of reports as they were published. Nothing is trained on before "
    "every row was looked at: what is wrong is listed with its place, and what can be repaired is offered.</dd>"
    "<dt>A run</dt><dd>Finds the regions of each image, ranks them for each question, trains the adapter, and says at "
    "the end whether answers and attention became better, with intervals. It goes on without this page.</dd>"
    "</dl></div>"
)
"""What stands in the report's place where a visitor has no data."""


def data_report(checked: CheckedData) -> str:
    """Everything about a data set: layout, counts, sizes, gallery, faults."""
    dataset, counts = checked.dataset, checked.dataset.counts
    faults = counted(counts.errors, "fault keeps", "faults keep")
    verdict = f"{faults} it from being trained on" if counts.errors else "Ready to train on"
    skipped = f", {counts.skipped:,} skipped" if counts.skipped else ""
    rows = [
        ("Layout", checked.layout),
        ("Files", listed(dataset.files, 6)),
        ("Questions", f"{counts.items:,} of {counts.rows:,} rows{skipped}"),
        ("Images", f"{counts.images:,}" + (f" ({_tally(counts.formats)})" if counts.formats else "")),
        ("Sizes", _sizes(counts.sizes)),
        ("Answers", _tally(counts.answer_types)),
        ("Splits", _splits(counts.splits)),
    ]
    if checked.data.record.get("left_out_count"):
        names = ", ".join(checked.data.record.get("left_out", ()))
        files = counted(checked.data.record["left_out_count"], "file of another kind", "files of other kinds")
        rows.append(("Left out", f"{files}: {names}"))
    table = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows if value)
    same = "<p>You had uploaded the very same data before: this is that data set.</p>" if checked.same else ""
    tone = "bad" if counts.errors else "good"
    return (
        f'<div class="report" data-tone="{tone}" data-items="{counts.items}" data-errors="{counts.errors}">'
        f'<p class="verdict" role="status">{html.escape(checked.data.title)}: {html.escape(verdict)}.</p>{same}'
        f"<dl>{table}</dl>{_faults(checked)}{_gallery(checked)}</div>"
    )


def repair_choices(checked: CheckedData) -> list[tuple[str, str]]:
    """(words, name) of every repair that would change something."""
    return [(f"{offer.what[0].upper()}{offer.what[1:]} ({offer.count:,})", offer.repair) for offer in checked.offers]


def _faults(checked: CheckedData) -> str:
    counts = checked.dataset.counts
    if not counts.kinds:
        return ""
    shown = checked.dataset.faults[:_FAULTS_SHOWN]
    lines = "".join(
        f'<li class="{fault.severity}"><code>{html.escape(_location(fault))}</code> {html.escape(fault.what)}'
        f"<small>{html.escape(fault.remedy)}</small></li>"
        for fault in shown
    )
    more = counts.errors + counts.warnings - len(shown)
    rest = f"<p>and {more:,} more: {html.escape(_tally(counts.kinds))}</p>" if more > 0 else ""
    title = f"{counted(counts.errors, 'fault')}, {counted(counts.warnings, 'remark')}"
    opened = " open" if counts.errors else ""
    return f'<details class="faults"{opened}><summary>{title}</summary><ol>{lines}</ol>{rest}</details>'


def _location(fault: DataFault) -> str:
    line = f"{fault.file}:{fault.line}" if fault.line else fault.file
    return f"{line} {fault.field}".strip()


def _gallery(checked: CheckedData) -> str:
    cards = "".join(
        f'<figure><img src="{data_url(content, "jpeg")}" alt=""><figcaption><b>{html.escape(question)}</b> '
        f"{html.escape(answer[:80])}<small>{html.escape(split)}</small></figcaption></figure>"
        for content, question, answer, split in checked.gallery
    )
    return f'<div class="gallery">{cards}</div>' if cards else ""


def _tally(counts: Mapping[str, int] | None) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in (counts or {}).items())


def _splits(splits: Mapping[str, int]) -> str:
    words = _tally({("without a split" if name == "unsplit" else name): count for name, count in splits.items()})
    if not words or "validation" in splits:
        return words
    return f"{words}; a tenth of the images will be held out for validation"


def _sizes(sizes: tuple[tuple[int, int], tuple[int, int]] | None) -> str:
    if sizes is None:
        return ""
    (low_height, low_width), (high_height, high_width) = sizes
    smallest, largest = f"{low_width} × {low_height}", f"{high_width} × {high_height}"
    return f"{smallest} pixels" if smallest == largest else f"{smallest} to {largest} pixels"
