"""Event-invoke configurations over the API (lambda.md §5.3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_api_world import ARN, World, breach, failure, refusal

PATH = "/2019-09-25/functions/f/event-invoke-config"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:q"


@pytest.fixture
def world() -> World:
    made = World()
    made.active()
    return made


def test_put_replaces_and_update_merges(world: World) -> None:
    put = world.call("PUT", PATH, {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60})
    assert put.status_code == 200
    assert put.json["FunctionArn"] == f"{ARN}f:$LATEST"
    assert isinstance(put.json["LastModified"], float)
    assert put.json["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    assert put.json["MaximumRetryAttempts"] == 0
    updated = world.call("POST", PATH, {"DestinationConfig": {"OnFailure": {"Destination": QUEUE}}})
    assert updated.json["MaximumEventAgeInSeconds"] == 60
    assert updated.json["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": QUEUE}}
    assert world.call("GET", f"{PATH}?Qualifier=%24LATEST").json == updated.json
    replaced = world.call("PUT", PATH, {"MaximumRetryAttempts": 1})
    assert "MaximumEventAgeInSeconds" not in replaced.json
    assert replaced.json["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}


def test_an_empty_destination_takes_it_away(world: World) -> None:
    world.call("PUT", PATH, {"DestinationConfig": {"OnFailure": {"Destination": QUEUE}}})
    after = world.call("POST", PATH, {"DestinationConfig": {"OnFailure": {"Destination": ""}}})
    assert after.json["DestinationConfig"]["OnFailure"] == {}


def test_nothing_given_is_refused(world: World) -> None:
    for method in ("PUT", "POST"):
        assert refusal(world.call(method, PATH, {})) == (
            "You must specify at least one of error handling or destination setting."
        )


def test_what_is_not_there_is_said_in_the_service_words(world: World) -> None:
    absent = (404, "ResourceNotFoundException")
    assert failure(world.call("PUT", PATH.replace("/f/", "/nobody/"), {"MaximumRetryAttempts": 1}))[:2] == absent
    assert failure(world.call("GET", PATH))[2]["Message"] == (
        f"The function {ARN}f:$LATEST doesn't have an EventInvokeConfig"
    )
    assert failure(world.call("DELETE", PATH))[:2] == absent
    assert failure(world.call("POST", PATH, {"MaximumRetryAttempts": 1}))[:2] == absent
    listed = world.call("GET", "/2019-09-25/functions/nobody/event-invoke-config/list")
    assert failure(listed)[2]["Message"] == "The function doesn't exist."


@pytest.mark.parametrize(
    ("destination", "text"),
    [
        (f"{ARN}nobody", f"The destination ARN {ARN}nobody is invalid."),
        (f"{ARN}f", "You can't specify the function as a destination for itself."),
        (
            "arn:aws:iam::123456789012:role/r",
            "The provided destination config DestinationConfig(onSuccess="
            "OnSuccess(destination=arn:aws:iam::123456789012:role/r), onFailure=null) is invalid.",
        ),
        (
            "arn:aws:s3:::b",
            "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::b), "
            "onFailure=null) is invalid.",
        ),
    ],
)
def test_destinations_are_checked(world: World, destination: str, text: str) -> None:
    body: dict[str, Any] = {"DestinationConfig": {"OnSuccess": {"Destination": destination}}}
    assert refusal(world.call("PUT", PATH, body)) == text


def test_what_is_no_arn_breaks_the_models_pattern(world: World) -> None:
    body: dict[str, Any] = {"DestinationConfig": {"OnFailure": {"Destination": "queue"}}}
    assert "at 'destinationConfig.onFailure.destination' failed to satisfy constraint" in breach(
        world.call("PUT", PATH, body)
    )
    assert "at 'maximumRetryAttempts'" in breach(world.call("PUT", PATH, {"MaximumRetryAttempts": 3}))


def test_it_is_listed_and_goes_with_its_function(world: World) -> None:
    world.call("PUT", PATH, {"MaximumRetryAttempts": 1})
    listed = world.call("GET", f"{PATH}/list").json
    assert [each["FunctionArn"] for each in listed["FunctionEventInvokeConfigs"]] == [f"{ARN}f:$LATEST"]
    assert "NextMarker" not in listed
    assert world.call("DELETE", PATH).status_code == 204
    assert world.call("GET", f"{PATH}/list").json == {"FunctionEventInvokeConfigs": []}
    world.call("PUT", PATH, {"MaximumRetryAttempts": 1})
    world.call("DELETE", "/2015-03-31/functions/f")
    world.active()
    assert world.call("GET", PATH).status_code == 404
