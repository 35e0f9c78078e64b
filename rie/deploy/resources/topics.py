"""AWS::SNS::Topic, its policy and its subscriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, tag_list, tags, text
from rie.deploy.state import Held

_ATTRIBUTES = {
    "ContentBasedDeduplication": "false",
    "DisplayName": "",
    "KmsMasterKeyId": "",
    "SignatureVersion": "1",
    "TracingConfig": "PassThrough",
}
_SUBSCRIBED = ("FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy")


class Topic(ResourceType):
    """Ref and TopicArn: its ARN. TopicName."""

    type = "AWS::SNS::Topic"
    service = "sns"
    attributes = frozenset({"TopicArn", "TopicName"})
    known = frozenset({*_ATTRIBUTES, "FifoTopic", "Subscription", "Tags", "TopicName"})
    replacing = frozenset({"FifoTopic", "Subscription", "TopicName"})
    named_by = "TopicName"
    longest_name = 256

    def name(self, chosen: str, properties: Mapping[str, Any]) -> str:
        return f"{chosen[:250]}.fifo" if text(properties.get("FifoTopic")) == "true" else chosen

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("sns")
        attributes = {key: text(properties[key]) for key in _ATTRIBUTES if key in properties}
        if text(properties.get("FifoTopic")) == "true":
            attributes["FifoTopic"] = "true"
        arn = client.create_topic(Name=name, Attributes=attributes, Tags=tag_list(properties))["TopicArn"]
        for each in properties.get("Subscription", []):
            client.subscribe(TopicArn=arn, Protocol=each["Protocol"], Endpoint=each["Endpoint"])
        return _topic(arn)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("sns")
        arn = held.physical_id
        for key in _ATTRIBUTES.keys() & set(changed):
            value = text(properties.get(key, _ATTRIBUTES[key]))
            client.set_topic_attributes(TopicArn=arn, AttributeName=key, AttributeValue=value)
        if "Tags" in changed:
            if gone := sorted(tags(held.properties).keys() - tags(properties).keys()):
                client.untag_resource(ResourceArn=arn, TagKeys=gone)
            client.tag_resource(ResourceArn=arn, Tags=tag_list(properties))
        return _topic(arn)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("sns").delete_topic(TopicArn=held.physical_id)

    def find(self, clients: Clients, held: Held) -> Made | None:
        arn = held.physical_id or f"arn:aws:sns:{clients.region}:{clients.account}:{held.name}"
        found = answer_of(clients.get("sns").get_topic_attributes, TopicArn=arn)
        return _topic(arn) if found else None


class TopicPolicy(ResourceType):
    """Ref: a name."""

    type = "AWS::SNS::TopicPolicy"
    service = "sns"
    attributes = frozenset({"Id"})
    is_deleted_first = True
    known = frozenset({"PolicyDocument", "Topics"})
    required = known
    replacing = frozenset({"Topics"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        for arn in properties["Topics"]:
            policy = text(properties["PolicyDocument"])
            clients.get("sns").set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=policy)
        return Made(name, {"Id": name})

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        return self.create(clients, held.name, properties)

    def delete(self, clients: Clients, held: Held) -> None:
        """A topic always has a policy: it stays with the topic, as it does on the service."""

    def find(self, clients: Clients, held: Held) -> Made | None:
        for arn in held.properties["Topics"]:
            if answer_of(clients.get("sns").get_topic_attributes, TopicArn=arn) is None:
                return None
        return Made(held.name, {"Id": held.name})


class Subscription(ResourceType):
    """Ref and Arn: its ARN."""

    type = "AWS::SNS::Subscription"
    service = "sns"
    known = frozenset({*_SUBSCRIBED, "Endpoint", "Protocol", "Region", "TopicArn"})
    required = frozenset({"Endpoint", "Protocol", "TopicArn"})
    replacing = frozenset({"Endpoint", "Protocol", "Region", "TopicArn"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        arn = clients.get("sns").subscribe(
            TopicArn=properties["TopicArn"],
            Protocol=properties["Protocol"],
            Endpoint=properties["Endpoint"],
            Attributes={key: text(properties[key]) for key in _SUBSCRIBED if key in properties},
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]
        return Made(arn, {"Arn": arn})

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        defaults = {"FilterPolicy": "{}", "FilterPolicyScope": "MessageAttributes", "RawMessageDelivery": "false"}
        for key in set(_SUBSCRIBED).intersection(changed):
            clients.get("sns").set_subscription_attributes(
                SubscriptionArn=held.physical_id,
                AttributeName=key,
                AttributeValue=text(properties.get(key, defaults.get(key, ""))),
            )
        return Made(held.physical_id, {"Arn": held.physical_id})

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("sns").unsubscribe(SubscriptionArn=held.physical_id)

    def find(self, clients: Clients, held: Held) -> Made | None:
        if not held.physical_id:
            return None  # subscribing again gives the same one
        arn = held.physical_id
        found = answer_of(clients.get("sns").get_subscription_attributes, SubscriptionArn=arn)
        return Made(arn, {"Arn": arn}) if found else None


def _topic(arn: str) -> Made:
    return Made(arn, {"TopicArn": arn, "TopicName": arn.rpartition(":")[2]})
