"""The pool of environments: finds or starts one for each invocation, keeps it warm afterwards, evicts what is idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from rie.engine.base import Engine, Mount
from rie.environments.concurrency import CONCURRENCY, TENANTS_PER_SLOT, Concurrency
from rie.environments.environment import Address, Environment, LogSink, StillBusy
from rie.environments.group import Group
from rie.environments.lifecycle import State, move
from rie.environments.plan import Limits, Start, Throttle, plan
from rie.errors import SandboxFailed
from rie.flight import land
from rie.iam.sessions import Credentials
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.invocation import Invocation, Listener, Outcome

log = logging.getLogger(__name__)

MIN_SWEEP_S = 0.05

MountsOf = Callable[[Configuration], Awaitable[tuple[Mount, ...]]]
"""What sandboxes of a configuration see of the host; makes it if it is not there. Raises HostFault."""


async def no_mounts(configuration: Configuration) -> tuple[Mount, ...]:
    """For functions that are images."""
    return ()


class Throttled(Exception):
    """No environment may run this invocation now; `reason` is one of the service's throttle reasons."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`idle_s`: how long an idle environment is kept; `variables`: for functions that don't have them otherwise.

    `freeze_s`: how long an idle one runs on before it is frozen, 0: for ever. Calls that follow each other closely then
    cost no freezing, and what is logged late is still written.
    """

    limits: Limits
    idle_s: float = 600.0
    variables: Mapping[str, str] = field(default_factory=dict)
    freeze_s: float = 0.0


CredentialsOf = Callable[[Function, Configuration], Awaitable[Credentials | None]]
"""The credentials of a function's role; None where functions get none. Raises ServiceError, HostFault."""


async def no_credentials(function: Function, configuration: Configuration) -> Credentials | None:
    """For managers that give functions none."""
    return None


class Pool:
    """Owned by the event loop; no method may be called from elsewhere."""

    def __init__(
        self,
        engine: Engine,
        settings: PoolSettings,
        open_sink: Callable[[Environment], LogSink],
        credentials_of: CredentialsOf = no_credentials,
        mounts_of: MountsOf = no_mounts,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._open_sink = open_sink
        self._credentials_of = credentials_of
        self._mounts_of = mounts_of
        self.concurrency = Concurrency(settings.limits.concurrency)
        self.on_provisioned_lost: Callable[[Environment], None] = _nobody_minds
        self._environments: dict[str, Environment] = {}
        self._groups: dict[tuple[str, str, str], Group] = {}
        self._idle: OrderedDict[str, Environment] = OrderedDict()  # those that may be evicted, the coldest first
        self._memory_mb = 0
        self._stopping: set[asyncio.Task[None]] = set()
        self._leaving: set[Environment] = set()  # being destroyed: what they have mounted is still in use
        self._finishing: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._reaper: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Pool {len(self._environments)} environments, {len(self._idle)} idle, {self._memory_mb} MB promised>"

    def __iter__(self) -> Iterator[Environment]:
        return iter(self._environments.values())

    @property
    def configurations(self) -> list[Configuration]:
        """What the environments are made from, those included that are being destroyed."""
        return [environment.configuration for environment in (*self._environments.values(), *self._leaving)]

    @property
    def busy(self) -> int:
        """How many environments run an invocation, or start for one."""
        return sum(share.busy for share in self.concurrency)

    def open(self) -> None:
        """Begin to evict what has been idle for long."""
        self._reaper = asyncio.get_running_loop().create_task(self._reap())

    async def run(
        self,
        function: Function,
        configuration: Configuration,
        invocation: Invocation,
        listener: Listener | None = None,
    ) -> Outcome:
        """Run an invocation in an environment of its own; a listener hears the answer as it is made.

        Raises Throttled, HostFault, ImageFault.
        """
        while True:
            environment = self._take(function, configuration, invocation.tenant_id)
            try:
                return await self._run_in(environment, invocation, listener)
            except StillBusy:
                self._finish_in_background(environment)

    async def _run_in(self, environment: Environment, invocation: Invocation, listener: Listener | None) -> Outcome:
        try:
            if environment.state is State.STARTING:
                await self._start(environment)
            outcome = await environment.invoke(invocation, listener)
        except StillBusy:
            raise
        except BaseException:
            # Whatever went wrong, this environment has not ended its invocation properly: nobody may reuse it.
            self._discard(environment)
            raise
        self._release(environment)
        return outcome

    def _finish_in_background(self, environment: Environment) -> None:
        """It counts as busy until its phase has ended, and takes part again then."""

        async def finish() -> None:
            try:
                await environment.finish()
            except (SandboxFailed, TimeoutError):
                environment.is_retired = True
            self._release(environment)

        task = asyncio.get_running_loop().create_task(finish())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def provision(self, function: Function, configuration: Configuration) -> Environment:
        """Start an environment that is kept for the invocations of its version, whose slots are provisioned.

        Once it has initialised it serves them, unless that went wrong: then it is gone when this returns.
        Raises Throttled (it does not fit), HostFault, ImageFault.
        """
        self._check_open()
        group = self._group(function, configuration, "")
        environment = Environment(function, configuration, is_provisioned=True)
        self._admit(environment, group, None)
        try:
            await self._start(environment)
        except BaseException:
            self._discard(environment)
            raise
        if environment.has_initialised:
            self._release(environment)
        else:
            self._discard(environment)
        return environment

    def retire(self, key: FunctionKey, version: str | None = None, keep: str | None = None) -> None:
        """Let no environment of a version (None: of any) serve again, but those of configuration `keep`.

        Idle ones are destroyed at once; busy ones end their work first.
        """
        for environment in list(self._environments.values()):
            if environment.function.key != key or version not in (None, environment.function.version):
                continue
            if environment.address.configuration_id != keep:
                self.retire_one(environment)
        for address, group in list(self._groups.items()):
            if group.share.key == key and version in (None, group.address.version) and address[0] != keep:
                del self._groups[address]

    def retire_one(self, environment: Environment) -> None:
        """As `retire`, of a single one."""
        environment.is_retired = True
        if environment.state is State.IDLE:
            self._discard(environment)

    def forget(self, key: FunctionKey, version: str | None = None) -> None:
        """A version (None: a function) is gone: its environments go, and what counts its invocations."""
        self.retire(key, version)
        if version is None:
            self.concurrency.forget(key)
        else:
            self.concurrency.forget_version(key, version)

    async def close(self) -> None:
        """Destroy every environment; invocations still running fail."""
        self._is_closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reaper
        for environment in list(self._environments.values()):
            self._discard(environment)
        for task in list(self._finishing):
            task.cancel()
        while self._stopping:
            await asyncio.wait(self._stopping)

    # -- taking and giving back -----------------------------------------------------------------------------------

    def _take(self, function: Function, configuration: Configuration, tenant_id: str) -> Environment:
        """The environment for an invocation: BUSY, or STARTING. Raises Throttled."""
        self._check_open()
        group = self._groups.get((configuration.configuration_id, function.version, tenant_id)) or self._group(
            function, configuration, tenant_id
        )
        share = group.share
        reason = share.begin(group.slots)
        if reason is not None:
            share.throttled += 1
            raise Throttled(reason)
        while (environment := group.best()) is not None and not environment.is_usable:
            self._discard(environment)  # it died, and that it has not been told yet
        now = time.monotonic()
        if environment is not None:
            self._leave_idle(environment, group)
            environment.state = move(environment.state, State.BUSY)
        else:
            environment = Environment(function, configuration, tenant_id)
            try:
                self._admit(environment, group, self._too_many_tenants(tenant_id) or share.start(now))
            except Throttled:
                share.end(group.slots)
                share.throttled += 1
                raise
        environment.taken_at = now
        return environment

    def _check_open(self) -> None:
        if self._is_closed:
            raise SandboxFailed("cannot run an invocation: the manager is shutting down")

    def _too_many_tenants(self, tenant_id: str) -> str | None:
        """A throttle reason, if no environment may be started for a tenant now."""
        if not tenant_id:
            return None
        there = sum(1 for environment in self._environments.values() if environment.address.tenant_id)
        return CONCURRENCY if there >= self._settings.limits.concurrency * TENANTS_PER_SLOT else None

    def _admit(self, environment: Environment, group: Group, refusal: str | None) -> None:
        """Make room for an environment that will be started. Raises Throttled."""
        memory_mb = environment.configuration.memory_mb
        decision = plan(
            memory_mb,
            self._settings.limits.memory_mb - self._memory_mb,
            refusal,
            ((idle.environment_id, idle.configuration.memory_mb) for idle in self._idle.values()),
        )
        match decision:
            case Start(evict):
                for environment_id in evict:
                    environment.makes_room |= self._discard(self._environments[environment_id])
                environment.group = group
                self._environments[environment.environment_id] = environment
                self._memory_mb += memory_mb
            case Throttle(reason):
                raise Throttled(reason)

    async def _start(self, environment: Environment) -> None:
        await land()
        environment.credentials = await self._credentials_of(environment.function, environment.configuration)
        environment.defaults = self._settings.variables
        if environment.makes_room:
            await asyncio.wait(environment.makes_room)  # promised memory is never promised twice
        mounts = await self._mounts_of(environment.configuration)
        sink = self._open_sink(environment)
        await environment.start(self._engine, sink, lambda: self._exited(environment), mounts)

    def _group(self, function: Function, configuration: Configuration, tenant_id: str) -> Group:
        address = Address(configuration.configuration_id, function.version, tenant_id)
        found = self._groups.get(address)
        if found is None:
            found = self._groups[address] = Group(address, self.concurrency.share(function.key))
        return found

    def _release(self, environment: Environment) -> None:
        """An environment has ended its invocation, or was started for none."""
        now = environment.last_used_at = time.monotonic()
        self._give_slot_back(environment, now)
        if environment.is_retired or self._is_closed or environment.state is not State.BUSY:
            self._discard(environment)
            return
        environment.state = move(environment.state, State.IDLE)
        if not environment.is_provisioned:
            self._idle[environment.environment_id] = environment
        environment.group.add(environment)
        if self._settings.freeze_s and not environment.will_be_frozen:
            self._freeze_in(environment, self._settings.freeze_s)

    def _freeze_in(self, environment: Environment, after_s: float) -> None:
        environment.will_be_frozen = True
        asyncio.get_running_loop().call_later(after_s, self._freeze, environment)

    def _freeze(self, environment: Environment) -> None:
        environment.will_be_frozen = False
        if environment.state is not State.IDLE:
            return
        left_s = environment.last_used_at + self._settings.freeze_s - time.monotonic()
        if left_s > 0:
            self._freeze_in(environment, left_s)  # it has been used meanwhile
            return
        task = asyncio.get_running_loop().create_task(environment.freeze())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    def _give_slot_back(self, environment: Environment, now: float) -> None:
        if environment.taken_at is None:
            return
        share = environment.group.share
        share.end(environment.group.slots)
        share.traffic.note(now, now - environment.taken_at)
        environment.taken_at = None

    def _leave_idle(self, environment: Environment, group: Group) -> None:
        group.remove(environment)
        self._idle.pop(environment.environment_id, None)

    def _discard(self, environment: Environment) -> set[asyncio.Task[None]]:
        """Forget an environment and destroy it in the background. Its memory is free once that task is done."""
        if self._environments.pop(environment.environment_id, None) is None:
            return set()
        if environment.state is State.IDLE:
            self._leave_idle(environment, environment.group)
        self._give_slot_back(environment, time.monotonic())
        self._leaving.add(environment)
        task = asyncio.get_running_loop().create_task(self._stop(environment))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        if environment.is_provisioned:
            self.on_provisioned_lost(environment)
        return {task}

    async def _stop(self, environment: Environment) -> None:
        try:
            await environment.stop()
        finally:
            self._leaving.discard(environment)
            self._memory_mb -= environment.configuration.memory_mb

    def _exited(self, environment: Environment) -> None:
        """The sandbox's first process is gone. A running invocation hears of it through its connection."""
        if environment.state is State.IDLE:
            log.warning("the sandbox of %r ended while idle", environment)
            self._discard(environment)
        else:
            environment.is_retired = True

    # -- eviction -------------------------------------------------------------------------------------------------

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(max(MIN_SWEEP_S, self._until_next_eviction()))
            now = time.monotonic()
            for environment in list(self._idle.values()):
                if now - environment.last_used_at < self._settings.idle_s:
                    break  # the coldest come first
                self._discard(environment)

    def _until_next_eviction(self) -> float:
        for environment in self._idle.values():
            return environment.last_used_at + self._settings.idle_s - time.monotonic()
        return min(self._settings.idle_s, 1.0)


def _nobody_minds(_: Environment) -> None:
    """Nothing was provisioned, so nothing can be lost."""
