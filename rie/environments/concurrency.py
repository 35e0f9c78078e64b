"""How many invocations run, of which function and version, and whether one more may; pure (lambda.md §7).

An account has `limit` slots in a region. A function with a reservation has slots of its own and can use no others; all
others share what is left. A version holds the slots that are provisioned for it whether it uses them or not, and uses
them first; so a function takes up, for each of its versions, the larger of what is provisioned and what is busy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rie.environments.traffic import Traffic
from rie.model.function import FunctionKey

CONCURRENCY = "ConcurrentInvocationLimitExceeded"
RESERVED_CONCURRENCY = "ReservedFunctionConcurrentInvocationLimitExceeded"
RATE = "FunctionInvocationRateLimitExceeded"
RESERVED_RATE = "ReservedFunctionInvocationRateLimitExceeded"

TENANTS_PER_SLOT = 2.5  # AWS limit on environments of tenants, to the account's limit

MAX_STARTS = 1_000  # AWS limit on a function's new environments …
STARTS_PER_S = 100.0  # … in ten seconds, refilled all the time


@dataclass(slots=True)
class Account:
    """The slots of one account in one region. `held` are those taken up by functions without a reservation."""

    limit: int
    reserved: int = 0
    held: int = 0


@dataclass(slots=True)
class Slots:
    """One version's: those set aside for it, and those in use, whichever they are."""

    provisioned: int = 0
    busy: int = 0


@dataclass(slots=True)
class Share:
    """One function's part of its account."""

    key: FunctionKey
    account: Account
    reserved: int | None = None
    held: int = 0
    busy: int = 0
    spilled: int = 0  # invocations of a version with provisioned slots that found none free
    throttled: int = 0
    versions: dict[str, Slots] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    _starts: float = MAX_STARTS
    _starts_at: float = 0.0

    @property
    def provisioned(self) -> int:
        """Slots that are set aside for versions."""
        return sum(slots.provisioned for slots in self.versions.values())

    def slots(self, version: str) -> Slots:
        """A version's, which stay the same object."""
        found = self.versions.get(version)
        if found is None:
            found = self.versions[version] = Slots()
        return found

    def begin(self, slots: Slots) -> str | None:
        """Take a slot for an invocation of one of this function's versions, or say why not: a throttle reason.

        1. The version has provisioned slots that it doesn't use: it takes one of them.
        2. The function has a reservation, and it is taken up: throttle.
        3. It has none, and what functions without one share is taken up: throttle.
        4. Otherwise it takes one more.
        """
        if slots.busy >= slots.provisioned:
            if self.reserved is not None:
                if self.held >= self.reserved:
                    return RESERVED_CONCURRENCY
            else:
                account = self.account
                if account.held >= account.limit - account.reserved:
                    return CONCURRENCY
                account.held += 1
            self.held += 1
            if slots.provisioned:
                self.spilled += 1
        slots.busy += 1
        self.busy += 1
        return None

    def end(self, slots: Slots) -> None:
        """Give back what `begin` took."""
        slots.busy -= 1
        self.busy -= 1
        if slots.busy >= slots.provisioned:
            self._hold(-1)

    def provision(self, slots: Slots, count: int) -> None:
        """Set slots aside for a version: `count` from now on, whatever there were before."""
        before = max(slots.provisioned, slots.busy)
        slots.provisioned = count
        self._hold(max(count, slots.busy) - before)

    def reserve(self, count: int | None) -> None:
        """Reserve slots for the function; None takes the reservation away. What runs, runs on."""
        account = self.account
        if self.reserved is None:
            account.held -= self.held
        else:
            account.reserved -= self.reserved
        self.reserved = count
        if count is None:
            account.held += self.held
        else:
            account.reserved += count

    def start(self, now: float) -> str | None:
        """Count a new environment, at `now` (monotonic seconds), or say why there may be none: a throttle reason."""
        left = min(MAX_STARTS, self._starts + (now - self._starts_at) * STARTS_PER_S)
        self._starts_at = now
        if left < 1:
            self._starts = left
            return RATE if self.reserved is None else RESERVED_RATE
        self._starts = left - 1
        return None

    def _hold(self, more: int) -> None:
        self.held += more
        if self.reserved is None:
            self.account.held += more


class Concurrency:
    """Every function's share. Unknown ones have one that is empty."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._accounts: dict[tuple[str, str], Account] = {}
        self._shares: dict[FunctionKey, Share] = {}

    def __iter__(self) -> Iterator[Share]:
        return iter(self._shares.values())

    def share(self, key: FunctionKey) -> Share:
        """A function's, which stays the same object while anything of it is held."""
        found = self._shares.get(key)
        if found is None:
            place = (key.account, key.region)
            account = self._accounts.setdefault(place, Account(self._limit))
            found = self._shares[key] = Share(key, account)
        return found

    def forget_version(self, key: FunctionKey, version: str) -> None:
        """A version is gone; what still runs of it counts until it ends."""
        share = self._shares.get(key)
        if share is not None and version in share.versions:
            share.provision(share.versions[version], 0)
            if not share.versions[version].busy:
                del share.versions[version]

    def forget(self, key: FunctionKey) -> None:
        """A function is gone. What still runs of it counts until it ends, but nothing is kept for it."""
        share = self._shares.pop(key, None)
        if share is not None:
            for slots in share.versions.values():
                share.provision(slots, 0)
            share.reserve(None)
