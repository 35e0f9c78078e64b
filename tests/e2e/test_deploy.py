"""The orders example, deployed by the command and run by the Docker engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.cloud import clouding
from tests.e2e.world import ROOT, managing, wait_until

pytestmark = pytest.mark.timeout(900)  # the first time, rie/nodejs is compiled


@pytest.fixture(scope="module")
def nodejs(engine: docker.DockerClient) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "images.py"), "nodejs"], check=True, capture_output=True)


def test_an_order_that_fails_three_times_is_set_aside_and_its_batch_is_not(nodejs: None, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "orders-nodejs", tmp_path / "orders")
    (tmp_path / "data").mkdir()
    with clouding(tmp_path) as cloud, managing(tmp_path / "data", **cloud.environment) as manager:
        environment = {**os.environ, **cloud.environment, "RIE_ENDPOINT": manager.endpoint}

        def deploy(*arguments: str) -> Any:
            command = [sys.executable, "-m", "rie", "deploy", str(tmp_path / "orders" / "template.yaml"), "--json"]
            done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        outputs = deploy("--parameter", "Currency=USD")["outputs"]
        sqs = cloud.client("sqs")
        bodies = [json.dumps({"id": number, "total": total}) for number, total in ((1, 12.5), (2, 0), (3, 7))]
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        sqs.send_message_batch(QueueUrl=outputs["OrdersUrl"], Entries=entries)

        aside = wait_until(
            lambda: sqs.receive_message(QueueUrl=outputs["SetAsideUrl"], WaitTimeSeconds=1).get("Messages"),
            90,
            "the order was not set aside",
        )
        assert [json.loads(message["Body"])["id"] for message in aside] == [2]
        log = subprocess.run(
            [sys.executable, "-m", "rie", "logs", outputs["ProcessName"]],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "order 1: 12.50 USD" in log
        assert "order 3: 7.00 USD" in log
        assert log.count("refused: a total of 0") == 3
        deploy("--delete")
        assert manager.client().list_functions()["Functions"] == []
