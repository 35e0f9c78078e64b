"""An engine without isolation, in this process: so that what stands on engines can be tested anywhere, in milliseconds.

Images are any valid references, and need no registry. The last part of the repository chooses the function
(rie.engine.stub_functions): echo, sleep, linger, fail, crash, slow-init, fail-init, environment. The first part can
name a fault: missing/… and denied/… fail to resolve, broken/… fails to prepare, unstartable/… fails to start.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from rie.engine import stub_functions
from rie.engine.base import LOCAL, Progress, SandboxSpec
from rie.engine.stub_door import Door
from rie.errors import EngineUnavailable, ImageAccessDenied, ImageInvalid, ImageNotFound, SandboxFailed
from rie.model.image import Image
from rie.rootfs import manifest
from rie.rootfs.reference import Reference, parse

DEFAULT_TIMEOUT_S = 3.0


class StubSandbox:
    """One sandbox: a function, a pipe for its log, and connections made of socket pairs.

    For tests: `is_cpu_limited` says whether `limit_cpu` was called, `is_frozen` what was
    asked for last, `crash` ends the sandbox as if it had died.
    """

    def __init__(self, spec: SandboxSpec, repository: str, forget: Callable[[str], None]) -> None:
        self.sandbox_id = spec.sandbox_id
        self.spec = spec
        self.function = stub_functions.choose(repository)
        self.version = spec.environment.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        self.timeout_s = float(spec.environment.get("AWS_LAMBDA_FUNCTION_TIMEOUT") or DEFAULT_TIMEOUT_S)
        self.is_busy = False
        self.is_cpu_limited = False
        self.is_frozen = False
        self.doors: set[Door] = set()
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._callbacks: list[Callable[[], None]] = []
        self._finished_at = 0.0
        self._has_ended = False
        self._is_destroyed = False
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        init_s = stub_functions.init_s(repository, spec.environment)
        self.init_ms = init_s * 1000 or 1.0
        is_provisioned = spec.environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "provisioned-concurrency"
        self._unreported_init_ms: float | None = None if is_provisioned else self.init_ms
        self.has_initialised = not repository.endswith("fail-init")
        self._initialised = asyncio.Event()
        self._init = self._loop.call_later(init_s, self._initialised.set)
        self.log("INIT_START Runtime Version: rie:stub\tRuntime Version ARN: \n")

    @property
    def log_fd(self) -> int:
        """See `Sandbox.log_fd`; -1 once destroyed."""
        return self._reading

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """See `Sandbox.connect`."""
        if self._has_ended:
            why = "it has been destroyed" if self._is_destroyed else "it ended with status 1"
            raise SandboxFailed(f"cannot connect to sandbox {self.sandbox_id}: {why}")
        ours, theirs = socket.socketpair()
        await self._loop.connect_accepted_socket(lambda: Door(self), theirs)
        _, protocol = await self._loop.create_unix_connection(factory, sock=ours)
        return protocol

    def work_on(self, seconds: float) -> None:
        """Be busy for a while after an answer."""
        self._finished_at = self._loop.time() + seconds

    async def finished(self) -> None:
        """Wait until that is over."""
        await asyncio.sleep(max(0.0, self._finished_at - self._loop.time()))

    async def limit_cpu(self) -> None:
        """See `Sandbox.limit_cpu`; only noted."""
        self.is_cpu_limited = True

    async def freeze(self) -> None:
        """See `Sandbox.freeze`; only noted."""
        self.is_frozen = True

    async def thaw(self) -> None:
        """See `Sandbox.thaw`."""
        self.is_frozen = False

    async def destroy(self) -> None:
        """See `Sandbox.destroy`."""
        if self._is_destroyed:
            return
        self._is_destroyed = True
        self._callbacks.clear()
        self._stop()
        for descriptor in (self._reading, self._writing):
            os.close(descriptor)
        self._reading = self._writing = -1
        self._forget(self.sandbox_id)

    def on_exit(self, callback: Callable[[], None]) -> None:
        """See `Sandbox.on_exit`; not called any more once `destroy` has begun."""
        if self._has_ended:
            self._loop.call_soon(callback)
        else:
            self._callbacks.append(callback)

    def crash(self) -> None:
        """End, as when the first process is killed: connections break, callbacks are called."""
        if self._has_ended:
            return
        self._stop()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._loop.call_soon(callback)

    def log(self, lines: str) -> None:
        """Write to the log; dropped when nobody reads and the pipe is full."""
        if self._writing >= 0:
            with suppress(BlockingIOError):
                os.write(self._writing, lines.encode())

    async def initialised(self) -> None:
        """Wait for the end of the init phase."""
        await self._initialised.wait()

    def take_init_ms(self) -> float | None:
        """How long init took, for the first report only."""
        taken, self._unreported_init_ms = self._unreported_init_ms, None
        return taken

    def _stop(self) -> None:
        self._has_ended = True
        self._init.cancel()
        for door in tuple(self.doors):
            door.close()
            if self._is_destroyed:
                door.cancel()


class StubEngine:
    """Implements `rie.engine.base.Engine` in this process.

    For tests: `start_s` is how long each start takes; `sandboxes` holds those that live, by id; `prepared` the
    references that were prepared.
    """

    name = "stub"

    def __init__(self, start_s: float = 0.0) -> None:
        self.start_s = start_s
        self.sandboxes: dict[str, StubSandbox] = {}
        self.prepared: set[str] = set()
        self.collections: list[tuple[set[str], int]] = []
        self._is_closed = False

    async def check(self) -> str:
        """See `Engine.check`."""
        return "stub, in this process, without isolation"

    def url_inside(self, url: str) -> str:
        """See `Engine.url_inside`: functions run in this process."""
        return url

    async def resolve(self, reference: str, architecture: str) -> Image:
        """See `Engine.resolve`; the digest is the sha256 of the reference."""
        target = parse(reference.removeprefix(LOCAL))
        if architecture not in manifest.PLATFORMS:
            raise ImageInvalid(reference, f"the architecture must be x86_64 or arm64, not {architecture!r}")
        fault = _fault(target)
        if fault == "missing":
            raise ImageNotFound(reference, f"registry {target.host} does not have it")
        if fault == "denied":
            raise ImageAccessDenied(reference, f"registry {target.host} refuses")
        digest = target.digest or f"sha256:{hashlib.sha256(str(target).encode()).hexdigest()}"
        return Image(
            reference=target.pinned(digest),
            digest=digest,
            architecture=architecture,
            command=("app.handler",),
            working_directory="/var/task",
            environment={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        )

    async def prepare(self, image: Image, on_progress: Progress | None = None) -> None:
        """See `Engine.prepare`."""
        if _fault(parse(image.reference)) == "broken":
            raise ImageInvalid(image.reference, "a layer does not have its digest")
        if on_progress is not None and image.reference not in self.prepared:
            on_progress(f"pulled {image.reference}")
        self.prepared.add(image.reference)

    async def collect(self, keep: Iterable[Image], spare_bytes: int, recent_s: float) -> int:
        """See `Engine.collect`; forgets what was prepared, and tells in `collections` what it was asked."""
        kept = {image.reference for image in keep}
        self.collections.append((kept, spare_bytes))
        count = len(self.prepared)
        if not spare_bytes:
            self.prepared &= kept
        return count - len(self.prepared)

    async def start(self, spec: SandboxSpec) -> StubSandbox:
        """See `Engine.start`."""
        target = parse(spec.image.reference)
        if spec.sandbox_id in self.sandboxes:
            raise SandboxFailed(f"cannot start sandbox {spec.sandbox_id}: there is one of that name")
        if _fault(target) == "unstartable":
            raise SandboxFailed(f"cannot start sandbox {spec.sandbox_id} from {spec.image.reference}: told to fail")
        await asyncio.sleep(self.start_s)
        if self._is_closed:
            raise EngineUnavailable(f"cannot start sandbox {spec.sandbox_id}: the engine is closed")
        sandbox = StubSandbox(spec, target.repository, self._drop)
        self.sandboxes[spec.sandbox_id] = sandbox
        return sandbox

    async def reconcile(self) -> int:
        """See `Engine.reconcile`; nothing of this engine outlives its process."""
        return 0

    async def close(self) -> None:
        """See `Engine.close`."""
        self._is_closed = True
        for sandbox in tuple(self.sandboxes.values()):
            await sandbox.destroy()

    def _drop(self, sandbox_id: str) -> None:
        self.sandboxes.pop(sandbox_id, None)


def _fault(target: Reference) -> str:
    return target.repository.partition("/")[0]
