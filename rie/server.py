"""The manager as a process: gunicorn around one node."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gasgi import ASGIWorker

from rie import engine
from rie.errors import RieError
from rie.node import Node, engine_for, prepare_data
from rie.plane.listener import Listener
from rie.settings import Settings
from rie.store.url import read_url

log = logging.getLogger(__name__)

DESTROY_S = 30  # what destroying every sandbox may take, after the running invocations have been waited for
STUCK_S = 120  # an event loop that does nothing for so long is dead; a new worker takes over
BEAT_S = 1.0
LINGER_S = 1.0  # what threads may take to end what they do that nobody waits for, once the node is closed
THREADS = "rie-call"  # the names of those threads begin so


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises SettingsError, HostFault before the first request if it can't begin."""
    read_url(settings.database_url)
    prepare_data(settings.data)
    _allow_files()
    description = asyncio.run(engine_for(settings).check())
    if settings.engine is None:
        name, why = engine.default()
        description += f" ({name} because: {why})"
    Server(settings, description).run()


def _allow_files() -> None:
    """A few descriptors for each of a thousand environments: as many as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Manager:
    """What gunicorn takes for its application: one node, opened, listened for and closed by the worker."""

    def __init__(self, settings: Settings, description: str) -> None:
        self._settings = settings
        self._description = description
        self._node: Node | None = None
        self._listener: Listener | None = None

    async def open(self, sockets: list[socket.socket]) -> None:
        """Build the node on the running event loop, and listen. Raises SettingsError, HostFault."""
        self._node = await Node.open(self._settings)
        self._listener = Listener(self._node.app)
        await self._listener.open(sockets)
        settings = self._settings
        lines = [
            f"rie listens on http://{settings.host}:{settings.port}",
            f"  engine {self._description}",
            f"  data   {settings.data}",
            f"  region {settings.region}, account {settings.account}",
        ]
        if self._node.endpoint_url is not None:
            lines += _exports(settings, self._node.endpoint_url)
        print("\n".join(lines), file=sys.stderr, flush=True)

    async def close(self) -> None:
        """Let running invocations end, then remove all that was made."""
        if self._listener is not None:
            self._listener.stop_accepting()
        if self._node is not None:
            await self._node.close(self._settings.drain_s)
        if self._listener is not None:
            self._listener.close()


def _exports(settings: Settings, endpoint_url: str) -> list[str]:
    """What a shell needs for the manager and the endpoint beside it."""
    lines = [
        f"  aws    {endpoint_url} (moto, in memory: its queues, buckets and tables are gone when it stops)",
        "",
        f"export AWS_ENDPOINT_URL={endpoint_url}",
        f"export AWS_ENDPOINT_URL_LAMBDA=http://{settings.host}:{settings.port}",
        f"export AWS_DEFAULT_REGION={settings.region}",
    ]
    if not settings.auth:
        lines += ["export AWS_ACCESS_KEY_ID=test", "export AWS_SECRET_ACCESS_KEY=test"]
    return lines


class Worker(ASGIWorker):  # type: ignore[misc]
    """gunicorn's worker on an event loop, with a node's life and a listener of ours instead of its ASGI protocol.

    Ctrl-C cleans up like SIGTERM, and idle keep-alive connections hold up nothing.
    """

    alive: bool
    asgi: Manager

    def init_signals(self) -> None:
        """Handle signals on the event loop."""
        self._told_to_end = asyncio.Event()
        super().init_signals()

    def run(self) -> None:
        """Serve, and end: a thread in a long poll, which nothing takes back, holds up no stop."""
        super().run()
        ends_at = time.monotonic() + LINGER_S
        for thread in threading.enumerate():
            if thread.name.startswith(THREADS):
                thread.join(max(ends_at - time.monotonic(), 0.0))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix=THREADS))
        try:
            await self.asgi.open([bound.sock for bound in self.sockets])
        except RieError as error:
            print(f"rie: {error}", file=sys.stderr, flush=True)
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from None
        while self.alive and self.ppid == os.getppid():
            self.notify()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told_to_end.wait(), BEAT_S)
        beat = asyncio.get_running_loop().create_task(self._beat())
        await self.asgi.close()
        beat.cancel()

    async def _beat(self) -> None:
        """Tell the parent that closing is no standstill."""
        while True:
            self.notify()
            await asyncio.sleep(BEAT_S)

    def handle_exit_signal(self) -> None:
        """Stop, now rather than at the next beat."""
        self.alive = False
        self._told_to_end.set()

    def handle_quit_signal(self) -> None:
        """Stop as at SIGTERM."""
        self.handle_exit_signal()


class Server(BaseApplication):  # type: ignore[misc]
    """One listener, one worker process: one node."""

    def __init__(self, settings: Settings, description: str) -> None:
        self._settings = settings
        self._app = Manager(settings, description)
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings."""
        settings = self._settings
        values: dict[str, Any] = {
            "bind": f"{settings.host}:{settings.port}",
            "workers": 1,
            "worker_class": Worker,
            "asgi_loop": "uvloop",
            "graceful_timeout": int(settings.drain_s) + DESTROY_S,
            "timeout": STUCK_S + int(settings.drain_s) + DESTROY_S,
            "backlog": 2_048,
            "loglevel": "warning",
            "proc_name": "rie",
            "control_socket_disable": True,
        }
        for name, value in values.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Manager:
        """What the worker runs."""
        return self._app
