"""Which findings a report affirms and which it denies: by word lists and the NegEx rules of negspacy, where it is
installed (``pip install negspacy``). Nothing is downloaded.

Chapman et al., "A Simple Algorithm for Identifying Negated Findings and Diseases in Discharge Summaries", Journal of
Biomedical Informatics 34 (2001).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
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


def finding_counts(right: str, predicted: str) -> tuple[int, int, int, int, int]:
    """Of one report: findings that both texts affirm, those that the predicted one affirms, those that the right one
    affirms; of the findings that both name those that one affirms and the other denies, and all of them."""
    first, second = findings_of(right), findings_of(predicted)
    wanted, said = ({name for name, there in found.items() if there} for found in (first, second))
    both = first.keys() & second.keys()
    return len(wanted & said), len(said), len(wanted), sum(first[name] != second[name] for name in both), len(both)


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
