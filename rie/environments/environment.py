"""One execution environment: a sandbox that runs one configuration of a function, one invocation at a time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
import uuid
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bootstrap import wire
from bootstrap.commands import ReportEnd
from bootstrap.events import Invocation as Called
from bootstrap.faults import error_body
from bootstrap.output import billed_ms, end_lines, timestamp
from rie.engine.base import Engine, Sandbox, SandboxSpec
from rie.environments.door import Door, DoorAnswer
from rie.environments.lifecycle import State, move
from rie.environments.variables import variables_for
from rie.errors import HostFault, ImageNotFound, SandboxFailed
from rie.limits.share import cpus
from rie.model.function import Configuration, Function
from rie.model.invocation import Invocation, Outcome

log = logging.getLogger(__name__)

INIT_LIMIT_S = 10.0  # AWS limit for on-demand init; the bootstrap enforces it
# How much longer than its own limits the bootstrap may take before the sandbox counts as stuck and is destroyed.
MARGIN_S = 3.0
DESTROY_AGAIN_AFTER_S = (0.5, 2.0, 5.0)
LOG_READ = 65_536
# Seconds that an invocation waits for the runtime's next poll, which comes in a fraction of a millisecond unless
# somebody works on after the answer; then another environment is the quicker way.
PATIENCE = "0.05"


class StillBusy(Exception):
    """The environment has not finished its last invocation, and did not begin this one."""


class LogSink(Protocol):
    """Where the lines of one environment go."""

    def write(self, data: bytes) -> None:
        """Take bytes as they come, lines cut anywhere."""

    def close(self) -> None:
        """No more will come."""


@dataclass(frozen=True, slots=True)
class Address:
    """Which environments can stand in for each other: same function, version and configuration."""

    arn: str
    version: str
    configuration_id: str


class Environment:
    """`start`, then `invoke` as often as wanted, then `stop`. Times are monotonic seconds."""

    def __init__(self, function: Function, configuration: Configuration) -> None:
        self.environment_id = uuid.uuid4().hex
        self.function = function
        self.configuration = configuration
        self.address = Address(function.key.arn, function.version, configuration.configuration_id)
        self.log_stream = _log_stream(function, configuration, self.environment_id)
        self.state = State.STARTING
        self.started_at = time.monotonic()
        self.last_used_at = self.started_at
        self.invocations = 0
        self.max_memory_mb = 0
        self.is_retired = False  # it must not serve again
        self.makes_room: set[asyncio.Task[None]] = set()  # evictions that must end before it starts
        self._is_frozen = False
        self._sandbox: Sandbox | None = None
        self._door: Door | None = None
        self._sink: LogSink | None = None

    def __repr__(self) -> str:
        return f"<Environment {self.environment_id[:8]} {self.function.key.name} {self.state.value}>"

    async def start(self, engine: Engine, sink: LogSink, on_exit: Callable[[], None]) -> None:
        """Make the sandbox and wait for the end of its init phase, however it ended. Raises HostFault, ImageFault.

        A failed init is not an error here: the first invocation repeats it and tells its caller (spec §3.6).
        """
        self._sink = sink
        self._sandbox = await self._start_sandbox(engine)
        asyncio.get_running_loop().add_reader(self._sandbox.log_fd, self._read_log)
        self._sandbox.on_exit(on_exit)
        self.state = move(self.state, State.INITIALISING)
        door = await self._sandbox.connect(Door)
        assert isinstance(door, Door)
        self._door = door
        door.on_lost(on_exit)
        try:
            answer = await door.request("GET", wire.INIT_PATH, [], b"", INIT_LIMIT_S + MARGIN_S)
        except TimeoutError:
            raise SandboxFailed(f"cannot initialise {self!r}: no word within {INIT_LIMIT_S + MARGIN_S} s") from None
        if answer.status != 200:
            raise SandboxFailed(f"cannot initialise {self!r}: the front door answered {answer.status}")
        await self._sandbox.limit_cpu()
        self.state = move(self.state, State.BUSY)

    async def _start_sandbox(self, engine: Engine) -> Sandbox:
        spec = self._spec()
        try:
            return await engine.start(spec)
        except ImageNotFound as error:
            log.warning("%s; it will be pulled again", error)
            await engine.prepare(spec.image)
            return await engine.start(spec)

    async def finish(self) -> None:
        """Wait until the last invocation's phase has ended. Raises SandboxFailed, TimeoutError."""
        assert self._door is not None
        await self._door.request("GET", wire.IDLE_PATH, [], b"", self.configuration.timeout_s + MARGIN_S)

    async def freeze(self) -> None:
        """Have its processes stand still, as the service does between invocations, once the last phase has ended.

        Nothing if it has begun another invocation by then, or can't be asked.
        """
        assert self._sandbox is not None
        served = self.invocations
        try:
            # Through a door of its own, so that an invocation does not have to wait behind the question.
            door = await self._sandbox.connect(Door)
            assert isinstance(door, Door)
            try:
                await door.request("GET", wire.IDLE_PATH, [], b"", self.configuration.timeout_s + MARGIN_S)
            finally:
                door.close()
        except (SandboxFailed, TimeoutError):
            return
        if self.state is State.IDLE and self.invocations == served:
            self._is_frozen = True
            await self._sandbox.freeze()

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Run one invocation to its answer. Raises SandboxFailed when the sandbox died; then: `stop`.

        Raises StillBusy, having run nothing, if the phase of the one before does not end: the runtime or an extension
        may work on after the answer.
        """
        assert self._door is not None
        if self._is_frozen and self._sandbox is not None:
            self._is_frozen = False
            await self._sandbox.thaw()
        headers = [
            (wire.REQUEST_ID, invocation.request_id),
            (wire.FUNCTION_ARN, invocation.function_arn),
            (wire.TRACE_ID, invocation.trace_id),
            (wire.PATIENCE, PATIENCE),
        ]
        if invocation.client_context:
            headers.append((wire.CLIENT_CONTEXT, invocation.client_context))
        if invocation.wants_log:
            headers.append((wire.LOG_TYPE, "Tail"))
        path = f"{wire.INVOKE_PREFIX}{self.function.key.name}{wire.INVOKE_SUFFIX}"
        within_s = self.configuration.timeout_s + MARGIN_S
        try:
            answer = await self._door.request("POST", path, headers, invocation.payload, within_s)
        except TimeoutError:
            log.warning("%r did not end its invocation within %.0f s; it will be destroyed", self, within_s)
            return self._overdue(invocation)
        if answer.status == 409:
            raise StillBusy
        if answer.status != 200:
            raise SandboxFailed(f"cannot invoke {self!r}: {answer.status} {answer.body[:200]!r}")
        self.invocations += 1
        try:
            outcome = _outcome(answer, self.function.version)
        except ValueError:
            raise SandboxFailed(f"cannot invoke {self!r}: its report makes no sense") from None
        self.max_memory_mb = max(self.max_memory_mb, outcome.max_memory_mb)
        return outcome

    def _overdue(self, invocation: Invocation) -> Outcome:
        """The function has starved even the bootstrap of CPU or memory: say what the bootstrap would have said."""
        self.is_retired = True
        message = f"Task timed out after {self.configuration.timeout_s:.2f} seconds"
        used_mb = self.configuration.memory_mb
        duration_ms = self.configuration.timeout_s * 1e3
        report = ReportEnd(Called(invocation.request_id, b""), "timeout", duration_ms)
        lines = f"{timestamp()} {invocation.request_id} {message}\n\n{end_lines(report, used_mb, used_mb)}".encode()
        if self._sink is not None:
            self._sink.write(lines)
        return Outcome(
            payload=error_body("Sandbox.Timedout", f"RequestId: {invocation.request_id} Error: {message}"),
            executed_version=self.function.version,
            function_error="Unhandled",
            log_tail=b64encode(lines).decode() if invocation.wants_log else None,
            duration_ms=duration_ms,
            billed_ms=billed_ms(report),
            max_memory_mb=used_mb,
            status="timeout",
        )

    @property
    def is_usable(self) -> bool:
        """Whether its front door is still open."""
        return self._door is not None and self._door.is_open

    async def stop(self) -> None:
        """Destroy the sandbox. Never raises: what the engine can't remove now, the next reconciliation will."""
        if self.state in (State.STOPPING, State.GONE):
            return
        self.state = move(self.state, State.STOPPING)
        if self._door is not None:
            self._door.close()
        if self._sandbox is not None:
            with contextlib.suppress(OSError, ValueError):
                while self._read_log():
                    pass
                asyncio.get_running_loop().remove_reader(self._sandbox.log_fd)
            await self._destroy(self._sandbox)
        if self._sink is not None:
            self._sink.close()
        self.state = move(self.state, State.GONE)

    async def _destroy(self, sandbox: Sandbox) -> None:
        for pause_s in (*DESTROY_AGAIN_AFTER_S, None):
            try:
                return await sandbox.destroy()
            except HostFault as error:
                log.warning("cannot destroy the sandbox of %r: %s", self, error)
            except Exception:
                log.exception("cannot destroy the sandbox of %r", self)
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        log.error("gave up on the sandbox of %r; the next start of the manager removes it", self)
        return None

    def _read_log(self) -> bool:
        """Take one block of the log, so that others have their turn; False if none is there."""
        assert self._sandbox is not None
        assert self._sink is not None
        try:
            data = os.read(self._sandbox.log_fd, LOG_READ)
        except BlockingIOError:
            return False
        if data:
            self._sink.write(data)
        else:  # the last writer is gone
            asyncio.get_running_loop().remove_reader(self._sandbox.log_fd)
        return bool(data)

    def _spec(self) -> SandboxSpec:
        configuration = self.configuration
        image, overrides = configuration.image, configuration.image_config
        entry_point = image.entrypoint if overrides.entry_point is None else overrides.entry_point
        if entry_point[:1] == (wire.ENTRYPOINT,):
            entry_point = entry_point[1:]  # the image brings a bootstrap of its own; the engine puts ours there
        command = image.command if overrides.command is None else overrides.command
        return SandboxSpec(
            sandbox_id=self.environment_id,
            image=image,
            argv=(*entry_point, *command),
            working_directory=overrides.working_directory or image.working_directory or "/var/task",
            environment=variables_for(self.function, configuration, self.log_stream),
            memory_mb=configuration.memory_mb,
            ephemeral_storage_mb=configuration.ephemeral_storage_mb,
            cpus=cpus(configuration.memory_mb),
            network=_network(configuration),
            labels={"function": self.function.key.arn, "version": self.function.version},
        )


def _network(configuration: Configuration) -> str | None:
    """The private network that a function's VPC settings mean: those with the same ones share it."""
    vpc = configuration.vpc
    if vpc is None or not vpc.subnet_ids:
        return None
    text = f"{','.join(sorted(vpc.subnet_ids))};{','.join(sorted(vpc.security_group_ids))}"
    return f"vpc-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _log_stream(function: Function, configuration: Configuration, environment_id: str) -> str:
    """In a group of the function's own, or in one that it may share (service specification §11.1)."""
    is_own = configuration.logging.group in ("", f"/aws/lambda/{function.key.name}")
    name = "" if is_own else function.key.name
    return f"{time.strftime('%Y/%m/%d', time.gmtime())}/{name}[{function.version}]{environment_id}"


def _outcome(answer: DoorAnswer, version: str) -> Outcome:
    headers = answer.headers
    duration, billed, memory, init, status = headers.get(wire.REPORT.lower(), "0;0;0;;success").split(";")
    return Outcome(
        payload=answer.body,
        executed_version=version,
        function_error=headers.get(wire.FUNCTION_ERROR.lower()),
        log_tail=headers.get(wire.LOG_RESULT.lower()),
        duration_ms=float(duration),
        billed_ms=int(billed),
        max_memory_mb=int(memory),
        init_ms=float(init) if init else None,
        status=status,
    )
