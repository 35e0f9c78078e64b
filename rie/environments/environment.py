"""One execution environment: a sandbox that runs one configuration of a function, one invocation at a time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson

from bootstrap import wire
from bootstrap.faults import error_body
from bootstrap.output import billed_ms
from rie.engine.base import Engine, Mount, Sandbox, SandboxSpec
from rie.environments.answers import how_it_ended, outcome_of, restore_failed
from rie.environments.command import command_of
from rie.environments.door import Door, DoorAnswer
from rie.environments.lifecycle import State, move
from rie.environments.log_reader import LogReader, LogSink
from rie.environments.overdue import overdue_lines, overdue_report
from rie.environments.variables import variables_for
from rie.errors import HostFault, ImageNotFound, SandboxFailed
from rie.iam.sessions import Credentials
from rie.limits.share import cpus
from rie.logs.names import log_stream
from rie.model.function import Configuration, Function
from rie.model.invocation import Invocation, Listener, Outcome

if TYPE_CHECKING:
    from rie.environments.group import Group

log = logging.getLogger(__name__)

# AWS limits; the bootstrap enforces them. The second one is at least the function's own timeout.
INIT_LIMIT_S = 10.0
PROVISIONED_INIT_LIMIT_S = 130.0
RESTORE_LIMIT_S = 10.0
# How much longer than its own limits the bootstrap may take before the sandbox counts as stuck and is destroyed.
MARGIN_S = 3.0
CREDENTIALS_MARGIN_S = 60.0
DESTROY_AGAIN_AFTER_S = (0.5, 2.0, 5.0)
LOG_READ = 65_536
# How long lines may lie before they are read, outside of an invocation's end: each wake-up for one costs as much as a
# tenth of a warm invocation. Who writes more than a few lines meanwhile is read without a pause.
LOG_PAUSE_S = 0.02
LOG_FLOOD = 8_192
SETTLE_S = 0.1  # that the bootstrap may take to write its log, and to see a connection close
TAKES = 3
SNAP_START = "snap-start"
LAST_READS = 64  # of the log of a sandbox that ends: more than a pipe and the bootstrap's pause hold
# Seconds that an invocation waits for the runtime's next poll, which comes in a fraction of a millisecond unless
# somebody works on after the answer; then another environment is the quicker way. Not so for the first invocation: an
# init that has failed is repeated in it once all of it is down, and would fail elsewhere, too.
PATIENCE = f"{wire.PATIENCE}: 0.05\r\n"


class StillBusy(Exception):
    """The environment has not finished its last invocation, and did not begin this one."""


class Address(NamedTuple):
    """Which environments can stand in for each other: same configuration (of one function), version and tenant."""

    configuration_id: str
    version: str
    tenant_id: str = ""


class Environment:
    """`start`, then `invoke` as often as wanted, then `stop`. Times are monotonic seconds.

    `is_provisioned`: started ahead of any invocation, for provisioned concurrency; `is_ahead`: because one is expected;
    `is_template`: for a snapshot.
    """

    def __init__(
        self,
        function: Function,
        configuration: Configuration,
        tenant_id: str = "",
        *,
        is_provisioned: bool = False,
        is_template: bool = False,
        is_ahead: bool = False,
    ) -> None:
        self.environment_id = uuid.uuid4().hex
        self.function = function
        self.configuration = configuration
        self.address = Address(configuration.configuration_id, function.version, tenant_id)
        self.is_provisioned = is_provisioned
        self.is_template = is_template
        self.snapshot: Path | None = None  # that it is made from, set before it starts
        self.init_error = ""
        self.is_ahead = is_ahead
        self.has_initialised = False  # and well; if not, its first invocation begins with another init
        self.log_stream = log_stream(function, configuration, self.environment_id)
        self.state = State.STARTING
        self.started_at = time.monotonic()
        self.last_used_at = self.started_at
        self.taken_at: float | None = None  # since when it takes a slot
        self.group: Group  # the pool's
        self.invocations = 0
        self.max_memory_mb = 0
        self.is_retired = False  # it must not serve again
        self.will_be_frozen = False  # unless it is used again soon
        self.credentials: Credentials | None = None  # of its role, set before it starts
        self.defaults: Mapping[str, str] = {}  # variables, where neither the image nor the user has others
        self.makes_room: set[asyncio.Task[None]] = set()  # evictions that must end before it starts
        self.starting: asyncio.Task[None] | None = None  # the pool's, if nobody waits for it
        self._is_frozen = False
        self._sandbox: Sandbox | None = None
        self._door: Door | None = None
        self._sink: LogSink | None = None
        self._log: LogReader | None = None
        self._heads = tuple(
            f"POST {prefix}{function.key.name}{suffix} HTTP/1.1\r\nHost: sandbox\r\n"
            for prefix, suffix in (
                (wire.INVOKE_PREFIX, wire.INVOKE_SUFFIX),
                (wire.STREAM_PREFIX, wire.STREAM_SUFFIX),
            )
        )

    def __repr__(self) -> str:
        return f"<Environment {self.environment_id[:8]} {self.function.key.name} {self.state.value}>"

    async def start(
        self, engine: Engine, sink: LogSink, on_exit: Callable[[], None], mounts: tuple[Mount, ...] = ()
    ) -> None:
        """Make the sandbox and wait for the end of its init phase, however it ended. Raises HostFault, ImageFault.

        A failed init is not an error here: the first invocation repeats it and tells its caller (spec §3.6).
        """
        self._sink = sink
        self._sandbox = await self._start_sandbox(engine, mounts)
        self._log = LogReader(self._sandbox.log_fd, sink)
        self._log.open()
        self._sandbox.on_exit(on_exit)
        self.state = move(self.state, State.INITIALISING)
        door = await self._sandbox.connect(Door)
        assert isinstance(door, Door)
        self._door = door
        door.on_lost(on_exit)
        status, self.init_error = how_it_ended(await self._begin(door))
        self.has_initialised = status == "success"
        if self.snapshot is not None and status != "success":
            raise restore_failed(status, self.init_error)
        await self._sandbox.limit_cpu()
        self.state = move(self.state, State.BUSY)

    async def _begin(self, door: Door) -> DoorAnswer:
        """Have it initialise, or go on from its snapshot; the answer when that has ended."""
        within_s = self._init_limit_s + MARGIN_S
        head, body = _ask(wire.INIT_PATH), b""
        if self.snapshot is not None:
            within_s = RESTORE_LIMIT_S + MARGIN_S
            head, body = f"POST {wire.RESTORE_PATH} HTTP/1.1\r\nHost: sandbox\r\n", self._news()
        try:
            answer = await door.request(head, body, within_s)
        except TimeoutError:
            raise SandboxFailed(f"cannot initialise {self!r}: no word within {within_s} s") from None
        if answer.status != 200:
            raise SandboxFailed(f"cannot initialise {self!r}: the front door answered {answer.status}")
        return answer

    def _news(self) -> bytes:
        """What is another in each environment that is made from one snapshot."""
        return orjson.dumps({"logStream": self.log_stream, "credentials": self._container_credentials()})

    def _container_credentials(self) -> str:
        """As SDKs fetch them in containers; "" where the function gets none."""
        return "" if self.credentials is None else self.credentials.document()

    async def take_snapshot(self, directory: Path) -> None:
        """Write down what has initialised, and end it; `stop` it afterwards. Raises SandboxFailed, HostFault."""
        assert self._sandbox is not None and self._door is not None and self._log is not None
        self._door.close()  # a connection can't be written down
        await asyncio.sleep(SETTLE_S)
        for attempt in range(TAKES):
            self._log.drain()  # what lies in the pipe would be in every copy's log
            try:
                await self._sandbox.take_snapshot(directory)
                return
            except SandboxFailed:  # maybe it has not seen yet that the connection is closed
                if attempt == TAKES - 1:
                    raise
            await asyncio.sleep(SETTLE_S)

    @property
    def _init_limit_s(self) -> float:
        if not self.is_provisioned and not self.is_template:
            return INIT_LIMIT_S
        return max(PROVISIONED_INIT_LIMIT_S, float(self.configuration.timeout_s))

    async def _start_sandbox(self, engine: Engine, mounts: tuple[Mount, ...]) -> Sandbox:
        spec = self._spec(mounts)
        try:
            return await engine.start(spec)
        except ImageNotFound as error:
            log.warning("%s; it will be pulled again", error)
            await engine.prepare(spec.image)
            return await engine.start(spec)
        except SandboxFailed as error:
            if self.snapshot is None:
                raise
            log.warning("%s; %r initialises instead", error, self)
            self.snapshot = None
            return await engine.start(self._spec(mounts))

    async def finish(self) -> None:
        """Wait until the last invocation's phase has ended. Raises SandboxFailed, TimeoutError."""
        assert self._door is not None
        await self._door.request(_ask(wire.IDLE_PATH), b"", self.configuration.timeout_s + MARGIN_S)

    async def freeze(self) -> None:
        """Have its processes stand still, as the service does between invocations, once the last phase has ended and
        what it logged has been read.

        Nothing if it has begun another invocation by then, or can't be asked.
        """
        assert self._sandbox is not None and self._log is not None
        served = self.invocations
        try:
            # Through a door of its own, so that an invocation does not have to wait behind the question.
            door = await self._sandbox.connect(Door)
            assert isinstance(door, Door)
            try:
                await door.request(_ask(wire.IDLE_PATH), b"", self.configuration.timeout_s + MARGIN_S)
            finally:
                door.close()
        except (SandboxFailed, TimeoutError):
            return
        await self._log.delivered()
        if self.state is State.IDLE and self.invocations == served:
            self._is_frozen = True
            await self._sandbox.freeze()

    async def invoke(self, invocation: Invocation, listener: Listener | None = None) -> Outcome:
        """Run one invocation to its answer, which a listener hears as it is made, if the runtime makes it in pieces.

        Raises SandboxFailed when the sandbox died; then: `stop`.

        Raises StillBusy, having run nothing, if the phase of the one before does not end: the runtime or an extension
        may work on after the answer.
        """
        assert self._door is not None
        if self._is_frozen and self._sandbox is not None:
            self._is_frozen = False
            await self._sandbox.thaw()
        head = self._heads[listener is not None] + (
            f"{wire.REQUEST_ID}: {invocation.request_id}\r\n"
            f"{wire.FUNCTION_ARN}: {invocation.function_arn}\r\n"
            f"{wire.TRACE_ID}: {invocation.trace_id}\r\n"
        )
        if self.invocations:
            head += PATIENCE
        if invocation.client_context:
            head += f"{wire.CLIENT_CONTEXT}: {invocation.client_context}\r\n"
        if invocation.tenant_id:
            head += f"{wire.TENANT_ID}: {invocation.tenant_id}\r\n"
        if invocation.wants_log:
            head += f"{wire.LOG_TYPE}: Tail\r\n"
        within_s = self.configuration.timeout_s + MARGIN_S
        try:
            answer = await self._door.request(head, invocation.payload, within_s, listener)
        except TimeoutError:
            log.warning("%r did not end its invocation within %.0f s; it will be destroyed", self, within_s)
            return self._overdue(invocation)
        if answer.status == 409:
            raise StillBusy
        if answer.status != 200:
            raise SandboxFailed(f"cannot invoke {self!r}: {answer.status} {answer.body[:200]!r}")
        self.invocations += 1
        try:
            outcome = outcome_of(answer, self.function.version, invocation.trace_id)
        except ValueError:
            raise SandboxFailed(f"cannot invoke {self!r}: its report makes no sense") from None
        self.max_memory_mb = max(self.max_memory_mb, outcome.max_memory_mb)
        return outcome

    def _overdue(self, invocation: Invocation) -> Outcome:
        """The function has starved even the bootstrap of CPU or memory: say what the bootstrap would have said."""
        self.is_retired = True
        message = f"Task timed out after {self.configuration.timeout_s:.2f} seconds"
        used_mb = self.configuration.memory_mb
        report = overdue_report(invocation.request_id, self.configuration)
        lines = overdue_lines(report, message, self.configuration).encode()
        if self._sink is not None:
            self._sink.write(lines)
        return Outcome(
            payload=error_body("Sandbox.Timedout", f"RequestId: {invocation.request_id} Error: {message}"),
            executed_version=self.function.version,
            function_error="Unhandled",
            log_tail=b64encode(lines).decode() if invocation.wants_log else None,
            duration_ms=report.duration_ms,
            billed_ms=billed_ms(report),
            max_memory_mb=used_mb,
            status="timeout",
            trace_id=invocation.trace_id,
            error_type="Sandbox.Timedout",
        )

    @property
    def is_usable(self) -> bool:
        """Whether its front door is still open, and its credentials last for another invocation."""
        return self._door is not None and self._door.is_open and not self.is_expired

    @property
    def is_expired(self) -> bool:
        """Whether its role's credentials would end in the middle of an invocation."""
        if self.credentials is None or self.credentials.expires_at is None:
            return False
        return time.time() + credentials_needed_s(self.configuration) > self.credentials.expires_at

    async def stop(self) -> None:
        """Destroy the sandbox. Never raises: what the engine can't remove now, the next reconciliation will."""
        if self.state in (State.STOPPING, State.GONE):
            return
        self.state = move(self.state, State.STOPPING)
        if self._door is not None:
            self._door.close()
        if self._log is not None:
            self._log.close()
        elif self._sink is not None:
            self._sink.close()
        if self._sandbox is not None:
            await self._destroy(self._sandbox)
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

    def _spec(self, mounts: tuple[Mount, ...]) -> SandboxSpec:
        configuration = self.configuration
        image, overrides = configuration.image, configuration.image_config
        assert image is not None, "what serves has been deployed"
        is_copied = self._initialization_type == SNAP_START
        return SandboxSpec(
            sandbox_id=self.environment_id,
            image=image,
            argv=command_of(configuration, image),
            working_directory=overrides.working_directory or image.working_directory or "/var/task",
            environment={
                **self.defaults,
                **variables_for(self.function, configuration, self.log_stream, self._initialization_type),
                **(self.credentials.variables() if self.credentials is not None and not is_copied else {}),
            },
            memory_mb=configuration.memory_mb,
            ephemeral_storage_mb=configuration.ephemeral_storage_mb,
            cpus=cpus(configuration.memory_mb),
            mounts=mounts,
            network=_network(configuration),
            credentials=self._container_credentials() if is_copied else "",
            is_template=self.is_template,
            snapshot=self.snapshot,
            labels={"function": self.function.key.arn, "version": self.function.version},
        )

    @property
    def _initialization_type(self) -> str:
        if self.is_template or self.snapshot is not None:
            return SNAP_START
        return "provisioned-concurrency" if self.is_provisioned else "on-demand"


def _network(configuration: Configuration) -> str | None:
    """The private network that a function's VPC settings mean: those with the same ones share it."""
    vpc = configuration.vpc
    if vpc is None or not vpc.subnet_ids:
        return None
    text = f"{','.join(sorted(vpc.subnet_ids))};{','.join(sorted(vpc.security_group_ids))}"
    return f"vpc-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def credentials_needed_s(configuration: Configuration) -> float:
    """How long credentials must last so that an invocation that begins now sees no end of them."""
    return configuration.timeout_s + CREDENTIALS_MARGIN_S


def _ask(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: sandbox\r\n"
