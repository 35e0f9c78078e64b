"""AWS::SQS::Queue and its policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, tags, text
from rie.deploy.state import Held

# Attributes, and what one that leaves the template goes back to.
_ATTRIBUTES = {
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "DelaySeconds": "0",
    "FifoThroughputLimit": "perQueue",
    "KmsDataKeyReusePeriodSeconds": "300",
    "KmsMasterKeyId": "",
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "RedriveAllowPolicy": "",
    "RedrivePolicy": "",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "30",
}


class Queue(ResourceType):
    """Ref: its URL. Arn, QueueName, QueueUrl."""

    type = "AWS::SQS::Queue"
    service = "sqs"
    attributes = frozenset({"Arn", "QueueName", "QueueUrl"})
    known = frozenset({*_ATTRIBUTES, "FifoQueue", "QueueName", "Tags"})
    replacing = frozenset({"FifoQueue", "QueueName"})
    named_by = "QueueName"
    longest_name = 80

    def name(self, chosen: str, properties: Mapping[str, Any]) -> str:
        return f"{chosen[:75]}.fifo" if text(properties.get("FifoQueue")) == "true" else chosen

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        attributes = _attributes(properties)
        if text(properties.get("FifoQueue")) == "true":
            attributes["FifoQueue"] = "true"
        client = clients.get("sqs")
        url = client.create_queue(QueueName=name, Attributes=attributes, tags=tags(properties))["QueueUrl"]
        return _queue(client, name, url)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("sqs")
        url = held.physical_id
        left = {key: _ATTRIBUTES[key] for key in changed if key in _ATTRIBUTES and key not in properties}
        wanted = {key: value for key, value in {**left, **_attributes(properties)}.items() if key in changed}
        if wanted:
            client.set_queue_attributes(QueueUrl=url, Attributes=wanted)
        if "Tags" in changed:
            if gone := sorted(tags(held.properties).keys() - tags(properties).keys()):
                client.untag_queue(QueueUrl=url, TagKeys=gone)
            client.tag_queue(QueueUrl=url, Tags=tags(properties))
        return _queue(client, held.name, url)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("sqs").delete_queue(QueueUrl=held.physical_id)

    def find(self, clients: Clients, held: Held) -> Made | None:
        client = clients.get("sqs")
        found = answer_of(client.get_queue_url, QueueName=held.name)
        return _queue(client, held.name, found["QueueUrl"]) if found else None


class QueuePolicy(ResourceType):
    """Ref: a name."""

    type = "AWS::SQS::QueuePolicy"
    service = "sqs"
    attributes = frozenset({"Id"})
    is_deleted_first = True
    known = frozenset({"PolicyDocument", "Queues"})
    required = known
    replacing = frozenset({"Queues"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        for url in properties["Queues"]:
            policy = {"Policy": text(properties["PolicyDocument"])}
            clients.get("sqs").set_queue_attributes(QueueUrl=url, Attributes=policy)
        return Made(name, {"Id": name})

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        return self.create(clients, held.name, properties)

    def delete(self, clients: Clients, held: Held) -> None:
        for url in held.properties["Queues"]:
            clients.get("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})

    def find(self, clients: Clients, held: Held) -> Made | None:
        for url in held.properties["Queues"]:
            if answer_of(clients.get("sqs").get_queue_attributes, QueueUrl=url) is None:
                return None
        return Made(held.name, {"Id": held.name})


def _attributes(properties: Mapping[str, Any]) -> dict[str, str]:
    return {key: text(properties[key]) for key in _ATTRIBUTES if key in properties}


def _queue(client: Any, name: str, url: str) -> Made:
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return Made(url, {"Arn": attributes["QueueArn"], "QueueName": name, "QueueUrl": url})
