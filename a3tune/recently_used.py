"""What was used last is kept at hand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class RecentlyUsed(Generic[Value]):
    """A bounded map that drops the entry not used for longest; safe under threads.

    Args:
        capacity: how many entries are kept, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """The entry, now the most recently used one, or None."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        """Add or replace an entry; the oldest goes when the map is full."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)

    def get_or_make(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The entry, made by ``make`` (outside the lock) when it is not there."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value

    def remove(self, unwanted: Callable[[Value], bool]) -> None:
        """Forget the entries of which ``unwanted`` says so."""
        with self._lock:
            for key in [key for key, value in self._entries.items() if unwanted(value)]:
                del self._entries[key]

    def forget(self, unwanted: Callable[[Any], bool]) -> None:
        """Forget the entries of whose keys ``unwanted`` says so."""
        with self._lock:
            for key in [key for key in self._entries if unwanted(key)]:
                del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)
