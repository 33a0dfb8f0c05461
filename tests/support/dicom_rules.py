"""The attributes that the standard (PS3.3) asks of a DICOM object, held against one: by the tables of highdicom, which
were made from the standard's own text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import highdicom
from pydicom import Dataset

# What a macro of functional groups asks, it asks where its sequence is; these stand in one of two places.
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = {
    "segmentation": ("SegmentIdentificationSequence",),
    "parametric-map": (
        "PixelMeasuresSequence",
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "FrameVOILUTSequence",
        "PixelValueTransformationSequence",
        "RealWorldValueMappingSequence",
        "ParametricMapFrameTypeSequence",
    ),
}


@cache
def _table(name: str) -> Any:
    folder = Path(highdicom.__file__).parent / "_standard"
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def broken_rules(made: Dataset) -> list[str]:
    """What an object lacks: attributes of type 1 (there, with a value) and 2 (there) of every module that its kind must
    have, in sequences too; macros of functional groups; unknown and private attributes; a value that its type cannot
    hold."""
    kind = _table("sop_class_iod_map")[made.SOPClassUID]
    broken = []
    for module in _table("iod_module_map")[kind]:
        if module["usage"] == "M" or (module["usage"] == "C" and module["key"] == "common-instance-reference"):
            for rule in _table("module_attribute_map")[module["key"]]:
                # What is asked where a module or a macro is there is asked in its sequence.
                if rule["path"] in ([[]] if module["usage"] == "C" else [[name] for name in _GROUPS]):
                    continue
                broken += _broken(made, rule["path"], rule["keyword"], rule["type"], module["key"])
    for macro in _MACROS.get(kind, ()):
        if not any(macro in group for groups in _GROUPS for group in made.get(groups) or ()):
            broken.append(f"no {macro}")
    broken += [f"{element.tag} is not of the standard" for element in made.iterall() if not element.keyword]
    return broken


def _broken(item: Dataset, path: list[str], keyword: str, kind: str, module: str) -> list[str]:
    if path:
        found = []
        for inner in item.get(path[0]) or ():
            found += _broken(inner, path[1:], keyword, kind, module)
        return found
    if kind not in ("1", "2"):
        return []
    if keyword not in item:
        return [f"{module}: no {keyword}"]
    empty = item[keyword].is_empty and not (item[keyword].VR == "SQ" and kind == "2")
    return [f"{module}: {keyword} is empty"] if kind == "1" and empty else []
