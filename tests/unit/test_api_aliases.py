"""Aliases through the API (lambda.md §4.2)."""

from __future__ import annotations

from typing import Any

import pytest
from test_api_world import ARN, FUNCTIONS, World, breach, failure, refusal
from werkzeug.test import TestResponse

ALIASES = f"{FUNCTIONS}/f/aliases"


@pytest.fixture
def world() -> World:
    """A function with the versions 1 and 2."""
    made = World()
    made.active(Publish=True)
    made.configure(Timeout=5)
    made.settle()
    made.call("POST", f"{FUNCTIONS}/f/versions", {})
    return made


def create(world: World, name: str = "live", version: str = "1", **members: Any) -> TestResponse:
    return world.call("POST", ALIASES, {"Name": name, "FunctionVersion": version, **members})


def update(world: World, name: str = "live", **members: Any) -> TestResponse:
    return world.call("PUT", f"{ALIASES}/{name}", members)


def weights(**given: float) -> dict[str, Any]:
    return {"AdditionalVersionWeights": {name.removeprefix("v"): weight for name, weight in given.items()}}


def not_found(answer: TestResponse) -> str:
    status, kind, body = failure(answer)
    assert (status, kind) == (404, "ResourceNotFoundException")
    return str(body["Message"])


def test_an_alias_is_made_read_moved_and_deleted(world: World) -> None:
    before = world.call("GET", f"{FUNCTIONS}/f/configuration").json["RevisionId"]
    answer = create(world)
    assert answer.status_code == 201
    made = answer.json
    assert made == {
        "AliasArn": f"{ARN}f:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "",
        "RevisionId": made["RevisionId"],
    }
    assert world.call("GET", f"{ALIASES}/live").json == made
    moved = update(world, FunctionVersion="2", Description="d").json
    assert (moved["FunctionVersion"], moved["Description"]) == ("2", "d")
    assert moved["RevisionId"] != made["RevisionId"]
    assert world.call("GET", f"{FUNCTIONS}/f/configuration").json["RevisionId"] == before
    found = world.call("GET", f"{FUNCTIONS}/f?Qualifier=live").json["Configuration"]
    assert (found["Version"], found["FunctionArn"], found["Timeout"]) == ("2", f"{ARN}f:live", 5)
    for _ in range(2):
        assert world.call("DELETE", f"{ALIASES}/live").status_code == 204
    assert not_found(world.call("GET", f"{ALIASES}/live")) == f"Cannot find alias arn: {ARN}f:live"


def test_what_an_update_leaves_out_stays_and_both_empty_forms_clear_the_weights(world: World) -> None:
    create(world, Description="d", RoutingConfig=weights(v2=0.25))
    kept = update(world).json
    assert (kept["FunctionVersion"], kept["Description"]) == ("1", "d")
    assert kept["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.25}}
    assert "RoutingConfig" not in update(world, RoutingConfig={}).json
    assert "RoutingConfig" in update(world, RoutingConfig=weights(v2=1.0)).json
    assert "RoutingConfig" not in update(world, RoutingConfig={"AdditionalVersionWeights": {}}).json


def test_names_are_taken_once_and_are_not_only_digits(world: World) -> None:
    create(world)
    text = f"Alias already exists: {ARN}f:live"
    assert failure(create(world)) == (409, "ResourceConflictException", {"Type": "User", "message": text})
    assert create(world, "2024-01-02").status_code == 201
    assert "at 'name'" in breach(create(world, "2024"))
    assert "at 'name'" in breach(create(world, "a.b"))


def test_what_is_not_there_is_said_in_the_words_of_each_operation(world: World) -> None:
    assert not_found(create(world, version="9")) == f"Function not found: {ARN}f:9"
    assert not_found(update(world)) == f"Alias not found: {ARN}f:live"
    create(world)
    assert not_found(update(world, FunctionVersion="9")) == f"Function not found: {ARN}f:9"
    assert not_found(update(world, RoutingConfig=weights(v9=0.5))) == f"Function not found: {ARN}f:9"
    assert not_found(world.call("GET", f"{FUNCTIONS}/g/aliases/x")) == f"Cannot find alias arn: {ARN}g:x"
    assert not_found(world.call("GET", f"{FUNCTIONS}/g/aliases")) == f"Function not found: {ARN}g"
    assert world.call("DELETE", f"{FUNCTIONS}/g/aliases/x").status_code == 204


def test_a_stale_revision_is_a_failed_precondition(world: World) -> None:
    made = create(world).json
    assert update(world, RevisionId=made["RevisionId"], Description="x").status_code == 200
    text = (
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )
    expected = (412, "PreconditionFailedException", {"Type": "User", "message": text})
    assert failure(update(world, RevisionId=made["RevisionId"])) == expected


@pytest.mark.parametrize("operation", [create, update])
def test_weights_have_rules(world: World, operation: Any) -> None:
    if operation is update:
        create(world)
    text = "Number of items in AdditionalVersionWeights cannot be greater than 1"
    assert refusal(operation(world, RoutingConfig=weights(v1=0.1, v2=0.1))) == text
    text = "Invalid function version 1. Function version 1 is already included in routing configuration."
    assert refusal(operation(world, RoutingConfig=weights(v1=0.5))) == text
    bad_key = operation(world, RoutingConfig={"AdditionalVersionWeights": {"$LATEST": 0.5}})
    assert "Map keys must satisfy constraint" in breach(bad_key)
    for weight in (-0.1, 1.1):
        assert "Map value must satisfy constraint" in breach(operation(world, RoutingConfig=weights(v2=weight)))


def test_latest_cannot_share_its_calls(world: World) -> None:
    text = "$LATEST is not supported for an alias pointing to more than 1 version"
    assert refusal(create(world, version="$LATEST", RoutingConfig=weights(v1=0.5))) == text
    assert create(world, version="$LATEST").json["FunctionVersion"] == "$LATEST"
    assert refusal(update(world, RoutingConfig=weights(v1=0.5))) == text


def test_an_alias_cannot_be_moved_onto_the_version_that_it_shares_with(world: World) -> None:
    create(world, RoutingConfig=weights(v2=0.5))
    text = "Invalid function version 2. Function version 2 is already included in routing configuration."
    assert refusal(update(world, FunctionVersion="2")) == text
    assert update(world, FunctionVersion="2", RoutingConfig=weights(v1=0.5)).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"Role": "arn:aws:iam::123456789012:role/other"},
        {"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"}},
    ],
)
def test_versions_that_share_calls_have_the_same_role_and_dead_letter_target(
    world: World, change: dict[str, Any]
) -> None:
    world.configure(**change)
    world.settle()
    assert world.call("POST", f"{FUNCTIONS}/f/versions", {}).json["Version"] == "3"
    assert "must have the same" in refusal(create(world, RoutingConfig=weights(v3=0.5)))


def test_aliases_are_listed_by_name_filtered_and_in_pages(world: World) -> None:
    create(world, "b", "2")
    create(world, "a", "1", RoutingConfig=weights(v2=0.1))
    create(world, "c", "1")
    names = [each["Name"] for each in world.call("GET", ALIASES).json["Aliases"]]
    assert names == ["a", "b", "c"]
    of_two = world.call("GET", f"{ALIASES}?FunctionVersion=2").json["Aliases"]
    assert [each["Name"] for each in of_two] == ["a", "b"]
    first = world.call("GET", f"{ALIASES}?MaxItems=2").json
    assert [each["Name"] for each in first["Aliases"]] == ["a", "b"]
    rest = world.call("GET", f"{ALIASES}?MaxItems=2&Marker={first['NextMarker']}").json
    assert [each["Name"] for each in rest["Aliases"]] == ["c"]
    assert "NextMarker" not in rest


def test_a_function_takes_its_aliases_with_it(world: World) -> None:
    create(world)
    world.call("DELETE", f"{FUNCTIONS}/f")
    world.active(Publish=True)
    assert world.call("GET", ALIASES).json == {"Aliases": []}


def test_a_version_that_gets_a_share_cannot_be_deleted(world: World) -> None:
    create(world, RoutingConfig=weights(v2=0.1))
    assert failure(world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=2"))[0] == 409
    update(world, RoutingConfig={})
    assert world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=2").status_code == 204
