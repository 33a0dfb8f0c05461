"""How often logins fail: from one address, and under one name."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

from app.access.deployment import Deployment

_SECONDS = 600.0
# Of whom failures are remembered; those that failed longest ago are forgotten first.
_MOST_KEYS = 20_000


class Attempts:
    """Counts tries before they are made, so that many at once are no way around it.

    Args:
        deployment: how many may fail.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._guard = threading.Lock()

    def begin(self, *keys: str) -> None:
        """Count a try as failed until `succeeded` says otherwise.

        Args:
            keys: from where it comes, and under which name.

        Raises:
            RequestError: too many failed.
        """
        now, most = time.monotonic(), self._deployment.login_tries
        with self._guard:
            for key in keys:
                times = self._failed.setdefault(key, deque())
                while times and now - times[0] > _SECONDS:
                    times.popleft()
                if most is not None and len(times) >= most:
                    raise self._deployment.refusal("login_tries", f"{len(times)} failed", "Wait ten minutes")
            for key in keys:
                self._failed[key].append(now)
                self._failed.move_to_end(key)
            while len(self._failed) > _MOST_KEYS:
                self._failed.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """The last try under these keys did not fail."""
        with self._guard:
            for key in keys:
                if self._failed.get(key):
                    self._failed[key].pop()
