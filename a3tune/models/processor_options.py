"""With which options a model's processor calls its image processor: some resize or tile only because of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from transformers import ProcessorMixin


class _Listener:
    """An image processor that keeps the options of its last call."""

    def __init__(self, listened: Any) -> None:
        self._listened = listened
        self.heard: dict[str, Any] = {}

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.heard = options
        return self._listened(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listened, name)


def image_options(processor: ProcessorMixin, ask: Callable[[ProcessorMixin], object]) -> dict[str, Any]:
    """The keyword arguments of the image processor's call, apart from the images and the kind of tensors.

    Args:
        processor: the model's processor; it is copied, not changed.
        ask: calls the processor that it is given with one image and a text.
    """
    # A copy: other threads may be using the processor.
    listening = copy.copy(processor)
    listener = _Listener(processor.image_processor)
    listening.image_processor = listener
    ask(listening)
    return {name: value for name, value in listener.heard.items() if name not in ("images", "return_tensors")}
