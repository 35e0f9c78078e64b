"""The pool of environments: finds or starts one for each invocation, keeps it warm afterwards, evicts what is idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from pathlib import Path

from rie.engine.base import Engine
from rie.environments.answers import init_failed
from rie.environments.arrivals import Book, Caller
from rie.environments.concurrency import CONCURRENCY, TENANTS_PER_SLOT, Concurrency
from rie.environments.environment import Address, Environment, StillBusy
from rie.environments.freezer import Freezer
from rie.environments.group import Group, coldest
from rie.environments.keep_alive import KeepAlive
from rie.environments.keeper import Keeper
from rie.environments.keeper import Start as StartAhead
from rie.environments.lifecycle import State, move
from rie.environments.log_reader import LogSink
from rie.environments.plan import Start, Throttle, Throttled, plan
from rie.environments.pool_settings import (
    CredentialsOf,
    MountsOf,
    PoolSettings,
    SnapshotOf,
    no_credentials,
    no_mounts,
    no_snapshots,
)
from rie.environments.room import Room
from rie.errors import RieError, SandboxFailed
from rie.flight import land
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.invocation import Invocation, Listener, Outcome

log = logging.getLogger(__name__)

STARTS_AHEAD = 2  # at a time: requests, which wait, have the machine first
MANY_GROUPS = 4_096  # from here on those without an environment are forgotten


class Pool:
    """Owned by the event loop; no method may be called from elsewhere."""

    def __init__(
        self,
        engine: Engine,
        settings: PoolSettings,
        open_sink: Callable[[Environment], LogSink],
        credentials_of: CredentialsOf = no_credentials,
        mounts_of: MountsOf = no_mounts,
        snapshot_of: SnapshotOf = no_snapshots,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._open_sink = open_sink
        self._credentials_of = credentials_of
        self._mounts_of = mounts_of
        self._snapshot_of = snapshot_of
        self.concurrency = Concurrency(settings.limits.concurrency)
        self.on_provisioned_lost: Callable[[Environment], None] = _nobody_minds
        self._environments: dict[str, Environment] = {}
        self._groups: dict[tuple[str, str, str], Group] = {}
        self._idle: dict[str, Environment] = {}  # those that may be evicted
        self._ahead: dict[str, Environment] = {}  # being started ahead of any call; they may be, too
        self._ahead_turn = asyncio.Semaphore(STARTS_AHEAD)
        self._room = Room(settings.limits.memory_mb)
        self.book = Book()
        keep_alive = KeepAlive[Address, tuple[Function, Configuration]](settings.idle_s, is_learned=settings.is_learned)
        self._keeper = Keeper(keep_alive, self._let_go, self._start_ahead)
        self._stopping: set[asyncio.Task[None]] = set()
        self._leaving: set[Environment] = set()  # being destroyed: what they have mounted is still in use
        self._finishing: set[asyncio.Task[None]] = set()
        self._freezer = Freezer(settings.freeze_s)
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Pool {len(self._environments)} environments, {len(self._idle)} idle, {self.held_mb} MB promised>"

    def __iter__(self) -> Iterator[Environment]:
        return iter(self._environments.values())

    @property
    def configurations(self) -> list[Configuration]:
        """What the environments are made from, those included that are being destroyed."""
        return [environment.configuration for environment in (*self._environments.values(), *self._leaving)]

    @property
    def held_mb(self) -> int:
        """The memory that is promised to environments, those included that are being destroyed."""
        return self._room.held_mb

    @property
    def busy(self) -> int:
        """How many environments run an invocation, or start for one."""
        return sum(share.busy for share in self.concurrency)

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
        if environment.is_ahead and environment.invocations == 1:
            return replace(outcome, init_ms=None)  # the report has it; but nobody has waited for it
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

    async def take_snapshot(self, function: Function, configuration: Configuration, directory: Path) -> None:
        """Have an environment initialise and be written down in `directory`, which is not there yet.

        Raises InitFailed, Throttled (it does not fit), HostFault, ImageFault.
        """
        self._check_open()
        environment = Environment(function, configuration, is_template=True)
        self._admit(environment, self._group(function, configuration, ""), None)
        try:
            await self._start(environment)
            if not environment.has_initialised:
                raise init_failed(environment.init_error)
            await environment.take_snapshot(directory)
        finally:
            self._discard(environment)

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
        self._keeper.forget(lambda address: address not in self._groups)

    def retire_one(self, environment: Environment) -> None:
        """As `retire`, of a single one."""
        environment.is_retired = True
        if environment.state is State.IDLE:
            self._discard(environment)

    def forget(self, key: FunctionKey, version: str | None = None) -> None:
        """A version (None: a function) is gone: its environments go, and what counts its invocations."""
        self.retire(key, version)
        self.book.forget(key, version)
        if version is None:
            self.concurrency.forget(key)
        else:
            self.concurrency.forget_version(key, version)

    async def close(self) -> None:
        """Destroy every environment; invocations still running fail."""
        self._is_closed = True
        self._keeper.close()
        for environment in list(self._environments.values()):
            self._discard(environment)
        self._freezer.close()
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
        if not environment.is_provisioned:
            group.arrivals.begin(now)
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

    def _admit(self, environment: Environment, group: Group, refusal: str | None, used_at: float = inf) -> None:
        """Make room for an environment that will be started, by what was last used before. Raises Throttled."""
        memory_mb = environment.configuration.memory_mb
        match plan(memory_mb, self._room.free_mb, refusal, self._evictable(used_at)):
            case Start(evict):
                for environment_id in evict:
                    self._discard(self._environments[environment_id])
                environment.group = group
                self._environments[environment.environment_id] = environment
                if not self._room.promise(memory_mb):
                    environment.makes_room = set(self._stopping)
            case Throttle(reason):
                raise Throttled(reason)

    def _evictable(self, used_before: float) -> Iterator[tuple[str, int]]:
        """What may be evicted, the coldest first; sorted only if it comes to that."""
        yield from coldest((*self._idle.values(), *(self._ahead.values() if used_before == inf else ())), used_before)

    async def _start(self, environment: Environment) -> None:
        await land()
        environment.credentials = await self._credentials_of(environment.function, environment.configuration)
        environment.defaults = self._settings.variables
        if not environment.is_template:
            environment.snapshot = self._snapshot_of(environment.function, environment.configuration)
        if environment.makes_room:
            await asyncio.wait(environment.makes_room)  # promised memory is never promised twice
        mounts = await self._mounts_of(environment.configuration)
        sink = self._open_sink(environment)
        await environment.start(self._engine, sink, lambda: self._exited(environment), mounts)

    def _group(self, function: Function, configuration: Configuration, tenant_id: str) -> Group:
        address = Address(configuration.configuration_id, function.version, tenant_id)
        found = self._groups.get(address)
        if found is None:
            arrivals = self.book.of(Caller(function.key, function.version, tenant_id))
            found = Group(address, self.concurrency.share(function.key), arrivals)
            if len(self._groups) >= MANY_GROUPS:
                used = {each.address for each in self._environments.values()} | self._keeper.places
                self._groups = {each: group for each, group in self._groups.items() if each in used}
            self._groups[address] = found
        return found

    def _release(self, environment: Environment) -> None:
        """An environment has ended its invocation, or was started for none."""
        now = environment.last_used_at = time.monotonic()
        count = self._give_slot_back(environment, now)
        if self._is_over(environment):
            self._discard(environment)
            return
        if count:
            self._keeper.note_idle(environment, environment.group.arrivals, count, now)
        self._rest(environment)

    def _is_over(self, environment: Environment) -> bool:
        return environment.is_retired or self._is_closed or environment.state is not State.BUSY

    def _rest(self, environment: Environment) -> None:
        environment.state = move(environment.state, State.IDLE)
        if not environment.is_provisioned:
            self._idle[environment.environment_id] = environment
        environment.group.add(environment)
        self._freezer.watch(environment)

    def _give_slot_back(self, environment: Environment, now: float) -> int:
        """How many of its group's environments that were not provisioned were busy with it; 0 if it had no slot."""
        if environment.taken_at is None:
            return 0
        group = environment.group
        group.share.end(group.slots)
        group.share.traffic.note(now, now - environment.taken_at)
        environment.taken_at = None
        return 0 if environment.is_provisioned else group.arrivals.end(now)

    def _leave_idle(self, environment: Environment, group: Group) -> None:
        group.remove(environment)
        self._idle.pop(environment.environment_id, None)
        self._keeper.note_taken(environment)

    def _discard(self, environment: Environment) -> None:
        """Forget an environment and destroy it in the background. Its memory is free once that is done."""
        if self._environments.pop(environment.environment_id, None) is None:
            return
        environment.is_retired = True
        self._ahead.pop(environment.environment_id, None)
        if environment.state is State.IDLE:
            self._leave_idle(environment, environment.group)
        self._give_slot_back(environment, time.monotonic())
        self._leaving.add(environment)
        self._room.leave(environment.configuration.memory_mb)
        task = asyncio.get_running_loop().create_task(self._stop(environment))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        if environment.is_provisioned:
            self.on_provisioned_lost(environment)

    async def _stop(self, environment: Environment) -> None:
        try:
            if environment.starting is not None:
                environment.starting.cancel()
                await asyncio.wait({environment.starting})
            await environment.stop()
        finally:
            self._leaving.discard(environment)
            self._room.give_back(environment.configuration.memory_mb)

    def _exited(self, environment: Environment) -> None:
        """The sandbox's first process is gone. A running invocation hears of it through its connection."""
        if environment.state is State.IDLE:
            log.warning("the sandbox of %r ended while idle", environment)
            self._discard(environment)
        else:
            environment.is_retired = True

    # -- when nothing calls ---------------------------------------------------------------------------------------

    def _let_go(self, environment_id: str) -> None:
        if environment_id in self._idle:
            self._discard(self._idle[environment_id])

    def _start_ahead(self, start: StartAhead) -> None:
        """Start an environment before the call that is expected, if it takes nothing from anybody.

        It is as cold as what it stands for: requests evict it, even while it starts, before what was used since.
        """
        group = self._groups.get(start.slot.place)
        if group is None or self._is_closed or len(group.warm) + group.arrivals.busy >= start.slot.needed:
            return
        environment = Environment(*start.model, group.address.tenant_id, is_ahead=True)
        environment.last_used_at = start.used_at
        with contextlib.suppress(Throttled):
            self._admit(environment, group, self._too_many_tenants(group.address.tenant_id), start.used_at)
            self._ahead[environment.environment_id] = environment
            environment.starting = asyncio.get_running_loop().create_task(self._make_ready(environment, start))

    async def _make_ready(self, environment: Environment, start: StartAhead) -> None:
        try:
            async with self._ahead_turn:
                await self._start(environment)
        except Exception as error:
            unexpected = None if isinstance(error, RieError) else error
            log.warning("cannot start %r ahead of its next call: %s", environment, error, exc_info=unexpected)
        finally:
            environment.starting = None
            self._ahead.pop(environment.environment_id, None)
        if self._is_over(environment) or not environment.has_initialised:
            self._discard(environment)
        else:
            self._rest(environment)
            self._keeper.note_ready(environment, start)


def _nobody_minds(_: Environment) -> None:
    """Nothing was provisioned, so nothing can be lost."""
