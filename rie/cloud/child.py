"""Keeps the compatible endpoint running: started, watched, started again when it dies, stopped with the manager."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from rie.errors import SettingsError

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
DOCKER_BRIDGE = "docker0"  # where functions of the Docker engine see the host
BEGIN_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 60.0  # one that ran for so long is started again at once
STOP_S = 5.0
MAX_LINE = 64 << 20
MISSING = (
    "cannot start the endpoint for AWS's services: moto's server is not installed. "
    "Install the extra: pip install 'rie[aws]'"
)

Take = Callable[[dict[str, Any]], Awaitable[None]]
"""Takes what a bucket, a topic or a rule hands over to a function."""


class Endpoint:
    """One for a node; its buckets, topics and queues are in its memory, and gone when it ends."""

    def __init__(self, port: int, addresses: tuple[str, ...], account: str, log_path: Path) -> None:
        self._port = port
        self._addresses = addresses
        self._account = account
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._take: Take | None = None

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        return f"http://{LOOPBACK}:{self._port}"

    async def open(self) -> None:
        """Start it; returns once it answers. Raises SettingsError."""
        if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask_cors") is None:
            raise SettingsError(MISSING)
        if not _is_free(self._port):
            raise SettingsError(f"cannot start the endpoint for AWS's services: port {self._port} is taken")
        await self._start()

    def listen(self, take: Take) -> None:
        """Hear what it hands over from now on, and keep it running."""
        self._take = take
        self._watch = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Stop it."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._stop()

    async def _start(self) -> None:
        addresses = [f"{address}:{self._port}" for address in self._addresses]
        with self._log_path.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "rie.cloud.endpoint",
                *addresses,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=MAX_LINE,
                env={**os.environ, "PYTHONWARNINGS": "ignore", "MOTO_ACCOUNT_ID": self._account},
                start_new_session=True,  # Ctrl-C is the manager's: functions may need it until they have ended
            )
        until = time.monotonic() + BEGIN_S
        while not await asyncio.to_thread(_answers, self._port):
            if self._process.returncode is not None or time.monotonic() > until:
                await self._stop()
                raise SettingsError(f"cannot start the endpoint on port {self._port}: see {self._log_path}")
            await asyncio.sleep(0.05)

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()  # which is its end
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began_at = time.monotonic()
            if self._process is not None:
                await self._read(self._process)
                log.error("the endpoint for AWS's services has ended: it is started again, with nothing in it")
            if time.monotonic() - began_at > STEADY_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            try:
                await self._start()
            except SettingsError as error:
                log.error("%s", error)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """What it hands over, until it ends."""
        assert process.stdout is not None and self._take is not None
        while line := await process.stdout.readline():
            try:
                await self._take(json.loads(line))
            except Exception:
                log.exception("cannot take what the endpoint hands over")
        await process.wait()


def place(port: int, default: int, engine: str) -> tuple[int, tuple[str, ...], str]:
    """(port, addresses to listen on, the URL that functions reach it by); `port` 0: `default`, or any that is free."""
    bridge = _address_of(DOCKER_BRIDGE) if engine == "docker" else None
    port = port or (default if _is_free(default) else _any_port())
    addresses = (LOOPBACK, *((bridge,) if bridge else ()))
    return port, addresses, f"http://{bridge or LOOPBACK}:{port}"


def _address_of(interface: str) -> str | None:
    found = psutil.net_if_addrs().get(interface, [])
    return next((each.address for each in found if each.family == socket.AF_INET), None)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
    return True


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
