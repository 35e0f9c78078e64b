"""A program for test_rootless: what sandboxes do when a user without privilege starts them, found out and printed.

Arguments: the registry's host, and a directory for all that is made. Prints a JSON object, a member a scenario.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from rie import bundle
from rie.engine import EngineSettings
from rie.engine.oci import OciEngine
from rie.engine.oci.sandbox import OciSandbox
from rie.errors import HostFault, SandboxFailed
from tests.contract.conftest import Case, connect, eventually, read_log

UNWRITABLE = ("/x", "/var/task/x", "/etc/passwd", "/dev/x", "/run/x", "/opt/rie/x", "/proc/sys/kernel/core_pattern")
SECRETS = ("environ", "mem", "maps", "auxv", "stack")
DIRECTORIES = ("root", "cwd", "fd", "map_files")


class Scenarios:
    """Each a coroutine without arguments; what it answers is JSON."""

    def __init__(self, case: Case, engine: OciEngine) -> None:
        self._case = case
        self._engine = engine
        self._number = 0

    async def _start(self, function: str, **changes: Any) -> OciSandbox:
        self._number += 1
        sandbox = await self._case.start(self._engine, function, f"s-{self._number}", **changes)
        assert isinstance(sandbox, OciSandbox)
        return sandbox

    async def _ask(self, *events: dict[str, Any], **changes: Any) -> list[Any]:
        """What the probe finds in one sandbox, an invocation for each event."""
        sandbox = await self._start("probe", **changes)
        door = await connect(sandbox)
        found = [(await door.invoke(event)).json() for event in events]
        await sandbox.destroy()
        return found

    async def described(self) -> Any:
        """What the manager says first."""
        return await self._engine.check()

    async def answers(self) -> Any:
        """Cold, then warm."""
        door = await connect(await self._start("echo"))
        return [(await door.invoke(number)).json() for number in (1, 2)]

    async def seen(self) -> Any:
        """What the function sees of its surroundings."""
        looks = [{"read": "/proc/self/status"}, {"stat": "/tmp"}, {"processes": None}, {"root": None}]
        return await self._ask(*looks, {"exists": "/run/rie/front"}, {"hostname": None})

    async def written(self) -> Any:
        """What happens to whoever writes outside /tmp."""
        return dict(zip(UNWRITABLE, await self._ask(*({"attempt-write": path} for path in UNWRITABLE)), strict=True))

    async def reached(self) -> Any:
        """What happens to whoever goes for the bootstrap."""
        events = [{"attempt-read": f"/proc/1/{name}"} for name in SECRETS]
        events += [{"attempt-list": f"/proc/1/{name}"} for name in DIRECTORIES]
        names = ("attempt-kill", "attempt-signal", "attempt-limit", "attempt-affinity", "attempt-priority")
        events += [{name: 1} for name in names]
        found = await self._ask(*events)
        return [(event, answer) for event, answer in zip(events, found, strict=True)]

    async def own_processes(self) -> Any:
        """The same on itself, which nobody forbids: a rule that refuses everybody would prove nothing."""
        return await self._ask({"attempt-signal": 0x7FFFFFF}, {"attempt-affinity": 0}, {"attempt-priority": 0})

    async def tmp(self) -> Any:
        """Ten megabytes of /tmp take ten and no more."""
        return await self._ask({"fill-tmp": 9}, {"fill-tmp": 11}, ephemeral_storage_mb=10)

    async def memory(self) -> Any:
        """A function within its memory, one beyond it, and the next."""
        sandbox = await self._start("probe")
        door = await connect(sandbox)
        within = (await door.invoke({"allocate": 60})).json()
        beyond = await door.invoke({"allocate": 400})
        after = (await door.invoke({"allocate": 1})).json()
        log = await read_log(sandbox, "Error Type:")
        return [within, beyond.headers.get("x-amz-function-error"), beyond.headers["x-rie-report"], after, log]

    async def memory_of_many(self) -> Any:
        """Many processes that are each small, and children of children."""
        sandbox = await self._start("probe")
        answer = await (await connect(sandbox)).invoke({"hold-in-children": [90, 4]})
        return answer.json()["errorMessage"]

    async def memory_of_files(self) -> Any:
        """What is in /tmp counts."""
        sandbox = await self._start("probe")
        door = await connect(sandbox)
        first = (await door.invoke({"fill-tmp": 80})).json()
        second = await door.invoke({"hold": 80})
        return [first, second.json()["errorMessage"]]

    async def memory_of_nobody(self) -> Any:
        """A file in memory that no process maps."""
        return await self._ask({"attempt-memfd": None})

    async def processes(self) -> Any:
        """Two sandboxes at once with twenty processes each."""
        return await asyncio.gather(*(self._ask({"fork": 40}, pids=20) for _ in range(2)))

    async def timeout(self) -> Any:
        """A function that takes too long."""
        sandbox = await self._start("sleep", environment={"AWS_LAMBDA_FUNCTION_TIMEOUT": "1"})
        answer = await (await connect(sandbox)).invoke({"seconds": 60})
        return [answer.headers.get("x-amz-function-error"), answer.json()["errorMessage"]]

    async def network(self) -> Any:
        """An endpoint that it is told of, the same by its own address, the world; and a private network."""
        (url,) = self._case.settings.host_urls
        inside = self._engine.url_inside(url)
        host, port = inside.removeprefix("http://").split(":")
        own = int(url.rpartition(":")[2])
        addresses = ([host, int(port)], ["127.0.0.1", own], ["192.0.2.1", 80])
        found = await self._ask(*({"connect": address} for address in addresses))
        try:
            await self._start("echo", network="private")
        except HostFault as error:
            found.append(str(error))
        return found

    async def frozen(self) -> Any:
        """Whether a frozen sandbox stands still."""
        sandbox = await self._start("probe")
        door = await connect(sandbox)
        await door.init()
        await sandbox.freeze()
        asked = asyncio.ensure_future(door.invoke({"time": None}))
        await asyncio.sleep(0.3)
        is_frozen = not asked.done()
        await sandbox.thaw()
        await asked
        return is_frozen

    async def spun(self) -> Any:
        """How much CPU time a tenth of a vCPU gives in a second."""
        sandbox = await self._start("probe", cpus=0.1)
        door = await connect(sandbox)
        await sandbox.limit_cpu()
        return (await door.invoke({"spin": 1.0})).json()["spin"]

    async def users(self) -> Any:
        """Whose the functions of two sandboxes are on the host."""
        sandboxes = [await self._start("echo") for _ in range(2)]
        for sandbox in sandboxes:
            await (await connect(sandbox)).invoke(1)
        return [[_uid(sandbox.pid), *map(_uid, _children(sandbox.pid))] for sandbox in sandboxes]

    async def last_words(self) -> Any:
        """A bootstrap that can't begin says why."""
        sandbox = await self._start("echo", environment={"AWS_LAMBDA_FUNCTION_TIMEOUT": "soon"})
        try:
            await connect(sandbox)
        except SandboxFailed as error:
            return str(error)

    async def odd_image(self) -> Any:
        """What other users own and nobody may read, and what one layer hides of another."""
        sandbox = await self._start("odd")
        looks = [{"read": "/data/secret"}, {"list": "/data/shut"}, {"list": "/data/opaque"}, {"exists": "/data/gone"}]
        door = await connect(sandbox)
        return [(await door.invoke(look)).json() for look in looks]

    async def end_of_the_launcher(self) -> Any:
        """Sandboxes end with it, and the next has another."""
        sandbox = await self._start("echo")
        await (await connect(sandbox)).invoke(1)
        ended: list[int] = []
        sandbox.on_exit(lambda: ended.append(1))
        os.kill(_parent(sandbox.pid), signal.SIGKILL)
        await eventually(lambda: bool(ended))
        return (await (await connect(await self._start("echo"))).invoke(7)).json()


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _uid(pid: int) -> int:
    return int(_status(pid, "Uid"))


def _parent(pid: int) -> int:
    return int(_status(pid, "PPid"))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _run(host: str, place: Path, names: list[str]) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as endpoint:
        settings = EngineSettings(
            bundle=bundle.ensure(place / "bundle"),
            state_dir=place / "state",
            owner="rootless",
            images=place / "images",
            host_urls=(f"http://127.0.0.1:{endpoint.getsockname()[1]}",),
        )
        case = Case("oci", settings, host)
        found: dict[str, Any] = {}
        async with case.engine() as engine:
            assert isinstance(engine, OciEngine)
            scenarios = Scenarios(case, engine)
            for name in names:
                scenario: Callable[[], Awaitable[Any]] = getattr(scenarios, name)
                found[name] = await asyncio.wait_for(scenario(), 60)
        found["left"] = [str(path) for path in (place / "state").rglob("*") if "engine-" in path.name]
    shutil.rmtree(place / "images")
    return found


def main() -> None:
    """Run all scenarios, or those that are named."""
    host, place, *names = sys.argv[1:]
    grouped = ("frozen", "spun")  # only with control groups of the user's
    names = names or [name for name in vars(Scenarios) if not name.startswith("_") and name not in grouped]
    print(json.dumps(uvloop.run(_run(host, Path(place), names))))


if __name__ == "__main__":
    main()
