"""The Lambda API end to end: clients as users have them, and everything they can send wrong."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.e2e.world import ROLE, Deployed, Manager, build_and_push, create, managing, wait_until
from tests.registry import Registry, build, serving

Deploy = Callable[..., Deployed]
AWS = Path(sys.executable).parent / "aws"


def refusal(call: Callable[[], Any]) -> tuple[int, str, str]:
    """(status, code, message) of a refused call."""
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        call()
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


def post(manager: Manager, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=30)
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    answer = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    connection.close()
    return answer


def aws(manager: Manager, *arguments: str, directory: Path) -> Any:
    """The aws CLI's answer."""
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_LAMBDA": manager.endpoint,
        "HOME": str(directory),
    }
    run = subprocess.run(
        [AWS, "lambda", *arguments, "--output", "json"], env=environment, cwd=directory, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout or "null")


def test_the_aws_cli_creates_waits_invokes_and_deletes(manager: Manager, image: str, tmp_path: Path) -> None:
    name = ["--function-name", "from-the-cli"]
    created = aws(
        manager, "create-function", *name, "--package-type", "Image", "--role", ROLE,
        "--code", f"ImageUri={image}", directory=tmp_path,
    )  # fmt: skip
    assert created["State"] == "Pending"
    aws(manager, "wait", "function-active-v2", *name, directory=tmp_path)
    event = ["--payload", '{"verb":"describe"}']
    for number in (1, 2):
        answer = aws(manager, "invoke", *name, *event, "--log-type", "Tail", "out.json", directory=tmp_path)
        assert answer["StatusCode"] == 200
        assert answer["ExecutedVersion"] == "$LATEST"
        assert json.loads((tmp_path / "out.json").read_text())["invocations"] == number
        log = base64.b64decode(answer["LogResult"]).decode()
        assert ("Init Duration" in log) == (number == 1)
    assert "from-the-cli" in [
        f["FunctionName"] for f in aws(manager, "list-functions", directory=tmp_path)["Functions"]
    ]
    aws(manager, "delete-function", *name, directory=tmp_path)


def test_an_image_is_pinned_to_its_digest_and_moves_only_when_told(
    client: Any, registry: Registry, deploy: Deploy, image: str, tmp_path: Path
) -> None:
    moving = registry.reference("tests/moving", "latest")
    build_and_push("rie/python:3.11", moving, tmp_path)
    function = deploy(image=moving)
    before = client.get_function(FunctionName=function.name)
    assert before["Code"]["ImageUri"] == moving
    repository, _, digest = before["Code"]["ResolvedImageUri"].partition("@")
    assert repository == moving.rpartition(":")[0]
    assert before["Configuration"]["CodeSha256"] == digest.removeprefix("sha256:")
    (tmp_path / "more").write_text("the tag moves")
    (tmp_path / "Dockerfile.moved").write_text("FROM rie/python:3.11\nCOPY app.py more /var/task/\n")
    _rebuild(tmp_path, moving)
    assert client.get_function(FunctionName=function.name)["Code"]["ResolvedImageUri"].endswith(digest)
    function.invoke()
    client.update_function_code(FunctionName=function.name, ImageUri=moving)
    client.get_waiter("function_updated_v2").wait(FunctionName=function.name, WaiterConfig={"Delay": 0.1})
    after = client.get_function(FunctionName=function.name)["Code"]["ResolvedImageUri"]
    assert not after.endswith(digest)
    by_digest = deploy(image=after)
    assert by_digest.invoke({"a": 1}).payload == {"a": 1}


def _rebuild(directory: Path, reference: str) -> None:
    from tests.e2e.world import DOCKER

    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    build_it = [DOCKER, "build", "-q", "-f", str(directory / "Dockerfile.moved"), "-t", reference, str(directory)]
    subprocess.run(build_it, check=True, capture_output=True, env=environment)
    subprocess.run([DOCKER, "push", "-q", reference], check=True, capture_output=True)


def test_an_unknown_function_is_not_found_even_with_a_bad_body(client: Any, manager: Manager) -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:nobody"
    status, code, message = refusal(lambda: client.invoke(FunctionName="nobody", Payload=b"not json"))
    assert (status, code, message) == (404, "ResourceNotFoundException", f"Function not found: {arn}:$LATEST")
    assert refusal(lambda: client.get_function(FunctionName="nobody"))[2] == f"Function not found: {arn}"
    assert refusal(lambda: client.delete_function(FunctionName="nobody"))[0] == 404


def test_unknown_routes_are_refused_with_the_services_form(manager: Manager) -> None:
    for path in ("/nowhere", "/2015-03-31/functions/a/b/c", "/2015-03-31/functions/f/invocations/x"):
        status, headers, body = post(manager, path, b"{}")
        assert status in (403, 404, 405), path
        assert "x-amzn-errortype" in headers
        assert json.loads(body)


def test_bodies_that_are_no_json_are_refused(manager: Manager, deploy: Deploy) -> None:
    function = deploy()
    path = f"/2015-03-31/functions/{function.name}/invocations"
    for body in (b"{", b"\xff", b"NaN", b"{} {}"):
        status, headers, answer = post(manager, path, body)
        assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")
        assert json.loads(answer)["message"].startswith("Could not parse request body into json")
    assert post(manager, path, b"")[2] == b"{}"
    status, headers, _ = post(manager, "/2015-03-31/functions", b"{", **{"Content-Type": "application/json"})
    assert (status, headers["x-amzn-errortype"]) == (400, "SerializationException")


def test_seven_megabytes_are_too_large(client: Any, deploy: Deploy) -> None:
    function = deploy()
    status, code, message = refusal(
        lambda: client.invoke(FunctionName=function.name, Payload=json.dumps("x" * 7_000_000).encode())
    )
    assert (status, code) == (413, "RequestEntityTooLargeException")
    assert message == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"


def test_dry_run_and_qualifiers(client: Any, deploy: Deploy) -> None:
    function = deploy()
    assert client.invoke(FunctionName=function.name, InvocationType="DryRun")["StatusCode"] == 204
    answer = function.invoke({"verb": "describe"}, Qualifier="$LATEST")
    assert answer.payload["arn"].endswith(":$LATEST")
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function.name}"
    assert client.invoke(FunctionName=arn, Payload=b"{}")["Payload"].read() == b"{}"
    assert refusal(lambda: client.invoke(FunctionName=function.name, Qualifier="7"))[:2] == (
        404,
        "ResourceNotFoundException",
    )
    mismatch = refusal(lambda: client.invoke(FunctionName=f"{function.name}:1", Qualifier="2"))
    assert mismatch[2] == ("The derived qualifier from the function name does not match the specified qualifier.")


def attempt(client: Any, image: str, name: str = "never-made") -> tuple[int, str, str]:
    refused = refusal(
        lambda: client.create_function(FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": image})
    )
    assert refusal(lambda: client.get_function(FunctionName=name))[0] == 404, "it is half-made"
    return refused


def test_an_unknown_image_makes_no_function(client: Any, registry: Registry) -> None:
    for selector in ("nothing", f"sha256:{'0' * 64}"):
        missing = registry.reference("tests/function", selector)
        assert attempt(client, missing) == (
            400,
            "InvalidParameterValueException",
            f"Source image {missing} does not exist. Provide a valid source image.",
        )
    assert attempt(client, registry.reference("tests/nobody", "1"))[:2] == (400, "InvalidParameterValueException")


def test_a_registry_that_is_down_is_named(client: Any) -> None:
    status, code, message = attempt(client, "127.0.0.1:1/team/app:1")
    assert (status, code) == (500, "ServiceException")
    assert "127.0.0.1:1" in message


def test_credentials_are_used_and_wrong_ones_refused(engine: Any, image: str, tmp_path: Path) -> None:
    with serving("ada", "secret") as private:
        reference = private.reference("team/app", "1")
        _push_with_password(private, reference, image, tmp_path / "push")
        for password, works in (("secret", True), ("wrong", False)):
            config = tmp_path / password
            _write_credentials(config, private.host, password)
            data = tmp_path / f"data-{password}"
            data.mkdir()
            with managing(data, DOCKER_CONFIG=str(config)) as manager:
                client = manager.client()
                if works:
                    assert create(client, reference).invoke({"a": 1}).payload == {"a": 1}
                else:
                    status, code, message = attempt(client, reference)
                    assert (status, code) == (403, "AccessDeniedException")
                    assert message.startswith("Lambda does not have permission to access the ECR image.")
        from tests.e2e.world import _remove_images

        _remove_images(engine, private.host)


def _write_credentials(directory: Path, host: str, password: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"ada:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def _push_with_password(registry: Registry, reference: str, image: str, config: Path) -> None:
    from tests.e2e.world import DOCKER

    _write_credentials(config, registry.host, "secret")
    environment = {**os.environ, "DOCKER_CONFIG": str(config)}
    for command in (["pull", "-q", image], ["tag", image, reference], ["push", "-q", reference]):
        subprocess.run([DOCKER, *command], check=True, capture_output=True, env=environment)


def test_a_layer_that_was_tampered_with_fails_the_function_and_an_update_keeps_the_old_code(
    client: Any, registry: Registry, deploy: Deploy, manager: Manager
) -> None:
    broken = build(layers=[{"var/task/app.py": os.urandom(4_096)}], command=["app.handler"])
    registry.push("tests/broken", "1", broken)
    (layer,) = broken.layer_digests
    blob = registry.blob_path(layer)
    blob.write_bytes(blob.read_bytes()[:-20] + os.urandom(20))
    assert f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}" != layer
    reference = registry.reference("tests/broken", "1")
    client.create_function(FunctionName="tampered", Role=ROLE, PackageType="Image", Code={"ImageUri": reference})
    try:
        state = wait_until(lambda: _settled(client, "tampered"), 60, "it stays Pending")
        assert (state["State"], state["StateReasonCode"]) == ("Failed", "InvalidImage")
        assert refusal(lambda: client.invoke(FunctionName="tampered"))[:2] == (409, "ResourceConflictException")
    finally:
        client.delete_function(FunctionName="tampered")
    function = deploy()
    client.update_function_code(FunctionName=function.name, ImageUri=reference)
    state = wait_until(lambda: _settled(client, function.name), 60, "it stays InProgress")
    assert state["LastUpdateStatus"] == "Failed"
    assert function.invoke({"a": 1}).payload == {"a": 1}


def _settled(client: Any, name: str) -> Any:
    found = client.get_function(FunctionName=name)["Configuration"]
    return found if found["State"] != "Pending" and found.get("LastUpdateStatus") != "InProgress" else None


def test_functions_of_another_region_are_kept_apart(manager: Manager, deploy: Deploy) -> None:
    import boto3

    function = deploy()
    elsewhere = boto3.client(
        "lambda",
        endpoint_url=manager.endpoint,
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    assert refusal(lambda: elsewhere.invoke(FunctionName=function.name))[0] == 404
    assert function.name not in [f["FunctionName"] for f in elsewhere.list_functions()["Functions"]]
