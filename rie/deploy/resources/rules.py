"""AWS::Events::Rule and EventBus, and AWS::Logs::LogGroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, only, shaped, tag_list, tags, text
from rie.deploy.state import Held


class Rule(ResourceType):
    """Ref: its name. Arn."""

    type = "AWS::Events::Rule"
    service = "events"
    known = frozenset(
        {"Description", "EventBusName", "EventPattern", "Name", "RoleArn", "ScheduleExpression", "State", "Tags"}
        | {"Targets"}
    )
    replacing = frozenset({"EventBusName", "Name", "Tags"})
    named_by = "Name"

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        made = self._put(clients, name, properties)
        self._aim(clients, name, [], properties)
        return made

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        made = self._put(clients, held.name, properties)
        self._aim(clients, held.name, held.properties.get("Targets", []), properties)
        return made

    def delete(self, clients: Clients, held: Held) -> None:
        client = clients.get("events")
        bus = only(held.properties, "EventBusName")
        # All there are: the manager adds one of its own where the endpoint can't call it.
        if listed := [each["Id"] for each in client.list_targets_by_rule(Rule=held.name, **bus)["Targets"]]:
            client.remove_targets(Rule=held.name, Ids=listed, **bus)
        client.delete_rule(Name=held.name, **bus)

    def find(self, clients: Clients, held: Held) -> Made | None:
        bus = only(held.properties, "EventBusName")
        found = answer_of(clients.get("events").describe_rule, Name=held.name, **bus)
        return Made(held.name, {"Arn": found["Arn"]}) if found else None

    def _put(self, clients: Clients, name: str, properties: Mapping[str, Any]) -> Made:
        client = clients.get("events")
        plain = only(properties, "Description", "EventBusName", "RoleArn", "ScheduleExpression", "State")
        if "EventPattern" in properties:
            plain["EventPattern"] = text(properties["EventPattern"])
        if properties.get("Tags"):
            plain["Tags"] = tag_list(properties)
        return Made(name, {"Arn": client.put_rule(Name=name, **plain)["RuleArn"]})

    def _aim(
        self, clients: Clients, name: str, old: Sequence[Mapping[str, Any]], properties: Mapping[str, Any]
    ) -> None:
        client = clients.get("events")
        wanted = properties.get("Targets", [])
        bus = only(properties, "EventBusName")
        if gone := sorted({each["Id"] for each in old} - {each["Id"] for each in wanted}):
            client.remove_targets(Rule=name, Ids=gone, **bus)
        if wanted:
            answer = client.put_targets(**shaped(client, "PutTargets", {"Rule": name, "Targets": wanted, **bus}))
            if answer.get("FailedEntryCount"):
                from botocore.exceptions import ClientError

                first = answer["FailedEntries"][0]
                raise ClientError(
                    {"Error": {"Code": first.get("ErrorCode", ""), "Message": first.get("ErrorMessage", "")}},
                    "PutTargets",
                )


class EventBus(ResourceType):
    """Ref and Name: its name. Arn."""

    type = "AWS::Events::EventBus"
    service = "events"
    attributes = frozenset({"Arn", "Name"})
    known = frozenset({"Description", "Name", "Tags"})
    replacing = known
    named_by = "Name"

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        made = clients.get("events").create_event_bus(Name=name, Tags=tag_list(properties))
        return Made(name, {"Arn": made["EventBusArn"], "Name": name})

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("events").delete_event_bus(Name=held.name)

    def find(self, clients: Clients, held: Held) -> Made | None:
        found = answer_of(clients.get("events").describe_event_bus, Name=held.name)
        return Made(held.name, {"Arn": found["Arn"], "Name": held.name}) if found else None


class LogGroup(ResourceType):
    """Ref: its name. Arn. Without an endpoint for logs it is noted only: the manager keeps what functions log."""

    type = "AWS::Logs::LogGroup"
    service = "logs"
    known = frozenset({"KmsKeyId", "LogGroupClass", "LogGroupName", "RetentionInDays", "Tags"})
    replacing = frozenset({"KmsKeyId", "LogGroupClass", "LogGroupName", "Tags"})
    named_by = "LogGroupName"
    longest_name = 512

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        if clients.has("logs"):
            given = tags(properties)
            options = {**only(properties, "LogGroupClass"), **({"tags": given} if given else {})}
            clients.get("logs").create_log_group(logGroupName=name, **{_small(key): v for key, v in options.items()})
        return self.update(clients, Held("", self.type, name), properties, tuple(properties))

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        if clients.has("logs") and "RetentionInDays" in changed:
            client = clients.get("logs")
            if "RetentionInDays" in properties:
                days = int(properties["RetentionInDays"])
                client.put_retention_policy(logGroupName=held.name, retentionInDays=days)
            else:
                client.delete_retention_policy(logGroupName=held.name)
        return self._made(clients, held.name)

    def delete(self, clients: Clients, held: Held) -> None:
        if clients.has("logs"):
            clients.get("logs").delete_log_group(logGroupName=held.name)

    def find(self, clients: Clients, held: Held) -> Made | None:
        if not clients.has("logs"):
            return self._made(clients, held.name) if held.physical_id else None
        listed = clients.get("logs").describe_log_groups(logGroupNamePrefix=held.name)["logGroups"]
        is_there = any(each["logGroupName"] == held.name for each in listed)
        return self._made(clients, held.name) if is_there else None

    def _made(self, clients: Clients, name: str) -> Made:
        return Made(name, {"Arn": f"arn:aws:logs:{clients.region}:{clients.account}:log-group:{name}:*"})


def _small(name: str) -> str:
    return name[0].lower() + name[1:]
