"""Who may load which model, and which parts that find and rank regions: what the operator offers, or anything."""

from __future__ import annotations

from collections.abc import Sequence

from a3tune.catalogue import Kind
from a3tune.errors import RequestError
from a3tune.labels.segmenters_and_scorers import find_part
from a3tune.models.profiles import source_of
from a3tune.storage import is_hub_id


def permitted(kind: Kind, name: str, *, any_model: bool, offered: Sequence[str]) -> str:
    """What to load for a name that somebody typed: "demo", a hub id, a folder or a place on the hub.

    Whether there is such a folder on this machine is not looked up before it is permitted: strangers may ask.

    Args:
        kind: what is to be loaded.
        name: a key, a hub id, a folder or a place.
        any_model: whether the operator lets people load more than what is offered.
        offered: the names of this kind that are offered.

    Raises:
        RequestError: there is no name, or it stands for something else and the operator does not allow that.
    """
    name = name.strip()
    what = "models" if kind == "model" else f"{kind}s"
    if not name:
        raise RequestError(
            expected=f"one of the {what}", got="none", remedy="Choose what is offered, or type a folder or hub id"
        )
    source = _source(kind, name)
    if not any_model and source not in {_source(kind, other) for other in offered}:
        options = "--profile, --models or --any-model" if kind == "model" else "--models or --any-model"
        raise RequestError(
            expected=f"one of the {what} offered here ({', '.join(offered)})",
            got=f"{'a hub id' if is_hub_id(name) else 'a folder or name'} of your own, {name!r}",
            remedy=f"Choose one of them, or ask whoever runs this page to allow that one ({options})",
        )
    return source


def _source(kind: Kind, name: str) -> str:
    if kind == "model":
        return source_of(name)
    part = find_part(name, kind)
    return name if part is None else part.source
