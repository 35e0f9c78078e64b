"""The queue itself: takes events, runs each when it is due until it ends, forgets nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import itertools
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from rie.clock import Clock
from rie.errors import HostFault, ImageFault, ServiceError, StoreFailed
from rie.events.deliverer import Deliverer
from rie.events.journal import Journal, Written, settle
from rie.events.lane import Held, Lane
from rie.events.policy import Condition, End, Later, Rules, after_error, after_refusal, before_attempt
from rie.events.records import Targets, deliveries
from rie.model.event import Attempt, Delivery, Event, EventInvokeConfig
from rie.model.function import FunctionKey
from rie.model.invocation import STOPPED, Outcome
from rie.store.events import AddEvent, DropEvents, EndEvent, Entry, UpdateEvent, Waiting

log = logging.getLogger(__name__)

REMEMBERED_BYTES = 67_108_864  # payloads kept in memory; of others they are read again when their turn comes
STORE_AGAIN_S = 1.0

GONE = "ResourceNotFoundException"
RECURSIVE = "RecursiveInvocationException"
UNFIT = "InvalidParameterValueException"  # a durable function without a qualifier, a tenant for who has none


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the queue asks of the rest of the manager, all on the event loop.

    `run` runs an event once (raises ServiceError, HostFault, ImageFault when it was not run), or has it begin as a
    durable execution, and answers None; `has_begun` tells whether an attempt is such an execution that is there
    already; `follow` waits for the end of that (None: it is not there). `config_of` gives what a function wants done
    with its events; `targets_of` where an end is told, for the version that ran last (None: none did); `is_stopped`
    whether a function's reserved concurrency is 0; `load` reads an event from the store.
    """

    run: Callable[[Event], Awaitable[Outcome | None]]
    config_of: Callable[[Event], EventInvokeConfig | None]
    targets_of: Callable[[Event, EventInvokeConfig | None], Targets]
    is_stopped: Callable[[FunctionKey], bool]
    load: Callable[[str], Awaitable[Event | None]]
    has_begun: Callable[[Event], Awaitable[bool]]
    follow: Callable[[Event], Awaitable[Outcome | None]]


class Queue:
    """Lives on the event loop; no method may be called from elsewhere. `delay_scale` shortens what people wait for."""

    def __init__(
        self,
        surroundings: Surroundings,
        journal: Journal,
        deliverer: Deliverer,
        clock: Clock,
        delay_scale: float = 1.0,
    ) -> None:
        self._around = surroundings
        self._journal = journal
        self._deliverer = deliverer
        self._clock = clock
        self._delay_scale = delay_scale
        self._lanes: dict[FunctionKey, Lane] = {}
        self._later: list[tuple[float, int, FunctionKey, Held | None]] = []
        self._order = itertools.count()
        self._events: OrderedDict[str, Event] = OrderedDict()
        self._octets = 0
        self._running: set[asyncio.Task[None]] = set()
        self._following: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None
        self._is_closed = False
        self.received: Counter[FunctionKey] = Counter()  # events, since the start
        self.dropped: Counter[FunctionKey] = Counter()  # of them those that never ran to a good end

    def __len__(self) -> int:
        return sum(held is not None for *_, held in self._later) + sum(
            len(lane.ready) + lane.running for lane in self._lanes.values()
        )

    @property
    def oldest_at(self) -> float | None:
        """When the oldest of the waiting events that are in memory was accepted (epoch s)."""
        return min((event.accepted_at for event in self._events.values()), default=None)

    def open(self, waiting: Iterable[Waiting] = ()) -> None:
        """Begin to run events, those of an earlier process first."""
        for each in waiting:
            self._put(each.key, Held(each.event_id, each.due_at))
        self._timer = asyncio.get_running_loop().create_task(self._run())

    async def accept(self, event: Event) -> None:
        """Take an event; once this returns it is not lost any more. Raises StoreFailed."""
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.offer(event, functools.partial(settle, accepted))
        await accepted

    def offer(self, event: Event, accepted: Written) -> None:
        """As `accept`, for whoever doesn't wait: told on the event loop when it is not lost any more."""

        def written(error: StoreFailed | None) -> None:
            if error is None:
                self.received[event.key] += 1
                self._remember(event)
                self._put(event.key, Held(event.event_id, event.due_at))
            accepted(error)

        self._journal.submit((AddEvent(event),), written)

    def take(self, event: Event) -> None:
        """An event that is in the store already, and has begun as a durable execution."""
        self.received[event.key] += 1
        self._follow(event)

    async def drop(self, key: FunctionKey) -> None:
        """A function is gone: so are its events."""
        self._lanes.pop(key, None)
        for event in [event for event in self._events.values() if event.key == key]:
            self._forget(event.event_id)
        await self._write_surely(DropEvents(key))

    def poke(self) -> None:
        """The clock was moved."""
        self._wake.set()

    async def close(self, drain_s: float = 0.0) -> None:
        """Begin nothing more; what runs may end for up to `drain_s`, the rest is in the store for the next start."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._following):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=drain_s)
        for task in list(self._running):
            task.cancel()
        if left := self._running | self._following:
            await asyncio.wait(left)

    # -- scheduling -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Wake what has waited for its time."""
        while True:
            self._wake.clear()
            now = self._clock.now().timestamp()
            while self._later and self._later[0][0] <= now:
                _, _, key, held = heapq.heappop(self._later)
                if held is not None:
                    self._lanes.setdefault(key, Lane()).ready.append(held)
                self._pump(key)
            until_s = self._later[0][0] - now if self._later else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), until_s)

    def _pump(self, key: FunctionKey) -> None:
        """Begin what of a function's ready events may run."""
        lane = self._lanes.get(key)
        if lane is None or self._is_closed:
            return
        now = self._clock.now().timestamp()
        while (held := lane.next(now)) is not None:
            task = asyncio.get_running_loop().create_task(self._attempt(key, lane, held))
            self._running.add(task)
            task.add_done_callback(lambda task: self._done(task, key))
        if lane.is_empty and now >= lane.opens_at:
            del self._lanes[key]

    def _done(self, task: asyncio.Task[None], key: FunctionKey) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an event of %s is left for the next start", key.arn, exc_info=task.exception())
        self._pump(key)

    def _put(self, key: FunctionKey, held: Held) -> None:
        if held.due_at <= self._clock.now().timestamp():
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = Lane()
            lane.ready.append(held)
            if lane.has_room:
                self._pump(key)
        else:
            self._wake_at(held.due_at, key, held)

    def _wake_at(self, due_at: float, key: FunctionKey, held: Held | None) -> None:
        """Put an event into its lane then; without one, only look at the lane."""
        heapq.heappush(self._later, (due_at, next(self._order), key, held))
        self._wake.set()

    # -- one attempt ----------------------------------------------------------------------------------------------

    async def _attempt(self, key: FunctionKey, lane: Lane, held: Held) -> None:
        try:
            event = self._events.get(held.event_id) or await self._around.load(held.event_id)
            has_begun = event is not None and await self._around.has_begun(event)
        except HostFault as error:
            log.error("cannot read event %s: %s", held.event_id, error)
            return self._wait(key, lane, held, self._clock.now().timestamp() + STORE_AGAIN_S)
        if event is None:  # its function is gone
            return lane.left()
        if has_begun:  # by an earlier process: neither its age nor its function's concurrency matters any more
            lane.left()
            return self._follow(event)
        config = self._around.config_of(event)
        rules = Rules.of(config, self._delay_scale)
        end: End | None = before_attempt(event, rules, self._clock.now().timestamp())
        if self._around.is_stopped(key):
            end = End(Condition.ZERO_CONCURRENCY)
        if end is not None:
            lane.left()
            return await self._finish(event, config, end.condition)
        try:
            outcome = await self._around.run(event)
        except ServiceError as error:
            return await self._not_run(lane, held, event, rules, error)
        except (HostFault, ImageFault) as error:
            log.warning("cannot run event %s of %s: %s", event.event_id, key.arn, error)
            return await self._not_run(lane, held, event, rules, error)
        lane.ended()
        if outcome is None:
            return self._follow(event)
        return await self._ran(event, config, rules, outcome)

    async def _ran(self, event: Event, config: EventInvokeConfig | None, rules: Rules, outcome: Outcome) -> None:
        answer = outcome.payload.decode("utf-8", "replace")
        last = Attempt(answer, outcome.executed_version, outcome.function_error)
        after = replace(event, attempts=event.attempts + 1, last=last)
        if outcome.function_error is None:
            return await self._finish(after, config, Condition.SUCCESS)
        if outcome.status == STOPPED:
            return await self._finish(after, config, Condition.RETRIES_EXHAUSTED)
        match after_error(after, rules, self._clock.now().timestamp()):
            case End(condition):
                return await self._finish(after, config, condition)
            case Later(due_at):
                after = replace(after, due_at=due_at)
                await self._write_surely(UpdateEvent(after))
                self._forget(event.event_id)
                self._remember(after)
                self._put(after.key, Held(after.event_id, due_at))
        return None

    async def _not_run(self, lane: Lane, held: Held, event: Event, rules: Rules, why: Exception) -> None:
        """Throttled, or a fault of this machine: no attempt is used up."""
        code = why.code if isinstance(why, ServiceError) else ""
        if code in (GONE, RECURSIVE, UNFIT):
            lane.left()
            if code == GONE:
                return await self._end(event, ())
            return await self._finish(event, self._around.config_of(event), Condition.RETRIES_EXHAUSTED)
        now = self._clock.now().timestamp()
        match after_refusal(event, rules, now, lane.refusals_with(now)):
            case End(condition):
                lane.refused(now, now)
                return await self._finish(event, self._around.config_of(event), condition)
            case Later(due_at):
                self._wait(event.key, lane, held, due_at)
        return None

    def _wait(self, key: FunctionKey, lane: Lane, held: Held, due_at: float) -> None:
        """It is the first to be tried again, and nothing else of its function before it."""
        lane.ready.appendleft(held)
        if lane.refused(self._clock.now().timestamp(), due_at):
            self._wake_at(due_at, key, None)

    async def _finish(self, event: Event, config: EventInvokeConfig | None, condition: Condition) -> None:
        if condition is not Condition.SUCCESS:
            self.dropped[event.key] += 1
        targets = self._around.targets_of(event, config)
        await self._end(event, deliveries(event, condition, targets, self._clock.now().timestamp()))

    async def _end(self, event: Event, told: tuple[Delivery, ...]) -> None:
        await self._write_surely(EndEvent(event.event_id, told))
        self._forget(event.event_id)
        self._deliverer.take(told)

    async def _write_surely(self, entry: Entry) -> None:
        """However long the store refuses; a crash meanwhile repeats the attempt."""
        while True:
            try:
                return await self._journal.write(entry)
            except StoreFailed as error:
                log.error("%s; will be tried again", error)
                await asyncio.sleep(STORE_AGAIN_S)

    # -- durable executions ---------------------------------------------------------------------------------------

    def _follow(self, event: Event) -> None:
        """Wait for an execution's end, which may take a year: it has no place in a lane, nor its payload in memory."""
        if self._is_closed:
            return
        self._forget(event.event_id)
        task = asyncio.get_running_loop().create_task(self._followed(replace(event, payload=b"")))
        self._following.add(task)
        task.add_done_callback(self._not_followed)

    def _not_followed(self, task: asyncio.Task[None]) -> None:
        self._following.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the end of a durable execution is told after the next start", exc_info=task.exception())

    async def _followed(self, bare: Event) -> None:
        while True:
            try:
                outcome = await self._around.follow(bare)
                event = await self._around.load(bare.event_id)
                break
            except HostFault as error:
                log.error("cannot read event %s: %s", bare.event_id, error)
                await asyncio.sleep(STORE_AGAIN_S)
        if event is None:  # its function is gone
            return None
        if outcome is None:
            return self._put(event.key, Held(event.event_id, event.due_at))
        config = self._around.config_of(event)
        return await self._ran(event, config, Rules.of(config, self._delay_scale), outcome)

    # -- what is in memory ----------------------------------------------------------------------------------------

    def _remember(self, event: Event) -> None:
        self._events[event.event_id] = event
        self._octets += len(event.payload)
        while self._octets > REMEMBERED_BYTES:
            self._forget(next(iter(self._events)))

    def _forget(self, event_id: str) -> None:
        event = self._events.pop(event_id, None)
        if event is not None:
            self._octets -= len(event.payload)
