"""A hundred kills of the queue at random instants: what was acknowledged ends, and its end is told."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

from rie.clock import SystemClock
from rie.events.deliverer import Deliverer
from rie.events.journal import Journal
from rie.events.queue import Queue, Surroundings
from rie.events.records import Targets
from rie.model.event import Delivery, Event
from rie.model.function import FunctionKey
from rie.model.invocation import Outcome
from rie.store import SqlStore

KEY = FunctionKey("123456789012", "us-east-1", "f")
KILLS = 100


def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(7)
    for number in range(KILLS):
        child = _started(tmp_path, number, is_last=False)
        time.sleep(chance.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _, status = os.waitpid(_started(tmp_path, KILLS, is_last=True), 0)
    assert status == 0
    acknowledged = set((tmp_path / "acknowledged").read_text().split())
    told = set((tmp_path / "told").read_text().split())
    assert len(acknowledged) >= KILLS
    assert acknowledged <= told


def _started(directory: Path, number: int, *, is_last: bool) -> int:
    """A child that accepts events (the last one only works them off), once it has accepted a few."""
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(_live(directory, number, begun, is_last))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(begun)
    os.read(ready, 1)
    os.close(ready)
    return child


async def _live(directory: Path, number: int, begun: int, is_last: bool) -> None:
    store = SqlStore(f"sqlite:///{directory}/rie.db")
    acknowledged = os.open(directory / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    told = os.open(directory / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def run(event: Event) -> Outcome:
        await asyncio.sleep(0.001)
        is_bad = event.event_id.endswith("3")
        return Outcome(b"1", "$LATEST", "Unhandled" if is_bad else None)

    async def load(event_id: str) -> Event | None:
        return store.events.find(event_id)

    async def within(_: Delivery) -> bool:
        return False

    def send(delivery: Delivery) -> None:
        os.write(told, f"{delivery.request_id}\n".encode())

    journal = Journal(store.events.apply)
    deliverer = Deliverer(send, within, journal, SystemClock())

    async def has_begun(event: Event) -> bool:
        return False

    around = Surroundings(
        run=run,
        config_of=lambda _: None,
        targets_of=lambda *_: Targets("arn:a", "arn:b"),
        is_stopped=lambda _: False,
        load=load,
        has_begun=has_begun,
        follow=run,
    )
    queue = Queue(around, journal, deliverer, SystemClock(), delay_scale=0.0001)
    deliverer.open()
    deliverer.take(store.events.deliveries())
    queue.open(store.events.waiting())
    if is_last:
        os.write(begun, b"x")
        while store.events.waiting() or store.events.deliveries():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)
        return

    async def call(caller: int) -> None:
        for turn in range(1_000):
            now = time.time()
            event_id = f"{number}-{caller}-{turn}"
            await queue.accept(Event(event_id, KEY, None, b"{}", now, now))
            os.write(acknowledged, f"{event_id}\n".encode())
            if (caller, turn) == (0, 1):
                os.write(begun, b"x")  # from now on it may be killed

    await asyncio.gather(*(call(caller) for caller in range(4)))
