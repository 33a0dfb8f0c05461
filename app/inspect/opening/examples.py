"""The examples that come with the application: a picture, what it is, and questions to ask about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from a3tune.bundle import EXAMPLES
from a3tune.images import load_image
from app.common.widgets import EVENT_OPTIONS, json_text, widget_parts
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.viewer.image_value import thumbnail

GENERAL_QUESTIONS = ("What does this image show?", "Is there an abnormality?", "Describe the findings.")
"""What can be asked about any image."""

DEMO_WORDS = (
    "The demo model answers half of such questions wrong by design: its base was never asked where, which side or how "
    "many. On test phantoms, over three seeds, a3 answers 1.5 points more than plain LoRA (0.7 to 2.3), with 1.5 times "
    "its attention on what is asked about; LoRA of as many trained weights answers 1.9 points more than a3, and looks "
    "where plain LoRA does."
)
"""What is to be known of the bundled examples' answers, beside each example on which they were told."""


class Example(NamedTuple):
    """One example.

    Attributes:
        key: its name in events.
        path: the picture's file.
        title: two or three words under the thumbnail.
        about: what it is, where it comes from, and what is known of the answers.
        questions: suggestions, the first of which is filled in.
    """

    key: str
    path: Path
    title: str
    about: str
    questions: tuple[str, ...]


def read_examples(folder: Path = EXAMPLES) -> tuple[Example, ...]:
    """The examples listed in ``examples.json``, in its order."""
    entries = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    return tuple(
        Example(entry["key"], folder / entry["file"], entry["title"], _about(entry), tuple(entry["questions"]))
        for entry in entries
    )


def _about(entry: Mapping[str, Any]) -> str:
    return f"{entry['about']} {DEMO_WORDS}" if entry.get("outcomes") else entry["about"]


def own_image(opened: OpenedImage) -> str:
    """The strip's value for an image of the visitor's own: a JSON text with its thumbnail, and the number of its
    files, by which the page knows their names: the server keeps none."""
    return json_text({"sent": opened.sent, "thumbnail": thumbnail(opened.image)})


def build_examples(examples: Sequence[Example], first: str) -> gr.HTML:
    """The examples as buttons; the event ``pick`` carries ``key``, the value is the key of the one on show, or what
    `own_image` gives of another image.

    Args:
        examples: what is on offer.
        first: the key of the one on show at first.
    """
    items = [
        {
            "key": example.key,
            "title": example.title,
            "about": example.about,
            "thumbnail": thumbnail(load_image(example.path)),
        }
        for example in examples
    ]
    return gr.HTML(value=first, **widget_parts("inspect/static/examples", items=items), elem_id="examples")


def keep_question(
    opened: gr.events.Dependency,
    question: gr.Textbox,
    strip: gr.HTML,
    viewer: gr.HTML,
    examples: Mapping[str, Example],
) -> None:
    """After an image was opened, empty the question's field where an example's question stands that was not asked about
    it; what the visitor wrote stays."""
    asked = [text for example in examples.values() for text in example.questions]
    shown = [question, strip, viewer]
    opened.then(None, shown, [question], js=_script("keptQuestion", asked), queue=False, **EVENT_OPTIONS)


def written_question(examples: Mapping[str, Example]) -> str:
    """The script of an event whose first input is the question: it sends that where the visitor wrote it, else ""."""
    offered = [*GENERAL_QUESTIONS, *(text for example in examples.values() for text in example.questions)]
    return f"(question, ...more) => [({_script('writtenQuestion', offered)})(question), ...more]"


def _script(function: str, questions: Sequence[str]) -> str:
    called = f'studioModule("inspect/static/suggestions.js").{function}'
    return f"(...shown) => {called}(...shown, {json.dumps(questions)})"
