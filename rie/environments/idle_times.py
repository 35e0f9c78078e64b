"""How long a function stays idle between calls, and what that says of when to keep an environment; pure.

The hybrid histogram policy of "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020, §4.2), by the first case that
holds:

1. Too little has been seen: the standard time.
2. Most idle times are longer than the histogram is: if the last of them were alike, a window around when the next call
   is due; else the standard time. (The paper has an ARIMA model here.)
3. The histogram is too flat to tell anything (the coefficient of variation of its bins is low): the standard time.
4. Otherwise from the 5th percentile of the idle times, a tenth earlier, to the 99th, a tenth later; but the end is
   where it pays best, if a call that needs no start is worth twenty minutes of its environment's memory. (In the paper
   it is always the 99th: on the trace of bench/keepalive that takes 1.9 times the memory of ten minutes for all, and
   leaves 6 % of the median function's calls cold instead of 20.)
   If the begin is near, the environment is kept instead of started again, and no shorter than the standard time.
"""

from __future__ import annotations

from array import array
from collections import deque
from math import sqrt
from typing import NamedTuple

BIN_S = 60.0  # the paper's, as the next five
BINS = 240  # four hours
HEAD, TAIL = 0.05, 0.99
MARGIN = 0.1
FLAT_BELOW = 2.0  # coefficient of variation
MOSTLY_BEYOND = 0.5
ENOUGH = 3  # idle times; fewer are no pattern
FORGET_AT = 1_024  # idle times, from which on the older ones count half: functions change
# Starting again for less than this saves nothing worth an init, which functions notice.
WORTH_S = 300.0
# Of idleness, for each call that finds an environment. Measured: then all take as much as with ten minutes for each.
PAYS_S = 1_200.0
# What has just been used is kept for as long as the histogram can't see, whatever it says: people call again.
GRACE_S = BIN_S
RARE = 6  # idle times beyond the histogram that are remembered …
ALIKE = 0.1  # … and regular if they differ by no more than this share of the middle one
RARE_MARGIN_S = 120.0  # around regular ones, or as much as they differ


class Window(NamedTuple):
    """What to do with an environment once it is idle. Seconds from then on.

    It is kept for `keep_s`; if `ahead_s` is not None, another is started after that time and kept until `until_s`.
    """

    keep_s: float
    ahead_s: float | None = None
    until_s: float = 0.0


class IdleTimes:
    """A histogram. Half a kilobyte."""

    __slots__ = ("_beyond", "_bins", "_fresh", "_rare", "_squares", "_total", "_window")

    def __init__(self) -> None:
        self._bins = array("H", bytes(2 * BINS))
        self._total = 0  # in the bins
        self._squares = 0  # of the bins
        self._beyond = 0
        self._rare: deque[float] = deque(maxlen=RARE)
        self._window: Window | None = None  # None: the standard time
        self._fresh = 0  # idle times since that was decided

    def note(self, idle_s: float) -> None:
        """Nothing ran for so long; now something does again."""
        place = int(idle_s / BIN_S)
        if place < BINS:
            self._squares += 2 * self._bins[place] + 1
            self._bins[place] += 1
            self._total += 1
        else:
            self._beyond += 1
            self._rare.append(idle_s)
        if self._total + self._beyond >= FORGET_AT:
            self._halve()
        self._fresh += 1
        if self._fresh > (self._total + self._beyond) // 16:  # one call more of many changes little
            self._fresh = 0
            self._window = self._decide()

    def window(self, standard_s: float) -> Window:
        """What to do with an environment that is idle from now on."""
        window = self._window
        if window is None or (window.ahead_s is None and window.keep_s < standard_s):
            return Window(standard_s)
        return window

    def dump(self) -> dict[str, object]:
        """What `load` takes; JSON."""
        bins = {str(place): count for place, count in enumerate(self._bins) if count}
        return {"bins": bins, "beyond": self._beyond, "rare": list(self._rare)}

    @classmethod
    def load(cls, dumped: dict[str, object]) -> IdleTimes:
        """The histogram that was dumped. Raises ValueError, TypeError, KeyError for what is none."""
        self = cls()
        bins, rare = dumped["bins"], dumped["rare"]
        if not isinstance(bins, dict) or not isinstance(rare, list):
            raise TypeError("not a histogram")
        for place, count in bins.items():
            if not 0 <= int(place) < BINS or not 0 < int(count) < FORGET_AT:
                raise ValueError("not a histogram")
            self._bins[int(place)] = int(count)
        self._beyond = min(max(int(str(dumped["beyond"])), 0), FORGET_AT)
        self._rare.extend(float(each) for each in rare)
        self._sum_up()
        self._window = self._decide()
        return self

    def _halve(self) -> None:
        self._bins = array("H", (count // 2 for count in self._bins))
        self._beyond //= 2
        self._sum_up()

    def _sum_up(self) -> None:
        self._total = sum(self._bins)
        self._squares = sum(count * count for count in self._bins)

    def _decide(self) -> Window | None:
        seen = self._total + self._beyond
        if seen < ENOUGH:
            return None
        if self._beyond > MOSTLY_BEYOND * seen:
            return self._around_the_next()
        if self._variation() < FLAT_BELOW:
            return None
        head = self._place(HEAD)
        head_s = head * BIN_S * (1 - MARGIN)
        if head_s < WORTH_S:
            return Window(self._end_s(0))
        until_s = self._end_s(int(head * (1 - MARGIN)))
        return Window(GRACE_S, head_s, until_s) if until_s else None

    def _end_s(self, begin: int) -> float:
        """Until when it pays to keep an environment that is there from that bin on; 0: it never does."""
        left, gained_s, most_s, end = float(self._total + self._beyond), 0.0, 0.0, -1
        for place in range(begin, self._place(TAIL) + 1):
            count = self._bins[place]
            gained_s += count * PAYS_S - (left - count / 2) * BIN_S
            left -= count
            if gained_s > most_s:
                most_s, end = gained_s, place
        return (end + 1) * BIN_S * (1 + MARGIN)

    def _around_the_next(self) -> Window | None:
        ordered = sorted(self._rare)
        differ_s = ordered[-1] - ordered[0]
        if len(ordered) < ENOUGH or differ_s > ALIKE * ordered[len(ordered) // 2]:
            return None
        margin_s = max(RARE_MARGIN_S, differ_s)
        return Window(GRACE_S, ordered[0] - margin_s, ordered[-1] + margin_s)

    def _variation(self) -> float:
        """The coefficient of variation of the bins."""
        mean = self._total / BINS
        return sqrt(max(0.0, self._squares / BINS - mean * mean)) / mean

    def _place(self, share: float) -> int:
        """The bin with the idle time than which that share of those in the bins is not longer."""
        left = share * self._total
        for place, count in enumerate(self._bins):
            left -= count
            if left <= 0 and count:
                return place
        raise AssertionError("unreachable: there are idle times in the bins")
