"""What an evaluation is to ask of what, and the words for what it takes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a3tune.errors import RequestError
from a3tune.progress import duration
from a3tune.wording import byte_words, counted
from app.jobs.job import DISTURBED

SPLITS = (
    ("Test, else validation, else all", ""),
    ("Test", "test"),
    ("Validation", "validation"),
    ("Training", "train"),
    ("All", "all"),
)
MASKS = (("True where the data has any", ""), ("True masks", "true"), ("Weak labels", "weak"), ("None", "none"))
DECODINGS = ("beam", "nucleus", "vcd", "m3id", "avisc", "damro", "pai", "dola", "opera")
ALL_HEADS, CRITICAL, ALIGNED = "all", "critical", "aligned"
"""Sets of heads on the command line: all, critical:K, and aligned:NAME=RUN."""
CONTROLS = (("Text only", "text"), ("Grey image", "blank"), ("Another patient's image", "other"))
EXPORTS = "markdown,latex,lmms-eval,figures"
BASE = "base"
PHANTOM = "phantom"
"""The key of the bundled benchmark, and its name on the command line."""


@dataclass(frozen=True)
class EvaluationChoice:
    """What is asked of what.

    Attributes:
        data: key of the data (`app.jobs.sources.DataSource`), or `PHANTOM`.
        split: "train", "validation", "test", "all", or "" for what is held out.
        adapters: names, the one that others are compared with first.
        masks: "true", "weak", "none", or "" for true ones where there are any.
        decodings: ways of decoding to try on the first adapter beside greedy.
        controls: what adapters are shown besides the image.
        limit: most questions; None for all.
        heads: sets of heads that attention is read in beside the critical ones: "all", "critical:K", or "aligned:NAME"
            for those that the run of an adapter of that name aligned.
    """

    data: str = PHANTOM
    split: str = ""
    adapters: tuple[str, ...] = (BASE,)
    masks: str = ""
    decodings: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    limit: int | None = None
    heads: tuple[str, ...] = ()

    def arguments(self, data: Sequence[str], folders: Mapping[str, Path | None], model: str) -> list[str]:
        """The command line of ``python -m a3tune eval`` without its folder.

        Args:
            data: what names the data there.
            folders: folder of each adapter; None for the base.
            model: the model as the user named it.

        Raises:
            RequestError: no adapter, or one that is not there; a limit or a number of heads below 1.
        """
        if not self.adapters or not self.data:
            raise RequestError(
                expected="data, and the base model or an adapter", got="Nothing is chosen", remedy="Choose some"
            )
        named = [name if (folder := _there(folders, name)) is None else f"{name}={folder}" for name in self.adapters]
        sets = [_set_of_heads(key, folders) for key in self.heads]
        if self.limit is not None and self.limit < 1:
            raise RequestError(expected="at least 1 question", got=f"{self.limit}", remedy="Enter 0 for all")
        lists = {"--adapters": named, "--decoding": self.decodings, "--controls": self.controls}
        words = {"--split": self.split, "--masks": self.masks, "--limit": "" if self.limit is None else str(self.limit)}
        options = [part for name, value in words.items() if value for part in (name, value)]
        options += [part for name, values in lists.items() if values for part in (name, ",".join(values))]
        options += ["--heads", *sets] if sets else []
        return [*data, "--model", model, *options]


def _there(folders: Mapping[str, Path | None], name: str) -> Path | None:
    if name not in folders:
        raise RequestError(
            expected="adapters that are there", got=f"{name!r} is gone", remedy="Choose others from the list"
        )
    return folders[name]


def _set_of_heads(key: str, folders: Mapping[str, Path | None]) -> str:
    kind, _, name = key.partition(":")
    if key == ALL_HEADS or (kind == CRITICAL and name.isdecimal() and int(name)):
        return key
    if kind != ALIGNED:
        raise RequestError(
            expected="all heads, a number of critical ones from 1 on, or those of a run",
            got=repr(key),
            remedy="Choose others",
        )
    adapter = _there(folders, name)
    if adapter is None:
        raise RequestError(
            expected="an adapter of a run", got=f"{name!r} is none", remedy="Choose another set of heads"
        )
    # The run's folder holds its adapter.
    return f"{key}={adapter.parent}"


def read_choice(
    data: str | None,
    split: str | None,
    adapters: Sequence[str] | None,
    masks: str | None,
    decodings: Sequence[str] | None,
    controls: Sequence[str] | None,
    limit: float | None,
    heads: Sequence[str] | None = None,
    count: float | None = None,
) -> EvaluationChoice:
    """The choice of the widgets' values; the base model first, since the others are compared with it.

    Args:
        count: of further critical heads; None or 0 for none.
    """
    names = sorted(adapters or (), key=lambda name: name != BASE)
    most = int(limit) if limit else None
    sets = (*(heads or ()), *((f"{CRITICAL}:{int(count)}",) if count else ()))
    return EvaluationChoice(
        data or "", split or "", tuple(names), masks or "", tuple(decodings or ()), tuple(controls or ()), most, sets
    )


def estimate_html(found: Mapping[str, Any]) -> str:
    """The fields of `a3tune.evaluation.estimate.EvaluationEstimate`, and "busy": whether a run disturbed it."""
    busy = f" {DISTURBED}" if found.get("busy") else ""
    systems, questions = counted(len(found["systems"]), "system"), counted(found["questions"], "question")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in found["notes"])
    return (
        f'<p class="status" role="status">About {duration(found["seconds"])}: {questions} of '
        f"the {html.escape(found['split'])} split about {counted(found['images'], 'image')}, {systems} "
        f"({html.escape(', '.join(found['systems']))}), {found['answers']:,} answers; measured on {found['sampled']}. "
        f"Takes {byte_words(found['peak_bytes'])} of memory.{busy}</p>{notes and f'<ul>{notes}</ul>'}"
    )
