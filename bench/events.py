"""Events: acknowledged durably, beside one SQLite commit for each; an SQS mapping, beside a bare boto3 loop."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.effort import Effort
from bench.figures import Report, compare
from tests.cloud import Cloud, clouding
from tests.stub_manager import StubManager, stub_managing

CONNECTIONS = 64
PAYLOAD = b'{"order": "%s"}' % (b"x" * 200)
BATCH = 10  # messages, of both parties
WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rounds, and how much each party does in one."""

    rounds: int
    events: int
    commits: int
    messages: int


SIZES = {Effort.FULL: Sizes(7, 4_000, 400, 2_000), Effort.QUICK: Sizes(2, 500, 50, 200)}


def run(effort: Effort) -> Report:
    """Both figures; no Docker is needed."""
    sizes = SIZES[effort]
    scratch = Path(tempfile.mkdtemp(prefix="rie-bench-"))
    try:
        with clouding(scratch) as cloud, stub_managing(scratch / "manager", **_variables(cloud)) as manager:
            manager.create("events", "echo")
            acknowledged = _acknowledged(manager, scratch, sizes)
            moved = _moved(manager, cloud, sizes)
    finally:
        shutil.rmtree(scratch)
    durable = compare("durable events", "1/s", *acknowledged, more_is_better=True, note=EVENTS_NOTE)
    queue = compare("SQS messages", "1/s", *moved, more_is_better=True, note=QUEUE_NOTE)
    return Report("events", "one commit for each event, a bare loop", (durable, queue))


EVENTS_NOTE = (
    f"Invoke with InvocationType=Event over HTTP on {CONNECTIONS} connections, while the manager runs them too; the "
    "peer inserts the same bytes into SQLite on the same disk, synchronous=FULL, a commit for each"
)
QUEUE_NOTE = (
    "from a full queue to an empty one; the peer receives and deletes in one thread and does nothing else; "
    f"batches of {BATCH}, moto's server for both"
)


def _variables(cloud: Cloud) -> dict[str, str]:
    return {**cloud.environment, "RIE_ROLE_CREDENTIALS": "own"}


def _acknowledged(manager: StubManager, scratch: Path, sizes: Sizes) -> tuple[list[list[float]], list[list[float]]]:
    """Rates of each round: ours, the peer's."""
    ours, peer = [], []
    asyncio.run(_post(manager.port, sizes.events // 4))  # warm
    for number in range(sizes.rounds):
        _say(f"events, round {number + 1} of {sizes.rounds}")
        begun = time.perf_counter()
        asyncio.run(_post(manager.port, sizes.events))
        ours.append([sizes.events / (time.perf_counter() - begun)])
        _settle(manager)
        peer.append([_commits(scratch / "peer.db", sizes.commits)])
    return ours, peer


async def _post(port: int, count: int) -> None:
    """So many events, each acknowledged, over all connections."""
    left = iter(range(count))
    await asyncio.gather(*(_post_some(port, left) for _ in range(CONNECTIONS)))


async def _post_some(port: int, left: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        "POST /2015-03-31/functions/events/invocations HTTP/1.1\r\nHost: bench\r\nX-Amz-Invocation-Type: Event\r\n"
        f"Content-Length: {len(PAYLOAD)}\r\n\r\n"
    ).encode()
    for _ in left:
        writer.write(head + PAYLOAD)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 202 " not in answer.partition(b"\r\n")[0]:
            raise OSError(f"an event was not taken: {answer!r}")
        length = next((line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        await reader.readexactly(int(length.partition(b":")[2]))
    writer.close()


def _settle(manager: StubManager) -> None:
    """Until what was acknowledged has run: the peer has the machine to itself, as we had."""
    path = manager.directory / "data" / "rie.db"

    def is_empty() -> bool:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return bool(database.execute("select count(*) from events").fetchone()[0] == 0)

    _wait_for(is_empty)


def _commits(path: Path, count: int) -> float:
    """The rate of so many inserts."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table if not exists events (id text primary key, payload blob)")
    begun = time.perf_counter()
    for _ in range(count):
        database.execute("begin immediate")
        database.execute("insert into events values (?, ?)", (str(uuid.uuid4()), PAYLOAD))
        database.execute("commit")
    rate = count / (time.perf_counter() - begun)
    database.close()
    return rate


def _moved(manager: StubManager, cloud: Cloud, sizes: Sizes) -> tuple[list[list[float]], list[list[float]]]:
    """Rates of each round: ours, the peer's."""
    ours, peer = [], []
    url, arn = cloud.queue("ours")
    theirs, _ = cloud.queue("peer")
    client = manager.client()
    mapping = client.create_event_source_mapping(
        EventSourceArn=arn, FunctionName="events", BatchSize=BATCH, Enabled=False
    )["UUID"]

    def turn(state: str) -> None:
        _wait_for(lambda: client.get_event_source_mapping(UUID=mapping)["State"] in ("Enabled", "Disabled"))
        client.update_event_source_mapping(UUID=mapping, Enabled=state == "Enabled")
        if state == "Disabled":
            _wait_for(lambda: client.get_event_source_mapping(UUID=mapping)["State"] == state)

    for number in range(sizes.rounds):
        _say(f"messages, round {number + 1} of {sizes.rounds}")
        _fill(cloud, url, sizes.messages)
        begun = time.perf_counter()
        turn("Enabled")
        _wait_for(lambda: _left(cloud, url) == 0)
        ours.append([sizes.messages / (time.perf_counter() - begun)])
        turn("Disabled")
        _fill(cloud, theirs, sizes.messages)
        begun = time.perf_counter()
        _drain(cloud, theirs, sizes.messages)
        peer.append([sizes.messages / (time.perf_counter() - begun)])
    client.delete_event_source_mapping(UUID=mapping)
    return ours, peer


def _fill(cloud: Cloud, url: str, count: int) -> None:
    sqs = cloud.client("sqs")
    for begun in range(0, count, 10):
        entries = [{"Id": str(number), "MessageBody": PAYLOAD.decode()} for number in range(min(10, count - begun))]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)


def _drain(cloud: Cloud, url: str, count: int) -> None:
    """What a script without any of ours would do."""
    sqs = cloud.client("sqs")
    done = 0
    while done < count:
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=20,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
        if entries:
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        done += len(entries)


def _left(cloud: Cloud, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(value) for value in told.values())


def _wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > until:
            raise OSError("it takes too long")
        time.sleep(0.05)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
