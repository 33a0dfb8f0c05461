"""What the Tune tab shows: reports on data, words about methods, and values for the parts that run in the browser."""

from __future__ import annotations

import html
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from a3tune.encoding import data_url
from a3tune.wording import counted
from app.tune.data.regions import LabelPreview, row_value
from app.tune.data.service import CheckedData
from app.tune.runs.runs import RunView, thinned

METHODS = {
    "a3": ("A3Tune", "experts on queries and keys, and attention drawn to the regions that a question asks about"),
    "lora+align": ("LoRA + alignment", "plain LoRA, with attention drawn to the regions"),
    "a3moe": ("A3MoE", "experts on queries and keys, attention left to itself"),
    "lora": ("LoRA", "the usual low-rank adapter, attention left to itself: the baseline"),
}
ABLATIONS = {
    "no_alignment": "without alignment",
    "no_query_experts": "without query experts",
    "no_key_experts": "without key experts",
    "no_head_selection": "align every head, not the critical ones",
}
PRESETS = {
    "quick": "Quick look",
    "demo": "The demo's adapters",
    "vqa-rad": "VQA-RAD, paper's settings",
    "slake": "SLAKE, paper's settings",
    "pathvqa": "PathVQA, paper's settings",
    "omnimedvqa": "OmniMedVQA, paper's settings",
    "iu-xray-report": "IU-Xray reports, paper's settings",
    "mimic-report": "MIMIC-CXR reports, paper's settings",
}
STATES = {
    "queued": ("Waiting", ""),
    "preparing": ("Preparing", ""),
    "training": ("Training", ""),
    "stopping": ("Stopping", ""),
    "finished": ("Finished", "good"),
    "stopped": ("Stopped, kept", "good"),
    "cancelled": ("Cancelled", ""),
    "failed": ("Ended early", "bad"),
    "elsewhere": ("From another machine", ""),
}
_CHARTS = (
    ("loss", "Training loss and its parts", False,
     (("training.loss", "all"), ("training.cross_entropy", "words"), ("training.alignment", "alignment"),
      ("training.balance", "balance"))),
    ("accuracy", "Validation: answers exactly right", True,
     (("validation.accuracy", "all"), ("validation.closed_accuracy", "closed"), ("validation.open_accuracy", "open"))),
    ("mass", "Attention inside the regions", True,
     (("training.attention_mass", "training"), ("validation.attention_mass", "validation"))),
    ("validation", "Validation loss", False, (("validation.loss", "loss"),)),
)  # fmt: skip
_COMPARED = (
    ("accuracy", "Answers exactly right", True),
    ("closed_accuracy", "of closed questions", True),
    ("open_accuracy", "of open questions", True),
    ("attention_mass", "Attention inside the regions", True),
    ("loss", "Loss of the answers' words", False),
)
_FAULTS_SHOWN = 40


def preset_choices(names: Sequence[str]) -> list[tuple[str, str]]:
    """(words, name) of every preset."""
    return [(_preset(name), name) for name in names]


def method_choices() -> list[tuple[str, str]]:
    """(words, name) of every method, its meaning in one line."""
    return [(f"{title}: {meaning}", name) for name, (title, meaning) in METHODS.items()]


def data_report(checked: CheckedData) -> str:
    """Everything about a data set: layout, counts, sizes, gallery, faults."""
    dataset, counts = checked.dataset, checked.dataset.counts
    faults = counted(counts.errors, "fault keeps", "faults keep")
    verdict = f"{faults} it from being trained on" if counts.errors else "Ready to train on"
    skipped = f", {counts.skipped:,} skipped" if counts.skipped else ""
    rows = [
        ("Layout", checked.layout),
        ("Files", _listed(dataset.files)),
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


def estimate_text(found: Mapping[str, Any]) -> str:
    """An estimate as HTML."""
    if not found["fits"]:
        need, free = _bytes(found["peak_bytes"]), _bytes(found["free_bytes"])
        return (
            f'<p class="status error" role="alert">This does not fit: it takes {need} and more, {free} are free. '
            f"To make it fit: {html.escape(found['remedy'])}.</p>"
        )
    labels = f", of which {_time(found['label_seconds'])} to find regions" if found["label_seconds"] >= 1 else ""
    busy = " Another run was at work meanwhile: alone it is faster." if found.get("busy") else ""
    share = found["trainable"] / max(found["parameters"], 1)
    return (
        f'<p class="status" role="status">About {_time(found["seconds"])} for {found["steps"]:,} steps{labels} '
        f"({found['step_seconds']:.2f} s a step, validations come on top). "
        f"Trains {found['trainable']:,} numbers, {share:.1%} of the model. "
        f"Takes {_bytes(found['peak_bytes'])} of {_bytes(found['free_bytes'])} free memory.{busy}</p>"
    )


def comparison_table(name: str, found: Mapping[str, Any]) -> str:
    """A comparison with the base model (the fields of `a3tune.training.comparison.Comparison`) as HTML."""
    rows = []
    for key, words, percent in _COMPARED:
        if key in found["base"] and key in found["tuned"]:
            base, tuned = found["base"][key], found["tuned"][key]
            better = (tuned > base) == percent and tuned != base
            change = f"{100 * (tuned - base):+.1f}" if percent else f"{tuned - base:+.3f}"
            change = change.replace("-", "\N{MINUS SIGN}")
            numbers = [f"{100 * value:.1f} %" if percent else f"{value:.3f}" for value in (base, tuned)]
            tone = "same" if tuned == base else "better" if better else "worse"
            rows.append(
                f"<tr><th>{words}</th><td>{numbers[0]}</td><td>{numbers[1]}</td><td data-tone={tone}>{change}</td></tr>"
            )
    asked = counted(found["held_out"], "question")
    if found["held_out"] > found["questions"]:
        asked = f"{found['questions']:,} of {asked}"
    small = " So few tell little: a handful more or less right is chance." if found["questions"] < 100 else ""
    return (
        f'<table class="comparison" data-questions="{found["questions"]}"><thead><tr><th></th><th>base</th>'
        f"<th>{html.escape(name)}</th><th>change</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f'<p class="status">{asked} of the {html.escape(found["split"])} split, which '
        f"were not trained on; {found['with_target']:,} with a region to look at.{small}</p>"
    )


def run_choices(views: Sequence[RunView]) -> list[tuple[str, str]]:
    """(words, name) of every run."""
    return [(f"{view.title} · {STATES[view.status][0].lower()}", view.name) for view in views]


def charts() -> list[dict[str, Any]]:
    """The curves' charts: "key", "title", "percent", and "series" with the "name" and "curve" of each."""
    return [
        {
            "key": key,
            "title": title,
            "percent": percent,
            "series": [{"name": words, "curve": curve} for curve, words in series],
        }
        for key, title, percent, series in _CHARTS
    ]


def follow_value(view: RunView | None, visitor: str, stamp: Sequence[Any], turn: int) -> str:
    """Which run the part in the browser is to follow: a JSON text.

    Args:
        view: the run; None to follow none.
        visitor: the visitor's secret, with which the part asks for news.
        stamp: what the page's buttons show by now; the part says when the run has moved on from that.
        turn: another number each time, so that the part looks at once.
    """
    return "" if view is None else _json({"visitor": visitor, "run": view.name, "stamp": stamp, "turn": turn})


def run_news(
    view: RunView, stamp: Sequence[Any], seen: Mapping[str, Any], pictures: Callable[[], Sequence[bytes]]
) -> dict[str, Any]:
    """What a page does not know yet about a run, as plain JSON values.

    Args:
        view: the run.
        stamp: what tells whether the page's buttons are out of date.
        seen: the "at" of the last news that the page took in; empty before the first.
        pictures: reads the watched images.

    Returns:
        "at"; "seconds" of work so far; "whole", when what was known is to be forgotten; and of the following what is
        new: "head" (where the run stands), "log", "points" of each curve, "watched" and "looks".
    """
    events = view.events
    whole = seen.get("generation") != f"{view.name} {events.generation}"
    before = {} if whole else seen
    at: dict[str, Any] = {"generation": f"{view.name} {events.generation}"}
    news: dict[str, Any] = {"at": at, "whole": whole, "seconds": view.seconds}
    for name, value in (("head", _head(view, stamp)), ("log", view.log)):
        at[name] = zlib.crc32(_json(value).encode())
        if before.get(name) != at[name]:
            news[name] = value
    points = {}
    for source, curves in (("training", events.curves), ("validation", events.validation)):
        at[source] = max((next(reversed(curve)) for curve in curves.values() if curve), default=-1)
        for name, curve in curves.items():
            new = _after(curve, _step(before.get(source)))
            if new:
                points[f"{source}.{name}"] = thinned(new)
    if points:
        news["points"] = points
    at["watched"], at["look"] = len(events.watched), next(reversed(events.looks), -1)
    if events.watched and before.get("watched") != at["watched"]:
        found = [data_url(picture, "png") for picture in pictures() if picture]
        # Without its pictures there is nothing to lay the maps on.
        if len(found) == len(events.watched):
            keys = ("question", "answer", "width", "height", "tiles", "target")
            questions = [{key: question.get(key) for key in keys} for question in events.watched]
            news["watched"] = {"questions": questions, "pictures": found}
        else:
            at["watched"] = 0
    looks = _after(events.looks, _step(before.get("look")))
    if looks:
        news["looks"] = [{key: look.get(key) for key in ("step", "maps", "mass", "right")} for look in looks.values()]
    return news


def _head(view: RunView, stamp: Sequence[Any]) -> dict[str, Any]:
    state, tone = STATES[view.status]
    events = view.events
    left = f"about {_time(events.seconds_left)} left" if view.status == "training" and events.seconds_left else ""
    return {
        "name": view.name,
        "status": view.status,
        "state": state,
        "tone": tone,
        "words": view.words,
        "left": left,
        "step": events.step,
        "steps": events.steps,
        "share": round(view.share, 4),
        "notes": events.notes,
        "live": view.live,
        "stamp": list(stamp),
    }


def _step(value: Any) -> int:
    """A step that a browser knows; before all steps when it is none."""
    return value if isinstance(value, int) else -1


def _after(told: Mapping[int, Any], step: int) -> dict[int, Any]:
    """What was told after a step; steps come in order, so only the end is looked at."""
    new: list[tuple[int, Any]] = []
    for number in reversed(told):
        if number <= step:
            break
        new.append((number, told[number]))
    return dict(reversed(new))


def labels_value(preview: LabelPreview, visitor: str, data: str) -> str:
    """What the part that corrects regions gets: a JSON text."""
    rows = [row_value(number, row) for number, row in enumerate(preview.rows)]
    return _json({"visitor": visitor, "data": data, "most": preview.most, "note": preview.note, "rows": rows})


def _preset(name: str) -> str:
    if name in PRESETS:
        return PRESETS[name]
    base = name.removesuffix("-v1.5")
    return f"{PRESETS.get(base, base)}, LLaVA-Med v1.5" if name.endswith("-v1.5") else name


def _faults(checked: CheckedData) -> str:
    counts = checked.dataset.counts
    if not counts.kinds:
        return ""
    shown = checked.dataset.faults[:_FAULTS_SHOWN]
    lines = "".join(
        f'<li class="{fault.severity}"><code>{html.escape(_place(fault))}</code> {html.escape(fault.what)}'
        f"<small>{html.escape(fault.remedy)}</small></li>"
        for fault in shown
    )
    more = counts.errors + counts.warnings - len(shown)
    rest = f"<p>and {more:,} more: {html.escape(_tally(counts.kinds))}</p>" if more > 0 else ""
    title = f"{counted(counts.errors, 'fault')}, {counted(counts.warnings, 'remark')}"
    opened = " open" if counts.errors else ""
    return f'<details class="faults"{opened}><summary>{title}</summary><ol>{lines}</ol>{rest}</details>'


def _place(fault: Any) -> str:
    place = f"{fault.file}:{fault.line}" if fault.line else fault.file
    return f"{place} {fault.field}".strip()


def _gallery(checked: CheckedData) -> str:
    cards = "".join(
        f'<figure><img src="{data_url(content, "jpeg")}" alt=""><figcaption><b>{html.escape(question)}</b> '
        f"{html.escape(answer[:80])}<small>{html.escape(split)}</small></figcaption></figure>"
        for content, question, answer, split in checked.gallery
    )
    return f'<div class="gallery">{cards}</div>' if cards else ""


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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


def _bytes(count: float) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _json(value: Any) -> str:
    # "<" is written as an escape, so that a question can never read as markup.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
