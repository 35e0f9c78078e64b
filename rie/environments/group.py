"""Environments that can stand in for each other, and the slots that their invocations take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rie.environments.arrivals import Arrivals
from rie.environments.concurrency import Share, Slots
from rie.environments.environment import Address, Environment


class Group:
    """`ready` are its idle environments that were provisioned, `warm` its other idle ones, the warmest last."""

    __slots__ = ("address", "arrivals", "ready", "share", "slots", "warm")

    def __init__(self, address: Address, share: Share, arrivals: Arrivals) -> None:
        self.address = address
        self.share = share
        self.arrivals = arrivals
        self.slots: Slots = share.slots(address.version)
        self.ready: list[Environment] = []
        self.warm: list[Environment] = []

    def best(self) -> Environment | None:
        """The idle environment to use next: a provisioned one if there is one, else the warmest."""
        if self.ready:
            return self.ready[-1]
        return self.warm[-1] if self.warm else None

    def add(self, environment: Environment) -> None:
        """It is idle."""
        if environment.is_ahead and not environment.invocations:
            self.warm.insert(0, environment)  # those that have served are warmer
        else:
            (self.ready if environment.is_provisioned else self.warm).append(environment)

    def remove(self, environment: Environment) -> None:
        """It is not any more; the one that `best` gave is removed at once, others are looked for."""
        idle = self.ready if environment.is_provisioned else self.warm
        if idle[-1] is environment:
            idle.pop()
        else:
            idle.remove(environment)


def coldest(environments: Iterable[Environment], used_before: float) -> Iterator[tuple[str, int]]:
    """(id, memory in MB) of those that were last used before an instant, the coldest first."""
    for each in sorted(environments, key=lambda one: one.last_used_at):
        if each.last_used_at < used_before:
            yield each.environment_id, each.configuration.memory_mb
