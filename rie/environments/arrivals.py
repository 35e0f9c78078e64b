"""When the calls of each function come, by how many run at a time, and how long environments are kept for more; pure.

An environment is needed again once as many calls run as when it was last used: the warmest is reused first. So idle
times are told apart by concurrency, in powers of two: the time from when fewer than 1, 2, 4 … calls ran to when as many
do again. Instants are seconds of whatever clock; they must not go back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import NamedTuple

from rie.environments.idle_times import IdleTimes, Window
from rie.model.function import FunctionKey

MOST = 4_096  # functions' versions (and their tenants) that are remembered: 10 MB at most, if few scale out far
FORGOTTEN = 16  # a part of them, each time that there are too many


class Caller(NamedTuple):
    """Whose calls are told apart: new code of a version is called as its old was."""

    key: FunctionKey
    version: str
    tenant_id: str = ""


class _Level:
    """`idle_since`: since when fewer calls run."""

    __slots__ = ("idle_since", "times")

    def __init__(self, times: IdleTimes | None = None) -> None:
        self.idle_since: float | None = None
        self.times = times or IdleTimes()


class Arrivals:
    """Of one version's calls that run in environments which are not provisioned."""

    __slots__ = ("_levels", "busy", "called_at")

    def __init__(self) -> None:
        self.busy = 0
        self.called_at = -inf
        self._levels: list[_Level] = []

    def begin(self, now: float) -> None:
        """One more runs."""
        self.busy += 1
        self.called_at = now
        if not self.busy & (self.busy - 1):
            level = self._level(self.busy)
            if level.idle_since is not None:
                level.times.note(now - level.idle_since)
                level.idle_since = None

    def end(self, now: float) -> int:
        """One less; how many ran until now. As many must run again before its environment is needed."""
        count = self.busy
        self.busy -= 1
        if not count & (count - 1):
            self._level(count).idle_since = now
        return count

    def window(self, count: int, standard_s: float) -> Window:
        """What to do with an environment that is needed again when so many run."""
        return self._level(count).times.window(standard_s)

    def dump(self) -> list[dict[str, object]]:
        """What `load` takes; JSON."""
        return [level.times.dump() for level in self._levels]

    @classmethod
    def load(cls, dumped: list[dict[str, object]]) -> Arrivals:
        """What was dumped, with nothing running. Raises as IdleTimes.load."""
        self = cls()
        self._levels = [_Level(IdleTimes.load(each)) for each in dumped]
        return self

    def _level(self, count: int) -> _Level:
        place = count.bit_length() - 1
        while len(self._levels) <= place:
            self._levels.append(_Level())
        return self._levels[place]


class Book:
    """All arrivals that are remembered, a bounded number: whose last call is longest ago is forgotten first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._arrivals: dict[Caller, Arrivals] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    def of(self, caller: Caller) -> Arrivals:
        """A caller's, from now on if nothing is known."""
        found = self._arrivals.get(caller)
        if found is None:
            self._make_room()
            found = self._arrivals[caller] = Arrivals()
        return found

    def forget(self, key: FunctionKey, version: str | None = None) -> None:
        """A version (None: a function) is gone."""
        for caller in [each for each in self._arrivals if each.key == key and version in (None, each.version)]:
            del self._arrivals[caller]

    def dump(self) -> Iterator[tuple[Caller, list[dict[str, object]]]]:
        """Everything that is remembered."""
        for caller, arrivals in list(self._arrivals.items()):  # it may change meanwhile
            yield caller, arrivals.dump()

    def load(self, dumped: Mapping[Caller, list[dict[str, object]]]) -> None:
        """Know what was dumped, beside what is known. Raises as IdleTimes.load."""
        for caller, levels in dumped.items():
            self._make_room()
            self._arrivals.setdefault(caller, Arrivals.load(levels))

    def _make_room(self) -> None:
        if len(self._arrivals) >= self._most:
            by_call = sorted(self._arrivals, key=lambda caller: self._arrivals[caller].called_at)
            for caller in by_call[: max(1, self._most // FORGOTTEN)]:
                del self._arrivals[caller]
