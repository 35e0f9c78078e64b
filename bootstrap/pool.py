"""Which of several environments takes which invocation: a machine without I/O and without a clock.

Rules:

1.  The first environment begins at boot; each other one when more invocations have waited for 20 ms than there are
    environments about to be ready. It is no shorter because callers have their answer a little before the runtime is
    back for the next event: one caller, asking again at once, must not start a second environment.
2.  Of those that are free the first takes what comes, so that as few as are needed stay warm.
3.  Without a free one invocations wait, in order, for whichever is free next.
4.  An environment is free again when it says that it is idle; one that works on many invocations at a time has room
    again with the end of each.
"""

from .commands import SetTimer, TurnAway
from .quick import deque
from .records import Record
from .waiting import MAX_WAITING, MAX_WAITING_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import Invocation


GROW_S = 0.02
GROW_TIMER = "grow"


class Begin(Record):
    """Boot an environment."""

    index: int


class Hand(Record):
    """Let an environment have an invocation."""

    index: int
    invocation: "Invocation"


class Pool:
    """`size` environments by index, each with room for `capacity` invocations at a time."""

    def __init__(self, size: int, capacity: int = 1, is_lazy: bool = False) -> None:
        """`is_lazy`: the first begins, like the others, when it is needed."""
        self._capacity = capacity
        self._running: list[int | None] = [None] * size  # None: has not begun
        self._starting: set[int] = set()
        self._waiting: deque[tuple[Invocation, float]] = deque()  # and when it came
        self._waiting_bytes = 0
        self._is_over = False
        self._is_lazy = is_lazy

    def __repr__(self) -> str:
        return f"<Pool {self._running}, {len(self._waiting)} waiting>"

    def boot(self) -> "list[Record]":
        """What is to be done before the first invocation."""
        return [] if self._is_lazy else [self._begin(0)]

    def take(self, invocation: "Invocation", at: float) -> "list[Record]":
        """An invocation has come at an instant (seconds)."""
        if self._is_over:
            return [TurnAway(invocation, TurnAway.SHUTDOWN)]
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(invocation.body) > MAX_WAITING_BYTES:
            return [TurnAway(invocation, TurnAway.FULL)]
        self._waiting.append((invocation, at))
        self._waiting_bytes += len(invocation.body)
        steps = self._hand_over()
        if self._is_lazy and self._running[0] is None:
            steps.append(self._begin(0))
        return steps or self._look_again()

    def grow(self, at: float) -> "list[Record]":
        """The timer has run down: begin as many as are needed."""
        late = sum(1 for _, since in self._waiting if since <= at - GROW_S + 1e-6)
        steps: list[Record] = []
        while late > len(self._starting) * self._capacity and None in self._running:
            steps.append(self._begin(self._running.index(None)))
        return steps + self._look_again(at)

    def _look_again(self, after: float = 0.0) -> "list[Record]":
        """When the next of those who wait will have waited for long enough."""
        if None in self._running:
            for _, since in self._waiting:
                if since > after - GROW_S + 1e-6:
                    return [SetTimer(GROW_TIMER, since + GROW_S)]
        return []

    def is_idle(self, index: int) -> "list[Record]":
        """An environment works on nothing: its init or its last invocation has ended."""
        self._running[index] = 0
        self._starting.discard(index)
        return self._hand_over()

    def has_ended_one(self, index: int) -> "list[Record]":
        """An environment has ended an invocation; one that takes a single one at a time may not be ready for more."""
        running = self._running[index]
        if self._capacity == 1 or not running:
            return []
        self._running[index] = running - 1
        return self._hand_over()

    def close(self) -> "list[Record]":
        """The environments are to end: nobody who waits will be served."""
        self._is_over = True
        away: list[Record] = [TurnAway(invocation, TurnAway.SHUTDOWN) for invocation, _ in self._waiting]
        self._waiting.clear()
        return away

    def _begin(self, index: int) -> Begin:
        self._running[index] = self._capacity  # full, until it is idle for the first time
        self._starting.add(index)
        return Begin(index)

    def _hand_over(self) -> "list[Record]":
        steps: list[Record] = []
        for index, running in enumerate(self._running):
            while self._waiting and running is not None and running < self._capacity:
                invocation, _ = self._waiting.popleft()
                self._waiting_bytes -= len(invocation.body)
                self._running[index] = running = running + 1
                steps.append(Hand(index, invocation))
        return steps
