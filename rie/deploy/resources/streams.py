"""AWS::DynamoDB::Table and AWS::Kinesis::Stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, only, shaped, tag_list, tags, text
from rie.deploy.state import Held


class Table(ResourceType):
    """Ref: its name. Arn, StreamArn."""

    type = "AWS::DynamoDB::Table"
    service = "dynamodb"
    attributes = frozenset({"Arn", "StreamArn"})
    known = frozenset(
        [
            "AttributeDefinitions",
            "BillingMode",
            "DeletionProtectionEnabled",
            "GlobalSecondaryIndexes",
            "KeySchema",
            "LocalSecondaryIndexes",
            "PointInTimeRecoverySpecification",
            "ProvisionedThroughput",
            "SSESpecification",
            "StreamSpecification",
            "TableClass",
            "TableName",
            "Tags",
            "TimeToLiveSpecification",
        ]
    )
    required = frozenset({"KeySchema"})
    replacing = frozenset(
        {"AttributeDefinitions", "GlobalSecondaryIndexes", "KeySchema", "LocalSecondaryIndexes", "TableName"}
    )
    named_by = "TableName"
    longest_name = 255

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("dynamodb")
        wanted = {key: value for key, value in _table(properties).items() if value is not None}
        wanted |= {"TableName": name, **({"Tags": tag_list(properties)} if properties.get("Tags") else {})}
        client.create_table(**shaped(client, "CreateTable", wanted))
        self._beside(client, name, properties, tuple(properties))
        return _await_table(client, name)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("dynamodb")
        updatable = "BillingMode DeletionProtectionEnabled ProvisionedThroughput SSESpecification TableClass"
        wanted = {key: value for key, value in only(_table(properties), *updatable.split()).items() if key in changed}
        if "StreamSpecification" in changed:
            stream = _table(properties).get("StreamSpecification", {"StreamEnabled": False})
            there = client.describe_table(TableName=held.name)["Table"].get("StreamSpecification")
            if stream != (there or {"StreamEnabled": False}):  # what is enabled can't be enabled
                wanted["StreamSpecification"] = stream
        if wanted:
            client.update_table(**shaped(client, "UpdateTable", {"TableName": held.name, **wanted}))
        self._beside(client, held.name, properties, changed)
        made = _await_table(client, held.name)
        if "Tags" in changed:
            if gone := sorted(tags(held.properties).keys() - tags(properties).keys()):
                client.untag_resource(ResourceArn=made.attributes["Arn"], TagKeys=gone)
            client.tag_resource(ResourceArn=made.attributes["Arn"], Tags=tag_list(properties))
        return made

    def delete(self, clients: Clients, held: Held) -> None:
        client = clients.get("dynamodb")
        client.delete_table(TableName=held.name)
        client.get_waiter("table_not_exists").wait(TableName=held.name, WaiterConfig={"Delay": 1})

    def find(self, clients: Clients, held: Held) -> Made | None:
        client = clients.get("dynamodb")
        found = answer_of(client.describe_table, TableName=held.name)
        return _await_table(client, held.name) if found else None

    def _beside(self, client: Any, name: str, properties: Mapping[str, Any], changed: Sequence[str]) -> None:
        lives, recovery = "TimeToLiveSpecification", "PointInTimeRecoverySpecification"
        if lives in changed and lives in properties and not _lives(client, name, properties[lives]):
            wanted = {"TableName": name, lives: properties[lives]}
            client.update_time_to_live(**shaped(client, "UpdateTimeToLive", wanted))
        if recovery in changed and recovery in properties:
            wanted = {"TableName": name, recovery: properties[recovery]}
            client.update_continuous_backups(**shaped(client, "UpdateContinuousBackups", wanted))


class Stream(ResourceType):
    """Ref: its name. Arn."""

    type = "AWS::Kinesis::Stream"
    service = "kinesis"
    known = frozenset({"Name", "RetentionPeriodHours", "ShardCount", "StreamEncryption", "StreamModeDetails", "Tags"})
    replacing = frozenset({"Name", "StreamModeDetails", "Tags", "StreamEncryption"})
    named_by = "Name"
    longest_name = 128

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("kinesis")
        wanted = {"StreamName": name, **only(properties, "ShardCount", "StreamModeDetails")}
        if "StreamModeDetails" not in wanted:
            wanted.setdefault("ShardCount", 1)
        client.create_stream(**shaped(client, "CreateStream", wanted))
        client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
        if "RetentionPeriodHours" in properties:
            self._retain(client, name, int(properties["RetentionPeriodHours"]))
        if encryption := properties.get("StreamEncryption"):
            client.start_stream_encryption(StreamName=name, **encryption)
        if given := tags(properties):
            client.add_tags_to_stream(StreamName=name, Tags=given)
        return _stream(client, name)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("kinesis")
        if "ShardCount" in changed:
            count = int(properties.get("ShardCount", 1))
            client.update_shard_count(StreamName=held.name, TargetShardCount=count, ScalingType="UNIFORM_SCALING")
            client.get_waiter("stream_exists").wait(StreamName=held.name, WaiterConfig={"Delay": 1})
        if "RetentionPeriodHours" in changed:
            self._retain(client, held.name, int(properties.get("RetentionPeriodHours", 24)))
        return _stream(client, held.name)

    def delete(self, clients: Clients, held: Held) -> None:
        client = clients.get("kinesis")
        client.delete_stream(StreamName=held.name, EnforceConsumerDeletion=True)
        client.get_waiter("stream_not_exists").wait(StreamName=held.name, WaiterConfig={"Delay": 1})

    def find(self, clients: Clients, held: Held) -> Made | None:
        client = clients.get("kinesis")
        found = answer_of(client.describe_stream_summary, StreamName=held.name)
        return _stream(client, held.name) if found else None

    def _retain(self, client: Any, name: str, hours: int) -> None:
        now = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["RetentionPeriodHours"]
        if hours > now:
            client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=hours)
        elif hours < now:
            client.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=hours)


def _table(properties: Mapping[str, Any]) -> dict[str, Any]:
    beside = {"PointInTimeRecoverySpecification", "TableName", "Tags", "TimeToLiveSpecification"}
    wanted = {key: value for key, value in properties.items() if key not in beside}
    if "StreamSpecification" in wanted:
        view = wanted["StreamSpecification"]["StreamViewType"]
        wanted["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": view}
    if encryption := wanted.get("SSESpecification"):
        renamed = {"SSEEnabled": "Enabled"}
        wanted["SSESpecification"] = {renamed.get(key, key): value for key, value in encryption.items()}
    return wanted


def _lives(client: Any, name: str, wanted: Mapping[str, Any]) -> bool:
    """Whether items' time to live is as wanted: what is enabled can't be enabled."""
    told = client.describe_time_to_live(TableName=name).get("TimeToLiveDescription", {})
    is_enabled = told.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    is_wanted = text(wanted.get("Enabled")) == "true"
    return is_enabled == is_wanted and (not is_enabled or told.get("AttributeName") == wanted.get("AttributeName"))


def _await_table(client: Any, name: str) -> Made:
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    table = client.describe_table(TableName=name)["Table"]
    attributes = {"Arn": table["TableArn"]}
    if "LatestStreamArn" in table:
        attributes["StreamArn"] = table["LatestStreamArn"]
    return Made(name, attributes)


def _stream(client: Any, name: str) -> Made:
    summary = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    return Made(name, {"Arn": summary["StreamARN"]})
