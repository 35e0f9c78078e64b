"""Events: acknowledged durably, beside one SQLite commit for each; an SQS mapping, beside a bare boto3 loop."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import load
from bench.effort import Effort
from bench.figures import Report, compare
from tests.cloud import Cloud, clouding
from tests.stub_manager import StubManager, stub_managing

CONNECTIONS = 256
PAYLOAD = b'{"seconds": 15, "order": "%s"}' % (b"x" * 200)  # what a busy function takes
BATCH = 10  # messages, of both parties
WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rounds, and how much each party does in one."""

    rounds: int
    events: int
    run: int  # of events, where they are run meanwhile
    commits: int
    messages: int


# Of messages not more: moto looks through all that it has at every call, and would be all that is measured.
SIZES = {Effort.FULL: Sizes(5, 10_000, 2_000, 1_000, 300), Effort.QUICK: Sizes(2, 2_000, 500, 200, 200)}


def run(effort: Effort) -> Report:
    """Both figures; no Docker is needed."""
    sizes = SIZES[effort]
    scratch = Path(tempfile.mkdtemp(prefix="rie-bench-"))
    try:
        with clouding(scratch) as cloud, stub_managing(scratch / "manager", **_variables(cloud)) as manager:
            manager.create("events", "echo")
            waiting = _acknowledged(manager, scratch, sizes, runs=False)
            running = _acknowledged(manager, scratch, sizes, runs=True)
            moved = _moved(manager, cloud, sizes)
    finally:
        shutil.rmtree(scratch)
    figures = (
        compare("durable events, functions busy", "1/s", *waiting, more_is_better=True, note=EVENTS_NOTE),
        compare("durable events, run meanwhile", "1/s", *running, more_is_better=True, note=RUN_NOTE),
        compare("SQS messages", "1/s", *moved, more_is_better=True, note=QUEUE_NOTE),
    )
    return Report("events", "one commit for each event, a bare loop", figures)


EVENTS_NOTE = (
    f"acknowledged to Invoke with InvocationType=Event over HTTP on {CONNECTIONS} connections, one event at a time on "
    "each, from one thread on the same cores, the function busy; the peer inserts the same bytes into SQLite on the "
    "same disk, synchronous=FULL, a commit for each"
)
RUN_NOTE = "the same while the manager's process also runs every event, in the stub engine's sandboxes within it"
QUEUE_NOTE = (
    "from the first batch to an empty queue; the peer receives and deletes in one thread and does nothing else; "
    f"batches of {BATCH}, moto's server for both"
)


def _variables(cloud: Cloud) -> dict[str, str]:
    return {**cloud.environment, "RIE_ROLE_CREDENTIALS": "own"}


def _acknowledged(
    manager: StubManager, scratch: Path, sizes: Sizes, *, runs: bool
) -> tuple[list[list[float]], list[list[float]]]:
    """Rates of each round: ours, the peer's. Without `runs` the function is busy with the first of the events."""
    ours, peer = [], []
    count = sizes.run if runs else sizes.events
    _post(manager.port, "events", sizes.run)  # warm
    _settle(manager)
    for number in range(sizes.rounds):
        _say(f"events, round {number + 1} of {sizes.rounds}")
        name = "events" if runs else f"busy-{number}"
        if not runs:
            manager.create(name, "sleep", Timeout=60)
        begun = time.perf_counter()
        _post(manager.port, name, count)
        ours.append([count / (time.perf_counter() - begun)])
        if not runs:
            manager.client().delete_function(FunctionName=name)  # and with it what still waits
        _settle(manager)
        peer.append([_commits(scratch / "peer.db", sizes.commits)])
    return ours, peer


def _post(port: int, name: str, count: int) -> None:
    """So many events, each acknowledged, over all connections."""
    head = (
        f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: bench\r\nX-Amz-Invocation-Type: Event\r\n"
        f"Content-Length: {len(PAYLOAD)}\r\n\r\n"
    ).encode()
    load.send(port, head + PAYLOAD, count, CONNECTIONS, 202)


def _settle(manager: StubManager) -> None:
    """Until what was acknowledged has run: the peer has the machine to itself, as we had."""
    path = manager.directory / "data" / "rie.db"

    def is_empty() -> bool:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            counted = "select (select count(*) from events) + (select count(*) from event_batches)"
            return bool(database.execute(counted).fetchone()[0] == 0)

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
        before = _batches(manager)
        turn("Enabled")
        ours.append([_emptied(manager, cloud, url, before, sizes.messages)])
        turn("Disabled")
        _fill(cloud, theirs, sizes.messages)
        peer.append([_drained(cloud, theirs, sizes.messages)])
    client.delete_event_source_mapping(UUID=mapping)
    return ours, peer


def _batches(manager: StubManager) -> int:
    """How many the function has had. The manager is asked: the queue's endpoint has enough to do."""
    with urllib.request.urlopen(f"{manager.endpoint}/_rie/metrics", timeout=30) as answer:
        found = re.search(r'^rie_invocations_total\{[^}]*function="events".*\} (\S+)$', answer.read().decode(), re.M)
    return int(float(found[1])) if found else 0


def _emptied(manager: StubManager, cloud: Cloud, url: str, before: int, count: int) -> float:
    """The rate at which the mapping empties the queue, from when it is seen to have begun."""
    _wait_for(lambda: _batches(manager) > before)
    begun, done = time.perf_counter(), BATCH * (_batches(manager) - before)
    _wait_for(lambda: _batches(manager) >= before + count // BATCH)
    sqs = cloud.client("sqs")
    _wait_for(lambda: _left(sqs, url) == 0)
    return (count - done) / (time.perf_counter() - begun)


def _fill(cloud: Cloud, url: str, count: int) -> None:
    sqs = cloud.client("sqs")
    for begun in range(0, count, 10):
        entries = [{"Id": str(number), "MessageBody": PAYLOAD.decode()} for number in range(min(10, count - begun))]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)


def _drained(cloud: Cloud, url: str, count: int) -> float:
    """The rate of a script without any of ours, from its first batch on."""
    sqs = cloud.client("sqs")
    done = first = 0
    begun = 0.0
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
        if not first:
            begun, first = time.perf_counter(), done
    return (count - first) / (time.perf_counter() - begun)


def _left(sqs: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(value) for value in told.values())


def _wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > until:
            raise OSError("it takes too long")
        time.sleep(0.05)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
