"""Results as what the viewer in the browser receives: plain values, maps as bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from a3tune.encoding import base64_maps, base64_text
from a3tune.figures.regions import outlines
from a3tune.types import Region, Token
from a3tune.wording import WARNING
from app.common.status import DEMO_NOTICE, status
from app.common.widgets import json_text
from app.engine.background import Step
from app.inspect.sessions.measures import TargetNumbers
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.regions import RankedRegions, ShownRegion, Target
from app.inspect.sessions.results import Result, ViewNumbers
from app.inspect.viewer.image_value import image_value, small_picture

if TYPE_CHECKING:
    from a3tune.inspection.deletion_curves import FaithfulnessCurves, RandomisedWeights
    from a3tune.inspection.views import AdapterView, ExpertChoice

# Key, name, form and meaning of each number. A form that ends in "%" gets the number times 100.
_TARGET_ROWS = (
    ("attention_mass", "Attention inside", "{:.1f} %", "Share of the attention on the image that falls inside"),
    ("relative_mass", "Against chance", "{:.2f} ×", "The same over what an even map would have there; 1 is chance"),
    ("pointing_game", "Highest point inside", "", "Whether the brightest patch lies inside (pointing game)"),
    ("iou", "Overlap (IoU)", "{:.2f}", "Patches above half of the maximum against the target's patches"),
)
_VIEW_ROWS = (
    ("image_share", "Attention on the image", "{:.1f} %", "Visual ratio of the critical heads over the answer's words"),
    ("entropy", "Spread (entropy)", "{:.2f}", "0: all on one patch; 1: even over the image"),
)
_REFERENCE_ROW = (
    "reference_mass",
    "Attention inside the reference mask",
    "{:.1f} %",
    "Share of the critical heads' attention on the image, over the words of the answer, that falls inside the mask "
    "that comes with the example or the data set",
)
_AREA = ("area", "Area of the image", "{:.1f} %", "How much of the image the target covers")


def viewer_value(
    opened: OpenedImage,
    result: Result | None = None,
    history: Sequence[Result] = (),
    *,
    side_by_side: bool = False,
    more_to_come: bool = False,
    goes_on: bool = False,
) -> str:
    """The viewer's value: a JSON text with the image, the result once there is one, and what can be reopened.

    ``side_by_side`` shows the first two views beside each other, whatever the reader chose before.

    Maps are text (:func:`a3tune.encoding.base64_maps`). Of each view "critical" and "mean" (mean over critical heads
    and over all heads) are [text tokens, patches]; "answer" and "question" under "head_means" are [layers * heads,
    patches], each head's mean over those words, or null where there are none, and of the last view while there is
    ``more_to_come``: they would be other ones with the next word, and are most of what is sent. While the work
    ``goes_on``, "awaited" names the adapters that have not begun to answer: the page keeps room for them.
    """
    told = None if result is None else result_value(result, more_to_come=more_to_come, goes_on=goes_on)
    return _value(opened, told, history, side_by_side=side_by_side)


def _value(opened: OpenedImage, result: dict[str, Any] | None, history: Sequence[Result], *, side_by_side: bool) -> str:
    return json_text(
        {
            "image": image_value(opened),
            "result": result,
            "session": opened.regions,
            "history": _listed(history, opened),
            "sideBySide": side_by_side,
        }
    )


def adopted_value(result: Result, history: Sequence[Result]) -> str:
    """The viewer's value where it has the image and the result already: which result, and what the session adds."""
    past = _listed(history, result.opened)
    return json_text({"adopt": result.id, "session": result.opened.regions, "history": past})


def written_value(result: Result) -> str:
    """The viewer's value where it has the image, the views that are whole and the beginning of the next one's answer
    already: what is written by now, null in the place of each other view."""
    value = result_value(result, more_to_come=True, goes_on=True, known=len(result.inspection.views) - 1)
    return json_text({"written": value, "session": result.opened.regions})


class AnswerValues:
    """The viewer's values of one question while it is being answered; a view that is whole is packed once.

    Args:
        side_by_side: as in :func:`viewer_value`.
    """

    def __init__(self, *, side_by_side: bool = False) -> None:
        self._side_by_side = side_by_side
        self._sent = ""
        self._whole: list[dict[str, Any]] = []

    def value(self, result: Result, history: Sequence[Result]) -> str:
        """The value with an answer that is being written or is whole. As long as it is written, only what is new
        follows; the end of an answer comes with all there is, for a page that missed a part."""
        if result.id != self._sent:
            self._sent, self._whole = result.id, []
        elif result.writing:
            return written_value(result)
        told = result_value(result, more_to_come=result.writing, goes_on=True, packed=self._whole)
        self._whole = told["views"][: len(told["views"]) - result.writing]
        return _value(result.opened, told, history, side_by_side=self._side_by_side)


def result_value(
    result: Result,
    *,
    more_to_come: bool = False,
    goes_on: bool = False,
    known: int = 0,
    packed: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A result with its views as the viewer receives it, null for the first ``known``; see :func:`viewer_value`.
    ``packed`` are its first views from a former value, where they were whole."""
    inspection, special = result.inspection, result.generation.special_tokens
    pairs = list(zip(inspection.views, result.numbers, strict=True))
    whole = len(pairs) - more_to_come
    return {
        "id": result.id,
        "question": inspection.question,
        "reference": result.opened.reference_answer(inspection.question) or None,
        "referenceMask": None if result.reference_mask is None else _outline(result.reference_mask),
        "model": inspection.model,
        "notice": " ".join([DEMO_NOTICE] * result.demo + _remarks(inspection.views, warnings=False)),
        "complete": result.complete,
        "writing": result.writing,
        "awaited": result.asked[len(pairs) :] if goes_on else (),
        "patches": inspection.grid.count,
        "tiles": inspection.grid.tiles_record(),
        "views": [
            None
            if place < known
            else packed[place]
            if place < len(packed)
            else _view(view, numbers, special, means=place < whole)
            for place, (view, numbers) in enumerate(pairs)
        ],
    }


def _outline(mask: np.ndarray) -> list[list[int]]:
    """The borders of a mask as flat lists x, y, x, y, ... in source pixels."""
    height, width = mask.shape
    return [line.ravel().tolist() for line in outlines(Region(mask, (0, 0, width, height)))]


def finished_status(result: Result) -> str:
    """How long the inspection took, over all adapters, as a status line."""
    seconds = result.inspection.seconds
    answer = sum(value for name, value in seconds.items() if name.endswith("answer"))
    count = len(result.inspection.views)
    words = "Answer" if count == 1 else f"{count} answers"
    return status(f"{words} in {_duration(answer)}, with the attention of every head.")


def head_map_value(weights: np.ndarray) -> dict[str, str]:
    """One head's map [text tokens, patches] as the viewer fetches it."""
    return {"map": base64_maps(weights)}


def regions_value(ranked: RankedRegions) -> dict[str, Any]:
    """The ranked regions as the viewer receives them; contours are flat lists x, y, x, y, ... in source pixels."""
    labels = ranked.labels
    more = len(labels.regions) - len(ranked.shown)
    notes = [f"{len(ranked.shown)} of {len(labels.regions)} ranked regions shown"] if more > 0 else []
    return {
        "prompt": labels.prompt,
        "notes": [*labels.notes, *notes],
        "made_by": f"Found by {labels.segmenter}, ranked by {labels.scorer}.",
        "rows": [_region(item) for item in ranked.shown],
        "numbers": numbers_value(ranked.numbers),
    }


def numbers_value(numbers: TargetNumbers | None) -> dict[str, Any] | None:
    """The target's numbers as the viewer receives them: rows of key, name, value and meaning; head masses by view."""
    if numbers is None:
        return None
    return {
        "area": _rows((_AREA,), {"area": numbers.area}),
        "views": [
            {
                "result": view.result,
                "adapter": view.adapter,
                "rows": _rows(_TARGET_ROWS, view.numbers),
                "head_mass": _plain(view.head_mass),
                "inside": view.inside,
            }
            for view in numbers.views
        ],
    }


def view_rows(result: Result, view: AdapterView, numbers: TargetNumbers | None) -> list[list[str]]:
    """A view's numbers as rows of key, name, value and meaning: those in the target first, where one is chosen."""
    inside = (
        []
        if numbers is None
        else [item for item in numbers.views if item.result == result.id and item.adapter == view.adapter]
    )
    return [
        *(_rows(_TARGET_ROWS, inside[0].numbers) if inside else []),
        *_own_rows(view, result.numbers_of(view.adapter)),
    ]


def _own_rows(view: AdapterView, numbers: ViewNumbers) -> list[list[str]]:
    """Those that are there whatever regions are chosen."""
    reference = {} if numbers.inside is None else {_REFERENCE_ROW[0]: numbers.inside}
    return _rows((_REFERENCE_ROW, *_VIEW_ROWS), {**view.metrics, **reference})


def target_value(target: Target, files: bytes) -> dict[str, str]:
    """What the viewer gets when a target was kept: words, and the ZIP archive as base64."""
    count = len(target.labels.regions)
    return {
        "words": f"Kept: {count} {'region' if count == 1 else 'regions'}, {100 * target.mask.mean():.1f} % of the "
        "image. The target stays with this visit.",
        "archive": base64_text(files),
    }


def file_value(name: str, kind: str, content: bytes) -> dict[str, str]:
    """A file as the viewer saves it: its name, its media type, its bytes as base64."""
    return {"name": name, "type": kind, "file": base64_text(content)}


def faithfulness_value(step: Step, outcome: FaithfulnessCurves | RandomisedWeights | None) -> dict[str, Any]:
    """How far a check of a map is, or what came of it."""
    if outcome is None:
        return {"done": False, "what": step.what, "share": step.share}
    told = _curves(cast("FaithfulnessCurves", outcome)) if hasattr(outcome, "deletion") else _control(outcome)
    return {"done": True, "result": told}


def _curves(curves: FaithfulnessCurves) -> dict[str, Any]:
    areas = curves.areas
    falls = "faster" if areas["deletion"] < areas["deletion_random"] else "no faster"
    rises = "faster" if areas["insertion"] > areas["insertion_random"] else "no faster"
    return {
        "shares": curves.shares.tolist(),
        **{name: getattr(curves, name).tolist() for name in areas},
        **{f"{name}_area": area for name, area in areas.items()},
        "words": f"Hiding the patches that the map marks lowers the probability of the answer {falls} than hiding "
        f"patches in random order (dashed), and showing them raises it {rises}. A small area under the deletion curve "
        "and a large one under the insertion curve speak for the map. Hidden patches are blurred; the probability is "
        "the geometric mean over the answer's tokens (RISE, BMVC 2018).",
    }


def _control(control: RandomisedWeights) -> dict[str, Any]:
    last = float(control.correlation[-1])
    told = "not defined" if math.isnan(last) else f"{last:.2f}".replace("-", "\N{MINUS SIGN}")
    return {
        "randomised": list(control.randomised),
        "likeness": [None if math.isnan(value) else float(value) for value in control.correlation],
        "words": f"Spearman's rank correlation with the map of the trained weights; {told} once all "
        f"{control.randomised[-1]} layers have random weights. A map that stays alike does not depend on what the "
        "model has learnt; a layer's attention changes only when it or a layer below it does (Sanity Checks for "
        "Saliency Maps, NeurIPS 2018).",
    }


def _rows(forms: Sequence[tuple[str, str, str, str]], numbers: dict[str, float]) -> list[list[str]]:
    told = []
    for key, name, form, meaning in forms:
        if key in numbers:
            number = numbers[key]
            if math.isnan(number):
                value = "not defined"
            elif form:
                value = form.format(100 * number if form.endswith("%") else number)
            else:
                value = {0.0: "no", 1.0: "yes"}.get(number, f"{100 * number:.0f} %")
            told.append([key, name, value, meaning])
    return told


def _listed(history: Sequence[Result], opened: OpenedImage) -> list[dict[str, Any]]:
    """What is listed of a history: of an example's own question, which is one press away, only to compare another
    question about the image on show with it."""
    here = [result for result in history if result.inspection.image.sha256 == opened.image.sha256]
    compared = any(not result.is_examples_own for result in here)
    return [_past(one) for one in history if not one.is_examples_own or (compared and one in here)]


def _past(result: Result) -> dict[str, Any]:
    inspection = result.inspection
    return {
        "result": result.id,
        "image": inspection.image.sha256,
        "thumbnail": small_picture(inspection.image),
        "question": inspection.question,
        "answers": [[view.adapter, view.answer] for view in inspection.views],
    }


def _view(view: AdapterView, numbers: ViewNumbers, special: frozenset[str], *, means: bool) -> dict[str, Any]:
    weights = view.maps.weights
    layers, heads = np.asarray(view.critical_heads, dtype=np.int64).T
    tokens = _tokens(view, special)
    return {
        "adapter": view.adapter,
        "answer": view.answer,
        "layers": view.maps.layers,
        "heads": view.maps.heads,
        "critical": [[head.layer, head.head] for head in view.critical_heads],
        "ratio": _plain(view.visual_ratio),
        "entropy": _plain(numbers.entropy),
        "tokens": tokens,
        "maps": {
            "critical": base64_maps(weights[layers, heads].mean(axis=0)),
            "mean": base64_maps(weights.mean(axis=(0, 1))),
        },
        "head_means": {role: _head_means(weights, tokens, role) if means else None for role in ("answer", "question")},
        "sinks": list(numbers.sinks.items()),
        "rows": _own_rows(view, numbers),
        "experts": None if view.experts is None else _experts(view.experts),
        "warning": " ".join(_remarks([view], warnings=True)),
    }


def _remarks(views: Sequence[AdapterView], *, warnings: bool) -> list[str]:
    """What is to be said about the adapters: warnings, which stand at their answers, or all else."""
    return [note for view in views for note in view.notes if (WARNING in note) == warnings]


def _head_means(weights: np.ndarray, tokens: list[dict[str, Any]], role: str) -> str | None:
    rows = [
        token["row"] for token in tokens if token["role"] == role and token["row"] is not None and not token["special"]
    ]
    return base64_maps(weights[:, :, rows].mean(axis=2).reshape(-1, weights.shape[3])) if rows else None


def _experts(experts: ExpertChoice) -> dict[str, Any]:
    """Gates [layers][experts], and each patch's first choice as bytes [layers * patches]."""
    first = None if experts.key_choice is None else experts.key_choice[:, :, 0].astype(np.uint8)
    return {
        "gates": None if experts.query_gates is None else np.round(experts.query_gates, 4).tolist(),
        "first": None if first is None else base64_text(first),
        "count": 0 if experts.key_probabilities is None else experts.key_probabilities.shape[2],
        "each": 0 if experts.key_choice is None else experts.key_choice.shape[2],
    }


def _tokens(view: AdapterView, special: frozenset[str]) -> list[dict[str, Any]]:
    places = {int(position): place for place, position in enumerate(view.maps.rows)}
    return [_token(token, places.get(token.read_at), special) for token in view.tokens if token.role != "image"]


def _token(token: Token, row: int | None, special: frozenset[str]) -> dict[str, Any]:
    return {"row": row, "text": token.text, "role": token.role, "special": token.text.strip() in special}


def _region(item: ShownRegion) -> dict[str, Any]:
    region = item.scored.region
    return {
        "key": item.key,
        "rank": item.scored.rank,
        "score": round(item.scored.score, 2),
        "weight": round(item.scored.weight, 4),
        "phrase": item.scored.phrase,
        "area": region.area,
        "share": round(float(region.area / region.mask.size), 5),
        "drawn": item.drawn,
        "small": item.small,
        "chosen": item.chosen,
        "colour": "#{:02x}{:02x}{:02x}".format(*item.colour),
        "contours": [line.ravel().tolist() for line in item.contours],
        "anchor": list(item.anchor),
    }


def _plain(values: np.ndarray) -> list[float | None]:
    """Flat list of five-digit numbers; None where one is not defined."""
    return [None if math.isnan(value) else round(float(value), 5) for value in values.ravel()]


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
