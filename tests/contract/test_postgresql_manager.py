"""A manager whose state is in PostgreSQL: killed, started again, and alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.postgres import Postgres
from tests.stub_manager import StubManager

DURABLE = {"DurableConfig": {"ExecutionTimeout": 600, "RetentionPeriodInDays": 1}, "Timeout": 5}


@pytest.fixture
def url(postgres_server: Postgres) -> str:
    return postgres_server.database()


@pytest.fixture
def manager(url: str, tmp_path: Path) -> Iterator[StubManager]:
    port = free_port()
    environment = {"RIE_DATABASE": url, "RIE_FUNCTION_LAMBDA_URL": f"http://127.0.0.1:{port}"}
    running = StubManager(tmp_path, port=port, environment=environment).start()
    yield running
    assert running.stop() == 0


def settled(client: Any, arn: str) -> Any:
    until = time.monotonic() + 60
    while (shown := client.get_durable_execution(DurableExecutionArn=arn))["Status"] == "RUNNING":
        assert time.monotonic() < until, shown
        time.sleep(0.05)
    return shown


def test_what_was_acknowledged_is_there_after_a_kill(manager: StubManager) -> None:
    client = manager.client()
    manager.create("f", Publish=True, Description="größer")
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=7)
    client.tag_resource(Resource="arn:aws:lambda:us-east-1:123456789012:function:f", Tags={"a": "b"})
    manager.create("sleeps", "sleep")
    manager.create("lasts", "durable", **DURABLE)
    began = client.invoke(FunctionName="lasts:$LATEST", InvocationType="Event", Payload=b'{"wait": 2}')
    client.invoke(FunctionName="sleeps", InvocationType="Event", Payload=b'{"seconds": 1}')

    manager.kill()
    manager.start()

    shown = client.get_function(FunctionName="f", Qualifier="live")
    assert (shown["Configuration"]["Version"], shown["Configuration"]["Description"]) == ("1", "größer")
    assert shown["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    assert shown["Tags"] == {"a": "b"}
    answer = client.invoke(FunctionName="f:live", Payload=b'{"a": 1}')
    assert (json.loads(answer["Payload"].read()), answer["ExecutedVersion"]) == ({"a": 1}, "1")
    assert settled(client, began["DurableExecutionArn"])["Status"] == "SUCCEEDED"
    client.delete_function(FunctionName="f")
    listed = [each["FunctionName"] for each in client.list_functions()["Functions"]]
    assert listed == ["lasts", "sleeps"]


def test_a_second_manager_is_told_that_the_database_is_in_use(manager: StubManager, url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rie", "serve", "--engine", "stub", "--port", "0"]
    (tmp_path / "other").mkdir()
    command += ["--data", str(tmp_path / "other")]
    environment = {"RIE_DATABASE": url, "RIE_BUNDLE": str(tmp_path / "bundle"), "PATH": "/usr/bin:/bin"}
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert second.returncode != 0
    assert "another manager uses it" in second.stderr
    assert "Traceback" not in second.stderr
