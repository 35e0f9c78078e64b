"""AWS::S3::Bucket with its notifications, and its policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, shaped, tag_list, text
from rie.deploy.state import Held

# In templates: how the list is called, the member with the target; in the API: both again.
_TARGETS = (
    ("LambdaConfigurations", "Function", "LambdaFunctionConfigurations", "LambdaFunctionArn"),
    ("QueueConfigurations", "Queue", "QueueConfigurations", "QueueArn"),
    ("TopicConfigurations", "Topic", "TopicConfigurations", "TopicArn"),
)


class Bucket(ResourceType):
    """Ref: its name. Arn, DomainName, RegionalDomainName."""

    type = "AWS::S3::Bucket"
    service = "s3"
    attributes = frozenset({"Arn", "DomainName", "RegionalDomainName"})
    known = frozenset(
        [
            "BucketEncryption",
            "BucketName",
            "NotificationConfiguration",
            "OwnershipControls",
            "PublicAccessBlockConfiguration",
            "Tags",
            "VersioningConfiguration",
        ]
    )
    replacing = frozenset({"BucketName"})
    named_by = "BucketName"
    longest_name = 63

    def name(self, chosen: str, properties: Mapping[str, Any]) -> str:
        return chosen.lower()

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("s3")
        where = {} if clients.region == "us-east-1" else {"LocationConstraint": clients.region}
        client.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
        self._set(client, name, properties, tuple(properties))
        return _bucket(name)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        self._set(clients.get("s3"), held.name, properties, changed)
        return _bucket(held.name)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("s3").delete_bucket(Bucket=held.name)

    def find(self, clients: Clients, held: Held) -> Made | None:
        found = answer_of(clients.get("s3").head_bucket, Bucket=held.name)
        return _bucket(held.name) if found else None

    def _set(self, client: Any, name: str, properties: Mapping[str, Any], changed: Sequence[str]) -> None:
        """Every property has an operation of its own."""
        if "VersioningConfiguration" in changed:
            status = properties.get("VersioningConfiguration", {"Status": "Suspended"})
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration=status)
        if "Tags" in changed:
            client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tag_list(properties)})
        if "BucketEncryption" in changed:
            self._encrypt(client, name, properties.get("BucketEncryption"))
        for key, member in (
            ("PublicAccessBlockConfiguration", "public_access_block"),
            ("OwnershipControls", "bucket_ownership_controls"),
        ):
            if key in changed and key in properties:
                operation = "PutPublicAccessBlock" if member.startswith("public") else "PutBucketOwnershipControls"
                wanted = {"Bucket": name, key: properties[key]}
                getattr(client, f"put_{member}")(**shaped(client, operation, wanted))
            elif key in changed:
                getattr(client, f"delete_{member}")(Bucket=name)
        if "NotificationConfiguration" in changed:
            wanted = notifications(properties.get("NotificationConfiguration", {}))
            # Whoever is told may not be able to answer a test event here: the manager polls.
            client.put_bucket_notification_configuration(
                Bucket=name, NotificationConfiguration=wanted, SkipDestinationValidation=True
            )

    def _encrypt(self, client: Any, name: str, wanted: Mapping[str, Any] | None) -> None:
        if wanted is None:
            client.delete_bucket_encryption(Bucket=name)
            return
        rules = [
            {("Apply" + key if key == "ServerSideEncryptionByDefault" else key): value for key, value in rule.items()}
            for rule in wanted["ServerSideEncryptionConfiguration"]
        ]
        client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": rules})


class BucketPolicy(ResourceType):
    """Ref: the bucket's name."""

    type = "AWS::S3::BucketPolicy"
    service = "s3"
    attributes: ClassVar[frozenset[str]] = frozenset()
    is_deleted_first = True
    known = frozenset({"Bucket", "PolicyDocument"})
    required = known
    replacing = frozenset({"Bucket"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        bucket = properties["Bucket"]
        clients.get("s3").put_bucket_policy(Bucket=bucket, Policy=text(properties["PolicyDocument"]))
        return Made(bucket)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        return self.create(clients, held.name, properties)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("s3").delete_bucket_policy(Bucket=held.properties["Bucket"])

    def find(self, clients: Clients, held: Held) -> Made | None:
        bucket = held.properties["Bucket"]
        found = answer_of(clients.get("s3").get_bucket_policy, Bucket=bucket)
        return Made(bucket) if found else None


def notifications(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A template's NotificationConfiguration as PutBucketNotificationConfiguration wants it."""
    told: dict[str, Any] = {}
    for listed, target, name, arn in _TARGETS:
        for each in wanted.get(listed, []):
            events = each["Event"] if isinstance(each["Event"], list) else [each["Event"]]
            configuration: dict[str, Any] = {arn: each[target], "Events": events}
            if "Filter" in each:
                configuration["Filter"] = {"Key": {"FilterRules": each["Filter"]["S3Key"]["Rules"]}}
            told.setdefault(name, []).append(configuration)
    if text(wanted.get("EventBridgeConfiguration", {}).get("EventBridgeEnabled", "false")) == "true":
        told["EventBridgeConfiguration"] = {}
    return told


def _bucket(name: str) -> Made:
    return Made(
        name,
        {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.amazonaws.com",
        },
    )
