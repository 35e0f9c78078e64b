"""Event sources put together from the parts of a node."""

from __future__ import annotations

import asyncio
from typing import Any

from rie.aws import Clients
from rie.clock import Clock
from rie.errors import ServiceError
from rie.events.assembly import AsyncInvocations
from rie.functions.ledger import Ledger
from rie.invoke.directory import Directory
from rie.invoke.invoker import Invoker
from rie.invoke.mirror import Mirror
from rie.model.invocation import Outcome
from rie.model.mapping import CHECKPOINTS, MAPPINGS, RESULTS, Checkpoint, Mapping, Result
from rie.model.record import Place
from rie.sources.around import Around
from rie.sources.supervisor import Supervisor

DEFAULT_TIMEOUT_S = 3
CLIENTS = {"sqs": "sqs", "kinesis": "kinesis", "dynamodb": "dynamodbstreams"}


class EventSources:
    """The pollers of a node, opened and closed together, on the event loop."""

    def __init__(
        self,
        ledger: Ledger,
        mirror: Mirror,
        directory: Directory,
        invoker: Invoker,
        events: AsyncInvocations,
        clients: Clients,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._mirror = mirror
        self._directory = directory
        self._invoker = invoker
        self._clients = clients
        self._results: dict[str, str] = {}
        self._noting: set[asyncio.Future[Any]] = set()
        around = Around(
            run=self._run,
            client=self._client,
            timeout_s=self._timeout_s,
            role=self._role,
            note=self._note,
            load=self._load,
            save=self._save,
            deliver=events.tell,
            clock=clock,
        )
        self.supervisor = Supervisor(around, self._settle)

    def open(self) -> None:
        """Begin to poll for the mappings there are, and for those to come."""
        for place, mapping in self._mirror.each(MAPPINGS):
            self.supervisor.change(place.name, mapping)
        self._mirror.watch(MAPPINGS, lambda place, mapping: self.supervisor.change(place.name, mapping))

    async def close(self) -> None:
        """Let batches under way end, for a while."""
        await self.supervisor.close()
        if self._noting:
            await asyncio.wait(self._noting)

    async def _run(self, mapping: Mapping, payload: bytes) -> Outcome:
        return await self._invoker.run_batch(mapping.key, mapping.qualifier, payload)

    def _client(self, mapping: Mapping) -> Any:
        region = mapping.source_arn.split(":")[3]
        return self._clients.client(CLIENTS[mapping.service], region, self._role(mapping))

    def _role(self, mapping: Mapping) -> str:
        try:
            return self._directory.find(mapping.key, mapping.qualifier).configuration.role
        except ServiceError:
            return ""

    def _timeout_s(self, mapping: Mapping) -> int:
        try:
            return self._directory.find(mapping.key, mapping.qualifier).configuration.timeout_s
        except ServiceError:
            return DEFAULT_TIMEOUT_S

    def _note(self, mapping: Mapping, text: str) -> None:
        """Written only when it changes; losing one with a crash does no harm."""
        if self._results.get(mapping.uuid) == text:
            return
        self._results[mapping.uuid] = text
        noting = asyncio.ensure_future(asyncio.to_thread(self._ledger.put, RESULTS, mapping.place, Result(text)))
        self._noting.add(noting)
        noting.add_done_callback(self._noted)

    def _noted(self, noting: asyncio.Future[Any]) -> None:
        self._noting.discard(noting)
        if not noting.cancelled():
            noting.exception()

    async def _load(self, mapping: Mapping, shard: str) -> Checkpoint | None:
        return await asyncio.to_thread(self._ledger.find, CHECKPOINTS, _shard_place(mapping, shard))

    async def _save(self, mapping: Mapping, shard: str, checkpoint: Checkpoint) -> None:
        await asyncio.to_thread(self._ledger.put, CHECKPOINTS, _shard_place(mapping, shard), checkpoint)

    async def _settle(self, before: Mapping, after: Mapping | None) -> None:
        await asyncio.to_thread(self._settle_now, before, after)

    def _settle_now(self, before: Mapping, after: Mapping | None) -> None:
        self._ledger.change(MAPPINGS, before.place, lambda now: after if now == before else now)
        if after is None:
            self._results.pop(before.uuid, None)
            self._ledger.remove(RESULTS, before.place)
            for place, _ in self._ledger.page(
                CHECKPOINTS, before.key.account, before.key.region, after=("", f"{before.uuid}/")
            ):
                if not place.name.startswith(f"{before.uuid}/"):
                    break
                self._ledger.remove(CHECKPOINTS, place)


def _shard_place(mapping: Mapping, shard: str) -> Place:
    return Place(mapping.key.account, mapping.key.region, "", f"{mapping.uuid}/{shard}")
