"""The part of CloudWatch Logs that logs, log clients and terraform need: JSON 1.1 at POST /."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

import orjson
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from rie.errors import ServiceError
from rie.iam.decision import Call, authorize, refusal
from rie.iam.sigv4 import Sent
from rie.logs.changes import LogChanges
from rie.logs.query import LogQueries, Params, View, group_arn
from rie.model.scope import Scope
from rie.plane.gate import Gate

log = logging.getLogger(__name__)

TARGET = "Logs_20140328."
SERVICES = ("logs",)
JSON = [("Content-Type", "application/x-amz-json-1.1")]
ON_STREAMS = ("DeleteLogStream", "GetLogEvents", "PutLogEvents")
NAME = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}", re.ASCII)

Answer = tuple[int, list[tuple[str, str]], bytes]


class CloudWatchLogs:
    """The groups are this manager's own; they are its account's, in every region."""

    def __init__(self, gate: Gate, queries: LogQueries, changes: LogChanges) -> None:
        self._gate = gate
        self._operations: dict[str, Callable[[Scope, Params], View]] = {
            "AssociateKmsKey": changes.associate_kms_key,
            "CreateLogGroup": changes.create_log_group,
            "CreateLogStream": changes.create_log_stream,
            "DeleteLogGroup": changes.delete_log_group,
            "DeleteLogStream": changes.delete_log_stream,
            "DeleteRetentionPolicy": changes.delete_retention_policy,
            "DeleteSubscriptionFilter": changes.delete_subscription_filter,
            "DescribeLogGroups": queries.describe_log_groups,
            "DescribeLogStreams": queries.describe_log_streams,
            "DescribeSubscriptionFilters": queries.describe_subscription_filters,
            "DisassociateKmsKey": changes.disassociate_kms_key,
            "FilterLogEvents": queries.filter_log_events,
            "GetLogEvents": queries.get_log_events,
            "ListLogGroups": queries.list_log_groups,
            "ListTagsForResource": queries.list_tags_for_resource,
            "ListTagsLogGroup": queries.list_tags_log_group,
            "PutLogEvents": changes.put_log_events,
            "PutRetentionPolicy": changes.put_retention_policy,
            "PutSubscriptionFilter": changes.put_subscription_filter,
            "TagLogGroup": changes.tag_log_group,
            "TagResource": changes.tag_resource,
            "UntagLogGroup": changes.untag_log_group,
            "UntagResource": changes.untag_resource,
        }

    @staticmethod
    def takes(sent: Sent) -> bool:
        """Whether a request is for CloudWatch Logs."""
        return sent.method == "POST" and sent.path == "/" and sent.headers.get("x-amz-target", "").startswith(TARGET)

    async def answer(self, sent: Sent, body: bytes) -> Answer:
        """(status, headers, body) of the answer, whatever it is."""
        headers = [*JSON, ("x-amzn-RequestId", str(uuid.uuid4()))]
        try:
            return 200, headers, orjson.dumps(await self._answer(sent, body))
        except ServiceError as error:
            document = {"__type": error.code, "message": error.message}
            return error.status or 400, headers, orjson.dumps(document)
        except Exception:
            log.exception("cannot answer a question about logs")
            return 500, headers, b'{"__type":"ServiceUnavailableException","message":"The manager\'s log says why."}'

    async def _answer(self, sent: Sent, body: bytes) -> View:
        identity = await self._gate.identify(sent, body, SERVICES)
        name = sent.headers["x-amz-target"].removeprefix(TARGET)
        operation = self._operations.get(name)
        if operation is None:
            raise ServiceError("UnknownOperationException", f"{name[:64]} is not available here.")
        params = await asyncio.to_thread(_read, name, body)
        scope = Scope(self._gate.account, identity.scope.region)
        call = Call(identity.caller, f"logs:{name}", _resource(scope, name, params), self._gate.account)
        decision = authorize(call)
        if not decision.is_allowed:
            raise refusal(call, decision)
        return await asyncio.to_thread(operation, scope, params)


def _resource(scope: Scope, name: str, params: Params) -> str:
    """What the policies of a caller speak of: a stream, or a group with all that is in it."""
    members = ("logGroupName", "logGroupIdentifier", "resourceArn", "resourceIdentifier")
    given = next((params[member] for member in members if params.get(member)), "*")
    stream = params.get("logStreamName") if name in ON_STREAMS else None
    return f"{group_arn(scope, given)}:{'*' if stream is None else f'log-stream:{stream}'}"


def _read(name: str, body: bytes) -> dict[str, Any]:
    """The parameters, as the service's model wants them. Raises ServiceError."""
    try:
        params = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ServiceError("SerializationException", str(error)) from None
    if not isinstance(params, dict):
        raise ServiceError("SerializationException", "The request is no object.")
    report = ParamValidator().validate(params, _model().operation_model(name).input_shape)
    if report.has_errors():
        raise ServiceError("InvalidParameterException", f"1 validation error detected: {report.generate_report()}")
    group = params.get("logGroupName")
    if group is not None and not NAME.fullmatch(group):
        raise ServiceError(
            "InvalidParameterException",
            f"1 validation error detected: Value '{group[:512]}' at 'logGroupName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+",
        )
    return params


@cache
def _model() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("logs", "service-2"), "logs")
