"""Every answer is found again from the masks alone, by other means than the code's own where there are any."""

import re
from collections import Counter

import cv2
import numpy as np
import pytest

from a3tune.phantom import KINDS, PhantomQuestion, ask, example_questions, make_phantom

NUMBERS = ("zero", "one", "two", "three")
SINGULAR = {"masses": "mass", "metastases": "metastasis", "abscesses": "abscess"}


def columns_of(mask):
    return np.nonzero(mask.any(axis=0))[0]


def rows_of(mask):
    return np.nonzero(mask.any(axis=1))[0]


def side_of(phantom, mask):
    """Which half of the patient holds more of the mask, the halves drawn from organs."""
    if phantom.kind == "chest":
        middle = np.nonzero(phantom.structure("spine").mask)[1].mean()
    elif phantom.kind == "brain":
        right = (mask & phantom.structure("right hemisphere").mask).sum()
        left = (mask & phantom.structure("left hemisphere").mask).sum()
        return "right" if right > left else "left"
    else:
        middle = np.nonzero(phantom.structure("vertebra").mask)[1].mean()
    return "right" if np.nonzero(mask)[1].mean() < middle else "left"


def third_of(mask, reference):
    rows = rows_of(reference)
    share = (np.nonzero(mask)[0].mean() + 0.5 - rows[0]) / (rows[-1] + 1 - rows[0])
    return int(share * 3)


def place_of(phantom, mask):
    side = side_of(phantom, mask)
    if phantom.kind == "chest":
        return f"{side} {('upper', 'middle', 'lower')[third_of(mask, phantom.structure(f'{side} lung').mask)]} zone"
    if phantom.kind == "brain":
        brain = phantom.mask_of(["right hemisphere", "left hemisphere"])
        return f"{side} {('frontal', 'temporal', 'occipital')[third_of(mask, brain)]} lobe"
    return host_of(phantom, mask)


def host_of(phantom, mask):
    hosts = {
        "chest": ("right lung", "left lung"),
        "brain": ("right hemisphere", "left hemisphere"),
        "abdomen": ("liver", "spleen", "right kidney", "left kidney", "gallbladder"),
    }
    return max(hosts[phantom.kind], key=lambda name: (phantom.structure(name).mask & mask).sum())


def is_enlarged(phantom):
    if phantom.kind == "chest":
        heart = columns_of(phantom.structure("heart").mask)
        lungs = columns_of(phantom.mask_of(["right lung", "left lung"]))
        return np.ptp(heart) + 1 > 0.5 * (np.ptp(lungs) + 1)
    if phantom.kind == "brain":
        ventricles = phantom.structure("ventricles").mask
        rows = rows_of(ventricles)
        horns = ventricles[: (rows[0] + rows[-1]) // 2 + 1]
        brain = phantom.mask_of(["right hemisphere", "left hemisphere"])
        return np.ptp(columns_of(horns)) + 1 > 0.3 * (np.ptp(columns_of(brain)) + 1)
    return False


def pieces_of(mask):
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1


def asked(phantoms, topic):
    return [(p, q) for p in phantoms for q in ask(p) if q.topic == topic]


def test_questions_are_the_same_every_time(phantoms):
    for phantom in phantoms[::10]:
        assert ask(phantom) == ask(make_phantom(phantom.seed, phantom.kind))


def test_every_question_is_well_formed(phantoms):
    for phantom in phantoms:
        questions = ask(phantom)
        assert 6 <= len(questions) <= 20
        for item in questions:
            assert isinstance(item, PhantomQuestion)
            assert (item.answer in ("yes", "no")) == (item.answer_type == "closed")
            assert "{" not in item.question
            if item.topic == "report":
                assert item.answer.endswith(".")
            else:
                assert item.answer in (item.answer.lower(), phantom.modality)
                assert item.question.endswith("?")
            phantom.mask_of(item.targets)


def test_every_topic_comes_up(phantoms):
    topics = Counter(item.topic for phantom in phantoms for item in ask(phantom))
    assert set(topics) == {"presence", "location", "side", "count", "organ", "modality", "report"}
    assert min(topics.values()) > 40


def test_presence_is_what_the_structures_say(phantoms):
    for phantom, item in asked(phantoms, "presence"):
        if "abnormal" in item.question:
            assert (item.answer == "yes") == (bool(phantom.lesions) or is_enlarged(phantom))
        else:
            thing = re.sub(r"^(Is there|Can you see|Does the image show) ((an?|the) )?", "", item.question).rstrip("?")
            there = {s.finding or s.name for s in phantom.structures}
            assert (item.answer == "yes") == (thing in there), (phantom.seed, item)
        assert phantom.mask_of(item.targets).any() == (item.answer == "yes")


def test_locations_follow_from_the_masks(phantoms):
    lesions = 0
    for phantom, item in asked(phantoms, "location"):
        structure = phantom.structure(item.targets[0])
        assert len(item.targets) == 1
        assert structure.name in item.question
        if structure.kind == "lesion":
            assert item.answer == place_of(phantom, structure.mask), (phantom.seed, item)
            lesions += 1
        elif item.answer in ("right side", "left side"):
            assert item.answer == f"{side_of(phantom, structure.mask)} side"
        else:
            assert item.answer in ("midline", "both sides")
    assert lesions > 60


def test_sides_follow_from_the_masks(phantoms, shifted_phantoms):
    for phantom, item in asked((*phantoms, *shifted_phantoms), "side"):
        side = side_of(phantom, phantom.mask_of(item.targets))
        if item.answer_type == "open":
            assert item.answer == side, (phantom.seed, item)
        else:
            claimed = "right" if "right side" in item.question else "left"
            assert (item.answer == "yes") == (side == claimed), (phantom.seed, item)


def test_counts_are_the_number_of_pieces(phantoms):
    for phantom, item in asked(phantoms, "count"):
        assert item.answer == NUMBERS[pieces_of(phantom.mask_of(item.targets))]
        words = re.search(r"(?:How many|number of) (\w+)", item.question).group(1)
        finding = SINGULAR.get(words, words[:-1])
        wanted = [x for x in phantom.lesions if finding in ("lesion", x.finding)]
        assert item.targets == tuple(x.name for x in wanted)


def test_organs_follow_from_the_masks(phantoms):
    for phantom, item in asked(phantoms, "organ"):
        if item.answer_type == "closed":
            assert (item.answer == "yes") == is_enlarged(phantom)
            assert item.targets[0] in item.question
        elif item.question.startswith("Which"):
            hosts = {host_of(phantom, lesion.mask) for lesion in phantom.lesions}
            assert hosts == {item.answer}
        else:
            organ = re.search(r"in the (.*)\?", item.question).group(1)
            found = {x.finding for x in phantom.lesions if host_of(phantom, x.mask) == organ}
            assert found == {item.answer}


def test_modality_is_the_kind(phantoms):
    scans = {"chest": "a radiograph", "brain": "an MR scan", "abdomen": "a CT scan"}
    for phantom, item in asked(phantoms, "modality"):
        if item.answer_type == "open":
            assert item.answer == phantom.modality
        else:
            assert (item.answer == "yes") == item.question.endswith(f" {scans[phantom.kind]}?")
        assert item.targets == ()


def test_reports_name_every_finding_and_its_place(phantoms):
    for phantom, item in asked(phantoms, "report"):
        assert item.answer[1:].startswith(phantom.modality[1:])
        assert ("enlarged" in item.answer) == is_enlarged(phantom)
        assert ("without abnormality" in item.answer) == (not phantom.lesions and not is_enlarged(phantom))
        for lesion in phantom.lesions:
            place = place_of(phantom, lesion.mask)
            alike = [x for x in phantom.lesions if x.finding == lesion.finding and place_of(phantom, x.mask) == place]
            start = rf"(an? |pneumonia|edema)(\b{lesion.finding})?" if len(alike) == 1 else NUMBERS[len(alike)]
            assert re.search(rf"{start}.* in the {place}", item.answer), (phantom.seed, item.answer)


def test_yes_and_no_are_balanced(phantoms):
    many = [make_phantom(seed, kind) for kind in KINDS for seed in range(50)]
    answers = Counter()
    for phantom in (*many, *phantoms):
        for item in ask(phantom):
            if item.answer_type == "closed":
                about = "abnormality" if "abnormal" in item.question else item.topic
                answers[about if "enlarged" not in item.question else "size", item.answer] += 1
    for about in ("presence", "abnormality", "side", "modality"):
        yes, no = answers[about, "yes"], answers[about, "no"]
        assert 0.38 < yes / (yes + no) < 0.62, (about, yes, no)


def test_the_language_is_small(phantoms):
    words = set()
    for phantom in phantoms:
        for item in ask(phantom):
            words |= set(re.findall(r"[a-z']+", f"{item.question} {item.answer}".lower()))
    assert len(words) < 250


@pytest.mark.parametrize("kind", KINDS)
def test_examples_are_questions_the_phantoms_ask(kind, phantoms):
    patterns = {item.question for phantom in phantoms if phantom.kind == kind for item in ask(phantom)}
    examples = example_questions(kind)
    assert len(set(examples)) == len(examples) >= 5
    assert sum(example in patterns for example in examples) >= len(examples) - 1
