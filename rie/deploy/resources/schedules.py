"""AWS::Scheduler::Schedule and ScheduleGroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, only, shaped, tag_list
from rie.deploy.state import Held


class Schedule(ResourceType):
    """Ref: its name. Arn."""

    type = "AWS::Scheduler::Schedule"
    service = "scheduler"
    known = frozenset(
        {"ActionAfterCompletion", "Description", "EndDate", "FlexibleTimeWindow", "GroupName", "KmsKeyArn", "Name"}
        | {"ScheduleExpression", "ScheduleExpressionTimezone", "StartDate", "State", "Target"}
    )
    required = frozenset({"FlexibleTimeWindow", "ScheduleExpression", "Target"})
    replacing = frozenset({"GroupName", "Name"})
    named_by = "Name"

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("scheduler")
        made = client.create_schedule(**shaped(client, "CreateSchedule", {**properties, "Name": name}))
        return Made(name, {"Arn": made["ScheduleArn"]})

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("scheduler")
        made = client.update_schedule(**shaped(client, "UpdateSchedule", {**properties, "Name": held.name}))
        return Made(held.name, {"Arn": made["ScheduleArn"]})

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("scheduler").delete_schedule(Name=held.name, **_group(held.properties))

    def find(self, clients: Clients, held: Held) -> Made | None:
        found = answer_of(clients.get("scheduler").get_schedule, Name=held.name, **_group(held.properties))
        return Made(held.name, {"Arn": found["Arn"]}) if found else None


class ScheduleGroup(ResourceType):
    """Ref: its name. Arn, State."""

    type = "AWS::Scheduler::ScheduleGroup"
    service = "scheduler"
    attributes = frozenset({"Arn", "State"})
    known = frozenset({"Name", "Tags"})
    replacing = known
    named_by = "Name"

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        made = clients.get("scheduler").create_schedule_group(Name=name, Tags=tag_list(properties))
        return Made(name, {"Arn": made["ScheduleGroupArn"], "State": "ACTIVE"})

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("scheduler").delete_schedule_group(Name=held.name)

    def find(self, clients: Clients, held: Held) -> Made | None:
        found = answer_of(clients.get("scheduler").get_schedule_group, Name=held.name)
        return Made(held.name, {"Arn": found["Arn"], "State": found["State"]}) if found else None


def _group(properties: Mapping[str, Any]) -> dict[str, Any]:
    return only(properties, "GroupName")
