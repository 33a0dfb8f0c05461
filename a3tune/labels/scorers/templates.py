"""Prompt templates: how a question is put to the scorer, per data set and organ.

The wordings are those of the method (Focus on What Matters: A3Tune, ACL 2025), its spelling slips included,
because BiomedCLIP's scores depend on every letter. The tables are data: edit them, or pass a template of
your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from a3tune.errors import LabelError, RequestError

PLAIN = "{question}"
ALL = "all"
KEPT_REGIONS = 8
"""How many of the best regions are kept for each question: the most that the method's data sets use."""


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
        rows: the wordings; the last one has no condition ("").
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


def check_template(template: str) -> None:
    """Refuse a template that is neither a set nor a wording.

    Raises:
        LabelError: it is unknown.
    """
    if template not in TEMPLATE_SETS and "{question}" not in template and "{organ}" not in template:
        raise LabelError(
            expected=f"one of {', '.join(TEMPLATE_SETS)}, or a wording with {{question}} in it",
            got=f"The template is {template!r}",
            remedy="Choose one of these",
        )


def takes_organ(template: str) -> bool:
    """Whether the organ changes a template's text: it is named in it, or chooses among its wordings."""
    rows = TEMPLATE_SETS[template].rows if template in TEMPLATE_SETS else (TemplateRow("", template),)
    return any(row.match or "{organ}" in row.template for row in rows)


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuse texts to look for where one of them, or all, are missing.

    Raises:
        LabelError: there is none, or one is empty or no text.
    """
    if not prompts or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
        raise LabelError(
            expected="a prompt such as the question or the name of a structure",
            got="The prompt is empty",
            remedy="Say what to look for",
        )


def build_prompt(question: str, template: str = "plain", organ: str = "", *, needs_organ: bool = True) -> str:
    """The text whose regions are looked for.

    Args:
        question: the question as asked; the marker ``<image>`` with its line break is taken out.
        template: a name in :data:`TEMPLATE_SETS`, or a wording with ``{question}`` or ``{organ}`` in it.
        organ: organ or location of the image as the data set names it ("CHEST", "Lung"); may be empty for
            wordings that do not use it.
        needs_organ: False for the plain question where the wording needs an organ and none is known.

    Raises:
        LabelError: the question is empty, the template is unknown, or its wording needs an organ and none was given.
    """
    check_prompts([question])
    check_template(template)
    wording = template
    if template in TEMPLATE_SETS:
        wording = next(row.template for row in TEMPLATE_SETS[template].rows if row.match in organ.lower())
    if "{organ}" in wording and not organ.strip():
        if needs_organ:
            raise LabelError(
                expected=f"the organ or location that the template {template} is filled with",
                got="No organ was given",
                remedy="Name it, or use another template",
            )
        wording = PLAIN
    return fill_template(wording, question, organ)


def kept_count(top_k: str | int | None, template: str) -> int | None:
    """How many of the best regions are kept: a number, or None for all.

    Args:
        top_k: a number as such or in digits, "all", or None for the number of the template set (8 for a wording of
            one's own).
        template: as in :func:`build_prompt`.

    Raises:
        RequestError: neither "all" nor a number above 0.
    """
    if top_k is None:
        return TEMPLATE_SETS[template].top_k if template in TEMPLATE_SETS else KEPT_REGIONS
    if top_k == ALL:
        return None
    try:
        count = int(top_k)
    except ValueError:
        count = 0
    if count < 1:
        raise RequestError(
            expected=f"at least 1 region to keep, or {ALL}",
            got=f"The number of regions to keep is {str(top_k)!r}",
            remedy="Choose 1 or more, or leave it out",
        )
    return count
