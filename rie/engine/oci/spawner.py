"""The manager's side of the launcher: starts it, orders sandboxes from it, hears of their ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rie import bundle as bundles
from rie.engine.oci.network import Port
from rie.errors import EngineUnavailable

MAX_MESSAGE = 65_536
MAX_DESCRIPTORS = 2
BEGIN_S = 60.0
# Its own package directory and the bundle's bootstrap on the path, nothing of this project else.
PROGRAM = "import sys; sys.path += {paths!r}; from launcher.__main__ import main; main()"
KILLED = 9  # as waitpid(2) says it


@dataclass(slots=True)
class Child:
    """A sandbox's first process: its number here, a pidfd, a channel to it, and what waitpid(2) will say of it.

    `announces` says that its bootstrap will say on the channel when its front door is open.
    """

    pid: int
    pidfd: int
    channel: socket.socket
    announces: bool
    ended: asyncio.Future[int] = field(repr=False)


class Spawner:
    """Owned by the event loop; starts the launcher when it is first needed, and again if it has died."""

    def __init__(self, bundle: Path, stage: Path, rootless: Sequence[int] = ()) -> None:
        """`rootless` are the launcher's arguments where it has to do without root."""
        self._bundle = bundle
        self._stage = stage
        self._rootless = rootless
        self._numbers = itertools.count(1)
        self._has_bootstrap = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._begun: asyncio.Future[None] | None = None
        self._ordered: dict[int, asyncio.Future[Any]] = {}
        self._ends: dict[int, asyncio.Future[int]] = {}  # of the launcher's children, by their number

    async def order(
        self, groups: list[str], port: Port | None, device: str, device_options: str, listen: Sequence[tuple[str, int]]
    ) -> Child:
        """Have a sandbox begun, as launcher.blank.Order has it. Raises EngineUnavailable."""
        child: Child = await self._send(
            {
                "groups": groups,
                "port": asdict(port) if port else None,
                "device": device,
                "device_options": device_options,
                "listen": list(listen),
            }
        )
        return child

    async def run(self, task: Mapping[str, object]) -> int:
        """Have criu do something, as launcher.checkpoint.Task has it; its wait status. Raises EngineUnavailable."""
        ended: asyncio.Future[int] = await self._send({"task": task})
        return await ended

    async def _send(self, message: dict[str, object]) -> Any:
        control = await self._running()
        number = next(self._numbers)
        made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._ordered[number] = made
        try:
            control.send(json.dumps({**message, "number": number}).encode())
        except OSError as error:
            self._lost(f"it does not take orders: {error}")
        return await made

    def close(self) -> None:
        """End the launcher, and with it every sandbox that still is."""
        self._lost("it is closed")

    async def _running(self) -> socket.socket:
        if self._begun is None:
            begun = self._begun = asyncio.get_running_loop().create_future()
            # Looking for the interpreter blocks; starting must be done here, in one of the process's main threads.
            try:
                interpreter, self._has_bootstrap = await asyncio.to_thread(self._interpreter)
                self._start(interpreter)
            except BaseException as error:
                self._begun = None
                begun.cancel()
                if isinstance(error, OSError):
                    raise EngineUnavailable(f"cannot start the launcher: {error}") from error
                raise
        begun = self._begun
        try:
            await asyncio.wait_for(asyncio.shield(begun), BEGIN_S)
        except TimeoutError:
            self._lost("it does not begin")
        except asyncio.CancelledError:
            if begun.cancelled():
                raise EngineUnavailable("cannot start the launcher: another attempt failed") from None
            raise
        if self._control is None:
            raise EngineUnavailable("cannot start sandboxes: the launcher has ended")
        return self._control

    def _interpreter(self) -> tuple[Path, bool]:
        """An interpreter of this host, and whether the bundle's bootstrap was made for it."""
        interpreter = bundles.find_interpreter()
        return interpreter.path, bundles.read_manifest(self._bundle).get("python") == interpreter.banner

    def _start(self, interpreter: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [str(Path(__file__).parent), str(self._bundle / "lib" / "rie")]
        command = [str(interpreter), "-I", "-S", "-c", PROGRAM.format(paths=paths)]
        has_bootstrap = "1" if self._has_bootstrap else "0"
        command += [str(theirs.fileno()), str(self._stage), has_bootstrap, *map(str, self._rootless)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env={"LC_ALL": "C.UTF-8"}, cwd="/"
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    def _hear(self) -> None:
        while self._control is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, MAX_DESCRIPTORS)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(str(error))
                return
            if not data:
                self._lost("it has ended")
                return
            self._take(json.loads(data), fds)

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        match message["kind"]:
            case "begun":
                if self._begun is not None and not self._begun.done():
                    self._begun.set_result(None)
            case "made":
                ended = self._end_of(message["pid"])
                channel = socket.socket(fileno=fds[1])
                child = Child(_host_pid(fds[0]), fds[0], channel, self._has_bootstrap, ended)
                self._ordered.pop(message["number"]).set_result(child)
            case "runs":
                self._ordered.pop(message["number"]).set_result(self._end_of(message["pid"]))
            case "failed":
                error = EngineUnavailable(f"cannot start sandboxes: {message['why']}")
                self._ordered.pop(message["number"]).set_exception(error)
            case "ended":
                gone = self._ends.pop(message["pid"], None)
                if gone is not None and not gone.done():
                    gone.set_result(message["status"])

    def _end_of(self, pid: int) -> asyncio.Future[int]:
        ended = self._ends[pid] = asyncio.get_running_loop().create_future()
        return ended

    def _lost(self, why: str) -> None:
        """Whatever ended the launcher ended its children."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        begun, self._begun = self._begun, None
        if begun is not None and not begun.done():
            begun.set_result(None)
        ordered, self._ordered = self._ordered, {}
        for made in ordered.values():
            if not made.done():
                made.set_exception(EngineUnavailable(f"cannot start sandboxes: the launcher is gone: {why}"))
        ends, self._ends = self._ends, {}
        for ended in ends.values():
            if not ended.done():
                ended.set_result(KILLED)
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()


def _host_pid(pidfd: int) -> int:
    """The number of a process here; the launcher may have another PID namespace. 0 if it has gone already."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return max(0, int(line.split()[1]))
    return 0


def status_text(status: int) -> str:
    """How a process ended, as a container engine would say it."""
    if os.WIFSIGNALED(status):
        return f"it ended with status {128 + os.WTERMSIG(status)} (killed)"
    return f"it ended with status {os.waitstatus_to_exitcode(status)}"
