"""The queue put together from the parts of a node."""

from __future__ import annotations

import asyncio

from rie.arn import parse_function_reference
from rie.aws import Clients
from rie.clock import Clock
from rie.errors import HostFault, ServiceError
from rie.events.deliverer import Deliverer
from rie.events.destinations import Destinations, Undeliverable, service_of
from rie.events.journal import Journal
from rie.events.queue import Queue, Surroundings
from rie.events.records import Targets
from rie.invoke.directory import Directory
from rie.invoke.invoker import Invoker
from rie.invoke.mirror import Mirror
from rie.model.concurrency import RESERVED
from rie.model.event import EVENT_INVOKE, Delivery, Event, EventInvokeConfig
from rie.model.function import LATEST, FunctionKey
from rie.model.record import place_of
from rie.model.scope import Scope
from rie.store.events import AddDeliveries, SqlEvents


class AsyncInvocations:
    """The queue, its journal and its deliverer, opened and closed together, on the event loop."""

    def __init__(
        self,
        store: SqlEvents,
        invoker: Invoker,
        directory: Directory,
        mirror: Mirror,
        clients: Clients,
        clock: Clock,
        delay_scale: float,
    ) -> None:
        self._store = store
        self._directory = directory
        self._mirror = mirror
        self._clock = clock
        self._journal = Journal(store.apply)
        self.deliverer = Deliverer(Destinations(clients).send, self._send_within, self._journal, clock)
        surroundings = Surroundings(
            run=invoker.run_event,
            config_of=self._config_of,
            targets_of=self._targets_of,
            is_stopped=self._is_stopped,
            load=self._load,
            has_begun=invoker.has_begun,
            follow=invoker.follow,
        )
        self.queue = Queue(surroundings, self._journal, self.deliverer, clock, delay_scale)

    async def open(self) -> None:
        """Go on with what an earlier process acknowledged. Raises StoreFailed."""
        waiting, deliveries = await asyncio.to_thread(lambda: (self._store.waiting(), self._store.deliveries()))
        self.deliverer.open()
        self.deliverer.take(deliveries)
        self.queue.open(waiting)

    async def tell(self, deliveries: tuple[Delivery, ...]) -> None:
        """Send these; they are durable when this returns. Raises StoreFailed."""
        await self._journal.write(AddDeliveries(deliveries))
        self.deliverer.take(deliveries)

    async def close(self, drain_s: float) -> None:
        """Stop; what has not ended is in the store."""
        await self.queue.close(drain_s)
        await self.deliverer.close()
        await self._journal.close()

    def _config_of(self, event: Event) -> EventInvokeConfig | None:
        return self._mirror.find(EVENT_INVOKE, place_of(event.key, event.qualifier or LATEST))

    def _targets_of(self, event: Event, config: EventInvokeConfig | None) -> Targets:
        try:
            version = event.last.executed_version if event.last is not None else event.qualifier
            function = self._directory.find(event.key, version)
        except ServiceError:
            return Targets()
        return Targets(
            on_success=config.on_success if config else None,
            on_failure=config.on_failure if config else None,
            dead_letter=function.dead_letter_arn,
            role=function.configuration.role,
        )

    def _is_stopped(self, key: FunctionKey) -> bool:
        reserved = self._mirror.find(RESERVED, place_of(key, LATEST))
        return reserved is not None and reserved.slots == 0

    async def _load(self, event_id: str) -> Event | None:
        return await asyncio.to_thread(self._store.find, event_id)

    async def _send_within(self, delivery: Delivery) -> bool:
        """A destination that is a function of this manager: an event like any other, under the delivery's own id."""
        if service_of(delivery.target)[0] != "lambda":
            return False
        parts = delivery.target.split(":")
        if len(parts) < 7:
            return False
        try:
            key, qualifier = parse_function_reference(delivery.target, None, Scope(parts[4], parts[3]))
            self._directory.find(key, qualifier)
        except ServiceError:
            return False
        now = self._clock.now().timestamp()
        try:
            if await self._load(delivery.delivery_id) is not None:
                return True  # it arrived before a crash
            await self.queue.accept(
                Event(delivery.delivery_id, key, qualifier, delivery.body.encode(), now, now, delivery.trace_id)
            )
        except HostFault as error:
            raise Undeliverable(str(error), is_permanent=False) from error
        return True
