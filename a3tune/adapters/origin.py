"""Which base an adapter was made for, and whether the model at hand is that one: equal shapes do not prove it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from peft.utils import SAFETENSORS_WEIGHTS_NAME

from a3tune.adapters.stored import StoredAdapter, add_notes
from a3tune.errors import AdapterError
from a3tune.wording import WARNING

_FINGERPRINT = "a3tune_base_fingerprint"
_NAME = "a3tune_base"
_CONVENTION = "a3tune_convention"


class Base(Protocol):
    """A model as it was stored: what it was loaded from, how it sees computed tomography (a name in
    `a3tune.images.conventions`, or None), and a digest of its weights."""

    @property
    def source(self) -> str: ...

    @property
    def convention(self) -> str | None: ...

    def fingerprint(self) -> str: ...


def write_origin(folder: Path, source: str, fingerprint: str, convention: str | None = None) -> None:
    """Write the base's name and fingerprint, and what it was given to see, into an adapter's weight file.

    Args:
        folder: the adapter's.
        source: how the user named the base; folders of this machine are left out.
        fingerprint: of the base's weights.
        convention: by which it was given computed tomography while the adapter was tuned; None for as it is shown.

    Raises:
        OSError: it cannot be written.
    """
    add_notes(
        folder / SAFETENSORS_WEIGHTS_NAME,
        {_NAME: short_name(source), _FINGERPRINT: fingerprint, _CONVENTION: convention or ""},
    )


def short_name(source: str) -> str:
    """A model's name without the folders of this machine."""
    return Path(source).name if Path(source).is_absolute() or source.startswith(("~", ".")) else source


def check_origin(stored: StoredAdapter, base: Base, *, allow_other: bool = False) -> str:
    """Whether an adapter was made for a base: by the weights' fingerprint where it carries one, else by name; and
    whether that base was given computed tomography in the same way.

    Args:
        stored: the adapter.
        base: the model at hand; its fingerprint is only made for an adapter that carries one.
        allow_other: say it, and go on.

    Returns:
        What is to be said about it; "" where it was made for these very weights.

    Raises:
        AdapterError: it was made for other weights.
    """
    told = (_told_of_weights(stored, base, allow_other), _told_of_convention(stored, base))
    return " ".join(filter(None, told))


def _told_of_convention(stored: StoredAdapter, base: Base) -> str:
    seen, here = stored.notes.get(_CONVENTION), base.convention or ""
    if seen is None or seen == here:
        return ""
    ways = [f"by the convention {name}" if name else "as it is shown" for name in (seen, here)]
    return f"{WARNING}: the adapter was tuned on computed tomography given {ways[0]}; here it is given {ways[1]}."


def _told_of_weights(stored: StoredAdapter, base: Base, allow_other: bool) -> str:
    made_for = stored.notes.get(_NAME) or short_name(str(stored.settings.get("base_model_name_or_path") or ""))
    here = short_name(base.source) or "the model at hand"
    fingerprint = stored.notes.get(_FINGERPRINT)
    if fingerprint is None:
        if not made_for:
            return (
                f"The adapter does not say which base model it was made for; whether {here} is that one is not known."
            )
        same = Path(made_for).name.casefold() == Path(here).name.casefold()
        verdict = "which is the name of the base model here" if same else f"and the base model here is {here}"
        return f"The adapter's settings name {made_for} as its base, {verdict}; its weights were not compared."
    if fingerprint == base.fingerprint():
        return ""
    if allow_other:
        return (
            f"{WARNING}: the adapter was made for other weights ({made_for or 'unnamed'}) than those of {here}; what "
            "it answers and where it looks says nothing about how it was trained."
        )
    raise AdapterError(
        expected="the very weights that the adapter was made for",
        got=f"It was made for other weights ({made_for or 'unnamed'}) than those of {here}",
        remedy="Load that base model; to use it on this one all the same, allow other weights (--allow-other-base, or "
        "the box under Load an adapter)",
    )
