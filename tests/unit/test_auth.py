"""A manager with --auth, and one without, as clients see them: boto3, the aws CLI, rie; the stub engine beneath."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import botocore.auth
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.ports import free_port

ACCOUNT, AWAY = "123456789012", "210987654321"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
SECRET = "s" * 40
INVOKE_ONLY = {"Statement": {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": f"{ARN}echo"}}
KEYS = {
    "keys": {
        "AKIAADA": {"secret": SECRET, "user": "ada"},
        "AKIALIMITED": {"secret": SECRET, "user": "bob", "policies": [INVOKE_ONLY]},
        "AKIAAWAY": {"secret": SECRET, "user": "eve", "account": AWAY},
        "AKIABUCKET": {"secret": SECRET, "service": "s3.amazonaws.com"},
    }
}


@dataclass
class Manager:
    port: int
    data: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(
        self, key: str = "AKIAADA", secret: str = SECRET, token: str | None = None, service: str = "lambda"
    ) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def ask(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, json.loads(body) if body else None

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of the command line, with nobody's credentials but those given."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RIE_"))}
        given = {**kept, "AWS_DEFAULT_REGION": "us-east-1", "HOME": str(self.data), **environment}
        return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)


@contextlib.contextmanager
def managing(data: Path, *arguments: str, **environment: str) -> Iterator[Manager]:
    manager = Manager(free_port(), data)
    (data / "bundle").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "rie", "serve", "--engine", "stub", "--port", str(manager.port)]
    given = {**os.environ, "RIE_BUNDLE": str(data / "bundle"), **environment}
    with (data / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--data", str(data), *arguments], stdout=log, stderr=log, env=given)
    try:
        until = time.monotonic() + 30
        while not _answers(manager):
            assert process.poll() is None, (data / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        yield manager
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def _answers(manager: Manager) -> bool:
    with contextlib.suppress(OSError):
        return manager.ask("/_rie/health")[0] == 200
    return False


def create(client: Any, name: str, image: str) -> None:
    client.create_function(FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": f"stub/{image}:1"})
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    data = tmp_path_factory.mktemp("auth")
    keys = data / "keys.json"
    keys.write_text(json.dumps(KEYS))
    keys.chmod(0o600)
    manager_secrets = {"AWS_ACCESS_KEY_ID": "MANAGERKEY", "AWS_SECRET_ACCESS_KEY": "MANAGERSECRET"}
    endpoint = {"RIE_FUNCTION_ENDPOINT_URL": "http://127.0.0.1:1"}
    with managing(data, "--auth", **manager_secrets, **endpoint) as running:
        create(running.client(), "echo", "echo")
        create(running.client(), "env", "environment")
        yield running


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_a_signed_call_is_answered_in_every_spelling_of_a_name(manager: Manager) -> None:
    client = manager.client()
    for name in ("echo", "echo:$LATEST", f"{ARN}echo", f"{ACCOUNT}:function:echo"):
        assert client.invoke(FunctionName=name, Payload=b"1")["StatusCode"] == 200
    assert client.invoke(FunctionName="echo", Qualifier="$LATEST", Payload=b"1")["Payload"].read() == b"1"
    client.tag_resource(Resource=f"{ARN}echo", Tags={"a b": "é", "c": "d"})
    client.untag_resource(Resource=f"{ARN}echo", TagKeys=["a b", "c"])
    assert client.list_tags(Resource=f"{ARN}echo")["Tags"] == {}
    assert len(client.list_functions(MaxItems=1)["Functions"]) == 1


def test_a_large_body_is_held_against_its_signature(manager: Manager) -> None:
    payload = json.dumps("x" * 5_000_000).encode()
    assert manager.client().invoke(FunctionName="echo", Payload=payload)["Payload"].read() == payload
    with pytest.raises(ClientError) as caught:
        manager.client(secret="t" * 40).invoke(FunctionName="echo", Payload=payload)
    assert code_of(caught) == ("InvalidSignatureException", 403)
    with pytest.raises(ClientError) as caught:
        manager.client().invoke(FunctionName="echo", Payload=b'"' + b"x" * 6_400_000 + b'"')
    assert code_of(caught) == ("RequestEntityTooLargeException", 413)
    message = caught.value.response["Error"]["Message"]
    assert message == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    with pytest.raises(ClientError) as caught:
        manager.client().invoke(FunctionName="echo", InvocationType="Event", Payload=b" " * 6_291_457)
    message = caught.value.response["Error"]["Message"]
    assert message == "Request must be smaller than 1048576 bytes for the InvokeFunction operation"
    with pytest.raises(ClientError) as caught:
        manager.client().invoke_with_response_stream(FunctionName="echo", Payload=b" " * 6_291_457)
    message = caught.value.response["Error"]["Message"]
    assert message == "Request must be smaller than 6291456 bytes for the InvokeWithResponseStream operation"


@pytest.mark.parametrize("operation", ["list_functions", "invoke"])
def test_wrong_secrets_keys_and_clocks_are_refused(manager: Manager, operation: str) -> None:
    members = {"FunctionName": "echo"} if operation == "invoke" else {}

    def refused(client: Any) -> tuple[str, int]:
        with pytest.raises(ClientError) as caught:
            getattr(client, operation)(**members)
        return code_of(caught)

    assert refused(manager.client(secret="t" * 40)) == ("InvalidSignatureException", 403)
    assert refused(manager.client(key="AKIAUNKNOWN")) == ("UnrecognizedClientException", 403)
    assert refused(manager.client(token="forged")) == ("UnrecognizedClientException", 403)
    stale = datetime.utcnow() - timedelta(minutes=6)
    with patch.object(botocore.auth, "get_current_datetime", lambda **_: stale):
        assert refused(manager.client()) == ("InvalidSignatureException", 403)


def test_without_a_signature_only_health_is_told(manager: Manager) -> None:
    missing = {"message": "Missing Authentication Token"}
    for path in ("/2015-03-31/functions", "/_rie/environments", "/_rie/logs?group=x", "/_rie/functions", "/nowhere"):
        assert manager.ask(path) == (403, missing)
    assert manager.ask("/_rie/health") == (200, {"status": "ok"})
    assert manager.ask("/2015-03-31/functions", {"Authorization": "Bearer x"})[0] == 403


def test_a_presigned_url_works(manager: Manager) -> None:
    url = manager.client().generate_presigned_url("get_function", Params={"FunctionName": f"{ARN}echo"})
    path = url.removeprefix(manager.endpoint)
    assert manager.ask(path)[1]["Configuration"]["FunctionName"] == "echo"
    assert manager.ask(path.replace("echo", "env"))[0] == 403


def test_policies_bound_what_a_key_may(manager: Manager) -> None:
    client = manager.client("AKIALIMITED")
    assert client.invoke(FunctionName="echo")["StatusCode"] == 200
    for call in (lambda: client.invoke(FunctionName="env"), client.list_functions):
        with pytest.raises(ClientError, match=f"User: arn:aws:iam::{ACCOUNT}:user/bob is not authorized") as caught:
            call()
        assert code_of(caught) == ("AccessDeniedException", 403)
    limited = manager.run(sys.executable, "-m", "rie", "ps", "--endpoint", manager.endpoint, **of("AKIALIMITED"))
    assert (limited.returncode, "is not authorized to perform: rie:Read" in limited.stderr) == (1, True)


def of(key: str, secret: str = SECRET) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}


def test_a_policy_lets_in_whom_it_names_and_nobody_else(manager: Manager) -> None:
    owner, away, bucket = manager.client(), manager.client("AKIAAWAY"), manager.client("AKIABUCKET")
    create(owner, "shared", "echo")
    target = f"{ARN}shared"

    def may(client: Any) -> bool:
        try:
            return bool(client.invoke(FunctionName=target)["StatusCode"] == 200)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDeniedException"
            return False

    assert not may(away)
    permission = {"FunctionName": "shared", "Action": "lambda:InvokeFunction"}
    owner.add_permission(StatementId="other", Principal="333333333333", **permission)
    owner.add_permission(StatementId="s3", Principal="s3.amazonaws.com", SourceArn="arn:aws:s3:::in", **permission)
    assert (may(away), may(bucket)) == (False, False)
    owner.add_permission(StatementId="away", Principal=AWAY, **permission)
    assert may(away)
    with pytest.raises(ClientError, match="Function not found"):
        away.invoke(FunctionName="shared")  # the name alone is one of the caller's own account
    owner.remove_permission(FunctionName="shared", StatementId="away")
    assert not may(away)
    with pytest.raises(ClientError, match="AccessDenied"):
        away.get_policy(FunctionName=target)

    def pushed(source: str) -> bool:
        def add_source(request: Any, **_: Any) -> None:
            request.headers["X-Amz-Source-Arn"] = source

        client = manager.client("AKIABUCKET")
        client.meta.events.register("before-sign.lambda.Invoke", add_source)
        return may(client)

    assert (pushed("arn:aws:s3:::in"), pushed("arn:aws:s3:::out")) == (True, False)


def test_a_function_has_its_roles_credentials_and_nothing_of_the_managers(manager: Manager) -> None:
    seen = json.loads(manager.client().invoke(FunctionName="env")["Payload"].read())["environment"]
    assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert seen["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert not [name for name, value in seen.items() if "MANAGER" in value or SECRET in value]
    assert not [name for name in seen if name.startswith("RIE_")]
    own = (seen["AWS_ACCESS_KEY_ID"], seen["AWS_SECRET_ACCESS_KEY"], seen["AWS_SESSION_TOKEN"])
    identity = manager.client(*own, service="sts").get_caller_identity()
    assert (identity["Account"], identity["Arn"]) == (ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/app/env")
    function = manager.client(*own)
    assert function.invoke(FunctionName="echo")["StatusCode"] == 200
    with pytest.raises(ClientError, match="is not authorized to perform: lambda:DeleteFunction"):
        function.delete_function(FunctionName="echo")
    with pytest.raises(ClientError, match="is not authorized to perform: sts:AssumeRole"):
        manager.client(*own, service="sts").assume_role(RoleArn=ROLE, RoleSessionName="more")


def test_sts_tells_who_calls_and_gives_roles(manager: Manager) -> None:
    sts = manager.client(service="sts")
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ada"
    given = sts.assume_role(RoleArn=ROLE, RoleSessionName="me", DurationSeconds=900)
    assert given["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/app/me"
    credentials = given["Credentials"]
    own = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    assert manager.client(*own).invoke(FunctionName="echo")["StatusCode"] == 200
    for client, members, code in (
        (manager.client(secret="t" * 40, service="sts"), {}, "SignatureDoesNotMatch"),
        (manager.client(key="AKIAUNKNOWN", service="sts"), {}, "InvalidClientTokenId"),
        (manager.client("AKIAAWAY", service="sts"), {}, "AccessDenied"),
        (sts, {"RoleArn": "arn:aws:iam::1:role/nonsense"}, "ValidationError"),
        (sts, {"DurationSeconds": 50_000}, "ValidationError"),
        (sts, {"RoleArn": f"arn:aws:iam::{AWAY}:role/app"}, "AccessDenied"),
        (sts, {"Policy": '{"Statement":[]}'}, "ValidationError"),
    ):
        with pytest.raises(ClientError) as caught:
            client.assume_role(**{"RoleArn": ROLE, "RoleSessionName": "me", **members})
        assert caught.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError, match="InvalidAction"):
        sts.get_session_token()


def test_the_aws_cli_and_rie_sign(manager: Manager) -> None:
    aws = str(Path(sys.executable).with_name("aws"))
    answer = manager.run(aws, "sts", "get-caller-identity", **of("AKIAADA"), AWS_ENDPOINT_URL=manager.endpoint)
    assert json.loads(answer.stdout)["Account"] == ACCOUNT, answer.stderr
    rie = (sys.executable, "-m", "rie")
    for verb in (("ps", "--json"), ("logs", "echo"), ("invoke", "echo", "1")):
        signed = manager.run(*rie, *verb, "--endpoint", manager.endpoint, **of("AKIAADA"))
        assert signed.returncode == 0, signed.stderr
        unsigned = manager.run(*rie, *verb, "--endpoint", manager.endpoint)
        assert unsigned.returncode == 1, unsigned.stdout
    assert "rie keys add" in manager.run(*rie, "ps", "--endpoint", manager.endpoint).stderr


def test_keys_come_and_go_while_the_manager_runs(manager: Manager) -> None:
    rie = (sys.executable, "-m", "rie", "keys")
    added = manager.run(*rie, "add", "new", "--data", str(manager.data))
    lines = dict(line.split("=", 1) for line in added.stdout.splitlines())
    client = manager.client(lines["AWS_ACCESS_KEY_ID"], lines["AWS_SECRET_ACCESS_KEY"])

    def is_known() -> bool:
        with contextlib.suppress(ClientError):
            return bool(client.list_functions())
        return False

    _until(is_known)
    listed = manager.run(*rie, "list", "--data", str(manager.data)).stdout
    assert f"{lines['AWS_ACCESS_KEY_ID']}  arn:aws:iam::{ACCOUNT}:user/new" in listed
    assert lines["AWS_SECRET_ACCESS_KEY"] not in listed
    assert manager.run(*rie, "remove", lines["AWS_ACCESS_KEY_ID"], "--data", str(manager.data)).returncode == 0
    _until(lambda: not is_known())
    assert manager.run(*rie, "remove", "AKIANONE", "--data", str(manager.data)).returncode == 2
    bad = manager.data / "bad.json"
    bad.write_text("{}")
    before = (manager.data / "keys.json").read_bytes()
    refused = manager.run(*rie, "add", "x", "--policy", str(bad), "--data", str(manager.data))
    assert (refused.returncode, (manager.data / "keys.json").read_bytes()) == (2, before)


def _until(condition: Any) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def open_manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    credentials = {"RIE_FUNCTION_ACCESS_KEY_ID": "AKSTATIC", "RIE_FUNCTION_SECRET_ACCESS_KEY": "SKSTATIC"}
    with managing(tmp_path_factory.mktemp("open"), **credentials) as running:
        create(running.client(), "echo", "echo")
        create(running.client(), "env", "environment")
        yield running


def test_without_auth_everybody_is_the_account(open_manager: Manager) -> None:
    client = open_manager.client("anything", "whatever")
    assert client.invoke(FunctionName="echo")["StatusCode"] == 200
    assert open_manager.client(service="sts").get_caller_identity()["Account"] == ACCOUNT
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.invoke(FunctionName=f"arn:aws:lambda:us-east-1:{AWAY}:function:echo")


def test_without_auth_a_call_on_behalf_of_a_source_is_that_of_its_service(open_manager: Manager) -> None:
    client = open_manager.client()
    source: list[str] = []
    client.meta.events.register(
        "before-sign.lambda.Invoke",
        lambda request, **_: request.headers.__setitem__("X-Amz-Source-Arn", source[-1]) if source else None,
    )
    create(client, "pushed", "echo")
    source.append("arn:aws:s3:::in")
    with pytest.raises(ClientError, match=r"User: s3.amazonaws.com is not authorized to perform"):
        client.invoke(FunctionName="pushed")
    client.add_permission(
        FunctionName="pushed",
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::in",
    )
    assert client.invoke(FunctionName="pushed")["StatusCode"] == 200
    source.append("arn:aws:s3:::out")
    with pytest.raises(ClientError, match="no resource-based policy allows"):
        client.invoke(FunctionName="pushed")


def test_static_credentials_are_what_functions_get(open_manager: Manager) -> None:
    seen = json.loads(open_manager.client().invoke(FunctionName="env")["Payload"].read())["environment"]
    assert (seen["AWS_ACCESS_KEY_ID"], seen["AWS_SECRET_ACCESS_KEY"]) == ("AKSTATIC", "SKSTATIC")
    assert "AWS_SESSION_TOKEN" not in seen


def test_a_functions_own_code_logs_where_the_manager_keeps_its_logs(tmp_path: Path) -> None:
    with managing(tmp_path, "--auth", RIE_ACCESS_KEY_ID="AKIAROOT", RIE_SECRET_ACCESS_KEY=SECRET) as running:
        owner = running.client("AKIAROOT")
        create(owner, "env", "environment")
        seen = json.loads(owner.invoke(FunctionName="env")["Payload"].read())["environment"]
        assert seen["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] == f"http://127.0.0.1:{running.port}"
        own = (seen["AWS_ACCESS_KEY_ID"], seen["AWS_SECRET_ACCESS_KEY"], seen["AWS_SESSION_TOKEN"])
        logs = running.client(*own, service="logs")
        place = {"logGroupName": "audit", "logStreamName": "env"}
        logs.create_log_group(logGroupName="audit")
        logs.create_log_stream(**place)
        logs.put_log_events(**place, logEvents=[{"timestamp": int(time.time() * 1e3), "message": "done"}])
        with pytest.raises(ClientError, match="is not authorized to perform: logs:GetLogEvents"):
            logs.get_log_events(**place)
        (event,) = running.client("AKIAROOT", service="logs").get_log_events(**place)["events"]
        assert event["message"] == "done"


def test_roles_are_assumed_at_the_endpoint_that_is_configured(manager: Manager, tmp_path: Path) -> None:
    """The other manager's STS stands for any: it gives roles of its own account, and refuses the rest."""
    sts = {"AWS_ENDPOINT_URL_STS": manager.endpoint, **of("AKIAADA")}
    with managing(tmp_path, **sts) as running:
        create(running.client(), "env", "environment")
        seen = json.loads(running.client().invoke(FunctionName="env")["Payload"].read())["environment"]
        own = (seen["AWS_ACCESS_KEY_ID"], seen["AWS_SECRET_ACCESS_KEY"], seen["AWS_SESSION_TOKEN"])
        identity = manager.client(*own, service="sts").get_caller_identity()
        assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/app/env"
        with pytest.raises(ClientError) as caught:
            running.client().create_function(
                FunctionName="g",
                Role=f"arn:aws:iam::{AWAY}:role/app",
                PackageType="Image",
                Code={"ImageUri": "stub/echo:1"},
            )
        assert caught.value.response["Error"] == {
            "Code": "InvalidParameterValueException",
            "Message": "The role defined for the function cannot be assumed by Lambda.",
        }


def test_another_address_is_not_listened_on_without_authentication(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "rie", "serve", "--host", "0.0.0.0", "--engine", "stub", "--data", str(tmp_path))
    refused = Manager(0, tmp_path).run(*command)
    assert (refused.returncode, "--auth" in refused.stderr, "--insecure-no-auth" in refused.stderr) == (2, True, True)
