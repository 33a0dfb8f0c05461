"""What must agree for a run to be continued, also where an earlier version wrote it down with fewer settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from a3tune.training.config import TuneConfig

FORMER_SETTINGS: dict[str, Any] = {
    **{item.name: item.default for item in fields(TuneConfig)},
    "targets": "weak",
}
"""What runs did before there was a setting: its default, which has to change nothing, or else what is named here."""

OLDER = "begun_by_an_earlier_version"
"""In the record of a run that was begun before there was the setting `targets`, and goes on."""

_PERMISSIONS = ("allow_shared_images", "allow_unsure_regions")


@dataclass(frozen=True)
class RunIdentity:
    """What must agree for a run to be continued.

    Attributes:
        model: name and fingerprint of the base model, and the convention by which it is given computed tomography.
        data: path and fingerprint of the data set.
        config: the settings as plain JSON values.
        former_fingerprint: of the base model, as former versions made it.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    former_fingerprint: str = ""

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return json.loads(json.dumps({"model": self.model, "data": self.data, "config": self.config}))

    def differences(self, part: str, record: Mapping[str, Any]) -> list[str]:
        """In what a run that was written down, by this version or a former one, differs from this one, in words.

        Args:
            part: "model", "data" or "config".
            record: as `record`, perhaps with fewer settings.
        """
        wanted, there = self.record()[part], self._as_now(part, record)
        if not isinstance(there, Mapping):
            return [] if there == wanted else [f"its {part} is not written down"]
        return [
            f"{name} is {_words(there, name)} there, {_words(wanted, name)} here"
            for name in dict.fromkeys([*there, *wanted])
            if name not in there or name not in wanted or there[name] != wanted[name]
        ]

    def _as_now(self, part: str, record: Mapping[str, Any]) -> Any:
        """What was written down of a part of a run as this version writes it."""
        there = record.get(part)
        if not isinstance(there, dict):
            return there
        if part == "model":
            # Former versions gave every model its pictures as they are shown.
            there = {**({"convention": None} if "convention" in self.model else {}), **there}
            known = there.get("fingerprint") == self.former_fingerprint
            return {**there, "fingerprint": self.model["fingerprint"]} if known else there
        if part != "config":
            return there
        former = {name: value for name, value in FORMER_SETTINGS.items() if name in self.config}
        # Data that was taken without the permission is taken with it too: a preset may give it by now.
        return {**former, **{name: self.config.get(name) for name in _PERMISSIONS}, **there}


def is_older(record: Mapping[str, Any]) -> bool:
    """Whether a version began the run that knew weak labels alone as targets; it stays so when it goes on."""
    config = record.get("config")
    return record.get(OLDER) is True or (isinstance(config, dict) and "targets" not in config)


def _words(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "unknown"
    value = values[name]
    return "none" if value is None else repr(value) if isinstance(value, str) else json.dumps(value)
