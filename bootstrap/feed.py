"""What waits for one subscriber: events in, portions out, never more than a bound (service spec §3.10). No I/O."""

from .quick import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .subscription import Subscription

NEVER = float("inf")
COST = 64  # bytes that an event takes beside its own
# Beyond this, lines are dropped: four times what is read of a pipe at a time, so that who keeps up loses nothing.
MAX_WAITING_BYTES = 4_194_304
ROOM_FOR_PLATFORM = 262_144  # beside that, which lines can't use up


class Feed:
    """The events of one subscription, in order, each as JSON text."""

    def __init__(self, subscription: "Subscription", dropped: "Callable[[int, int], bytes]") -> None:
        """`dropped` makes the event that tells of a number of events, and their bytes, that were lost."""
        self._subscription = subscription
        self._dropped = dropped
        self._waiting: deque[bytes] = deque()
        self._octets = 0
        self._since = NEVER
        self._lost = [0, 0]
        self.is_hurried = False  # nothing waits for company any more

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, event: bytes, at: float, is_line: bool) -> None:
        """Take an event that came at an instant (monotonic seconds), or count it as lost."""
        if self._lost[0] and self._has_room(event, is_line):
            self._tell_lost(at)
        if self._has_room(event, is_line):
            self._add(event, at)
        else:
            self.lose(1, len(event))

    def _has_room(self, event: bytes, is_line: bool) -> bool:
        cost = self._octets + len(self._waiting) * COST + len(event)
        return cost <= MAX_WAITING_BYTES + (0 if is_line else ROOM_FOR_PLATFORM)

    def _add(self, event: bytes, at: float) -> None:
        if not self._waiting:
            self._since = at
        self._waiting.append(event)
        self._octets += len(event)

    def lose(self, records: int, octets: int) -> None:
        """Count events that the subscriber will never get."""
        self._lost[0] += records
        self._lost[1] += octets

    def _tell_lost(self, at: float) -> None:
        if "platform" in self._subscription.types:
            self._add(self._dropped(*self._lost), at)
        self._lost = [0, 0]

    @property
    def due_at(self) -> float:
        """When the next portion must go."""
        if not self._waiting:
            return NEVER
        subscription = self._subscription
        is_full = len(self._waiting) >= subscription.max_items or self._octets >= subscription.max_bytes
        return self._since if is_full or self.is_hurried else self._since + subscription.timeout_s

    def take(self, at: float) -> "list[bytes]":
        """The next portion: as many events as may go together."""
        portion: list[bytes] = []
        octets = 0
        while self._waiting and len(portion) < self._subscription.max_items:
            octets += len(self._waiting[0])
            if portion and octets > self._subscription.max_bytes:
                break
            portion.append(self._waiting.popleft())
        self._octets -= sum(map(len, portion))
        if not self._waiting and self._lost[0]:
            self._tell_lost(at)
        # What stays has waited as long, or as good as: it goes with the portion after this one.
        return portion
