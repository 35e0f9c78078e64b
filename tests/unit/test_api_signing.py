"""Code signing through the API (lambda.md §12.4)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from test_api_world import ACCOUNT, FUNCTIONS, World, encoded, failure, refusal, zipped

CONFIGS = "/2020-04-22/code-signing-configs"
SIGNING = "/2020-06-30/functions"
TAGS = "/2017-03-31/tags"
PUBLISHERS = {"SigningProfileVersionArns": [f"arn:aws:signer:us-east-1:{ACCOUNT}:/signing-profiles/p/abcdefghij"]}
MISSING = f"arn:aws:lambda:us-east-1:{ACCOUNT}:code-signing-config:csc-{'a' * 17}"


@pytest.fixture
def world() -> World:
    return World()


def make(world: World, policy: str | None = None, **members: Any) -> str:
    if policy:
        members["CodeSigningPolicies"] = {"UntrustedArtifactOnDeployment": policy}
    response = world.call("POST", CONFIGS, {"AllowedPublishers": PUBLISHERS, **members})
    assert response.status_code == 201
    return str(response.json["CodeSigningConfig"]["CodeSigningConfigArn"])


def bind(world: World, arn: str, name: str = "f") -> Any:
    return world.call("PUT", f"{SIGNING}/{name}/code-signing-config", {"CodeSigningConfigArn": arn})


def test_a_configuration_is_made_read_changed_and_removed(world: World) -> None:
    arn = make(world, Description="d")
    config = world.call("GET", f"{CONFIGS}/{quote(arn, safe='')}").json["CodeSigningConfig"]
    assert re.fullmatch(r"csc-[a-z0-9]{17}", config["CodeSigningConfigId"])
    assert config == {
        "CodeSigningConfigId": arn.rpartition(":")[2],
        "CodeSigningConfigArn": arn,
        "Description": "d",
        "AllowedPublishers": PUBLISHERS,
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
        "LastModified": "2025-11-25T02:26:54.123456000Z",
    }
    changed = world.call(
        "PUT", f"{CONFIGS}/{arn}", {"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce"}}
    ).json["CodeSigningConfig"]
    assert changed == {**config, "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce"}}
    assert world.call("DELETE", f"{CONFIGS}/{arn}").status_code == 204
    assert failure(world.call("GET", f"{CONFIGS}/{arn}"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/functions")],
)
def test_a_configuration_that_is_not_there(world: World, method: str, path: str) -> None:
    text = f"The Lambda code signing configuration {MISSING} can not be found."
    assert failure(world.call(method, f"{CONFIGS}/{MISSING}{path}", {} if method == "PUT" else None)) == (
        404,
        "ResourceNotFoundException",
        {"Type": "User", "Message": text},
    )


def test_binding_looks_for_the_configuration_before_the_function(world: World) -> None:
    text = (
        "The code signing configuration cannot be found. "
        f"Check that the provided configuration is not deleted: {MISSING}."
    )
    assert failure(bind(world, MISSING, "unknown")) == (
        404,
        "CodeSigningConfigNotFoundException",
        {"Type": "User", "Message": text},
    )
    arn = make(world)
    assert failure(bind(world, arn, "unknown"))[1] == "ResourceNotFoundException"
    world.active("image")
    assert "PackageType Image" in refusal(bind(world, arn, "image"))


def test_a_function_has_one_or_none(world: World) -> None:
    path = f"{SIGNING}/f/code-signing-config"
    world.create_zip()
    assert world.call("GET", path).json == {}
    arn = make(world)
    assert bind(world, arn).json == {"CodeSigningConfigArn": arn, "FunctionName": "f"}
    assert world.call("GET", path).json == {"CodeSigningConfigArn": arn, "FunctionName": "f"}
    functions = world.call("GET", f"{CONFIGS}/{arn}/functions").json
    assert functions == {"FunctionArns": [f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"]}
    assert failure(world.call("DELETE", f"{CONFIGS}/{arn}"))[:2] == (409, "ResourceConflictException")
    assert [world.call("DELETE", path).status_code for _ in range(2)] == [204, 204]
    assert world.call("GET", path).json == {}
    assert world.call("DELETE", f"{CONFIGS}/{arn}").status_code == 204


def test_a_function_takes_its_binding_with_it(world: World) -> None:
    arn = make(world)
    assert world.create_zip(CodeSigningConfigArn=arn).status_code == 201
    assert len(world.call("GET", f"{CONFIGS}/{arn}/functions").json["FunctionArns"]) == 1
    world.call("DELETE", f"{FUNCTIONS}/f")
    assert world.call("GET", f"{CONFIGS}/{arn}/functions").json == {"FunctionArns": []}


def test_enforcing_refuses_what_is_unsigned_and_warning_lets_it_pass(world: World) -> None:
    refused = (
        400,
        "CodeVerificationFailedException",
        {
            "Type": "User",
            "Message": "Lambda cannot deploy the function. The function or layer might be signed using a signature "
            "that the client is not configured to accept. Check the provided signature for unsigned.",
        },
    )
    enforcing = make(world, "Enforce")
    assert failure(world.create_zip(CodeSigningConfigArn=enforcing)) == refused
    assert world.call("GET", f"{FUNCTIONS}/f").status_code == 404
    assert world.create_zip(CodeSigningConfigArn=make(world, "Warn")).status_code == 201
    world.settle()
    layer = world.publish_layer().json["LayerVersionArn"]
    bind(world, enforcing)
    assert failure(world.call("PUT", f"{FUNCTIONS}/f/code", {"ZipFile": encoded(zipped())})) == refused
    assert failure(world.configure(Layers=[layer])) == refused
    assert world.configure(Timeout=9).status_code == 200


def test_lists_come_in_pages(world: World) -> None:
    made = {make(world) for _ in range(5)}
    seen: list[str] = []
    marker = ""
    while True:
        page = world.call("GET", f"{CONFIGS}?MaxItems=2{marker}").json
        seen += [each["CodeSigningConfigArn"] for each in page["CodeSigningConfigs"]]
        if "NextMarker" not in page:
            break
        marker = f"&Marker={page['NextMarker']}"
    assert len(seen) == 5
    assert set(seen) == made
    arn = seen[0]
    for name in ("a", "b", "c"):
        world.create_zip(name, CodeSigningConfigArn=arn)
    first = world.call("GET", f"{CONFIGS}/{arn}/functions?MaxItems=2").json
    second = world.call("GET", f"{CONFIGS}/{arn}/functions?Marker={first['NextMarker']}").json
    assert [each[-1] for each in first["FunctionArns"] + second["FunctionArns"]] == ["a", "b", "c"]
    assert "NextMarker" not in second


def test_configurations_have_tags(world: World) -> None:
    arn = make(world, Tags={"a": "1"})
    assert world.call("POST", f"{TAGS}/{arn}", {"Tags": {"b": "2"}}).status_code == 204
    assert world.call("DELETE", f"{TAGS}/{arn}?tagKeys=a").status_code == 204
    assert world.call("GET", f"{TAGS}/{arn}").json == {"Tags": {"b": "2"}}
    assert failure(world.call("GET", f"{TAGS}/{MISSING}"))[2]["Message"].endswith("can not be found.")
    assert refusal(world.call("POST", f"{TAGS}/{arn}", {"Tags": {f"k{n}": "" for n in range(50)}})) == (
        "Number of tags exceeds resource tag limit."
    )
