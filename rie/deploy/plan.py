"""What a deployment will do, decided before it does anything. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rie.deploy.intrinsics import has_unknown
from rie.deploy.state import CREATING, Held, State

CREATE, UPDATE, REPLACE, DELETE, KEEP, FORGET = "create", "update", "replace", "delete", "keep", "forget"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A resource as the template has it, resolved as far as may be. `replacing`: properties whose change makes a new
    one."""

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    replacing: frozenset[str] = frozenset()
    is_kept: bool = False
    is_left: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One action on one resource; `changed` are the properties that make it necessary."""

    action: str
    logical_id: str
    type: str
    changed: tuple[str, ...] = ()
    physical_id: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are done."""

    steps: tuple[Step, ...] = field(default=())

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that touch something."""
        return tuple(step for step in self.steps if step.action not in (KEEP, FORGET))


def decide(wanted: Wanted, held: Held | None) -> Step:
    """What is to be done for one resource.

    1. It isn't there: create.
    2. Its type is another: replace.
    3. It was begun and not finished: create, which finds what there is of it.
    4. Nothing differs: keep.
    5. Something differs that it can't change: replace. Otherwise update.
    """
    if held is None:
        return Step(CREATE, wanted.logical_id, wanted.type)
    if held.type != wanted.type:
        return Step(REPLACE, wanted.logical_id, wanted.type, ("Type",), held.physical_id)
    if held.status == CREATING:
        return Step(CREATE, wanted.logical_id, wanted.type)
    changed = differing(wanted.properties, held.properties)
    if not changed:
        return Step(KEEP, wanted.logical_id, wanted.type, (), held.physical_id)
    action = REPLACE if wanted.replacing.intersection(changed) else UPDATE
    return Step(action, wanted.logical_id, wanted.type, changed, held.physical_id)


def removals(wanted: Iterable[str], state: State) -> list[Step]:
    """What leaves: what the template no longer has, each before what it needs; then what was replaced."""
    kept = set(wanted)
    gone = [held for held in reversed(_by_needs(state.resources)) if held.logical_id not in kept]
    return [
        Step(FORGET if held.is_kept else DELETE, held.logical_id, held.type, (), held.physical_id)
        for held in [*gone, *reversed(state.leaving)]
    ]


def differing(wanted: Mapping[str, Any], held: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of properties that differ, or may."""
    names = sorted({*wanted, *held})
    return tuple(name for name in names if has_unknown(wanted.get(name)) or wanted.get(name) != held.get(name))


def _by_needs(resources: Mapping[str, Held]) -> list[Held]:
    order: dict[str, Held] = {}

    def place(held: Held) -> None:
        if held.logical_id in order:
            return
        for each in held.needs:
            if each in resources and each != held.logical_id:
                place(resources[each])
        order[held.logical_id] = held

    for held in resources.values():
        place(held)
    return list(order.values())
