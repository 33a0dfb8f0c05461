"""Settings of a tuning run from presets, YAML files and the command line."""

from __future__ import annotations

import importlib.resources
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import Any

import yaml

from a3tune.errors import DataError
from a3tune.training.config import TuneConfig, field_fault, nearest, settings_error
from a3tune.wording import brief

MAX_BYTES = 1 << 20
"""Largest configuration file."""


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the library."""
    files = importlib.resources.files(__package__).joinpath("presets").iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in files if entry.name.endswith(".yaml")))


def load_config(source: str | Path | None = None, overrides: Mapping[str, object] | None = None) -> TuneConfig:
    """The settings of a preset or a YAML file, with single settings replaced.

    Args:
        source: name of a preset, path of a YAML file, or None for the defaults. A file may begin with the settings of
            a preset (``preset: vqa-rad``) and name only what differs.
        overrides: setting -> value; text is read as it would be in a file ("2e-4", "null", "true").

    Raises:
        DataError: no such preset or file, no YAML, or settings that are unknown or out of range; all of them at once.
    """
    values: dict[str, object] = {} if source is None else _settings(source)
    faults = _unknown(values)
    for key, value in (overrides or {}).items():
        faults += _unknown({key: value})
        values[key] = _from_text(key, value) if isinstance(value, str) else value
    known = {item.name: item for item in fields(TuneConfig)}
    good: dict[str, Any] = {}
    for key, value in values.items():
        if key in known:
            value = _number_from_text(known[key], value)
            fault = field_fault(known[key], value)
            if fault:
                faults.append(fault)
            else:
                good[key] = value
    if faults:
        raise settings_error(faults, source)
    return TuneConfig(**good)


def cited_preset(source: str | Path | None) -> str | None:
    """The preset that a configuration is, or that its file begins with; None where it is neither.

    Raises:
        DataError: no such preset or file, or no YAML.
    """
    if source is None or str(source) in preset_names():
        return None if source is None else str(source)
    preset = _load_yaml(*_text_of(source)).get("preset")
    return preset if preset in preset_names() else None


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """``name=value`` pairs, as a command line gives them, to overrides for `load_config`.

    Raises:
        DataError: a pair has no "=".
    """
    overrides = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise DataError(
                got=f"The setting {brief(pair)} has no value", expected="name=value", remedy="Write ratio=0.1"
            )
        overrides[name.strip()] = value.strip()
    return overrides


def to_yaml(config: TuneConfig, preset: str | None = None) -> str:
    """The settings as YAML that `load_config` reads back to an equal object, and `cited_preset` to the preset that they
    come from."""
    cited = {} if preset is None else {"preset": preset}
    return yaml.safe_dump({**cited, **asdict(config)}, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Safe YAML that does not let a second value replace a first one unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is set twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _text_of(source: str | Path) -> tuple[str, str]:
    """(text, name for messages) of a preset or a file."""
    name = str(source)
    if name in preset_names():
        entry = importlib.resources.files(__package__).joinpath("presets").joinpath(f"{name}.yaml")
        return entry.read_text(encoding="utf-8"), f"The preset {name}"
    path = Path(source)
    problem = ""
    try:
        if path.stat().st_size > MAX_BYTES:
            problem = "is larger than 1 MiB"
        else:
            return path.read_text(encoding="utf-8-sig"), path.name
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except (OSError, ValueError) as error:
        problem = (
            "is neither a preset nor a file"
            if not path.exists()
            else f"cannot be read ({getattr(error, 'strerror', error)})"
        )
    raise DataError(
        got=f"{brief(name)} {problem}{nearest(name, preset_names())}",
        expected=f"a YAML file or a preset: {', '.join(preset_names())}",
        remedy="Check the name",
    )


def _settings(source: str | Path) -> dict[str, object]:
    """The settings of a preset or a file, on top of those of the preset that it begins with."""
    text, name = _text_of(source)
    values = _load_yaml(text, name)
    if "preset" not in values:
        return values
    preset = values.pop("preset")
    if preset not in preset_names() or preset == source:
        raise DataError(
            got=f"{name} begins with the preset {brief(preset)}{nearest(str(preset), preset_names())}",
            expected=f"one of {', '.join(preset_names())}",
            remedy="Correct the name, or leave the line out",
        )
    return {**_settings(preset), **values}


def _load_yaml(text: str, name: str) -> dict[str, object]:
    try:
        # A subclass of the safe loader: plain values only, no objects.
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = f"is not YAML: {error.problem}{place}"
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = f"is not YAML: {' '.join(str(error).split())[:200]}"
    else:
        if values is None:
            return {}
        if isinstance(values, dict):
            return values
        problem = f"holds {brief(values)}"
    raise DataError(got=f"{name} {problem}", expected="lines of the form name: value", remedy="Correct the file")


def _unknown(values: Iterable[object]) -> list[str]:
    known = [item.name for item in fields(TuneConfig)]
    return [f"{brief(key)} is no setting{nearest(str(key), known)}" for key in values if key not in known]


def _from_text(key: str, value: str) -> object:
    """A value given as text, read as it would be in a file; where that is no plain value, the text itself."""
    try:
        read = yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError, ValueError):
        return value
    return read if isinstance(read, (str, bool, int, float, type(None))) else value


def _number_from_text(item: Field[Any], value: object) -> object:
    """YAML 1.1 reads 2e-4 (without a point) as text: what stands for a number is taken as one."""
    if isinstance(value, str) and str(item.type).startswith("float"):
        try:
            return float(value)
        except ValueError:
            return value
    return value
