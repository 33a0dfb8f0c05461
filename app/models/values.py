"""What can be loaded, as values for the page and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from a3tune.errors import A3TuneError, Cancelled
from app.common.status import explain, model_value, without_folders
from app.models.service import Catalogue, Offer, Work

if TYPE_CHECKING:
    from a3tune.catalogue import Entry, Machine


def catalogue_value(catalogue: Catalogue) -> dict[str, Any]:
    """Everything that the browser draws, as plain JSON values."""
    model = catalogue.model
    machine = catalogue.machine
    return {
        "machine": f"{_size(machine.total)} of memory ({machine.device}), of which {_size(machine.free)} are free",
        "precisions": [vars(precision) for precision in machine.precisions],
        "offload": machine.offload_obstacle,
        "entries": [
            _entry_value(entry, machine, (entry.kind, entry.source) in catalogue.in_memory)
            for entry in catalogue.entries
        ],
        "model": model_value(model),
        "choice": {"precision": catalogue.choice.precision, "offload": catalogue.choice.offload},
        "work": None if catalogue.work is None else work_value(catalogue.work, catalogue.entries),
        "answering": catalogue.answering,
        "any_model": catalogue.any_model,
    }


def offer_value(offer: Offer) -> dict[str, Any]:
    """What somebody named, as plain JSON values."""
    return _entry_value(offer.entry, offer.machine, offer.current)


def _entry_value(entry: Entry, machine: Machine, current: bool) -> dict[str, Any]:
    needs = {precision.key: entry.needs(precision.key, machine.target) for precision in machine.precisions}
    usual = machine.usual(entry.weights)
    needs["auto"] = needs[usual]
    return {
        "kind": entry.kind,
        "key": entry.key,
        # What stands in brackets is said below the title.
        "title": entry.title.partition(" (")[0],
        "about": entry.about,
        "licence": entry.licence or ("Not known here: read its page" if entry.page else "Not known here"),
        "page": entry.page,
        "gated": entry.gated,
        "weights": _count(entry.weights),
        "place": place_words(entry),
        "here": entry.here,
        "current": current,
        "usual": usual,
        "needs": {
            key: {
                "words": _size(size) if size else "",
                "share": size / machine.total,
                "verdict": _verdict(size, machine, current),
            }
            for key, size in needs.items()
        },
    }


def place_words(entry: Entry) -> str:
    """Where the files are, and what is still to be fetched."""
    if entry.page is None:
        return "Comes with the program" if entry.licence else "On this machine"
    if entry.here:
        return f"Downloaded, {_size(entry.came)}"
    if entry.came > 1_000_000:
        whole = f" of {_size(entry.download)}" if entry.download else ""
        return f"{_size(entry.came)}{whole} downloaded; a download goes on there"
    return f"Not downloaded, {_size(entry.download)}" if entry.download else "Not downloaded"


def work_value(work: Work, entries: tuple[Entry, ...]) -> dict[str, Any]:
    """What is going on, or how it ended."""
    known = (entry for entry in entries if entry.kind == work.kind and work.source in (entry.key, entry.source))
    entry = next(known, None)
    title = work.source if entry is None else entry.title.partition(" (")[0]
    return {
        "kind": work.kind,
        "key": work.source if entry is None else entry.key,
        "stage": work.stage,
        "what": f"{work.step.what[:1].upper()}{work.step.what[1:]}",
        "share": work.step.share,
        "left": "" if work.seconds_left is None else f"{_duration(work.seconds_left)} left",
        "over": work.over,
        "tone": "bad" if work.error is not None and not isinstance(work.error, Cancelled) else "good",
        "message": _message(work, title),
        "error": error_value(work.error),
    }


def _message(work: Work, title: str) -> str:
    if not work.over:
        return ""
    if isinstance(work.error, Cancelled):
        return "Cancelled. What has come is kept: a download goes on there."
    if work.error is not None:
        return f"{title} was not {'loaded' if work.stage == 'loading' else 'made ready'}."
    if not work.loaded:
        return f"{title} is on this machine now."
    purpose = {"model": "answers the questions", "segmenter": "finds the regions", "scorer": "ranks the regions"}
    return f"{title} {purpose[work.kind]} from now on."


def error_value(error: BaseException | None) -> dict[str, str] | None:
    """What went wrong, what was expected, what to do; None when nothing did."""
    if error is None or isinstance(error, Cancelled):
        return None
    if isinstance(error, A3TuneError):
        parts = {"got": error.got, "expected": error.expected, "remedy": error.remedy}
        return {name: _sentence(without_folders(text)) for name, text in parts.items()}
    return {"got": explain(error), "expected": "", "remedy": ""}


def _verdict(size: int, machine: Machine, current: bool) -> str:
    """ "fits", "tight" (other programs hold too much of the memory now), "large" or "unknown"."""
    if not size:
        return "unknown"
    if size > machine.total:
        return "large"
    return "fits" if current or size <= machine.free else "tight"


def _size(size: float) -> str:
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _count(weights: int) -> str:
    if not weights:
        return ""
    number, unit = (weights / 1e9, "billion") if weights >= 1e9 else (weights / 1e6, "million")
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _sentence(text: str) -> str:
    # The name of a file or setting keeps its own letters: config.json, model_type.
    if not set(text.partition(" ")[0]) & set("._/"):
        text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) else f"{text}."
