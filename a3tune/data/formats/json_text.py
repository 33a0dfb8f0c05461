"""JSON as people write it: where its elements stand in the text, and keys that stand twice in one object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")


class _Twice(dict):
    """An object of JSON that names a key more than once; holds the last value of each, and which key it is."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        found = _Twice(found)
        found.key = next(key for key in keys if keys.count(key) > 1)
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_object)


def named_twice(value: object) -> str | None:
    """The first key that an object, or one inside it, names more than once; None where there is none."""
    if isinstance(value, _Twice):
        return value.key
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return next((key for one in inner if (key := named_twice(one)) is not None), None)


def skip_space(text: str, position: int) -> int:
    """The place of the first character from ``position`` on that is no white space."""
    found = _SPACE.match(text, position)
    return position if found is None else found.end()


class JsonWalk:
    """A walk over the outer brackets of a JSON text.

    The standard decoder gives no positions, so the brackets are walked here and only the elements are given to it:
    lines are counted once, from element to element.
    """

    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0
        self._line, self._counted = 1, 0
        self.skip()

    def whole(self) -> dict[str, object] | None:
        """The text as one object; None when it is something else."""
        value = self._value() if self.text[self.position : self.position + 1] == "{" else None
        return value if isinstance(value, dict) else None

    def elements(self) -> Iterator[tuple[str, int, object]]:
        """(group, line, value) of every element of the outer list, or of the lists in the outer object."""
        if self._take("["):
            yield from self._list("")
        elif self._take("{"):
            closed = self._take("}")
            while not closed:
                if self.text[self.position : self.position + 1] != '"':
                    raise json.JSONDecodeError(
                        "Expecting property name enclosed in double quotes", self.text, self.position
                    )
                key = self._value()
                self._expect(":")
                if self._take("["):
                    yield from self._list(str(key))
                else:
                    self._value()
                closed = self._take("}")
                if not closed:
                    self._expect(",")
        else:
            self._value()
        if self.position != len(self.text):
            raise json.JSONDecodeError("Extra data", self.text, self.position)

    def _list(self, group: str) -> Iterator[tuple[str, int, object]]:
        closed = self._take("]")
        while not closed:
            line = self._line_here()
            yield group, line, self._value()
            closed = self._take("]")
            if not closed:
                self._expect(",")

    def skip(self) -> None:
        self.position = skip_space(self.text, self.position)

    def _take(self, sign: str) -> bool:
        """Step over ``sign`` and white space if it stands here."""
        taken = self.text.startswith(sign, self.position)
        if taken:
            self.position += 1
            self.skip()
        return taken

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise json.JSONDecodeError(f"Expecting '{sign}' delimiter", self.text, self.position)

    def _value(self) -> object:
        value, self.position = DECODER.raw_decode(self.text, self.position)
        self.skip()
        return value

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line
