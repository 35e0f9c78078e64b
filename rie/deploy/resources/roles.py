"""AWS::IAM::Role and policies: noted only where no endpoint stands for IAM, since the manager takes any role's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, only, tag_list, text
from rie.deploy.state import Held

_AWS_MANAGED = "arn:aws:iam::aws:policy/"


class Role(ResourceType):
    """Ref: its name. Arn."""

    type = "AWS::IAM::Role"
    service = "iam"
    attributes = frozenset({"Arn", "RoleId"})
    known = frozenset(
        [
            "AssumeRolePolicyDocument",
            "Description",
            "ManagedPolicyArns",
            "MaxSessionDuration",
            "Path",
            "PermissionsBoundary",
            "Policies",
            "RoleName",
            "Tags",
        ]
    )
    required = frozenset({"AssumeRolePolicyDocument"})
    replacing = frozenset({"Path", "RoleName"})
    named_by = "RoleName"

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        if not clients.has("iam"):
            return self._noted(clients, name, properties)
        client = clients.get("iam")
        given = only(properties, "Description", "Path", "PermissionsBoundary")
        if "MaxSessionDuration" in properties:
            given["MaxSessionDuration"] = int(properties["MaxSessionDuration"])
        made = client.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=text(properties["AssumeRolePolicyDocument"]),
            Tags=tag_list(properties),
            **given,
        )
        self._attach(client, name, {}, properties)
        return Made(name, {"Arn": made["Role"]["Arn"], "RoleId": made["Role"]["RoleId"]})

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        if not clients.has("iam"):
            return self._noted(clients, held.name, properties)
        client = clients.get("iam")
        if "AssumeRolePolicyDocument" in changed:
            document = text(properties["AssumeRolePolicyDocument"])
            client.update_assume_role_policy(RoleName=held.name, PolicyDocument=document)
        if {"Description", "MaxSessionDuration"}.intersection(changed):
            client.update_role(
                RoleName=held.name,
                Description=properties.get("Description", ""),
                MaxSessionDuration=int(properties.get("MaxSessionDuration", 3600)),
            )
        if "Tags" in changed and properties.get("Tags"):
            client.tag_role(RoleName=held.name, Tags=tag_list(properties))
        self._attach(client, held.name, held.properties, properties)
        return Made(held.name, dict(held.attributes))

    def delete(self, clients: Clients, held: Held) -> None:
        if not clients.has("iam"):
            return
        client = clients.get("iam")
        for each in client.list_attached_role_policies(RoleName=held.name)["AttachedPolicies"]:
            client.detach_role_policy(RoleName=held.name, PolicyArn=each["PolicyArn"])
        for policy in client.list_role_policies(RoleName=held.name)["PolicyNames"]:
            client.delete_role_policy(RoleName=held.name, PolicyName=policy)
        client.delete_role(RoleName=held.name)

    def find(self, clients: Clients, held: Held) -> Made | None:
        if not clients.has("iam"):
            return Made(held.name, dict(held.attributes)) if held.physical_id else None
        found = answer_of(clients.get("iam").get_role, RoleName=held.name)
        return Made(held.name, {"Arn": found["Role"]["Arn"], "RoleId": found["Role"]["RoleId"]}) if found else None

    def _attach(self, client: Any, name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        before, after = (set(each.get("ManagedPolicyArns", [])) for each in (old, new))
        for arn in sorted(before - after):
            answer_of(client.detach_role_policy, RoleName=name, PolicyArn=arn)
        for arn in sorted(after - before):
            attached = answer_of(client.attach_role_policy, RoleName=name, PolicyArn=arn)
            # Compatible endpoints lack most of AWS's own policies, and hold nobody to them.
            if attached is None and not arn.startswith(_AWS_MANAGED):
                client.attach_role_policy(RoleName=name, PolicyArn=arn)
        inline_before, inline_after = (
            {each["PolicyName"]: each["PolicyDocument"] for each in given.get("Policies", [])} for given in (old, new)
        )
        for policy in sorted(inline_before.keys() - inline_after.keys()):
            answer_of(client.delete_role_policy, RoleName=name, PolicyName=policy)
        for policy, document in inline_after.items():
            if inline_before.get(policy) != document:
                client.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=_policy(document))

    def _noted(self, clients: Clients, name: str, properties: Mapping[str, Any]) -> Made:
        path = properties.get("Path", "/")
        return Made(name, {"Arn": f"arn:aws:iam::{clients.account}:role{path}{name}", "RoleId": name})


class Policy(ResourceType):
    """Inline, of roles. Ref: its name."""

    type = "AWS::IAM::Policy"
    service = "iam"
    attributes: ClassVar[frozenset[str]] = frozenset()
    is_deleted_first = True
    known = frozenset({"PolicyDocument", "PolicyName", "Roles"})
    required = known
    replacing = frozenset({"PolicyName", "Roles"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        policy, document = properties["PolicyName"], _policy(properties["PolicyDocument"])
        for role in properties["Roles"] if clients.has("iam") else []:
            clients.get("iam").put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=document)
        return Made(policy)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        return self.create(clients, held.name, properties)

    def delete(self, clients: Clients, held: Held) -> None:
        for role in held.properties["Roles"] if clients.has("iam") else []:
            clients.get("iam").delete_role_policy(RoleName=role, PolicyName=held.properties["PolicyName"])

    def find(self, clients: Clients, held: Held) -> Made | None:
        policy = held.properties["PolicyName"]
        for role in held.properties["Roles"] if clients.has("iam") else []:
            where = {"RoleName": role, "PolicyName": policy}
            if answer_of(clients.get("iam").get_role_policy, **where) is None:
                return None
        return Made(policy) if held.physical_id else None


def _policy(document: Mapping[str, Any]) -> str:
    """A document as IAM takes it: SAM's policy templates have no version, which AWS does without and others don't."""
    return text({"Version": "2012-10-17", **document})
