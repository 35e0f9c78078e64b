"""Our bootstrap beside AWS's RIE, both by `docker run`: warm, cold, clients at once, memory, readiness."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import payload, peer, ready
from bench.client import Address, Caller, CallFailed, crowd
from bench.containers import ROOT, Container, Workbench
from bench.effort import Effort
from bench.figures import Figure, Report, compare, summarise
from rie import bundle

CACHE = ROOT / "build" / "bench"
PEER = "/aws-lambda/aws-lambda-rie"
CLIENTS = 8
WARM_UP = 200  # invocations before the first that counts
COLD_LIMIT_S = 30.0
COLD_PAUSE_S = 0.002  # between attempts to reach a container that starts


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much to measure. A round's invocations go in turns of `turn` between the parties, so that drift hits both."""

    rounds: int
    invocations: int
    turn: int
    cold_rounds: int
    ready_rounds: int
    crowd_rounds: int
    payload_rounds: int


SIZES = {Effort.FULL: Sizes(12, 1_000, 100, 5, 15, 6, 20), Effort.QUICK: Sizes(2, 100, 50, 1, 2, 1, 2)}


@dataclass(frozen=True, slots=True)
class Variant:
    """A runtime below the emulators, and the command that starts it with each."""

    name: str
    ours: tuple[str, ...]
    peer: tuple[str, ...]


CLIENT = Variant("awslambdaric", ("app.handler",), ("/var/runtime/bootstrap", "app.handler"))
BARE = Variant("bare runtime", ("/var/task/bare_runtime", "none"), ("/var/task/bare_runtime", "none"))


@dataclass(frozen=True, slots=True)
class Pair:
    """The same image twice, once with each entry point."""

    ours: Container
    peer: Container


def run(effort: Effort) -> Report:
    """All figures. Raises HostFault when there is no Docker, no image or no peer."""
    sizes = SIZES[effort]
    ours, rie = bundle.ensure(ROOT / "build" / "bundle"), peer.obtain(CACHE)
    figures: list[Figure] = []
    notes: list[str] = []
    with Workbench(CACHE, ours, rie) as bench:
        for variant in (CLIENT, BARE):
            with _pair(bench, variant) as pair:
                figures += _warm(variant, pair, sizes)
                if variant is BARE:
                    figures += _payloads(pair, sizes)
                if variant is CLIENT:
                    figures.append(_at_once(pair, sizes))
                    figures += _memory(pair, notes)
                    notes.append(_peer_at_once(bench, pair))
        figures.append(_cold(bench, sizes))
    figures.append(_ready(ours, rie, sizes))
    return Report("emulator", peer.NAME, tuple(figures), tuple(notes))


@contextmanager
def _pair(bench: Workbench, variant: Variant) -> Iterator[Pair]:
    """Both containers, answering."""
    ids: list[str] = []
    try:
        ids.append(bench.run(variant.ours))
        ids.append(bench.run(variant.peer, entrypoint=PEER))
        ours, theirs = (bench.describe(container_id) for container_id in ids)
        for container in (ours, theirs):
            first_answer(container.door)
        yield Pair(ours, theirs)
    finally:
        if ids:
            bench.remove(*ids)


def _warm(variant: Variant, pair: Pair, sizes: Sizes) -> Iterator[Figure]:
    """One client: through the published port, as people call it, and past it, without Docker's proxy in between."""
    addresses: tuple[tuple[str, Callable[[Container], Address]], ...] = (
        (f"warm, {variant.name}", lambda container: container.door),
        (f"warm, {variant.name}, past Docker's proxy", lambda container: container.own_address),
    )
    for name, address in addresses:
        say(f"{name}: {sizes.rounds} rounds of {sizes.invocations}")
        with closing(Caller(address(pair.ours))) as ours, closing(Caller(address(pair.peer))) as theirs:
            ours.measure(WARM_UP)
            theirs.measure(WARM_UP)
            rounds = [in_turns(ours, theirs, sizes.invocations, sizes.turn) for _ in range(sizes.rounds)]
            note = f"connections used: ours {ours.connections}, peer {theirs.connections}"
        yield compare(name, "ms", [a for a, _ in rounds], [b for _, b in rounds], note=note)


def in_turns(ours: Caller, theirs: Caller, invocations: int, turn: int) -> tuple[list[float], list[float]]:
    """One round of both, in turns; who goes first changes too."""
    samples: dict[Caller, list[float]] = {ours: [], theirs: []}
    order = [ours, theirs]
    for _ in range(invocations // turn):
        for caller in order:
            samples[caller] += caller.measure(turn)
        order.reverse()
    return samples[ours], samples[theirs]


def _at_once(pair: Pair, sizes: Sizes) -> Figure:
    """Throughput: ours with eight clients against the peer with the one that it bears."""
    name = f"throughput, {CLIENTS} clients of ours, 1 of the peer"
    say(f"{name}: {sizes.crowd_rounds} rounds of {sizes.invocations}")
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    alone: list[list[float]] = []
    for _ in range(sizes.crowd_rounds):
        for container, clients, rates in ((pair.ours, CLIENTS, ours), (pair.peer, 1, theirs), (pair.ours, 1, alone)):
            got = crowd(container.door, clients, sizes.invocations)
            if got.failure:
                raise CallFailed(f"cannot measure {clients} clients: after {got.answered} answers: {got.failure}")
            rates.append([got.rate])
    note = f"ours with 1 client {summarise(alone).p50:,.0f}/s"
    return compare(name, "invocations/s", ours, theirs, more_is_better=True, note=note)


def _payloads(pair: Pair, sizes: Sizes) -> Iterator[Figure]:
    """Six megabytes in and out, each call on a connection of its own."""
    for name, event, answer in (("event of 6 MB", payload.LONG, b"1"), ("answer of 6 MB", payload.ASK, payload.LONG)):
        say(f"{name}: {sizes.payload_rounds} of each")
        rounds: list[tuple[list[float], list[float]]] = []
        for _ in range(sizes.payload_rounds):
            ours, theirs = (
                payload.megabytes_per_s(container.own_address, event, answer) for container in (pair.ours, pair.peer)
            )
            rounds.append(([ours], [theirs]))
        ours_all, theirs_all = [a for a, _ in rounds], [b for _, b in rounds]
        yield compare(f"{name}, past Docker's proxy", "MB/s", ours_all, theirs_all, more_is_better=True)


def _peer_at_once(bench: Workbench, pair: Pair) -> str:
    """What becomes of the peer with as many clients; it may not live on."""
    got = crowd(pair.peer.door, CLIENTS, 10 * CLIENTS)
    status = bench.exit_status(pair.peer.container_id)
    fate = "it lives" if status is None else f"its process ended with status {status}"
    outcome = f"{got.answered} of {10 * CLIENTS} answers" + (f", then: {got.failure}" if got.failure else "")
    return f"the peer with {CLIENTS} clients at once: {outcome}; {fate}"


def _memory(pair: Pair, notes: list[str]) -> Iterator[Figure]:
    """Of the emulators' processes, which have just answered all of the rounds."""
    try:
        ours, theirs = pair.ours.pss_mb(), pair.peer.pss_mb()
    except OSError as error:
        notes.append(f"memory was not measured: {error}")
        return
    yield compare("memory of the emulator (PSS)", "MiB", [[ours]], [[theirs]])


def _cold(bench: Workbench, sizes: Sizes) -> Figure:
    """From `docker run` to the first answer."""
    name = f"cold start, {CLIENT.name}, docker run to first answer"
    say(f"{name}: {sizes.cold_rounds} of each")
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    for _ in range(sizes.cold_rounds):
        for command, entrypoint, samples in ((CLIENT.ours, "", ours), (CLIENT.peer, PEER, theirs)):
            began = time.perf_counter()
            container_id = bench.run(command, entrypoint)
            described = time.perf_counter()
            container = bench.describe(container_id)
            described = time.perf_counter() - described  # asking for the port is ours, not the start's
            first_answer(container.door)
            samples.append([(time.perf_counter() - began - described) * 1e3])
            bench.remove(container_id)
    return compare(name, "ms", ours, theirs)


def _ready(ours: Path, rie: Path, sizes: Sizes) -> Figure:
    """From exec to a front door that listens, in turns."""
    name = "ready, exec to listening, on the host"
    say(f"{name}: {sizes.ready_rounds} of each")
    rounds = [([ready.ours(ours)], [ready.aws(ours, rie)]) for _ in range(sizes.ready_rounds)]
    note = "the peer starts its runtime with the first invocation, ours before it"
    return compare(name, "ms", [a for a, _ in rounds], [b for _, b in rounds], note=note)


def first_answer(address: Address) -> None:
    """Wait for it: Docker's proxy takes connections, and drops them, before the container listens."""
    until = time.perf_counter() + COLD_LIMIT_S
    while True:
        try:
            with closing(Caller(address)) as caller:
                caller.invoke()
            return
        except (CallFailed, OSError) as error:
            if time.perf_counter() > until:
                raise CallFailed(f"cannot reach {address}: no answer for {COLD_LIMIT_S:.0f} s: {error}") from error
            time.sleep(COLD_PAUSE_S)


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)
