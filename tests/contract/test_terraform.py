"""Terraform with the AWS provider, unchanged: applies, plans empty, changes, plans empty, destroys."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import Cloud, clouding
from tests.stub_manager import StubManager, stub_managing

CONFIGURATION = Path(__file__).parents[1] / "terraform"
NO_CHANGES, CHANGES = 0, 2  # exit statuses of `plan -detailed-exitcode`


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def manager(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    runtime = "--runtime", "python3.11=stub/echo:1"
    with stub_managing(tmp_path_factory.mktemp("manager"), *runtime, **cloud.environment) as running:
        yield running


def unpacked_provider() -> Path | None:
    """The directory with the provider, where this machine has a mirror of them."""
    places = (Path("/opt"), Path("/usr/local/share"), Path("/usr/share"), Path.home() / ".terraform.d")
    pattern = "*/hashicorp/aws/*/*/terraform-provider-aws*"
    for place in places:
        for found in (*place.glob(f"*/{pattern}"), *place.glob(f"*/*/{pattern}")):
            return found.parent
    return None


class Terraform:
    """A working directory with the configuration in it."""

    def __init__(self, directory: Path, manager: StubManager, cloud: Cloud, queue: str) -> None:
        self._directory = directory
        self._variables = {"endpoint": manager.endpoint, "image": "stub/echo:1", "queue": queue}
        self._variables["services"] = cloud.endpoint
        provider = unpacked_provider()
        self._is_there = provider is not None
        # It has 700 MB, and every command would take its checksum anew.
        told = f'dev_overrides {{\n    "hashicorp/aws" = "{provider}"\n  }}\n  direct {{}}'
        (directory / "terraform.rc").write_text(f"provider_installation {{\n  {told}\n}}\n" if provider else "")
        for file in CONFIGURATION.glob("*.tf"):
            shutil.copy(file, directory)
        self.package("code.zip", "app.py", "def handler(event, context):\n    return event\n")
        self.package("layer.zip", "python/shared.py", "VALUE = 1\n")

    @property
    def _environment(self) -> dict[str, str]:
        own = {"TF_IN_AUTOMATION": "1", "TF_CLI_CONFIG_FILE": str(self._directory / "terraform.rc")}
        own["GOGC"] = "400"  # each command makes the provider's 10 MB of schemas anew: less to collect meanwhile
        return {**os.environ, **own, "AWS_EC2_METADATA_DISABLED": "true"}

    def package(self, name: str, member: str, text: str) -> None:
        """Write an archive, the same bytes for the same text."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(zipfile.ZipInfo(member), text)
        (self._directory / name).write_bytes(buffer.getvalue())

    def init(self) -> None:
        """Fetch the provider, where it has to be."""
        if not self._is_there:
            self.run("init")

    def run(self, command: str, *arguments: str, expect: int = 0, **variables: object) -> str:
        told = [f"-var={name}={value}" for name, value in {**self._variables, **variables}.items()]
        done = subprocess.run(
            ["terraform", command, "-no-color", "-input=false", *arguments, *(told if command != "init" else [])],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == expect, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def outputs(self) -> dict[str, Any]:
        text = subprocess.run(
            ["terraform", "output", "-json"],
            cwd=self._directory,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return {name: told["value"] for name, told in json.loads(text).items()}


@pytest.mark.timeout(900)
def test_everything_applies_plans_empty_changes_and_goes(manager: StubManager, cloud: Cloud, tmp_path: Path) -> None:
    _, queue = cloud.queue("terraform")
    terraform = Terraform(tmp_path, manager, cloud, queue)
    terraform.init()
    terraform.run("apply", "-auto-approve")
    terraform.run("plan", "-detailed-exitcode", expect=NO_CHANGES)
    outputs, group = terraform.outputs(), "/aws/lambda/zipped"
    assert outputs["version"] == "1"
    assert outputs["group"] == f"arn:aws:logs:us-east-1:123456789012:log-group:{group}"
    assert group in outputs["groups"]

    terraform.package("code.zip", "app.py", "def handler(event, context):\n    return 2\n")
    changed = {"timeout": 7, "message": "two", "weight": 0.25, "retention": 30}
    terraform.run("plan", "-detailed-exitcode", expect=CHANGES, **changed)
    told = terraform.run("apply", "-auto-approve", **changed)
    assert re.search(r"0 added, [1-9] changed, 0 destroyed", told), told[-500:]
    terraform.run("plan", "-detailed-exitcode", expect=NO_CHANGES, **changed)
    client = manager.client()
    outputs = terraform.outputs()
    version = outputs["version"]
    assert version != "1"
    alias = client.get_alias(FunctionName="zipped", Name="live")
    assert alias["RoutingConfig"] == {"AdditionalVersionWeights": {version: 0.25}}
    assert client.get_function_configuration(FunctionName="zipped")["CodeSha256"] == outputs["hash"]

    url = client.get_function_url_config(FunctionName="zipped", Qualifier="live")
    assert (url["FunctionUrl"], sorted(url["Cors"]["AllowMethods"])) == (outputs["url"], ["GET", "POST"])

    scheduled = cloud.client("scheduler").get_schedule(Name="hourly")["Target"]
    assert (json.loads(scheduled["Input"]), scheduled["Arn"].rpartition(":")[2]) == ({"message": "two"}, "zipped")
    logs = manager.client_of("logs")
    (kept,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert (kept["retentionInDays"], logs.list_tags_log_group(logGroupName=group)["tags"]) == (30, {"message": "two"})

    terraform.run("destroy", "-auto-approve", **changed)
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"] == []
    assert client.list_functions()["Functions"] == []
    assert client.list_layers()["Layers"] == []
    assert client.list_event_source_mappings()["EventSourceMappings"] == []
    assert client.list_code_signing_configs()["CodeSigningConfigs"] == []
