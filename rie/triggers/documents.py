"""Events as functions get them from S3, SNS and EventBridge, of what an endpoint tells; pure (lambda.md §10.1)."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import orjson

from rie.triggers.inputs import payload_of

SERVICES = {"s3": "s3.amazonaws.com", "sns": "sns.amazonaws.com", "events": "events.amazonaws.com"}
SCHEDULER = "scheduler.amazonaws.com"
NO_SIZE = "ObjectRemoved:"  # of what is gone there is no size
LOCAL = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Push:
    """One event on its way: who sends it (`service`, for `source_arn`), to which function's ARN, and the payload.

    `role_arn`: the role that the service acts as, "" where it comes as itself, under the function's policy.
    """

    service: str
    function_arn: str
    source_arn: str
    source_account: str
    payload: bytes
    role_arn: str = ""


class NotAnEvent(ValueError):
    """What was told is not what this service tells."""


def push_of(told: dict[str, Any]) -> Push:
    """Of one line of the endpoint's. Raises NotAnEvent."""
    try:
        return _MAKERS[told["kind"]](told)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise NotAnEvent(f"{type(error).__name__}: {error}") from error


def _of_bucket(told: dict[str, Any]) -> Push:
    bucket = told["body"]["Records"][0]["s3"]["bucket"]["arn"]
    return Push(SERVICES["s3"], told["function"], bucket, told["account"], s3_event(told["body"], told["account"]))


def _of_topic(told: dict[str, Any]) -> Push:
    topic = told["body"]["TopicArn"]
    payload = sns_event(told["body"], told["subscription"])
    return Push(SERVICES["sns"], told["function"], topic, topic.split(":")[4], payload)


def _of_rule(told: dict[str, Any]) -> Push:
    payload = payload_of(told["target"], rule_event(told["body"]), told["rule"])
    return Push(SERVICES["events"], told["function"], told["rule"], told["rule"].split(":")[4], payload)


_MAKERS = {"s3": _of_bucket, "sns": _of_topic, "events": _of_rule}


def s3_event(body: dict[str, Any], account: str, configuration_id: str | None = None) -> bytes:
    """A notification with every member that S3's have; those that the endpoint has win.

    `configuration_id` is the user's, where the endpoint knows a queue of ours instead.
    """
    return orjson.dumps({"Records": [_s3_record(each, account, configuration_id) for each in body["Records"]]})


def _s3_record(told: dict[str, Any], account: str, configuration_id: str | None) -> dict[str, Any]:
    name = told["eventName"].removeprefix("s3:")
    bucket, thing = told["s3"]["bucket"], told["s3"]["object"]
    owner = _principal(account)
    key = quote_plus(unquote_plus(thing["key"]), safe="/")
    of_object: dict[str, Any] = {"key": key}
    if not name.startswith(NO_SIZE):
        of_object |= {"size": thing.get("size", 0), "eTag": thing.get("eTag", "")}
    if thing.get("versionId"):
        of_object["versionId"] = thing["versionId"]
    of_object["sequencer"] = thing.get("sequencer") or _sequencer(told["eventTime"])
    request_id = uuid.uuid4().hex[:16].upper()
    return {
        "eventVersion": told.get("eventVersion", "2.1"),
        "eventSource": "aws:s3",
        "awsRegion": told["awsRegion"],
        "eventTime": told["eventTime"],
        "eventName": name,
        "userIdentity": told.get("userIdentity") or {"principalId": f"AWS:{owner}"},
        "requestParameters": told.get("requestParameters") or {"sourceIPAddress": LOCAL},
        "responseElements": told.get("responseElements")
        or {
            "x-amz-request-id": request_id,
            "x-amz-id-2": hashlib.sha256(request_id.encode()).hexdigest(),
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id or told["s3"].get("configurationId", ""),
            "bucket": {
                "name": bucket["name"],
                "ownerIdentity": bucket.get("ownerIdentity") or {"principalId": owner},
                "arn": bucket["arn"],
            },
            "object": of_object,
        },
    }


def _principal(account: str) -> str:
    """An account's, in the look of S3's."""
    return f"A{hashlib.sha256(account.encode()).hexdigest()[:13].upper()}"


def _sequencer(at: str) -> str:
    """Grows with time, as S3's do."""
    try:
        moment = datetime.fromisoformat(at.replace("Z", "+00:00"))
    except ValueError:
        moment = datetime.now(UTC)
    return f"{int(moment.timestamp() * 1_000_000):016X}"


def sns_event(body: dict[str, Any], subscription_arn: str) -> bytes:
    """A notification in the spelling that functions see: `Url`, not `URL`, and every member there."""
    told = {
        "Type": "Notification",
        "MessageId": body["MessageId"],
        "TopicArn": body["TopicArn"],
        "Subject": body.get("Subject"),
        "Message": body["Message"],
        "Timestamp": body["Timestamp"],
        "SignatureVersion": str(body.get("SignatureVersion", "1")),
        "Signature": body.get("Signature", ""),
        "SigningCertUrl": body.get("SigningCertURL", ""),
        "UnsubscribeUrl": body.get("UnsubscribeURL", ""),
        "MessageAttributes": {name: _attribute(each) for name, each in (body.get("MessageAttributes") or {}).items()},
    }
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription_arn,
        "Sns": told,
    }
    return orjson.dumps({"Records": [record]})


def _attribute(told: dict[str, Any]) -> dict[str, Any]:
    """Some tell an attribute of a batch as it was published, not as it is delivered."""
    value = told.get("Value", told.get("StringValue", told.get("BinaryValue")))
    return {"Type": told.get("Type") or told.get("DataType", "String"), "Value": str(value)}


def rule_event(body: dict[str, Any]) -> dict[str, Any]:
    """The event of a bus, in EventBridge's order, its time in whole seconds."""
    return {
        "version": "0",
        "id": body["id"],
        "detail-type": body["detail-type"],
        "source": body["source"],
        "account": body["account"],
        "time": seconds(body["time"]),
        "region": body["region"],
        "resources": body.get("resources", []),
        "detail": body["detail"],
    }


def scheduled_event(rule_arn: str, at: float) -> dict[str, Any]:
    """What a scheduled rule sends where its target has no input of its own."""
    _, _, _, region, account, _ = rule_arn.split(":", 5)
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": seconds(at),
        "region": region,
        "resources": [rule_arn],
        "detail": {},
    }


def seconds(at: Any) -> str:
    """`2025-11-25T00:00:00Z` of epoch seconds, or of a text that says them."""
    try:
        moment = datetime.fromtimestamp(float(at), UTC)
    except (TypeError, ValueError):
        try:
            moment = datetime.fromisoformat(str(at).replace("Z", "+00:00")).astimezone(UTC)
        except ValueError:
            return str(at)
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"
