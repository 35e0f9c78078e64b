"""One function's ready events, and how many of them may run at a time: more while it goes well, fewer when refused."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

FIRST_WINDOW = 10
WIDEST = 1_000


@dataclass(slots=True)
class Held:
    """An event as the scheduler holds it: an id, whose payload may have to be fetched when its turn comes."""

    event_id: str
    due_at: float


@dataclass(slots=True)
class Lane:
    """`window` bounds what runs at a time; a refusal halves it and closes the lane until `opens_at` (epoch seconds),
    or until something ends well, which shows that there is room again."""

    ready: deque[Held] = field(default_factory=deque)
    running: int = 0
    window: float = FIRST_WINDOW
    refusals: int = 0
    opens_at: float = 0.0

    def next(self, now: float) -> Held | None:
        """The event to run now, counted as running; None to wait."""
        if not self.ready or now < self.opens_at or not self.has_room:
            return None
        self.running += 1
        return self.ready.popleft()

    def ended(self) -> None:
        """One ran, whatever it answered."""
        self.running -= 1
        self.window = min(self.window + 1.0, WIDEST)
        self.refusals = 0
        self.opens_at = 0.0

    def refused(self, now: float, opens_at: float) -> bool:
        """One could not be run; whether that closes the lane, until `opens_at`.

        What is refused while it is closed was begun before: a burst that is refused together counts as one refusal,
        or it would be waited for as if it had been tried again a hundred times.
        """
        self.running -= 1
        if now < self.opens_at:
            return False
        self.window = max(self.window / 2, 1.0)
        self.refusals += 1
        self.opens_at = opens_at
        return True

    def refusals_with(self, now: float) -> int:
        """How many there are in a row, with one that comes now."""
        return self.refusals if now < self.opens_at else self.refusals + 1

    def left(self) -> None:
        """One was taken away without a run."""
        self.running -= 1

    @property
    def has_room(self) -> bool:
        """Whether one more may run, unless the lane is closed."""
        return self.running < int(self.window)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits or runs."""
        return not self.ready and not self.running
