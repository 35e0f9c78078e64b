"""The seam to whatever runs sandboxes.

Terms. An *image* is content on a registry, pinned by digest. A *sandbox* is one isolated run of an image with the
bootstrap as its first process; the manager reaches it through a UNIX socket (the front door) and reads its log from
a pipe. An *engine* makes images ready and starts sandboxes. It knows nothing of functions, versions or invocations.

Lifecycle of a sandbox: `Engine.start` → (front door answers) → `limit_cpu` → … (`freeze` ⇄ `thaw`) … → `destroy`.

    engine = DockerEngine(settings)
    await engine.check()                              # raises EngineUnavailable, saying what would mend it
    await engine.prepare(image, on_progress=print)    # pulls; a no-op when it is there
    sandbox = await engine.start(spec)
    door = await sandbox.connect(DoorProtocol)        # raises SandboxFailed if the sandbox is dead
    ...
    await sandbox.destroy()                           # removes all that start() made; twice is fine

Whatever `start` makes (containers, mounts, loop devices, directories) carries the engine's `owner` label, so that
`reconcile` of a later manager with the same owner finds and removes what `kill -9` left behind.
A method that returns without an error means "it is so now", never "I did it": destroying what is gone succeeds.
Every implementation passes tests/contract/test_engine.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rie.model.image import Image

LOCAL = "docker-daemon:"
"""Before the name of an image that is in the local Docker engine, and in no registry."""

Progress = Callable[[str], None]
"""Called with one line of plain text as long work goes on; from any thread."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the host that a sandbox sees, read-only, at `target`: unpacked code, merged layers."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a sandbox is to be.

    `argv` is what the bootstrap is told to run (the function's entrypoint and command; the engine puts the bootstrap
    in front); `environment` is the whole environment of the bootstrap, the image's own variables included;
    `cpus` the share of CPU time after init (1.0 = one vCPU), applied by `Sandbox.limit_cpu`; `mounts` lie over the
    image, made in the order they are given, and their targets exist in the image. The engine's own mounts come later:
    what is given for /opt has an empty directory `rie`, over which the bundle is mounted. `network` names a private
    network, whose members reach each other and nobody else (only the daemonless engine has them), None for the
    engine's own.
    """

    sandbox_id: str
    image: Image
    argv: tuple[str, ...]
    working_directory: str
    environment: Mapping[str, str]
    memory_mb: int
    ephemeral_storage_mb: int
    cpus: float
    pids: int = 1024
    open_files: int = 1024
    mounts: tuple[Mount, ...] = ()
    network: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class Sandbox(Protocol):
    """One running sandbox."""

    sandbox_id: str

    @property
    def log_fd(self) -> int:
        """A non-blocking file descriptor to read the sandbox's log lines from; valid until `destroy`."""

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """Open a connection to the front door and return its protocol, once the sandbox accepts connections.

        Raises SandboxFailed when the sandbox has died (with the last lines it printed) or does not listen in time.
        """

    async def limit_cpu(self) -> None:
        """Apply the CPU share of the spec; until then the sandbox runs unthrottled, because init must be quick."""

    async def freeze(self) -> None:
        """Stop every process of the sandbox where it is, where that is cheap; nothing on an engine that can't.

        A frozen sandbox takes connections and requests, but answers only once it is thawed. Freezing what is frozen,
        and what has ended, is fine.
        """

    async def thaw(self) -> None:
        """Let them go on; nothing if they run."""

    async def destroy(self) -> None:
        """Kill everything in the sandbox and remove all that was made for it. Never raises for what is gone."""

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once, on the event loop, when the sandbox's first process is seen to have ended."""


class Engine(Protocol):
    """Makes images ready and starts sandboxes."""

    name: str

    async def check(self) -> str:
        """One line that describes the engine ("Docker 20.10.24, overlay2, cgroup v1").

        Raises EngineUnavailable with what to do about it.
        """

    def url_inside(self, url: str) -> str:
        """By which URL a sandbox reaches one of `EngineSettings.host_urls`; others stay as they are. After `check`."""

    async def resolve(self, reference: str, architecture: str) -> Image:
        """Turn what a user typed ("host/repo:tag" or "host/repo@sha256:…") into a pinned image.

        Behind "docker-daemon:" stands an image of the local Docker engine's, which no registry has; it is pinned by
        its id ("docker-daemon:rie/python:3.11@sha256:…").

        Raises ImageNotFound, ImageAccessDenied, ImageInvalid, RegistryUnavailable.
        """

    async def prepare(self, image: Image, on_progress: Progress | None = None) -> None:
        """Make the image ready to start, its content verified against its digests. Idempotent.

        Raises as `resolve` does, and EngineUnavailable.
        """

    async def collect(self, keep: Iterable[Image], spare_bytes: int, recent_s: float) -> int:
        """Remove images that are neither in `keep` nor run, where this engine keeps images of its own; the bytes freed.

        Those used last stay up to so many bytes, and whatever was used or prepared in the last `recent_s` seconds.
        Raises HostFault.
        """

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Start a sandbox; returns when its first process runs, not when the front door answers.

        Raises SandboxFailed, EngineUnavailable, ImageNotFound (the image was removed since `prepare`).
        """

    async def reconcile(self) -> int:
        """Remove every sandbox, mount and directory of this owner that no live manager holds; how many there were."""

    async def close(self) -> None:
        """Destroy every sandbox that this engine started and release what it holds."""
