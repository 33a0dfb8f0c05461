"""Questions about a phantom, with answers read off its masks.

Closed questions are answered "yes" or "no": presence ("Is there a nodule?"), side ("Is the nodule on the right
side?"), the size of heart and ventricles, and modality ("Is this a CT scan?"). Open questions are answered with a short
lower-case phrase: location ("right upper zone"), side ("left"), count ("two"), organ ("liver"), modality
("brain MR"), or with a one-sentence report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from a3tune.phantom import abdomen, brain, chest, chest_devices
from a3tune.phantom.locate import CARDIOTHORACIC_LIMIT, EVANS_LIMIT, cardiothoracic_ratio, evans_index
from a3tune.phantom.structures import KINDS, MODALITIES, Phantom, PhantomKind, Structure

AnswerType = Literal["closed", "open"]
Topic = Literal["presence", "location", "side", "count", "organ", "modality", "report"]

FINDINGS: dict[PhantomKind, tuple[str, ...]] = {
    "chest": chest.FINDINGS,
    "brain": brain.FINDINGS,
    "abdomen": abdomen.FINDINGS,
}
DEVICES: dict[PhantomKind, tuple[str, ...]] = {
    "chest": chest_devices.DEVICES,
    "brain": brain.DEVICES,
    "abdomen": abdomen.DEVICES,
}
COUNTABLE: dict[PhantomKind, tuple[str, ...]] = {
    "chest": chest.COUNTABLE,
    "brain": brain.COUNTABLE,
    "abdomen": abdomen.COUNTABLE,
}
# Organs that are asked about: those with an outline of their own, which a segmenter can find too.
ORGANS: dict[PhantomKind, tuple[str, ...]] = {
    "chest": ("right lung", "left lung", "heart"),
    "brain": ("brain", "ventricles"),
    "abdomen": ("liver", "gallbladder", "right kidney", "left kidney", "spleen", "stomach", "aorta", "vertebra"),
}
SCANS: dict[PhantomKind, str] = {"chest": "a radiograph", "brain": "an MR scan", "abdomen": "a CT scan"}
NUMBERS = ("zero", "one", "two", "three")
PLURALS = {"mass": "masses", "metastasis": "metastases", "abscess": "abscesses"}
_NO_ARTICLE = {"pneumonia", "edema", "ecg leads", "ventricles"}

ORGAN_FORMS = ("Can you see the {thing}?", "Does the image show the {thing}?")
PRESENCE_FORMS = ("Is there {thing}?", "Can you see {thing}?", "Does the image show {thing}?")
_ABNORMAL = ("Is there any abnormality?", "Is the image abnormal?", "Can you see any abnormality?")
_WHERE = ("Where is the {name}?", "What is the location of the {name}?")
WHICH_SIDE_FORMS = ("Which side is the {name} on?", "On which side is the {name}?")
IS_SIDE_FORMS = ("Is the {name} on the {side} side?", "Is the {name} on the patient's {side} side?")
COUNT_FORMS = ("How many {names} are there?", "What is the number of {names}?", "How many {names} can you see?")
_ORGAN = ("Which organ is abnormal?", "Which organ shows an abnormality?")
_WHAT = ("What is abnormal in the {organ}?", "What abnormality is in the {organ}?")
_MODALITY = ("What kind of image is this?", "Which modality is this?", "What type of scan is shown?")
_REPORT = ("Describe the image.", "Write a short report.", "What does the image show?")


_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True)
class PhantomQuestion:
    """One question about one phantom.

    Attributes:
        question: as a person would ask it.
        answer: "yes" or "no" for closed questions, else a short phrase in lower case, or a report's sentence.
        answer_type: "closed" for yes and no, else "open".
        topic: what is asked about.
        targets: names of the structures asked about, for `Phantom.mask_of`; empty where what is asked about is
            absent, or where the question is about the image as a whole.
    """

    question: str
    answer: str
    answer_type: AnswerType
    topic: Topic
    targets: tuple[str, ...]


def with_article(name: str) -> str:
    """ "a nodule", "an effusion", "pneumonia"."""
    if name in _NO_ARTICLE:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def plural(name: str) -> str:
    """ "nodules", "masses"."""
    return PLURALS.get(name, f"{name}s")


class _Questioner:
    """Collects the questions of one phantom, the phrasings drawn from its seed."""

    def __init__(self, phantom: Phantom) -> None:
        words = (phantom.seed, 1 + KINDS.index(phantom.kind), 77)
        self.rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
        self.phantom = phantom
        self.questions: list[PhantomQuestion] = []
        self.by_finding: dict[str, list[Structure]] = {}
        for lesion in phantom.lesions:
            self.by_finding.setdefault(str(lesion.finding), []).append(lesion)

    def one_of(self, choices: Sequence[_Choice]) -> _Choice:
        return choices[int(self.rng.integers(len(choices)))]

    def ask(
        self, topic: Topic, templates: tuple[str, ...], answer: str | bool, targets: list[str], **words: str
    ) -> None:
        question = self.one_of(templates).format(**words)
        closed = isinstance(answer, bool)
        text = ("yes" if answer else "no") if closed else str(answer)
        self.questions.append(PhantomQuestion(question, text, "closed" if closed else "open", topic, tuple(targets)))

    def presence(self) -> None:
        kind = self.phantom.kind
        for finding, lesions in self.by_finding.items():
            names = [lesion.name for lesion in lesions]
            self.ask("presence", PRESENCE_FORMS, True, names, thing=with_article(finding))
        # Findings that are there more often are also asked about more often where they are not: "yes" and "no" stay
        # equally likely for each of them, and no answer can be guessed from the question.
        absent = [finding for finding in FINDINGS[kind] if finding not in self.by_finding]
        weights = np.array([1 + 1.3 * (item in COUNTABLE[kind]) / len(COUNTABLE[kind]) for item in absent])
        finding = absent[int(self.rng.choice(len(absent), p=weights / weights.sum()))]
        self.ask("presence", PRESENCE_FORMS, False, [], thing=with_article(finding))
        devices = [device.name for device in self.phantom.of_kind("device")]
        missing = [name for name in DEVICES[kind] if name not in devices]
        if devices and (not missing or self.rng.random() < 0.5):
            name = self.one_of(devices)
            self.ask("presence", PRESENCE_FORMS, True, [name], thing=with_article(name))
        elif missing and (devices or self.rng.random() < 0.4):
            self.ask("presence", PRESENCE_FORMS, False, [], thing=with_article(self.one_of(missing)))
        if self.rng.random() < 0.4:
            own = self.rng.random() < 0.5
            other = self.one_of([item for item in KINDS if item != kind])
            organ = self.one_of(ORGANS[kind if own else other])
            self.ask("presence", ORGAN_FORMS, own, [organ] if own else [], thing=organ)

    def abnormality(self) -> None:
        targets = [lesion.name for lesion in self.phantom.lesions]
        enlarged = enlarged_organ(self.phantom)
        if enlarged:
            targets.append(enlarged)
        # Asked of every normal image and of as many abnormal ones, which are about four times as common.
        if not targets or self.rng.random() < 0.3:
            self.ask("presence", _ABNORMAL, bool(targets), targets)

    def places(self) -> None:
        for finding, lesions in self.by_finding.items():
            if len(lesions) == 1:
                lesion = lesions[0]
                self.ask("location", _WHERE, lesion.location, [lesion.name], name=finding)
                self._sides(lesion, finding)
        for device in self.phantom.of_kind("device"):
            if device.side != "midline" and device.name != "central line" and self.rng.random() < 0.5:
                self._sides(device, device.name)
        organ = self.phantom.structure(self.one_of(ORGANS[self.phantom.kind]))
        self.ask("location", _WHERE, organ.location, [organ.name], name=organ.name)
        sided = [item for item in self.phantom.of_kind("organ") if _asks_side(item)]
        if sided:
            organ = self.phantom.structure(self.one_of([item.name for item in sided]))
            self._sides(organ, organ.name)

    def _sides(self, structure: Structure, name: str) -> None:
        if self.rng.random() < 0.5:
            self.ask("side", WHICH_SIDE_FORMS, structure.side, [structure.name], name=name)
        else:
            side = self.one_of(("right", "left"))
            self.ask("side", IS_SIDE_FORMS, side == structure.side, [structure.name], name=name, side=side)

    def counts(self) -> None:
        kind = self.phantom.kind
        for finding in COUNTABLE[kind]:
            lesions = self.by_finding.get(finding, [])
            # "zero" would be the commonest answer by far if it were always asked.
            if lesions or self.rng.random() < 0.25:
                self.ask(
                    "count", COUNT_FORMS, NUMBERS[len(lesions)], [item.name for item in lesions], names=plural(finding)
                )
        if self.rng.random() < 0.5:
            lesions = list(self.phantom.lesions)
            self.ask("count", COUNT_FORMS, NUMBERS[len(lesions)], [item.name for item in lesions], names="lesions")

    def organs(self) -> None:
        phantom = self.phantom
        hosts: dict[str, list[Structure]] = {}
        for lesion in phantom.lesions:
            hosts.setdefault(str(lesion.organ), []).append(lesion)
        enlarged = enlarged_organ(phantom)
        if len(hosts) == 1 and not enlarged:
            host, lesions = next(iter(hosts.items()))
            self.ask("organ", _ORGAN, host, [item.name for item in lesions])
        for host, lesions in hosts.items():
            if len({item.finding for item in lesions}) == 1 and self.rng.random() < 0.5:
                self.ask("organ", _WHAT, str(lesions[0].finding), [item.name for item in lesions], organ=host)
        if phantom.kind == "chest":
            templates = ("Is the heart enlarged?", "Is the heart too large?")
            self.ask("organ", templates, enlarged == "heart", ["heart"])
        elif phantom.kind == "brain":
            templates = ("Are the ventricles enlarged?", "Are the ventricles too large?")
            self.ask("organ", templates, enlarged == "ventricles", ["ventricles"])

    def modality(self) -> None:
        kind = self.phantom.kind
        if self.rng.random() < 0.6:
            self.ask("modality", _MODALITY, MODALITIES[kind], [])
        else:
            same = self.rng.random() < 0.5
            other = self.one_of([item for item in KINDS if item != kind])
            self.ask(
                "modality",
                ("Is this {scan}?", "Is the image {scan}?"),
                same,
                [],
                scan=SCANS[kind if same else other],
            )

    def report(self) -> None:
        targets = [lesion.name for lesion in self.phantom.lesions]
        enlarged = enlarged_organ(self.phantom)
        if enlarged:
            targets.append(enlarged)
        self.ask("report", _REPORT, report(self.phantom), targets)


def _asks_side(structure: Structure) -> bool:
    # "Which side is the left lung on?" answers itself.
    return structure.side != "midline" and structure.side not in structure.name and structure.name != "heart"


def enlarged_organ(phantom: Phantom) -> str | None:
    """ "heart" where the cardiothoracic ratio is above 0.5, "ventricles" where the Evans index is above 0.3."""
    if phantom.kind == "chest" and cardiothoracic_ratio(phantom) > CARDIOTHORACIC_LIMIT:
        return "heart"
    if phantom.kind == "brain" and evans_index(phantom) > EVANS_LIMIT:
        return "ventricles"
    return None


def report(phantom: Phantom) -> str:
    """One sentence with every finding and its place: "Chest radiograph with a nodule in the right upper zone."."""
    groups = Counter((str(lesion.finding), lesion.location) for lesion in phantom.lesions)
    parts = []
    for (finding, location), count in groups.items():
        what = with_article(finding) if count == 1 else f"{NUMBERS[count]} {plural(finding)}"
        parts.append(f"{what} in the {location}")
    enlarged = enlarged_organ(phantom)
    if enlarged:
        parts.append("an enlarged heart" if enlarged == "heart" else "enlarged ventricles")
    opening = phantom.modality[0].upper() + phantom.modality[1:]
    if not parts:
        return f"{opening} without abnormality."
    return f"{opening} with {', '.join(parts[:-1]) + ' and ' if len(parts) > 1 else ''}{parts[-1]}."


def ask(phantom: Phantom) -> tuple[PhantomQuestion, ...]:
    """The questions of a phantom, about 8 to 16, the same for the same phantom every time."""
    questioner = _Questioner(phantom)
    questioner.presence()
    questioner.abnormality()
    questioner.places()
    questioner.counts()
    questioner.organs()
    questioner.modality()
    questioner.report()
    return tuple(questioner.questions)


def example_questions(kind: PhantomKind) -> tuple[str, ...]:
    """Questions to suggest for an image of that kind, whatever it shows."""
    examples = {
        "chest": ("Is there a nodule?", "Where is the mass?", "Is the heart enlarged?", "Where is the right lung?"),
        "brain": (
            "Is there a tumor?",
            "Where is the infarct?",
            "Are the ventricles enlarged?",
            "How many tumors are there?",
        ),
        "abdomen": (
            "Is there a cyst?",
            "Where is the metastasis?",
            "Where is the liver?",
            "Which side is the spleen on?",
        ),
    }
    return (*examples[kind], "Which organ is abnormal?", "What kind of image is this?", "Describe the image.")
