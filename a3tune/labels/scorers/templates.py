"""Prompt templates: how a question is put to the scorer, per data set and organ.

The wordings are those of the method (Focus on What Matters: A3Tune, ACL 2025), its spelling slips included,
because BiomedCLIP's scores depend on every letter. The tables are data: edit them, or pass a template of
your own.
"""

from __future__ import annotations

from dataclasses import dataclass

from a3tune.errors import LabelError

PLAIN = "{question}"


@dataclass(frozen=True)
class TemplateRow:
    """One wording.

    Attributes:
        match: the row applies when this text is in the lower-cased organ or location; "" always applies.
        template: text with ``{question}`` and ``{organ}`` for the question and the organ or location.
    """

    match: str
    template: str


@dataclass(frozen=True)
class TemplateSet:
    """The wordings of one data set, tried from top to bottom, and how many regions it keeps.

    Attributes:
        name: the data set.
        rows: the wordings; the last one has no condition.
        top_k: how many regions the method keeps for this data set.
    """

    name: str
    rows: tuple[TemplateRow, ...]
    top_k: int


TEMPLATE_SETS: dict[str, TemplateSet] = {
    entry.name: entry
    for entry in (
        TemplateSet("plain", (TemplateRow("", PLAIN),), 8),
        TemplateSet(
            "slake",
            (
                TemplateRow("chest", "Medical image of {organ} and lungs. {question}"),
                TemplateRow("abd", "Medical imgaing of abdomen.{question}"),
                TemplateRow("", "Medical image of {organ}.{question}"),
            ),
            8,
        ),
        TemplateSet(
            "vqa-rad",
            (
                TemplateRow("chest", "Medical image of {organ} and lungs. {question}"),
                TemplateRow("abd", "Medical imgaing of abdomen CT.{question}"),
                TemplateRow("", "Medical image of {organ}.{question}"),
            ),
            8,
        ),
        TemplateSet(
            "vqa-rad-boxes",
            (
                TemplateRow("chest", "{organ} and lungs"),
                TemplateRow("head", "Medical imgaing of the whole brain.{question}"),
                TemplateRow("abd", "Medical imgaing of abdomen.{question}"),
                TemplateRow("", "Medical image of {organ}.{question}"),
            ),
            4,
        ),
        TemplateSet("pathvqa", (TemplateRow("", "Medical image of pathology.{question}"),), 8),
        TemplateSet("chest-report", (TemplateRow("", "Medical image of lungs and chest X-ray."),), 4),
        TemplateSet("question-only", (TemplateRow("", PLAIN),), 4),
    )
}
"""By name: SLAKE, VQA-RAD (masks and the older box form), PathVQA, the IU-Xray and MIMIC-CXR reports
("chest-report"), OmniMedVQA and OL3I ("question-only"), and the plain question."""


def fill_template(template: str, question: str, organ: str = "") -> str:
    """Put question and organ into a template; other braces stay as they are."""
    return template.replace("{question}", question.replace("<image>\n", "")).replace("{organ}", organ)


def build_prompt(question: str, *, template_set: str = "plain", organ: str = "") -> str:
    """The text whose regions are looked for.

    Args:
        question: the question as asked; the marker ``<image>`` with its line break is taken out.
        template_set: a name in :data:`TEMPLATE_SETS`.
        organ: organ or location of the image as the data set names it ("CHEST", "Lung"); may be empty for
            sets that do not use it.

    Raises:
        LabelError: the set does not exist, or its wording needs an organ and none was given.
    """
    if template_set not in TEMPLATE_SETS:
        raise LabelError(
            expected=f"a template set: {', '.join(TEMPLATE_SETS)}",
            got=f"The template set is {template_set!r}",
            remedy="Choose one of these names",
        )
    for row in TEMPLATE_SETS[template_set].rows:
        if row.match in organ.lower():
            if "{organ}" in row.template and not organ.strip():
                raise LabelError(
                    expected=f"the organ or location that the templates of {template_set} are filled with",
                    got="No organ was given",
                    remedy="Name the organ, or use the plain template",
                )
            return fill_template(row.template, question, organ)
    raise LabelError(
        expected="a template set whose last row has no condition",
        got=f"No row of {template_set} applies to {organ!r}",
        remedy="Add a row with an empty condition",
    )
