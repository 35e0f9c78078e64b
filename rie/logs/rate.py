"""A token bucket: so much at once, so much a second."""

from __future__ import annotations

import time
from collections.abc import Callable


class Rate:
    """`spend` what was read; it tells how long to read nothing more."""

    def __init__(self, per_s: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._now = now
        self._left = burst
        self._at = now()

    def spend(self, amount: int) -> float:
        """Take `amount`, into debt if need be; the seconds until the debt is paid, 0 if there is none."""
        now = self._now()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - amount
        self._at = now
        return max(0.0, -self._left / self._per_s)
