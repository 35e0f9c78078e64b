"""Looks at a source before a mapping of it is taken on: it must be there, and fit its function (lambda.md §6.1)."""

from __future__ import annotations

from typing import Any

from rie.aws import Clients
from rie.errors import ServiceError
from rie.functions.faults import refused
from rie.model.function import Function
from rie.model.mapping import Mapping

GONE = frozenset(("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue"))
NO_QUEUE = (
    "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
    "SQS Error Message: The specified queue does not exist."
)


class Inspection:
    """Blocks; from any thread. Raises ServiceError (InvalidParameterValueException)."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def __call__(self, mapping: Mapping, function: Function) -> None:
        """An endpoint that can't be asked is no reason to refuse: the poller waits for it, and says so."""
        role = function.configuration.role
        region = mapping.source_arn.split(":")[3] if mapping.source_arn else ""
        if mapping.service == "sqs":
            self._queue(mapping, function, self._clients.client("sqs", region, role))
        elif mapping.service == "kinesis":
            self._stream(mapping, self._clients.client("kinesis", region, role), "describe_stream_summary", "StreamARN")
        elif mapping.service == "dynamodb":
            self._stream(mapping, self._clients.client("dynamodbstreams", region, role), "describe_stream", "StreamArn")

    def _queue(self, mapping: Mapping, function: Function, client: Any) -> None:
        account, name = mapping.source_arn.split(":")[4:6]
        try:
            url = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
            told = client.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
        except ServiceError:  # the role can't be assumed
            raise
        except Exception as error:  # botocore's errors have no common root but Exception
            code = _code(error)
            if code in GONE:
                raise refused(NO_QUEUE) from None
            if "AccessDenied" in code:
                raise refused(_denied("ReceiveMessage", "SQS")) from None
            return
        visible_s, timeout_s = int(told["Attributes"]["VisibilityTimeout"]), function.configuration.timeout_s
        if visible_s < timeout_s:
            raise refused(
                f"Queue visibility timeout: {visible_s} seconds is less than Function timeout: {timeout_s} seconds"
            )

    def _stream(self, mapping: Mapping, client: Any, operation: str, member: str) -> None:
        arn = mapping.source_arn.partition("/consumer/")[0] if mapping.service == "kinesis" else mapping.source_arn
        try:
            getattr(client, operation)(**{member: arn})
        except ServiceError:
            raise
        except Exception as error:
            code = _code(error)
            if code == "ResourceNotFoundException":
                raise refused(f"Stream not found: {mapping.source_arn}") from None
            if "AccessDenied" in code:
                raise refused(_denied("GetRecords", mapping.service.title())) from None


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _denied(action: str, service: str) -> str:
    return f"The provided execution role does not have permissions to call {action} on {service}"
