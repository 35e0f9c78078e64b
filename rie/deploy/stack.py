"""A deployment: plans, and then acts, keeping after every step what is there."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rie.deploy.clients import Clients
from rie.deploy.desired import Desired
from rie.deploy.intrinsics import has_unknown
from rie.deploy.plan import CREATE, DELETE, FORGET, KEEP, REPLACE, UPDATE, Plan, Step, Wanted, decide, removals
from rie.deploy.resources import TYPES
from rie.deploy.resources.base import Made, ResourceType, is_gone
from rie.deploy.state import CREATING, READY, Held, StateFile
from rie.errors import DeployFailed, TemplateInvalid

_SUFFIX_LETTERS = 12  # as CloudFormation's

Tell = Callable[[Step, bool], None]
"""Told of each step when it begins, and (True) when it is done."""


class Stack:
    """One stack: its state, and who is asked. Use it within `StateFile.alone`.

    Whoever calls sees TemplateInvalid (nothing was touched) or DeployFailed (the state has what was done; the same
    deployment, run again, goes on from there).
    """

    def __init__(self, file: StateFile, clients: Clients, tell: Tell = lambda step, is_done: None) -> None:
        self._file = file
        self._clients = clients
        self._tell = tell
        self.state = file.load()

    def refresh(self) -> list[str]:
        """Hold the state against what is there; the logical ids of what others have deleted meanwhile."""
        gone = []
        for logical_id, held in list(self.state.resources.items()):
            if held.status != READY:
                continue
            found = self._asking("look for", held, partial(_type(held).find, self._clients, held))
            if found is None:
                gone.append(logical_id)
                del self.state.resources[logical_id]
            else:
                self.state.resources[logical_id] = replace(held, attributes=found.attributes)
        return gone

    def occupied(self, desired: Desired) -> list[str]:
        """What is wrong with names: those of resources to be made that somebody else has made already."""
        problems = []
        for logical_id in desired.order:
            wanted = desired.wanted(logical_id, desired.scope(self.state))
            kind = TYPES[wanted.type]
            if logical_id in self.state.resources or kind.named_by is None:
                continue
            if has_unknown({name: wanted.properties.get(name) for name in kind.replacing}):
                continue  # it will be at something that isn't there yet, and so isn't it
            asked = Held(logical_id, wanted.type, self._name(kind, wanted), dict(wanted.properties))
            if self._asking("look for", asked, partial(kind.find, self._clients, asked)) is not None:
                where = desired.template.where(logical_id)
                problems.append(f"{where}: there is a {asked.name} already, which is not the stack's")
        return problems

    def plan(self, desired: Desired | None) -> Plan:
        """What `apply` would do; with None, what it takes to delete the stack. Touches nothing."""
        steps: list[Step] = []
        unknown: set[str] = set()
        for logical_id in desired.order if desired else ():
            assert desired is not None
            wanted = desired.wanted(logical_id, desired.scope(self.state, frozenset(unknown)))
            step = decide(wanted, self.state.resources.get(logical_id))
            if step.action in (CREATE, REPLACE):
                unknown.add(logical_id)
            steps.append(step)
        held = self.state.resources
        replaced = [step for step in steps if step.action == REPLACE and not held[step.logical_id].is_left]
        left = [Step(DELETE, step.logical_id, step.type, (), step.physical_id) for step in reversed(replaced)]
        return Plan((*steps, *removals(desired.order if desired else (), self.state), *left))

    def apply(self, desired: Desired | None) -> list[Step]:
        """Do it: make and change in order, then delete what nothing needs any more. The steps that were done."""
        done: list[Step] = []
        for logical_id in desired.order if desired else ():
            assert desired is not None
            wanted = self._resolved(desired, logical_id)
            step = decide(wanted, self.state.resources.get(logical_id))
            self._do(step, partial(self._make, step, wanted), done)
        for step in removals(desired.order if desired else (), self.state):
            self._do(step, partial(self._remove, step), done)
        if desired is None:
            self._file.remove()
            return done
        self.state.outputs = desired.resolved_outputs(desired.scope(self.state))
        self._file.save(self.state)
        return done

    def _resolved(self, desired: Desired, logical_id: str) -> Wanted:
        try:
            wanted = desired.wanted(logical_id, desired.scope(self.state))
        except TemplateInvalid as error:
            raise DeployFailed(f"cannot go on: {error}{self._how_to_go_on()}") from None
        lacking = [name for name, value in wanted.properties.items() if has_unknown(value)]
        if lacking:
            why = f"what {lacking[0]} of {desired.template.where(logical_id)} refers to has no such value"
            raise DeployFailed(f"cannot go on: {why}{self._how_to_go_on()}")
        return wanted

    def _do(self, step: Step, act: Callable[[], None], done: list[Step]) -> None:
        self._tell(step, False)
        self._asking(step.action, step, act)
        self._tell(step, True)
        if step.action not in (KEEP, FORGET):
            done.append(step)

    def _asking(self, action: str, about: Step | Held, act: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return act()
        except (ClientError, BotoCoreError, DeployFailed, KeyError, TypeError) as error:
            why = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError) else str(error)
            what = f"cannot {action} {about.logical_id} ({about.type}): {why}{_hint(error)}"
            raise DeployFailed(what + self._how_to_go_on()) from error

    def _how_to_go_on(self) -> str:
        there = sum(held.status == READY for held in self.state.resources.values())
        return (
            f"\n{there} resources of the stack are there, as {self._file.path} says; the same command goes on from"
            " here, and with --delete takes them away"
        )

    def _make(self, step: Step, wanted: Wanted) -> None:
        kind = TYPES[wanted.type]
        held = self.state.resources.get(wanted.logical_id)
        if step.action == KEEP:
            assert held is not None
            if replace(held, **_about(wanted)) != held:
                self._keep(replace(held, **_about(wanted)))
            return
        if step.action == UPDATE:
            assert held is not None
            made = kind.update(self._clients, held, dict(wanted.properties), step.changed)
            self._hold(held, wanted, made)
            return
        if step.action == REPLACE:
            assert held is not None
            self._part_with(held, kind, wanted)
            held = None
        self._create(kind, wanted, held)

    def _create(self, kind: ResourceType, wanted: Wanted, begun: Held | None) -> None:
        """Make a resource, or finish one whose making was cut off."""
        if begun is not None and (found := kind.find(self._clients, begun)) is not None:
            begun = replace(begun, physical_id=found.physical_id, attributes=found.attributes)
            replacing = any(begun.properties.get(key) != wanted.properties.get(key) for key in kind.replacing)
            if not replacing:
                bare = replace(begun, properties={})
                made = kind.update(self._clients, bare, dict(wanted.properties), tuple(sorted(wanted.properties)))
                self._hold(begun, wanted, made)
                return
            _delete(self._clients, begun)
        held = Held(wanted.logical_id, wanted.type, self._name(kind, wanted), dict(wanted.properties))
        self._keep(replace(held, **_about(wanted)))
        self._hold(held, wanted, kind.create(self._clients, held.name, dict(wanted.properties)))

    def _part_with(self, held: Held, kind: ResourceType, wanted: Wanted) -> None:
        """Of what is replaced, delete the old now where both can't be, later otherwise."""
        generations = self.state.generations
        generations[held.logical_id] = generations.get(held.logical_id, 0) + 1
        if held.is_left:
            pass
        elif kind.is_deleted_first or (held.type == kind.type and held.name == self._name(kind, wanted)):
            _delete(self._clients, held)
        else:
            self.state.leaving.append(held)
        del self.state.resources[held.logical_id]
        self._file.save(self.state)

    def _remove(self, step: Step) -> None:
        held = self.state.resources.get(step.logical_id)
        leaving = held is None or held.physical_id != step.physical_id
        if leaving:
            held = next(each for each in self.state.leaving if each.physical_id == step.physical_id)
        assert held is not None
        if step.action == DELETE:
            _delete(self._clients, held)
        if leaving:
            self.state.leaving.remove(held)
        else:
            del self.state.resources[step.logical_id]
        self._file.save(self.state)

    def _hold(self, held: Held, wanted: Wanted, made: Made) -> None:
        self._keep(
            replace(
                held,
                status=READY,
                physical_id=made.physical_id,
                attributes=made.attributes,
                properties=dict(wanted.properties),
                **_about(wanted),
            )
        )

    def _keep(self, held: Held) -> None:
        self.state.resources[held.logical_id] = held
        self._file.save(self.state)

    def _name(self, kind: ResourceType, wanted: Wanted) -> str:
        """The template's, or the stack's and the resource's own with letters that no other has."""
        given = wanted.properties.get(kind.named_by) if kind.named_by else None
        if given:
            return str(given)
        generation = self.state.generations.get(wanted.logical_id, 0)
        seed = f"{self.state.stack}/{wanted.logical_id}/{generation}".encode()
        suffix = base64.b32encode(hashlib.sha256(seed).digest()).decode()[:_SUFFIX_LETTERS]
        room = kind.longest_name - _SUFFIX_LETTERS - 1
        return kind.name(f"{f'{self.state.stack}-{wanted.logical_id}'[:room]}-{suffix}", wanted.properties)


def _about(wanted: Wanted) -> dict[str, Any]:
    """What is kept of a resource beside its properties."""
    return {"needs": list(wanted.needs), "is_kept": wanted.is_kept, "is_left": wanted.is_left}


def _type(held: Held) -> ResourceType:
    if held.type not in TYPES:
        raise DeployFailed(f"cannot read the stack's state: it has a {held.type}, which this version does not know")
    return TYPES[held.type]


def _delete(clients: Clients, held: Held) -> None:
    """Delete what there is of it; if there is nothing, that is what was wanted."""
    from botocore.exceptions import ClientError

    kind = _type(held)
    if held.status == CREATING:
        found = kind.find(clients, held)
        if found is None:
            return
        held = replace(held, physical_id=found.physical_id, attributes=found.attributes)
    try:
        kind.delete(clients, held)
    except ClientError as error:
        if not is_gone(error):
            raise


def _hint(error: Exception) -> str:
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
    return "; empty it, or give it DeletionPolicy: Retain" if code == "BucketNotEmpty" else ""
