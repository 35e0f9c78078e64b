"""After any number of random operations there is nothing of the daemonless engine more than before.

RIE_LEAK_OPERATIONS sets how many (by default a minute's worth).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from bootstrap.wire import REPORT, RESTORE_PATH
from rie.engine.base import Engine, SandboxSpec
from rie.engine.oci import OciEngine, bridges
from rie.engine.oci.sandbox import OciSandbox
from rie.errors import HostFault
from rie.limits import loop
from tests.contract.conftest import Case, connect, eventually, run
from tests.contract.door import Answer, Door
from tests.contract.test_oci_snapshots import NEWS, snapshot_of

OPERATIONS = int(os.environ.get("RIE_LEAK_OPERATIONS", "60"))
AT_ONCE = 6  # sandboxes that live at a time
CALLERS = 3
HASTY_S = "0.25"  # the timeout of some sandboxes' function


def holdings(case: Case) -> dict[str, int]:
    """How much there is of all that an engine takes of this machine, this process's own included."""
    state = case.settings.state_dir
    tokens = [token for token, alias in bridges.aliases().items() if alias.startswith(f"{case.settings.owner}-")]
    interfaces = [name for name in os.listdir("/sys/class/net") if name.startswith(tuple(f"v{t}" for t in tokens))]
    parents = {int(name): _parent(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    children = [pid for pid, parent in parents.items() if parent == os.getpid()]
    sandboxes = [pid for pid, parent in parents.items() if parent in children]
    return {
        "descriptors": len(open_files()),
        "children": len(children),
        "sandboxes": len(sandboxes),
        "mounts": Path("/proc/self/mountinfo").read_text().count(f"{state}"),
        "loops": len(loop.devices_under(state)),
        "groups": len(list(Path("/sys/fs/cgroup").glob(f"*/rie-{case.settings.owner}-*/*/*"))),
        "interfaces": len(interfaces),
        "files": len(list(state.glob("*/engine-*/*"))),
        "namespaces": len({_namespace(pid) for pid in sandboxes}),
    }


def open_files() -> list[str]:
    """What this process has open, by kind."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(found)


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _namespace(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return ""


class Player:
    """Does one thing after another to sandboxes of its own."""

    def __init__(
        self, engine: Engine, spec: SandboxSpec, restored: SandboxSpec, name: str, dice: random.Random
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._restored = restored
        self._name = name
        self._dice = dice
        self._number = 0
        self.sandboxes: list[OciSandbox] = []
        self.tally: Counter[str] = Counter()  # what was tried, and how invocations ended

    async def play(self) -> None:
        """One operation at random."""
        moves: list[Any] = [self.create]
        if self.sandboxes:
            moves += [self.invoke, self.invoke, self.kill, self.exhaust, self.abandon, self.evict, self.freeze]
            moves += [self.overrun]
        move = self._dice.choice(moves)
        self.tally[move.__name__] += 1
        with contextlib.suppress(HostFault, ConnectionError):
            await move()
        while len(self.sandboxes) > AT_ONCE // CALLERS:
            await self.evict()

    async def create(self) -> None:
        """Start one, now and then from a snapshot, or one that is not waited for."""
        self._number += 1
        is_restored = self._dice.random() < 0.2
        spec = replace(self._restored if is_restored else self._spec, sandbox_id=f"{self._name}-{self._number}")
        if self._dice.random() < 0.4:
            spec = replace(spec, environment={**spec.environment, "AWS_LAMBDA_FUNCTION_TIMEOUT": HASTY_S})
        start = asyncio.ensure_future(self._engine.start(spec))
        if self._dice.random() < 0.2:
            await asyncio.sleep(self._dice.random() * (0.1 if is_restored else 0.03))
            start.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            sandbox = await start
            assert isinstance(sandbox, OciSandbox)
            self.sandboxes.append(sandbox)
            if is_restored:
                answer = await (await connect(sandbox)).request("POST", RESTORE_PATH, NEWS)
                self.tally[f"restored: {answer.json()['status']}"] += 1

    async def invoke(self) -> None:
        """Call one."""
        await self._call({"time": None})

    async def overrun(self) -> None:
        """Longer than it may, if it is one of the hasty ones."""
        await self._call({"ticks": 0.5})

    async def kill(self) -> None:
        """Its first process ends behind the engine's back."""
        with contextlib.suppress(ProcessLookupError):  # it has been killed already
            os.kill(self._any().pid, 9)

    async def exhaust(self) -> None:
        """More memory than it has."""
        await self._call({"allocate": 400})

    async def abandon(self) -> None:
        """Destroyed in the middle of an invocation."""
        door = await self._door()
        invocation = asyncio.ensure_future(door.invoke({"ticks": 30}))
        await asyncio.sleep(self._dice.random() * 0.02)
        await self.evict()
        await asyncio.wait([invocation])
        invocation.exception()

    async def freeze(self) -> None:
        """Frozen, and perhaps left so."""
        sandbox = self._any()
        await sandbox.freeze()
        if self._dice.random() < 0.7:
            await sandbox.thaw()

    async def evict(self) -> None:
        """Destroyed."""
        sandbox = self.sandboxes.pop(self._dice.randrange(len(self.sandboxes)))
        await sandbox.destroy()

    async def _call(self, event: object) -> None:
        door = await self._door()
        self._note(await door.invoke(event))
        door.close()

    def _note(self, answer: Answer) -> None:
        status = answer.headers.get(REPORT.lower(), "").rpartition(";")[2] or str(answer.status)
        if status != "success":
            status += f" {answer.json().get('errorType')}"
        self.tally[f"answers: {status}"] += 1

    def _any(self) -> OciSandbox:
        return self._dice.choice(self.sandboxes)

    async def _door(self) -> Door:
        sandbox = self._any()
        await sandbox.thaw()
        return await connect(sandbox)


def test_random_operations_leave_nothing(oci_case: Case, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")

    async def test() -> None:
        async with oci_case.engine() as engine:
            spec = await oci_case.spec(engine, "probe")
            restored = await snapshot_of(oci_case, engine, tmp_path / "snapshot")
            players = [Player(engine, spec, restored, f"p{n}", random.Random(seed + n)) for n in range(CALLERS)]

            async def play(player: Player, operations: int) -> None:
                for _ in range(operations):
                    await player.play()
                while player.sandboxes:
                    await player.evict()

            # The event loop and the libraries open things of their own when they are first used.
            await asyncio.gather(*(play(player, 5) for player in players))
            await settled(engine)
            # The kernel takes an interface away some time after its sandbox's last process.
            await eventually(lambda: (now := holdings(oci_case))["interfaces"] == now["sandboxes"], 20)
            before = holdings(oci_case)
            await asyncio.gather(*(play(player, OPERATIONS // CALLERS) for player in players))
            await settled(engine)

            print(dict(sum((player.tally for player in players), Counter())))

            def is_as_before() -> bool:
                return holdings(oci_case) == before

            await eventually(
                is_as_before, 20, lambda: f"{holdings(oci_case)} after {before}, seed {seed}: {open_files()}"
            )

    run(test(), OPERATIONS * 2 + 240)


async def settled(engine: Engine) -> None:
    """The stock is full again: what it holds is not left behind."""
    assert isinstance(engine, OciEngine) and engine._stock is not None
    stock = engine._stock
    await eventually(lambda: len(stock._ready) == stock._size and not stock._making, 20)
