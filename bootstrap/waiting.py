"""The invocations that wait for their turn in an environment: in order, and no more than fit beside each other."""

from .quick import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import Invocation

MAX_WAITING = 1_000  # invocations in line; the next one is turned away
MAX_WAITING_BYTES = 268_435_456  # and so is one whose event would not fit beside theirs


class Waiting(deque["Invocation"]):
    """A line that knows how much it holds; it is changed by what is below only."""

    octets = 0

    def has_room_for(self, invocation: "Invocation") -> bool:
        """Whether one more may wait."""
        return len(self) < MAX_WAITING and self.octets + len(invocation.body) <= MAX_WAITING_BYTES

    def add(self, invocation: "Invocation") -> None:
        """It waits, after all others."""
        self.append(invocation)
        self.octets += len(invocation.body)

    def take(self) -> "Invocation":
        """The first one waits no more."""
        invocation = self.popleft()
        self.octets -= len(invocation.body)
        return invocation

    def give_up(self, request_id: str) -> "list[Invocation]":
        """Those of that id wait no more; mostly one, or none."""
        leaving = [invocation for invocation in self if invocation.request_id == request_id]
        for invocation in leaving:
            self.remove(invocation)
            self.octets -= len(invocation.body)
        return leaving

    def give_up_all(self) -> "list[Invocation]":
        """Nobody waits any more; who did."""
        leaving = list(self)
        self.clear()
        self.octets = 0
        return leaving
