"""Concurrency as it may be set aside: reserved for functions, provisioned for versions and aliases (lambda.md §7)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rie.clock import Clock, with_seconds
from rie.errors import ServiceError
from rie.functions import faults
from rie.functions.catalog import Catalog
from rie.functions.ledger import Ledger
from rie.model.alias import ALIASES
from rie.model.concurrency import PROVISIONED, RESERVED, Provisioned, Reserved
from rie.model.function import LATEST, FunctionKey
from rie.model.record import place_of

IN_PROGRESS = "IN_PROGRESS"


class Allocation(Protocol):
    """How far the environments of one request for provisioned concurrency are."""

    @property
    def version(self) -> str:
        """Of which version they are."""

    @property
    def requested(self) -> int: ...

    @property
    def available(self) -> int: ...

    @property
    def status(self) -> str:
        """IN_PROGRESS, READY or FAILED."""

    @property
    def reason(self) -> str | None:
        """Why it FAILED."""


FindAllocation = Callable[[str], Allocation | None]
"""By a request's token; None if nothing has begun yet. From any thread."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Of an account in a region: its slots, and how many of them must stay unreserved (lambda.md §7.1)."""

    concurrency: int = 1_000
    unreserved: int = 100


@dataclass(frozen=True, slots=True)
class Progress:
    """A request for provisioned concurrency, and what came of it so far."""

    record: Provisioned
    available: int = 0
    status: str = IN_PROGRESS
    reason: str | None = None


class Reservations:
    """Every method blocks and may be called from any thread. Raises ServiceError, StoreFailed."""

    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock, quota: Quota, find: FindAllocation) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock
        self.quota = quota
        self._find = find

    def reserved(self, key: FunctionKey) -> int | None:
        """A function's own slots; None if it shares the account's."""
        found = self._ledger.find(RESERVED, place_of(key, LATEST))
        return None if found is None else found.slots

    def reserve(self, key: FunctionKey, slots: int) -> int:
        """Reserve slots for a function, instead of those that it had."""
        with self._ledger.exclusively():
            if self._catalog.find(key) is None:
                raise faults.not_found(key, LATEST)
            provisioned = self._provisioned(key)
            before = self.reserved(key)
            left = self.unreserved(key.account, key.region) + (provisioned if before is None else before) - slots
            if left < self.quota.unreserved:
                raise faults.refused(
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{self.quota.unreserved}]."
                )
            if slots < provisioned:
                raise faults.refused(
                    f" ReservedConcurrentExecutions  {slots} should not be lower than "
                    f"function's total provisioned concurrency [{provisioned}]."
                )
            self._ledger.put(RESERVED, place_of(key, LATEST), Reserved(slots))
            return slots

    def release(self, key: FunctionKey) -> None:
        """Take a function's reservation away, if it has one."""
        with self._ledger.exclusively():
            self._catalog.get(key)
            self._ledger.remove(RESERVED, place_of(key, LATEST))

    def unreserved(self, account: str, region: str) -> int:
        """What all functions without a reservation share: less what is provisioned for any of them."""
        reserved = {place.function: found.slots for place, found in self._ledger.page(RESERVED, account, region)}
        provisioned = sum(
            found.slots
            for place, found in self._ledger.page(PROVISIONED, account, region)
            if place.function not in reserved
        )
        return self.quota.concurrency - sum(reserved.values()) - provisioned

    def provision(self, key: FunctionKey, qualifier: str, slots: int) -> Progress:
        """Ask for slots with environments that are started ahead, instead of those that were asked for before.

        The version that gets them gets a new RevisionId, as when they are ready at the service (lambda.md §1.13).
        """
        if qualifier == LATEST:
            raise faults.refused("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        with self._ledger.exclusively():
            self._check_target(key, qualifier)
            self._check_conflicts(key, qualifier)
            self._check_room(key, qualifier, slots)
            record = Provisioned(slots, str(uuid.uuid4()), with_seconds(self._clock.now()))
            made = Progress(self._ledger.put(PROVISIONED, place_of(key, qualifier), record))
        self._catalog.revise(key, self._version(key, qualifier))
        return made

    def progress(self, key: FunctionKey, qualifier: str) -> Progress:
        """What was asked for, and how far it is."""
        _check_published(qualifier)
        self._check_target(key, qualifier)
        record = self._ledger.find(PROVISIONED, place_of(key, qualifier))
        if record is None:
            raise ServiceError(
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )
        return self._progress(key, qualifier, record)

    def all_progress(self, key: FunctionKey) -> list[tuple[str, Progress]]:
        """(qualifier, progress) of all that was asked for of a function."""
        self._catalog.get(key)
        found = self._ledger.of_function(PROVISIONED, key)
        return [(place.name, self._progress(key, place.name, record)) for place, record in found]

    def withdraw(self, key: FunctionKey, qualifier: str) -> None:
        """Ask for none any more; nothing happens if none were."""
        _check_published(qualifier)
        with self._ledger.exclusively():
            self._check_target(key, qualifier)
            self._ledger.remove(PROVISIONED, place_of(key, qualifier))

    def _progress(self, key: FunctionKey, qualifier: str, record: Provisioned) -> Progress:
        allocation = self._find(record.token)
        if allocation is None:
            return Progress(record)
        if allocation.version != self._version(key, qualifier):  # the alias has just moved
            return Progress(record, allocation.available)
        return Progress(record, allocation.available, allocation.status, allocation.reason)

    def _version(self, key: FunctionKey, qualifier: str) -> str:
        alias = self._ledger.find(ALIASES, place_of(key, qualifier))
        return qualifier if alias is None else alias.version

    def _check_target(self, key: FunctionKey, qualifier: str) -> None:
        """Raises ServiceError if there is no such version or alias, in the words for its kind."""
        if qualifier.isdecimal():
            self._catalog.get(key, qualifier)
        elif self._ledger.find(ALIASES, place_of(key, qualifier)) is None:
            raise faults.alias_not_found(key, qualifier)

    def _check_conflicts(self, key: FunctionKey, qualifier: str) -> None:
        alias = self._ledger.find(ALIASES, place_of(key, qualifier))
        if alias is not None and alias.additional_version:
            raise faults.refused("Alias with weights can not be used with Provisioned Concurrency")
        if alias is not None and alias.version == LATEST:
            raise faults.refused("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        version = self._version(key, qualifier)
        if self._catalog.get(key, version).tenancy_mode is not None:
            raise faults.refused("Provisioned Concurrency is not supported for functions with tenant isolation.")
        for name in self._provisioned_names(key):
            if name == qualifier or self._version(key, name) != version:
                continue
            if alias is not None:
                raise already_provisioned()
            raise ServiceError("ResourceConflictException", "Version is pointed by a Provisioned Concurrency alias")

    def _check_room(self, key: FunctionKey, qualifier: str, slots: int) -> None:
        before = self._ledger.find(PROVISIONED, place_of(key, qualifier))
        own = 0 if before is None else before.slots
        reserved = self.reserved(key)
        if reserved is not None:
            if self._provisioned(key) - own + slots > reserved:
                raise faults.refused(
                    "Requested Provisioned Concurrency should not be greater than "
                    "the reservedConcurrentExecution for function"
                )
            return
        unreserved = self.unreserved(key.account, key.region) + own
        if slots > unreserved:
            raise faults.refused(
                "Specified ConcurrentExecutions for function is greater than "
                f"account's unreserved concurrency [{unreserved}]."
            )
        if unreserved - slots < self.quota.unreserved:
            raise faults.refused(
                "Specified ConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{self.quota.unreserved}]."
            )

    def _provisioned(self, key: FunctionKey) -> int:
        return sum(record.slots for _, record in self._ledger.of_function(PROVISIONED, key))

    def _provisioned_names(self, key: FunctionKey) -> list[str]:
        return [place.name for place, _ in self._ledger.of_function(PROVISIONED, key)]


def already_provisioned() -> ServiceError:
    """An alias with provisioned concurrency may not meet a version that has its own (409)."""
    return ServiceError(
        "ResourceConflictException",
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
    )


def no_allocation(_: str) -> Allocation | None:
    """Where no environments are started, nothing has begun."""
    return None


def _check_published(qualifier: str) -> None:
    if qualifier == LATEST:
        raise faults.refused("The function resource provided must be an alias or a published version.")
