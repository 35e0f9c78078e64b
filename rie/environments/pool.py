"""The pool of environments: finds or starts one for each invocation, keeps it warm afterwards, evicts what is idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rie.engine.base import Engine
from rie.environments.environment import Address, Environment, LogSink, StillBusy
from rie.environments.lifecycle import State, move
from rie.environments.plan import Limits, Load, Reuse, Start, Throttle, plan
from rie.errors import SandboxFailed
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.invocation import Invocation, Outcome

log = logging.getLogger(__name__)

MIN_SWEEP_S = 0.05


class Throttled(Exception):
    """No environment may run this invocation now; `reason` is one of the service's throttle reasons."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`idle_s`: how long an idle environment is kept; `freeze_s`: how long it runs on before it is frozen, 0: for ever.

    Calls that follow each other closely then cost no freezing, and what is logged late is still written.
    """

    limits: Limits
    idle_s: float = 600.0
    freeze_s: float = 0.0


class Pool:
    """Owned by the event loop; no method may be called from elsewhere."""

    def __init__(
        self,
        engine: Engine,
        settings: PoolSettings,
        open_sink: Callable[[Environment], LogSink],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._open_sink = open_sink
        self._environments: dict[str, Environment] = {}
        # Idle ones: by address the warmest last, and all of them the coldest first.
        self._warm: dict[Address, list[Environment]] = {}
        self._idle: OrderedDict[str, Environment] = OrderedDict()
        self._memory_mb = 0
        self._stopping: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._reaper: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Pool {len(self._environments)} environments, {len(self._idle)} idle, {self._memory_mb} MB promised>"

    def __iter__(self) -> Iterator[Environment]:
        return iter(self._environments.values())

    @property
    def busy(self) -> int:
        """How many environments run an invocation, or start for one."""
        return len(self._environments) - len(self._idle)

    def open(self) -> None:
        """Begin to evict what has been idle for long."""
        self._reaper = asyncio.get_running_loop().create_task(self._reap())

    async def run(self, function: Function, configuration: Configuration, invocation: Invocation) -> Outcome:
        """Run an invocation in an environment of its own. Raises Throttled, HostFault, ImageFault."""
        while True:
            environment = self._take(function, configuration)
            try:
                return await self._run_in(environment, invocation)
            except StillBusy:
                self._finish_in_background(environment)

    async def _run_in(self, environment: Environment, invocation: Invocation) -> Outcome:
        try:
            if environment.state is State.STARTING:
                if environment.makes_room:
                    await asyncio.wait(environment.makes_room)  # promised memory is never promised twice
                await environment.start(self._engine, self._open_sink(environment), lambda: self._exited(environment))
            outcome = await environment.invoke(invocation)
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

    def retire(self, key: FunctionKey, version: str | None = None, keep: str | None = None) -> None:
        """Let no environment of a version (None: of any) serve again, but those of configuration `keep`.

        Idle ones are destroyed at once; busy ones end their work first.
        """
        for environment in list(self._environments.values()):
            if environment.function.key != key or version not in (None, environment.function.version):
                continue
            if environment.address.configuration_id != keep:
                environment.is_retired = True
                if environment.state is State.IDLE:
                    self._discard(environment)

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

    def _take(self, function: Function, configuration: Configuration) -> Environment:
        """The environment for an invocation: BUSY, or STARTING. Raises Throttled."""
        if self._is_closed:
            raise SandboxFailed("cannot run an invocation: the manager is shutting down")
        address = Address(function.key.arn, function.version, configuration.configuration_id)
        while (warm := self._warm.get(address)) and not warm[-1].is_usable:
            self._discard(warm[-1])  # it died, and that it has not been told yet
        decision = plan(
            configuration.memory_mb,
            warm[-1].environment_id if warm else None,
            Load(self.busy, self._memory_mb),
            self._settings.limits,
            ((e.environment_id, e.configuration.memory_mb) for e in self._idle.values()),
        )
        match decision:
            case Reuse(environment_id):
                environment = self._environments[environment_id]
                self._leave_idle(environment)
                environment.state = move(environment.state, State.BUSY)
                return environment
            case Start(evict):
                environment = Environment(function, configuration)
                for environment_id in evict:
                    environment.makes_room |= self._discard(self._environments[environment_id])
                self._environments[environment.environment_id] = environment
                self._memory_mb += configuration.memory_mb
                return environment
            case Throttle(reason):
                raise Throttled(reason)

    def _release(self, environment: Environment) -> None:
        environment.last_used_at = time.monotonic()
        if environment.is_retired or self._is_closed or environment.state is not State.BUSY:
            self._discard(environment)
            return
        environment.state = move(environment.state, State.IDLE)
        self._idle[environment.environment_id] = environment
        self._warm.setdefault(environment.address, []).append(environment)
        if self._settings.freeze_s:
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.freeze_s, self._freeze, environment, environment.last_used_at)

    def _freeze(self, environment: Environment, idle_since: float) -> None:
        if environment.state is not State.IDLE or environment.last_used_at != idle_since:
            return
        task = asyncio.get_running_loop().create_task(environment.freeze())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    def _leave_idle(self, environment: Environment) -> None:
        if self._idle.pop(environment.environment_id, None) is None:
            return
        warm = self._warm[environment.address]
        warm.remove(environment)
        if not warm:
            del self._warm[environment.address]

    def _discard(self, environment: Environment) -> set[asyncio.Task[None]]:
        """Forget an environment and destroy it in the background. Its memory is free once that task is done."""
        if self._environments.pop(environment.environment_id, None) is None:
            return set()
        self._leave_idle(environment)
        task = asyncio.get_running_loop().create_task(self._stop(environment))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        return {task}

    async def _stop(self, environment: Environment) -> None:
        try:
            await environment.stop()
        finally:
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
