"""The base images under plain `docker run`, without a manager."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest
import requests

from tests.e2e.world import DOCKER, ROOT, free_port, wait_until

INVOKE = "/2015-03-31/functions/function/invocations"
CLIENTS_S = float(os.environ.get("RIE_CLIENTS_S", "60"))  # 3600 for a long run


@contextlib.contextmanager
def running(engine: docker.DockerClient, image: str, *command: str, **options: Any) -> Iterator[tuple[Any, str]]:
    """(container, URL) of `docker run -p PORT:8080 IMAGE`."""
    port = free_port()
    container = engine.containers.run(
        image, list(command) or None, detach=True, ports={"8080/tcp": ("127.0.0.1", port)}, **options
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _listens(url), 20, "it does not listen")
        yield container, url
    finally:
        container.remove(force=True)


def _listens(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 404
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def provided_image(engine: docker.DockerClient) -> Iterator[str]:
    tag = "rie-tests/provided-shell"
    context = str(ROOT / "examples" / "provided-shell")
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    subprocess.run([DOCKER, "build", "-q", "-t", tag, context], check=True, capture_output=True, env=environment)
    yield tag
    engine.images.remove(tag, force=True)


def test_the_python_image_answers_curl_boto3_and_the_aws_cli(
    engine: docker.DockerClient, image: str, tmp_path: Path
) -> None:
    with running(engine, image) as (container, url):
        curl = subprocess.run(["curl", "-s", f"{url}{INVOKE}", "-d", '{"a": 1}'], capture_output=True, check=True)
        assert json.loads(curl.stdout) == {"a": 1}
        client = boto3.client(
            "lambda", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
        )
        answer = client.invoke(FunctionName="any-name", Payload=b'{"verb":"describe"}', LogType="Tail")
        seen = json.loads(answer["Payload"].read())
        assert seen["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:any-name"
        assert seen["uid"] == 993
        assert "REPORT" in base64.b64decode(answer["LogResult"]).decode()
        from tests.e2e.test_api import AWS

        environment = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
        command = [AWS, "lambda", "invoke", "--function-name", "f", "--endpoint-url", url, "--region", "us-east-1"]
        subprocess.run([*command, "out.json"], env=environment, cwd=tmp_path, check=True, capture_output=True)
        assert json.loads((tmp_path / "out.json").read_text()) == {}
        log = container.logs().decode()
        assert log.startswith("INIT_START")
        assert log.count("REPORT RequestId") == 3


def test_the_provided_image_runs_a_bootstrap_of_any_language(engine: docker.DockerClient, provided_image: str) -> None:
    with running(engine, provided_image) as (_, url):
        for number in range(3):
            answer = requests.post(url + INVOKE, json={"n": number}, timeout=10)
            assert answer.status_code == 200
            assert "X-Amz-Function-Error" not in answer.headers, answer.text


def test_the_provided_image_without_a_bootstrap_says_so(engine: docker.DockerClient) -> None:
    with running(engine, "rie/provided:latest") as (_, url):
        answer = requests.post(url + INVOKE, json={}, timeout=10).json()
        assert answer["errorType"] == "Runtime.InvalidEntrypoint"
        assert "Couldn't find valid bootstrap(s)" in answer["errorMessage"]


def test_the_timeout_and_the_memory_of_docker_run_are_those_of_the_function(
    engine: docker.DockerClient, image: str
) -> None:
    variables = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}
    with running(engine, image, environment=variables, mem_limit="128m", memswap_limit="128m") as (container, url):
        answer = requests.post(url + INVOKE, json={"verb": "sleep", "seconds": 20}, timeout=10)
        assert answer.json()["errorType"] == "Sandbox.Timedout"
        answer = requests.post(url + INVOKE, json={"verb": "allocate", "mb": 500}, timeout=10)
        assert answer.json()["errorMessage"].endswith("signal: killed")
        assert requests.post(url + INVOKE, json={"a": 1}, timeout=10).json() == {"a": 1}
        log = container.logs().decode()
        assert "Status: timeout" in log
        assert "Error Type: Runtime.OutOfMemory" in log


def test_docker_stop_ends_it_at_once(engine: docker.DockerClient, image: str) -> None:
    with running(engine, image) as (container, url):
        requests.post(url + INVOKE, json={}, timeout=10)
        started = time.monotonic()
        container.stop(timeout=10)
        assert time.monotonic() - started < 3
        assert container.wait()["StatusCode"] == 0


def test_eight_clients_are_all_answered_for_as_long_as_they_ask(engine: docker.DockerClient, image: str) -> None:
    """Every request gets its own answer, whatever the others send meanwhile: none is lost, mixed up or refused."""
    until = time.monotonic() + CLIENTS_S
    with running(engine, image) as (container, url), ThreadPoolExecutor(8) as clients:
        counts = list(clients.map(lambda client: _call(url, client, until), range(8)))
        container.reload()
        assert container.status == "running"
        wait_until(lambda: container.logs(tail=1).startswith(b"REPORT RequestId"), 10, "no report")
    assert min(counts) > CLIENTS_S * 5 / 3, counts


def _call(url: str, client: int, until: float) -> int:
    count = 0
    with requests.Session() as session:
        while time.monotonic() < until:
            event = {"client": client, "count": count}
            answer = session.post(url + INVOKE, json=event, timeout=30)
            assert (answer.status_code, answer.json()) == (200, event)
            count += 1
    return count
