"""A compatible endpoint for AWS's services on a port of this machine: moto's server, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_port

ACCOUNT = "123456789012"  # moto's own default
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Cloud:
    """A running endpoint."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str) -> Any:
        """A boto3 client of one of its services."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        """A new queue's (URL, ARN)."""
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


@contextmanager
def clouding(directory: Path, port: int = 0) -> Iterator[Cloud]:
    """Start an endpoint, stop it in the end; its log goes to `directory`; `port` 0: any."""
    port = port or free_port()
    with (directory / "cloud.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    cloud = Cloud(f"http://127.0.0.1:{port}")
    try:
        until = time.monotonic() + 60
        while not _answers(cloud.endpoint):
            assert process.poll() is None, (directory / "cloud.log").read_text()
            assert time.monotonic() < until, "moto's server does not answer"
            time.sleep(0.05)
        yield cloud
    finally:
        process.terminate()
        process.wait(20)


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
