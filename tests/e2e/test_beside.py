"""`--with-aws` over both real engines, with signatures and without: functions use services, and services functions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cloud import Cloud
from tests.e2e.world import ROLE, create, managing, wait_until
from tests.ports import free_port

KEY, SECRET = "AKIABESIDE", "beside-secret"


@pytest.mark.parametrize(("engine_name", "auth"), [("oci", ("--auth",)), ("docker", ("--auth",)), ("docker", ())])
def test_functions_use_services_mappings_poll_and_destinations_are_told(
    engine_name: str, auth: tuple[str, ...], image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = free_port()
    cloud = Cloud(f"http://127.0.0.1:{port}")
    arguments = ("--engine", engine_name, "--with-aws", "--aws-port", str(port), *auth)
    keys = {"RIE_ACCESS_KEY_ID": KEY, "RIE_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": ""}
    with managing(tmp_path_factory.mktemp("beside"), *arguments, **keys) as manager:
        client = manager.client(key=KEY, secret=SECRET)
        function = create(client, image)
        done, done_arn = cloud.queue("done")
        into, into_arn = cloud.queue("into")
        sent = function.invoke(
            {
                "verb": "aws",
                "service": "sqs",
                "operation": "send_message",
                "arguments": {"QueueUrl": into, "MessageBody": "by the function"},
            }
        )
        assert sent.error is None, sent.payload
        assert sent.payload["key"] not in ("", KEY)
        mapping = client.create_event_source_mapping(EventSourceArn=into_arn, FunctionName=function.name)["UUID"]
        client.put_function_event_invoke_config(
            FunctionName=function.name, DestinationConfig={"OnSuccess": {"Destination": done_arn}}
        )
        client.invoke(FunctionName=function.name, InvocationType="Event", Payload=b'{"number": 1}')
        (told,) = wait_until(lambda: _received(cloud, done), 60, f"no destination was told:\n{manager.log}")
        assert told["responsePayload"] == {"number": 1}
        wait_until(lambda: _left(cloud, into) == 0, 60, f"the mapping left a message:\n{manager.log}")
        assert client.get_event_source_mapping(UUID=mapping)["State"] == "Enabled"
        if engine_name == "oci":  # Docker's sandboxes see no API that listens on the host's loopback only
            identity = function.invoke(_as_itself(function)).payload["answer"]["Arn"]
            assert identity.startswith(ROLE.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/"))


def _received(cloud: Cloud, url: str) -> list[Any]:
    return [json.loads(each["Body"]) for each in cloud.client("sqs").receive_message(QueueUrl=url).get("Messages", [])]


def _left(cloud: Cloud, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(map(int, told.values()))


def _as_itself(function: Any) -> dict[str, Any]:
    """Ask the manager who the function is."""
    variables = function.invoke({"verb": "describe"}).payload["variables"]
    endpoint = variables["AWS_ENDPOINT_URL_LAMBDA"]
    return {"verb": "aws", "service": "sts", "operation": "get_caller_identity", "endpoint": endpoint}
