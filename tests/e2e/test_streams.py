"""Answers in pieces through the manager: a handler of AWS's streaming API, on the Docker engine."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import pytest

from tests.e2e.world import DOCKER, Deployed, Manager, create
from tests.registry import Registry

HANDLER = """\
import { setTimeout } from "node:timers/promises";

export const stream = awslambda.streamifyResponse(async (event, output) => {
  const asked = event.body ? JSON.parse(event.body) : event;
  if (asked.head) output = awslambda.HttpResponseStream.from(output, asked.head);
  for (const part of asked.parts) {
    output.write(part);
    await setTimeout(asked.pauseMs ?? 0);
  }
  if (asked.fail) throw new Error("told to fail");
  output.end();
});
"""


@pytest.fixture(scope="module")
def function(
    client: Any, registry: Registry, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    directory = tmp_path_factory.mktemp("image")
    (directory / "index.mjs").write_text(HANDLER)
    (directory / "Dockerfile").write_text("FROM rie/nodejs:22\nCOPY index.mjs /var/task/\n")
    reference = registry.reference("tests/stream", "1")
    for command in (["build", "-q", "-t", reference, str(directory)], ["push", "-q", reference]):
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        subprocess.run([DOCKER, *command], check=True, capture_output=True, env=environment)
    made = create(client, reference, ImageConfig={"Command": ["index.stream"]}, Timeout=30)
    yield made
    client.delete_function(FunctionName=made.name)
    engine.images.remove(reference, force=True)


def test_boto3_gets_the_pieces_as_they_are_made(manager: Manager, client: Any, function: Deployed) -> None:
    event = {"parts": ["first", "second"], "pauseMs": 1500}
    answer = client.invoke_with_response_stream(FunctionName=function.name, Payload=json.dumps(event), LogType="Tail")
    frames = iter(answer["EventStream"])
    assert next(frames) == {"PayloadChunk": {"Payload": b"first"}}
    rows = manager.get("/_rie/environments")
    assert "busy" in {row["state"] for row in rows if row["function"] == function.name}
    *rest, end = frames
    assert b"".join(frame["PayloadChunk"]["Payload"] for frame in rest) == b"second"
    assert set(end["InvokeComplete"]) == {"LogResult"}


def test_an_error_of_the_handler_is_told_at_the_end(client: Any, function: Deployed) -> None:
    event = {"parts": ["first"], "fail": True}
    answer = client.invoke_with_response_stream(FunctionName=function.name, Payload=json.dumps(event))
    *pieces, end = answer["EventStream"]
    assert b"".join(frame["PayloadChunk"]["Payload"] for frame in pieces) == b"first"
    assert "told to fail" in end["InvokeComplete"]["ErrorDetails"]


def test_a_large_answer_arrives_whole(client: Any, function: Deployed) -> None:
    event = {"parts": ["x" * 1_000_000] * 5}
    answer = client.invoke_with_response_stream(FunctionName=function.name, Payload=json.dumps(event))
    size = sum(len(frame["PayloadChunk"]["Payload"]) for frame in answer["EventStream"] if "PayloadChunk" in frame)
    assert size == 5_000_000


def aws(manager: Manager, *words: str) -> Any:
    """What the CLI answers."""
    command = [sys.executable, "-m", "awscli", "lambda", "--endpoint-url", manager.endpoint, "--region", "us-east-1"]
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    done = subprocess.run([*command, *words], capture_output=True, text=True, env={**os.environ, **keys})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_function_url_made_with_the_aws_cli_streams(manager: Manager, function: Deployed) -> None:
    named = ["--function-name", function.name]
    made = aws(manager, "create-function-url-config", *named, "--auth-type=NONE", "--invoke-mode=RESPONSE_STREAM")
    grant = ["--statement-id=url", "--action=lambda:InvokeFunctionUrl", "--principal=*"]
    aws(manager, "add-permission", *named, *grant, "--function-url-auth-type=NONE")
    host = urlsplit(made["FunctionUrl"]).netloc
    head = {"statusCode": 201, "headers": {"Content-Type": "text/plain", "X-A": "b"}, "cookies": ["c=d"]}
    body = json.dumps({"head": head, "parts": ["1", "2"], "pauseMs": 1500})
    connection = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=60)
    connection.request("POST", "/", body, {"Host": host, "Content-Type": "application/json"})
    response = connection.getresponse()
    assert (response.status, response.getheader("X-A"), response.getheader("Set-Cookie")) == (201, "b", "c=d")
    assert response.read(1) == b"1"
    rows = manager.get("/_rie/environments")
    assert "busy" in {row["state"] for row in rows if row["function"] == function.name}
    assert response.read() == b"2"
    connection.close()


def test_curl_reads_it_below_localhost(client: Any, function: Deployed, tmp_path: Path) -> None:
    url = client.get_function_url_config(FunctionName=function.name)["FunctionUrl"]
    event = tmp_path / "event"
    event.write_text(json.dumps({"parts": ["a", "b"]}))
    command = ["curl", "-sS", "--max-time", "60", "-H", "Content-Type: application/json", "--data", f"@{event}", url]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"ab"
