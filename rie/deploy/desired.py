"""What a template asks for: its resources, those whose condition holds, in order; and all that is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rie.deploy.clients import RECORDED_ONLY, Clients
from rie.deploy.graph import needs, ordered
from rie.deploy.images import Images
from rie.deploy.intrinsics import Scope, has_unknown
from rie.deploy.packaging import Packaging
from rie.deploy.parameters import values_of
from rie.deploy.plan import Wanted
from rie.deploy.resources import TYPES
from rie.deploy.sam import expand
from rie.deploy.state import READY, State
from rie.deploy.template import Template, refuse
from rie.errors import TemplateInvalid

_POLICIES = ("Delete", "Retain", "RetainExceptOnCreate")
_KEPT = ("Retain", "RetainExceptOnCreate")


@dataclass(frozen=True)
class Desired:
    """A template that can be deployed. `order`: logical ids, each after what it needs."""

    template: Template
    resources: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Any]
    order: tuple[str, ...]
    needed: Mapping[str, frozenset[str]]
    bare: Scope

    def scope(self, state: State, unknown: frozenset[str] = frozenset()) -> Scope:
        """What names mean, with the resources that the state has and that are not `unknown`."""
        there = {
            key: held
            for key, held in state.resources.items()
            if held.status == READY and key in self.resources and key not in unknown
        }
        return replace(
            self.bare,
            refs={key: held.physical_id for key, held in there.items()},
            attributes={key: held.attributes for key, held in there.items()},
        )

    def wanted(self, logical_id: str, scope: Scope) -> Wanted:
        """A resource, resolved as far as the scope goes. Raises TemplateInvalid."""
        resource = self.resources[logical_id]
        kind = TYPES[resource["Type"]]
        try:
            properties = scope.resolve(resource.get("Properties", {}))
        except TemplateInvalid as error:
            raise TemplateInvalid(f"{self.template.where(logical_id)}: {error}") from None
        return Wanted(
            logical_id=logical_id,
            type=kind.type,
            properties=properties,
            needs=tuple(sorted(self.needed[logical_id])),
            replacing=kind.replacing,
            is_kept=resource.get("DeletionPolicy") in _KEPT,
            is_left=resource.get("UpdateReplacePolicy") in _KEPT,
        )

    def resolved_outputs(self, scope: Scope) -> dict[str, Any]:
        """The values of the outputs whose condition holds."""
        return {
            name: scope.resolve(about.get("Value"))
            for name, about in self.outputs.items()
            if "Condition" not in about or scope.holds(about["Condition"])
        }


def desire(
    template: Template,
    stack: str,
    given: Mapping[str, str],
    clients: Clients,
    registry: str | None = None,
) -> Desired:
    """Read what a template asks for; touches nothing.

    `given`: parameters by name; local archives and images to build are added to `clients`. Raises TemplateInvalid,
    which names everything that isn't known.
    """
    name = template.path.name
    document = copy.deepcopy(template.document)
    values, problems = values_of(document.get("Parameters") or {}, given)
    images = Images(template.directory, stack, registry, clients.builds)
    problems += images.package(document)
    problems += Packaging(template.directory, clients.archives).package(document)
    refuse(name, problems)
    expanded = expand(template, document, values, clients.region)
    bare = Scope(
        values={**values, **_pseudo(stack, clients)},
        mappings=expanded.get("Mappings") or {},
        conditions=expanded.get("Conditions") or {},
    )
    resources = {
        logical_id: resource
        for logical_id, resource in expanded["Resources"].items()
        if "Condition" not in resource or bare.holds(resource["Condition"])
    }
    refuse(name, _unsupported(template, resources, frozenset(expanded["Resources"]), clients))
    bare = replace(
        bare,
        resources=frozenset(resources),
        known={key: TYPES[resource["Type"]].attributes for key, resource in resources.items()},
    )
    needed = {key: needs(resource, frozenset(resources)) for key, resource in resources.items()}
    outputs = {key: value for key, value in (expanded.get("Outputs") or {}).items() if isinstance(value, dict)}
    desired = Desired(template, resources, outputs, tuple(ordered(needed)), needed, bare)
    refuse(name, _wrong(desired, clients))
    return desired


def _pseudo(stack: str, clients: Clients) -> dict[str, Any]:
    return {
        "AWS::AccountId": clients.account,
        "AWS::NotificationARNs": [],
        "AWS::Partition": "aws",
        "AWS::Region": clients.region,
        "AWS::StackId": f"arn:aws:cloudformation:{clients.region}:{clients.account}:stack/{stack}/rie",
        "AWS::StackName": stack,
        "AWS::URLSuffix": "amazonaws.com",
    }


def _unsupported(
    template: Template, resources: Mapping[str, Mapping[str, Any]], declared: frozenset[str], clients: Clients
) -> list[str]:
    """Types that can't be made here, because nobody knows them or nobody stands for their service."""
    problems = []
    lacking: dict[str, list[str]] = {}
    for logical_id, resource in resources.items():
        kind = TYPES.get(resource["Type"])
        if kind is None:
            problems.append(f"{template.where(logical_id)}: {resource['Type']} is not supported")
        elif kind.service not in RECORDED_ONLY and not clients.has(kind.service):
            lacking.setdefault(kind.service, []).append(template.where(logical_id))
        for name in ("DeletionPolicy", "UpdateReplacePolicy"):
            if resource.get(name, "Delete") not in _POLICIES:
                problems.append(f"{template.where(logical_id)}: {name} {resource[name]} is not supported")
        depends = resource.get("DependsOn") or []
        for each in [depends] if isinstance(depends, str) else depends:
            if each not in declared:
                problems.append(f"{template.where(logical_id)}: DependsOn {each}: there is no such resource")
    problems += [
        f"{', '.join(where)}: no endpoint stands for {service}; set AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_"
        f"{service.upper()})"
        for service, where in lacking.items()
    ]
    return problems


def _wrong(desired: Desired, clients: Clients) -> list[str]:
    """What can be seen of properties and references before anything is made."""
    problems: list[str] = []
    for logical_id in desired.order:
        kind = TYPES[desired.resources[logical_id]["Type"]]
        where = desired.template.where(logical_id)
        try:
            properties = desired.wanted(logical_id, desired.bare).properties
        except TemplateInvalid as error:
            problems.append(str(error))
            continue
        unknown = sorted(properties.keys() - kind.known)
        problems += [f"{where}: property {name} of {kind.type} is not supported" for name in unknown]
        missing = sorted(kind.required - properties.keys())
        problems += [f"{where}: property {name} of {kind.type} is missing" for name in missing]
        if not missing:
            problems += [f"{where}: {why}" for why in kind.check(dict(properties))]
        if kind.named_by and has_unknown(properties.get(kind.named_by)):
            problems.append(f"{where}: {kind.named_by} can't be made of what isn't there yet")
    try:
        desired.resolved_outputs(desired.bare)
    except TemplateInvalid as error:
        problems.append(f"Outputs: {error}")
    return problems
