"""Queues of ours behind buckets, topics and rules: which there should be, which there are, made and removed. Blocks."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import orjson

from rie.aws import Clients
from rie.triggers.documents import SERVICES, NotAnEvent, Push, push_of, rule_event, s3_event

MARK = "rie-tap-"
RETENTION_S = "86400"
VISIBILITY_S = "60"
FILTERS = ("FilterPolicy", "FilterPolicyScope")
IsOurs = Callable[[str], bool]
"""Whether an ARN is that of a function of this manager."""


@dataclass(frozen=True, slots=True)
class Tap:
    """A queue behind one entry of the user's configuration.

    `service` is "s3", "sns" or "events"; `entry` what the user has there; `name` is the queue's, and tells taps apart.
    """

    name: str
    service: str
    source_arn: str
    function_arn: str
    entry: dict[str, Any] = field(hash=False)

    def push(self, body: str) -> Push | None:
        """The event of a message in the queue; None for one that is none (S3's test event). Raises NotAnEvent."""
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise NotAnEvent(str(error)) from error
        if self.service == "sns":
            arn = self.entry["SubscriptionArn"]
            return push_of({"kind": "sns", "function": self.function_arn, "body": told, "subscription": arn})
        if self.service == "s3":
            if "Records" not in told:
                return None
            account = self.function_arn.split(":")[4]
            payload = s3_event(told, account, self.entry.get("Id"))
            return Push(SERVICES["s3"], self.function_arn, self.source_arn, account, payload)
        body_of = {"account": self.source_arn.split(":")[4], **told}
        return push_of(
            {
                "kind": "events",
                "function": self.function_arn,
                "body": rule_event(body_of),
                "rule": self.source_arn,
                "target": self.entry,
            }
        )


class Taps:
    """`owner` tells this manager's queues from another's at the same endpoint. Raises botocore's errors."""

    def __init__(self, clients: Clients, owner: str, region: str, account: str, is_ours: IsOurs) -> None:
        self._clients = clients
        self._region = region
        self._account = account
        self._prefix = f"{MARK}{owner[:8]}-"
        self._is_ours = is_ours

    def wanted(self, service: str, pattern: str) -> list[Tap]:
        """For every entry that names a function of ours, at the sources that a policy lets in."""
        found = []
        for source in self._sources(service, pattern):
            with contextlib.suppress(*self._gone(service)):
                found += [self._tap(service, source, arn, entry) for arn, entry in self._entries(service, source)]
        return found

    def open(self, tap: Tap) -> str:
        """Make the queue and put it behind the source; its URL. Doing it again changes nothing."""
        sqs = self._clients.client("sqs", self._region)
        arn = f"arn:aws:sqs:{self._region}:{self._account}:{tap.name}"
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": SERVICES[tap.service]},
                    "Action": "sqs:SendMessage",
                    "Resource": arn,
                    "Condition": {"ArnEquals": {"aws:SourceArn": tap.source_arn}},
                }
            ],
        }
        attributes = {
            "MessageRetentionPeriod": RETENTION_S,
            "VisibilityTimeout": VISIBILITY_S,
            "Policy": orjson.dumps(policy).decode(),
        }
        made = sqs.create_queue(QueueName=tap.name, Attributes=attributes, tags={"rie:source": tap.source_arn})
        self._attach(tap, arn)
        return str(made["QueueUrl"])

    def close(self, name: str) -> None:
        """Take a queue away, and what leads to it."""
        sqs = self._clients.client("sqs", self._region)
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        source = sqs.list_queue_tags(QueueUrl=url).get("Tags", {}).get("rie:source", "")
        if source:
            with contextlib.suppress(Exception):  # the source may have gone, and its configuration with it
                self._detach(source, name)
        sqs.delete_queue(QueueUrl=url)

    def left(self) -> list[str]:
        """The names of the queues that this manager has."""
        told = self._clients.client("sqs", self._region).list_queues(QueueNamePrefix=self._prefix)
        return [url.rpartition("/")[2] for url in told.get("QueueUrls", [])]

    def client(self, service: str) -> Any:
        """A client of the service."""
        return self._clients.client(service, self._region)

    def _tap(self, service: str, source: str, function_arn: str, entry: dict[str, Any]) -> Tap:
        """Another entry is another queue, so that a change of the user's takes effect."""
        text = orjson.dumps([source, function_arn, entry], option=orjson.OPT_SORT_KEYS)
        return Tap(self._prefix + hashlib.sha256(text).hexdigest()[:24], service, source, function_arn, entry)

    def _gone(self, service: str) -> tuple[type[Exception], ...]:
        exceptions = self.client(service).exceptions
        names = {"s3": "NoSuchBucket", "sns": "NotFoundException", "events": "ResourceNotFoundException"}
        return (getattr(exceptions, names[service]),)

    # -- each service in turn -------------------------------------------------------------------------------------

    def _sources(self, service: str, pattern: str) -> Iterable[str]:
        if not any(sign in pattern for sign in "*?"):
            return [pattern]
        client = self.client(service)
        if service == "s3":
            found = [f"arn:aws:s3:::{each['Name']}" for each in client.list_buckets()["Buckets"]]
        elif service == "sns":
            pages = client.get_paginator("list_topics").paginate()
            found = [each["TopicArn"] for page in pages for each in page["Topics"]]
        else:
            pages = client.get_paginator("list_rules").paginate()
            found = [each["Arn"] for page in pages for each in page["Rules"]]
        return [each for each in found if fnmatchcase(each, pattern)]

    def _entries(self, service: str, source: str) -> list[tuple[str, dict[str, Any]]]:
        """(the function's ARN, what the user has set) for each."""
        client = self.client(service)
        if service == "s3":
            told = client.get_bucket_notification_configuration(Bucket=_bucket(source))
            made = [(each["LambdaFunctionArn"], each) for each in told.get("LambdaFunctionConfigurations", [])]
        elif service == "sns":
            pages = client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=source)
            made = [
                (each["Endpoint"], self._subscription(each["SubscriptionArn"]))
                for page in pages
                for each in page["Subscriptions"]
                if each["Protocol"] == "lambda"
            ]
        else:
            rule = client.describe_rule(**_rule(source, "Name"))
            if not rule.get("EventPattern") or rule.get("State") == "DISABLED":
                return []  # schedules are run here
            told = client.list_targets_by_rule(**_rule(source, "Rule"))
            made = [(each["Arn"], each) for each in told["Targets"]]
        return [(arn, entry) for arn, entry in made if self._is_ours(arn)]

    def _subscription(self, arn: str) -> dict[str, Any]:
        told = self.client("sns").get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
        return {"SubscriptionArn": arn, **{name: told[name] for name in FILTERS if told.get(name)}}

    def _attach(self, tap: Tap, queue_arn: str) -> None:
        client = self.client(tap.service)
        if tap.service == "s3":
            entry: dict[str, Any] = {"Id": tap.name, "QueueArn": queue_arn, "Events": tap.entry["Events"]}
            if tap.entry.get("Filter"):
                entry["Filter"] = tap.entry["Filter"]
            self._change_bucket(_bucket(tap.source_arn), tap.name, entry)
        elif tap.service == "sns":
            filters = {name: tap.entry[name] for name in FILTERS if name in tap.entry}
            client.subscribe(TopicArn=tap.source_arn, Protocol="sqs", Endpoint=queue_arn, Attributes=filters)
        else:
            client.put_targets(**_rule(tap.source_arn, "Rule"), Targets=[{"Id": tap.name, "Arn": queue_arn}])

    def _detach(self, source: str, name: str) -> None:
        service = source.split(":")[2]
        client = self.client(service)
        if service == "s3":
            self._change_bucket(_bucket(source), name, None)
        elif service == "sns":
            for page in client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=source):
                for each in page["Subscriptions"]:
                    if each["Endpoint"].endswith(f":{name}"):
                        client.unsubscribe(SubscriptionArn=each["SubscriptionArn"])
        else:
            client.remove_targets(**_rule(source, "Rule"), Ids=[name])

    def _change_bucket(self, bucket: str, name: str, entry: dict[str, Any] | None) -> None:
        """A bucket's configuration is written whole: what is the user's stays as it is."""
        client = self.client("s3")
        told = client.get_bucket_notification_configuration(Bucket=bucket)
        told.pop("ResponseMetadata", None)
        before = told.get("QueueConfigurations", [])
        after = [each for each in before if each.get("Id") != name] + ([entry] if entry is not None else [])
        if entry in before or after == before:
            return
        told["QueueConfigurations"] = after
        client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=told)


def _bucket(arn: str) -> str:
    return arn.rpartition(":")[2]


def _rule(arn: str, member: str) -> dict[str, str]:
    """How the API names a rule, on a bus of its own or on the default one."""
    *_, bus, name = arn.split(":", 5)[5].split("/")
    return {member: name} if bus == "rule" else {member: name, "EventBusName": bus}
