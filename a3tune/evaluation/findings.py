"""Which findings a report affirms and which it denies: by word lists and the NegEx rules of negspacy, where it is
installed (``pip install negspacy``). Nothing is downloaded.

Chapman et al., "A Simple Algorithm for Identifying Negated Findings and Diseases in Discharge Summaries", Journal of
Biomedical Informatics 34 (2001).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

# The observations of CheXpert (Irvin et al., AAAI 2019) and what the phantoms show, with the words that name them.
FINDINGS: Mapping[str, tuple[str, ...]] = {
    "atelectasis": ("atelectasis", "atelectases", "atelectatic", "collapse"),
    "cardiomegaly": ("cardiomegaly", "enlarged heart", "cardiac enlargement", "enlarged cardiac silhouette"),
    "consolidation": ("consolidation", "consolidations", "airspace disease"),
    "edema": ("edema", "oedema", "vascular congestion"),
    "effusion": ("effusion", "effusions", "pleural fluid"),
    "pneumonia": ("pneumonia", "pneumonias"),
    "pneumothorax": ("pneumothorax", "pneumothoraces"),
    "opacity": ("opacity", "opacities", "infiltrate", "infiltrates"),
    "fracture": ("fracture", "fractures"),
    "nodule": ("nodule", "nodules"),
    "mass": ("mass", "masses"),
    "tumor": ("tumor", "tumors", "tumour", "tumours"),
    "hemorrhage": ("hemorrhage", "haemorrhage", "hematoma", "haematoma", "bleeding"),
    "infarct": ("infarct", "infarcts", "infarction"),
    "cyst": ("cyst", "cysts"),
    "abscess": ("abscess", "abscesses"),
    "metastasis": ("metastasis", "metastases"),
    "stone": ("stone", "stones", "calculus", "calculi"),
    "device": ("chest tube", "central line", "pacemaker", "endotracheal tube", "catheter", "drain", "stent"),
}


def findings_available() -> bool:
    """Whether the rules are installed."""
    return importlib.util.find_spec("negspacy") is not None and importlib.util.find_spec("spacy") is not None


def findings_of(text: str) -> dict[str, bool]:
    """finding -> True where the text affirms it anywhere, False where it only denies it; those not named are left out.

    Raises:
        ImportError: negspacy is not installed.
    """
    found: dict[str, bool] = {}
    for entity in _pipeline()(text).ents:
        affirmed = not entity._.negex
        found[entity.label_] = found.get(entity.label_, False) or affirmed
    return found


def match_findings(reports: Sequence[tuple[str, str]]) -> dict[str, float | None]:
    """How well the findings of predicted reports match those of the right ones, over all reports.

    Args:
        reports: (right, predicted).

    Returns:
        "precision", "recall" and "f1" of affirmed findings, and "contradicted": of the findings that both name, the
        share that one affirms and the other denies; None where there is nothing to divide by.
    """
    shared = said = wanted = both = against = 0
    for right, predicted in reports:
        first, second = findings_of(right), findings_of(predicted)
        affirmed = [{name for name, there in found.items() if there} for found in (first, second)]
        shared += len(affirmed[0] & affirmed[1])
        wanted, said = wanted + len(affirmed[0]), said + len(affirmed[1])
        both += len(first.keys() & second.keys())
        against += sum(first[name] != second[name] for name in first.keys() & second.keys())
    return {
        "precision": shared / said if said else None,
        "recall": shared / wanted if wanted else None,
        "f1": 2 * shared / (said + wanted) if said + wanted else None,
        "contradicted": against / both if both else None,
    }


@cache
def _pipeline() -> Any:
    spacy = importlib.import_module("spacy")
    importlib.import_module("negspacy.negation")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    ruler = pipeline.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    ruler.add_patterns([{"label": name, "pattern": phrase} for name, phrases in FINDINGS.items() for phrase in phrases])
    pipeline.add_pipe("negex", config={"ent_types": list(FINDINGS)})
    return pipeline
