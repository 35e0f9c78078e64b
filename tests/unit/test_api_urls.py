"""The API of function URLs (lambda.md §9.1, §0.3)."""

from __future__ import annotations

from typing import Any

import pytest
from test_api_world import ARN, World, breach, failure

from rie.model.alias import ALIASES, Alias
from rie.model.function import FunctionKey
from rie.model.record import place_of

KEY = FunctionKey("123456789012", "us-east-1", "f")
URL = "/2021-10-31/functions/{}/url"
NO_FUNCTION = {"Type": "User", "Message": "Function does not exist"}
NO_URL = {"Type": "User", "Message": "The resource you requested does not exist."}
CONFLICT = (
    "Failed to create function url config for [functionArn = {}]. "
    "Error message:  FunctionUrlConfig exists for this Lambda function"
)


@pytest.fixture
def world() -> World:
    world = World()
    world.active("f")
    world.ledger.put(ALIASES, place_of(KEY, "live"), Alias("$LATEST", "r"))
    return world


def create(world: World, name: str = "f", query: str = "", **members: Any) -> Any:
    return world.call("POST", URL.format(name) + query, {"AuthType": "NONE", **members})


def test_creating_shows_the_invoke_mode_only_if_it_was_asked_for(world: World) -> None:
    made = create(world)
    assert made.status_code == 201
    body = made.json
    assert set(body) == {"FunctionUrl", "FunctionArn", "AuthType", "CreationTime"}
    assert body["FunctionArn"] == f"{ARN}f"
    assert body["CreationTime"].endswith("Z")
    assert 40 <= len(body["FunctionUrl"]) <= 100
    assert create(world, query="?Qualifier=live", InvokeMode="BUFFERED").json["InvokeMode"] == "BUFFERED"


def test_functions_that_isolate_tenants_have_no_url(world: World) -> None:
    world.active("g", TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    refused = create(world, "g")
    assert refused.status_code == 400
    assert refused.json["message"] == "Function URLs are not supported for functions with tenant isolation."


def test_getting_shows_the_default_mode_and_the_last_change(world: World) -> None:
    made = create(world, Cors={"AllowOrigins": ["*"], "MaxAge": 0, "AllowCredentials": False}).json
    got = world.call("GET", URL.format("f")).json
    assert got == {**made, "LastModifiedTime": made["CreationTime"], "InvokeMode": "BUFFERED"}
    assert got["Cors"] == {"AllowOrigins": ["*"], "MaxAge": 0, "AllowCredentials": False}


def test_updating_changes_what_was_given(world: World) -> None:
    create(world, Cors={"AllowOrigins": ["*"]})
    world.clock.advance(1)
    changed = world.call("PUT", URL.format("f"), {"AuthType": "AWS_IAM"}).json
    assert "InvokeMode" not in changed
    assert changed["AuthType"] == "AWS_IAM"
    assert changed["LastModifiedTime"] > changed["CreationTime"]
    assert changed["Cors"] == {"AllowOrigins": ["*"]}
    assert world.call("PUT", URL.format("f"), {"InvokeMode": "RESPONSE_STREAM"}).json["InvokeMode"] == "RESPONSE_STREAM"
    assert world.call("PUT", URL.format("f"), {"Cors": {}}).json.get("Cors") is None
    assert world.call("GET", URL.format("f")).json["InvokeMode"] == "RESPONSE_STREAM"


def test_there_is_one_for_the_function_and_one_for_each_alias(world: World) -> None:
    create(world)
    status, kind, body = failure(create(world))
    assert (status, kind, body["message"]) == (409, "ResourceConflictException", CONFLICT.format(f"{ARN}f"))
    assert create(world, "f:live").status_code == 201
    assert failure(create(world, query="?Qualifier=live"))[2]["message"] == CONFLICT.format(f"{ARN}f:live")
    listed = world.call("GET", "/2021-10-31/functions/f/urls").json
    assert [each["FunctionArn"] for each in listed["FunctionUrlConfigs"]] == [f"{ARN}f", f"{ARN}f:live"]
    assert {each["InvokeMode"] for each in listed["FunctionUrlConfigs"]} == {"BUFFERED"}
    assert len({each["FunctionUrl"] for each in listed["FunctionUrlConfigs"]}) == 2


def test_a_long_list_has_pages(world: World) -> None:
    create(world)
    create(world, "f:live")
    first = world.call("GET", "/2021-10-31/functions/f/urls?MaxItems=1").json
    assert [each["FunctionArn"] for each in first["FunctionUrlConfigs"]] == [f"{ARN}f"]
    last = world.call("GET", f"/2021-10-31/functions/f/urls?MaxItems=1&Marker={first['NextMarker']}").json
    assert [each["FunctionArn"] for each in last["FunctionUrlConfigs"]] == [f"{ARN}f:live"]
    assert "NextMarker" not in last


def test_deleting_the_functions_leaves_the_aliases(world: World) -> None:
    create(world)
    create(world, "f:live")
    assert world.call("DELETE", URL.format("f")).status_code == 204
    assert failure(world.call("GET", URL.format("f")))[2] == NO_URL
    assert failure(world.call("DELETE", URL.format("f")))[2] == NO_URL
    assert world.call("GET", URL.format("f") + "?Qualifier=live").status_code == 200


@pytest.mark.parametrize("name", ["nobody", "f:gone"])
def test_what_does_not_exist_is_said_in_the_words_of_each_operation(world: World, name: str) -> None:
    assert failure(create(world, name))[2] == NO_FUNCTION
    assert failure(world.call("PUT", URL.format(name), {}))[2] == NO_FUNCTION
    assert failure(world.call("GET", URL.format(name)))[2] == NO_URL
    assert failure(world.call("DELETE", URL.format(name)))[2] == NO_URL
    assert failure(world.call("GET", "/2021-10-31/functions/nobody/urls"))[2] == NO_FUNCTION


@pytest.mark.parametrize("qualifier", ["1", "$LATEST"])
def test_a_version_has_no_url(world: World, qualifier: str) -> None:
    text = breach(create(world, query=f"?Qualifier={qualifier}"))
    assert text.startswith(f"1 validation error detected: Value '{qualifier}' at 'qualifier' failed to satisfy")
    assert f"Value 'f:{qualifier}' at 'functionName' failed to satisfy" in breach(create(world, f"f:{qualifier}"))


def test_two_qualifiers_that_differ_are_refused(world: World) -> None:
    status, kind, body = failure(world.call("DELETE", URL.format("f:live") + "?Qualifier=other"))
    assert (status, kind) == (400, "InvalidParameterValueException")
    assert body["message"] == "The derived qualifier from the function name does not match the specified qualifier."


def test_an_invoke_mode_that_there_is_none_of_is_a_validation_error(world: World) -> None:
    assert "at 'invokeMode' failed to satisfy constraint" in breach(create(world, InvokeMode="SOMETIMES"))
