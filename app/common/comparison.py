"""A visitor's own adapters, and what a tab asks for when it hands one over to be looked into beside the base model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gradio as gr

from app.common.pictures import PictureQuestion
from app.common.widgets import Update


class OwnAdapters(NamedTuple):
    """The adapters of the visitor alone.

    Attributes:
        visitor: the visitor's secret (see :mod:`app.common.identity`).
        of: secret -> folders in PEFT's format by name.
    """

    visitor: gr.BrowserState
    of: Callable[[Any], Mapping[str, Path]]


class AdapterComparison(Protocol):
    """Where an adapter is shown beside the base model.

    Attributes:
        question: the question on show.
        written: the script of an event whose first input is that question: it sends it where the visitor wrote it,
            else "".
        own_outputs: the components that `compare_own` fills.
    """

    own_outputs: list[gr.components.Component]

    @property
    def question(self) -> gr.Textbox: ...

    @property
    def written(self) -> str: ...

    def compare_own(
        self,
        visitor: Any,
        names: Sequence[str],
        asked: PictureQuestion,
        written: str,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Ask the base and other adapters, the visitor's own among them. ``written`` is what the visitor wrote as
        another question: it stays in the question's field where it was not asked. New values by components, which are
        among `own_outputs`."""
        ...
