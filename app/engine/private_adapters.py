"""Adapters of single visitors beside the shared model: each is mounted when its owner asks for it, for nobody else."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from a3tune.errors import AdapterError
from a3tune.storage import read_json_or_empty
from app.engine import library

if TYPE_CHECKING:
    from a3tune.adapters.switch import AdapterSet
    from a3tune.models.load import VisionLanguageModel
    from app.engine.model_slot import ModelSlot

MOST_MOUNTED = 4
"""How many visitors' adapters stay in memory together; the one that was asked longest ago makes room."""

LOADED = "loaded.json"
"""In an adapter's folder that was loaded: where it came from, and ``allow_other_base``, the visitor's word on it."""

_WEIGHTS = "adapter_model.safetensors"
_State = tuple[str, str, int, int]


class PrivateAdapters:
    """Visitors' own adapters, a set of adapters for each, so that names are a matter between visitor and page.

    Args:
        slot: the model. All is done while its ``in_use`` is held.
    """

    def __init__(self, slot: ModelSlot) -> None:
        self._slot = slot
        # By the model, and forgotten with it: another one may take its place.
        self._guard = threading.Lock()
        self._mounted: WeakKeyDictionary[VisionLanguageModel, OrderedDict[_State, AdapterSet]] = WeakKeyDictionary()

    def set_of(self, name: str, own: Mapping[str, Path]) -> AdapterSet | None:
        """The set that holds an adapter: one of its own for a visitor's, else the one that all visitors share.

        Args:
            name: "base" or an adapter's name.
            own: the visitor's adapters, folders in PEFT's format by name.

        Raises:
            AdapterError: the visitor's adapter is gone, or does not fit the model.
        """
        if name not in own:
            return self._slot.adapter_set
        model = cast("VisionLanguageModel", self._slot.wait(None))
        state = _state(name, own[name])
        with self._guard:
            mounted = self._mounted.setdefault(model, OrderedDict())
            if state not in mounted:
                # A run that goes on writes its adapter anew: what was read before is of no use any more.
                for older in [entry for entry in mounted if entry[:2] == state[:2]]:
                    del mounted[older]
                mounted[state] = library.AdapterSet(
                    model.model, {name: own[name]}, identity=model, allow_other_base=allows_other_base(own[name])
                )
                while len(mounted) > MOST_MOUNTED:
                    mounted.popitem(last=False)
            mounted.move_to_end(state)
            return mounted[state]

    def forget(self, place: Path) -> None:
        """Drop the adapters that lie in a folder."""
        with self._guard:
            for mounted in self._mounted.values():
                for state in [state for state in mounted if Path(state[1]).is_relative_to(place)]:
                    del mounted[state]


def allows_other_base(folder: Path) -> bool:
    """Whether the visitor who loaded an adapter wants it also on weights that it was not made for."""
    return read_json_or_empty(folder / LOADED).get("allow_other_base") is True


def _state(name: str, folder: Path) -> _State:
    """What names one state of an adapter."""
    try:
        facts = (folder / _WEIGHTS).stat()
    except OSError as error:
        raise AdapterError(
            expected="an adapter of yours", got=f"{name!r} was removed from the server", remedy="Choose another one"
        ) from error
    return name, str(folder), facts.st_mtime_ns, facts.st_size
