"""A manager beside AWS's RIE, called in its own container, and beside `sam local start-lambda`, if it is there.

The manager does what neither does (looks the function up, picks an environment, keeps the log) and has one hop more.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
from botocore.config import Config

from bench import peer, sam
from bench.client import PATIENCE_S, Address, Caller, CallFailed, crowd
from bench.containers import ROOT, Workbench
from bench.effort import Effort
from bench.emulator import CACHE, CLIENT, PEER, WARM_UP, first_answer, in_turns, say
from bench.figures import Figure, Report, compare, summarise
from bench.ready import free_port
from rie import bundle
from rie.errors import HostFault
from tests.registry import serving

CLIENTS = 8
SAM_CLIENTS = 4
SAM_PATIENCE_S = 60.0  # it starts containers in between
READY_S = 60.0
STOP_S = 60.0
PROMISED_MB = "65536"  # nothing uses what it is promised here


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much to measure."""

    rounds: int
    invocations: int
    turn: int
    crowd_rounds: int
    sam_rounds: int
    sam_invocations: int


SIZES = {Effort.FULL: Sizes(12, 1_000, 100, 6, 3, 100), Effort.QUICK: Sizes(2, 100, 50, 1, 1, 8)}


def run(effort: Effort) -> Report:
    """All figures. Raises HostFault when there is no engine, no image or no peer."""
    sizes = SIZES[effort]
    ours, rie = bundle.ensure(ROOT / "build" / "bundle"), peer.obtain(CACHE)
    notes: list[str] = []
    with ExitStack() as stack:
        bench = stack.enter_context(Workbench(CACHE, ours, rie))
        container_id = bench.run(CLIENT.peer, entrypoint=PEER)
        stack.callback(bench.remove, container_id)
        theirs = bench.describe(container_id).own_address
        manager = stack.enter_context(_manager(bench, ours, notes))
        for address in (manager, theirs):
            first_answer(address)
        figures = [_warm(manager, theirs, sizes), _at_once(manager, theirs, sizes)]
        figures += _beside_sam(manager, sizes, notes)
    return Report("api", f"{peer.NAME}, called in its own container", tuple(figures), tuple(notes))


def _warm(ours: Address, theirs: Address, sizes: Sizes) -> Figure:
    """One client of each."""
    name = "warm Invoke through the manager, awslambdaric"
    say(f"{name}: {sizes.rounds} rounds of {sizes.invocations}")
    with closing(Caller(ours)) as one, closing(Caller(theirs)) as other:
        one.measure(WARM_UP)
        other.measure(WARM_UP)
        rounds = [in_turns(one, other, sizes.invocations, sizes.turn) for _ in range(sizes.rounds)]
        note = f"connections used: ours {one.connections}, peer {other.connections}"
    return compare(name, "ms", [a for a, _ in rounds], [b for _, b in rounds], note=note)


def _at_once(ours: Address, theirs: Address, sizes: Sizes) -> Figure:
    """Eight clients of the manager against the one that the peer bears."""
    name = f"throughput, {CLIENTS} clients of the manager, 1 of the peer"
    say(f"{name}: {sizes.crowd_rounds} rounds of {sizes.invocations}")
    _warm_up(ours, CLIENTS)
    rates = [
        ([_rate(ours, CLIENTS, sizes.invocations)], [_rate(theirs, 1, sizes.invocations)], [_rate(ours, 1, 200)])
        for _ in range(sizes.crowd_rounds)
    ]
    note = f"the manager with 1 client {summarise([alone for _, _, alone in rates]).p50:,.0f}/s"
    return compare(
        name, "invocations/s", [a for a, _, _ in rates], [b for _, b, _ in rates], more_is_better=True, note=note
    )


def _beside_sam(ours: Address, sizes: Sizes, notes: list[str]) -> Iterator[Figure]:
    """Four clients of each."""
    program = sam.program()
    if program is None:
        notes.append(
            f"not measured beside sam: put aws-sam-cli {peer.VERSION} on the PATH, or name it in ${sam.VARIABLE}"
        )
        return
    name = f"throughput, {SAM_CLIENTS} clients, beside sam local start-lambda with warm containers"
    say(f"{name}: {sizes.sam_rounds} rounds of {sizes.sam_invocations} (takes a minute to start)")
    with sam.serving(program) as theirs:
        first_answer(theirs)
        crowd(theirs, SAM_CLIENTS, 2 * SAM_CLIENTS, SAM_PATIENCE_S)
        _warm_up(ours, SAM_CLIENTS)
        try:
            rates = [
                (
                    [_rate(ours, SAM_CLIENTS, sizes.invocations)],
                    [_rate(theirs, SAM_CLIENTS, sizes.sam_invocations, SAM_PATIENCE_S)],
                )
                for _ in range(sizes.sam_rounds)
            ]
        except CallFailed as failed:
            notes.append(f"not measured beside sam: {failed}")
            return
    yield compare(name, "invocations/s", [a for a, _ in rates], [b for _, b in rates], more_is_better=True)


def _warm_up(manager: Address, clients: int) -> None:
    """Have as many environments wait as clients will come."""
    until = time.monotonic() + READY_S
    while True:
        states = [each["state"] for each in _told(manager[1], "environments")]
        if states.count("idle") >= clients:
            return
        if states.count("idle") == len(states):  # else some still start, and more would come of it
            crowd(manager, clients, 2 * clients)
        if time.monotonic() > until:
            raise CallFailed(f"cannot warm up: there are no {clients} idle environments after {READY_S:.0f} s")
        time.sleep(0.2)


def _rate(address: Address, clients: int, invocations: int, patience_s: float = PATIENCE_S) -> float:
    got = crowd(address, clients, invocations, patience_s)
    if got.failure:
        raise CallFailed(f"cannot measure {clients} clients of {address}: after {got.answered}: {got.failure}")
    return got.rate


@contextmanager
def _manager(bench: Workbench, ours: Path, notes: list[str]) -> Iterator[Address]:
    """`rie serve` with the function of the image deployed; its data goes with it."""
    port = free_port()
    with serving() as registry, tempfile.TemporaryDirectory(prefix="rie-bench-") as data:
        reference = registry.reference("bench/function", "1")
        bench.push(reference)
        command = [sys.executable, "-m", "rie", "serve", "--port", str(port), "--data", data, "--memory", PROMISED_MB]
        with (
            Path(data, "serve.log").open("wb") as log,
            subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "RIE_BUNDLE": str(ours)}, start_new_session=True
            ) as process,
        ):
            try:
                _deploy(port, reference, process, Path(data, "serve.log"))
                notes.append(f"engine of the manager: {_told(port, 'health')['engine']}")
                yield "127.0.0.1", port
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(STOP_S)
                bench.forget(reference, registry.host)


def _deploy(port: int, reference: str, process: subprocess.Popen[bytes], log: Path) -> None:
    client = boto3.client(
        "lambda",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        config=Config(proxies={}),
    )
    until = time.monotonic() + READY_S
    while True:
        try:
            client.list_functions()
            break
        except Exception as error:
            if process.poll() is not None or time.monotonic() > until:
                raise HostFault(f"cannot measure: the manager does not answer: {log.read_text()}") from error
            time.sleep(0.1)
    client.create_function(
        FunctionName="function",
        Role="arn:aws:iam::123456789012:role/bench",
        PackageType="Image",
        Code={"ImageUri": reference},
        ImageConfig={"Command": list(CLIENT.ours)},
        MemorySize=1_769,  # one vCPU: RIE's has no limit
    )
    client.get_waiter("function_active_v2").wait(FunctionName="function")


def _told(port: int, what: str) -> Any:
    with urlopen(f"http://127.0.0.1:{port}/_rie/{what}", timeout=10) as response:
        return json.loads(response.read())
