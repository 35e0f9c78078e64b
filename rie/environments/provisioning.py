"""Provisioned concurrency: environments started ahead for a version, kept alive, and replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rie.environments.environment import Environment
from rie.environments.lifecycle import State
from rie.environments.plan import Throttled
from rie.environments.pool import Pool
from rie.errors import RieError
from rie.model.function import Function, FunctionKey

log = logging.getLogger(__name__)

IN_PROGRESS, READY, FAILED = "IN_PROGRESS", "READY", "FAILED"
INIT_FAILURE = "FUNCTION_ERROR_INIT_FAILURE"
AT_ONCE = 8  # starts of one version; the machine has other work
AGAIN_AFTER_S = (0.5, 2.0, 15.0)  # when this machine could not start one; from the last of these on it FAILED
BRIEF_S = 5.0  # one that dies sooner after its start counts as one that could not be started


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be allocated: so many environments of a version."""

    function: Function
    slots: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """How far that is: `available` environments are initialised; `reason` tells why it FAILED."""

    version: str
    requested: int
    available: int
    status: str
    reason: str | None = None


@dataclass(slots=True)
class _Provision:
    """One configuration of provisioned concurrency, by its token."""

    wanted: Wanted
    environments: dict[str, Environment] = field(default_factory=dict)  # initialised, alive
    shown: int = 0  # available ones before it moved to another version, until that has its own
    misfortunes: int = 0  # in a row
    reason: str | None = None
    is_over: bool = False
    filling: asyncio.Task[None] | None = None

    @property
    def missing(self) -> int:
        return 0 if self.is_over else self.wanted.slots - len(self.environments)


class Provisioning:
    """Owned by the event loop; only `allocation` may be called from other threads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._provisions: dict[FunctionKey, dict[str, _Provision]] = {}
        self._allocations: dict[str, Allocation] = {}
        pool.on_provisioned_lost = self._lost

    def allocation(self, token: str) -> Allocation | None:
        """How far the configuration of that token is; None if it has not been heard of yet."""
        return self._allocations.get(token)

    def apply(self, key: FunctionKey, wanted: Mapping[str, Wanted]) -> None:
        """Have this, by token, and nothing else, provisioned for a function.

        A token whose version changed moves there; one that failed is tried again only under a new token.
        """
        held = self._provisions.setdefault(key, {})
        for token in [token for token in held if token not in wanted]:
            self._end(held.pop(token))
            self._allocations.pop(token, None)
        for token, each in wanted.items():
            self._apply(held, token, each)
        self._hold_slots(key, wanted)
        for token, provision in held.items():
            self._fill_or_trim(token, provision)
        if not held:
            del self._provisions[key]

    async def close(self) -> None:
        """Give up what is being started. What is there belongs to the pool."""
        fillings = []
        for held in self._provisions.values():
            for provision in held.values():
                provision.is_over = True
                if provision.filling is not None:
                    provision.filling.cancel()
                    fillings.append(provision.filling)
        await asyncio.gather(*fillings, return_exceptions=True)

    def _apply(self, held: dict[str, _Provision], token: str, wanted: Wanted) -> None:
        before = held.get(token)
        if before is None:
            held[token] = _Provision(wanted)
            return
        old, new = before.wanted.function, wanted.function
        if old.version != new.version or old.serving != new.serving:
            held[token] = _Provision(wanted, shown=len(before.environments) or before.shown)
            self._end(before)
        else:
            before.wanted = wanted

    def _end(self, provision: _Provision) -> None:
        provision.is_over = True
        if provision.filling is not None:
            provision.filling.cancel()
        self._drop(provision, len(provision.environments))

    def _drop(self, provision: _Provision, count: int) -> None:
        """Let some go, idle ones first. They are nobody's before they end, so that nothing takes their place."""
        by_use = sorted(provision.environments.values(), key=lambda each: each.state is not State.IDLE)
        for environment in by_use[:count]:
            del provision.environments[environment.environment_id]
            self._pool.retire_one(environment)

    def _hold_slots(self, key: FunctionKey, wanted: Mapping[str, Wanted]) -> None:
        share = self._pool.concurrency.share(key)
        held: dict[str, int] = {version: 0 for version, slots in share.versions.items() if slots.provisioned}
        for each in wanted.values():
            held[each.function.version] = held.get(each.function.version, 0) + each.slots
        for version, slots in held.items():
            share.provision(share.slots(version), slots)

    def _fill_or_trim(self, token: str, provision: _Provision) -> None:
        self._drop(provision, max(0, len(provision.environments) - provision.wanted.slots))
        can_start = provision.wanted.function.serving is not None and provision.reason != INIT_FAILURE
        if provision.missing > 0 and provision.filling is None and can_start:
            provision.filling = asyncio.get_running_loop().create_task(self._fill(token, provision))
        self._note(token, provision)

    def _note(self, token: str, provision: _Provision) -> None:
        if provision.is_over:
            return
        wanted, available = provision.wanted, len(provision.environments)
        status = READY if available >= wanted.slots else IN_PROGRESS
        if status == READY:
            provision.shown, provision.misfortunes = 0, 0
            if provision.reason != INIT_FAILURE:
                provision.reason = None
        elif provision.reason is not None:
            status = FAILED
        self._allocations[token] = Allocation(
            wanted.function.version, wanted.slots, max(available, provision.shown), status, provision.reason
        )

    async def _fill(self, token: str, provision: _Provision) -> None:
        try:
            while provision.missing > 0 and provision.reason != INIT_FAILURE:
                if provision.misfortunes:
                    await asyncio.sleep(AGAIN_AFTER_S[min(provision.misfortunes, len(AGAIN_AFTER_S)) - 1])
                starts = (self._start(token, provision) for _ in range(min(provision.missing, AT_ONCE)))
                faults = [why for why in await asyncio.gather(*starts) if why]
                if faults:
                    self._misfortune(provision, faults[0])
                    self._note(token, provision)
        finally:
            provision.filling = None
            self._note(token, provision)

    async def _start(self, token: str, provision: _Provision) -> str | None:
        """Start one; why that was not possible, if so."""
        function = provision.wanted.function
        assert function.serving is not None
        try:
            environment = await self._pool.provision(function, function.serving)
        except Throttled:
            return "it does not fit into this machine's memory"
        except RieError as error:
            return str(error)
        except Exception:
            log.exception("cannot provision an environment of %s:%s", function.key.arn, function.version)
            return "an internal error; the manager's log has it"
        self._started(provision, environment)
        self._note(token, provision)
        return None

    def _started(self, provision: _Provision, environment: Environment) -> None:
        if not environment.has_initialised:
            self._fail(provision)
        elif provision.missing > 0 and provision.reason != INIT_FAILURE and environment.is_usable:
            provision.environments[environment.environment_id] = environment
        else:
            self._pool.retire_one(environment)

    def _fail(self, provision: _Provision) -> None:
        """Its init fails, so nothing of it is available (lambda.md §7.4)."""
        provision.reason = INIT_FAILURE
        provision.shown = 0
        self._drop(provision, len(provision.environments))

    def _misfortune(self, provision: _Provision, why: str) -> None:
        provision.misfortunes += 1
        function = provision.wanted.function
        log.warning("cannot provision an environment of %s:%s: %s", function.key.arn, function.version, why)
        if provision.misfortunes >= len(AGAIN_AFTER_S) and provision.reason is None:
            provision.reason = f"cannot provision an environment: {why}"

    def _lost(self, environment: Environment) -> None:
        """One is gone: if nobody wanted that, another takes its place."""
        for token, provision in self._provisions.get(environment.function.key, {}).items():
            if provision.environments.pop(environment.environment_id, None) is not None:
                if time.monotonic() - environment.started_at < BRIEF_S:
                    self._misfortune(provision, "it ended soon after its start")
                self._fill_or_trim(token, provision)
