"""Versions through the API (lambda.md §4.1, §1.14, §1.2)."""

from __future__ import annotations

from typing import Any

import pytest
from test_api_world import ARN, FUNCTIONS, World, breach, failure, refusal
from werkzeug.test import TestResponse

VERSIONS = f"{FUNCTIONS}/f/versions"


@pytest.fixture
def world() -> World:
    return World()


def publish(world: World, **members: Any) -> TestResponse:
    return world.call("POST", VERSIONS, members)


def configuration(world: World, qualifier: str = "") -> dict[str, Any]:
    query = f"?Qualifier={qualifier}" if qualifier else ""
    return dict(world.call("GET", f"{FUNCTIONS}/f/configuration{query}").json)


def described(world: World, text: str) -> None:
    world.configure(Description=text)
    world.settle()


def test_a_published_version_is_active_at_once_and_has_an_arn_of_its_own(world: World) -> None:
    before = world.active(Description="mine", Tags={"a": "b"})
    answer = publish(world)
    assert answer.status_code == 201
    version = answer.json
    assert (version["Version"], version["FunctionArn"]) == ("1", f"{ARN}f:1")
    assert (version["State"], version["LastUpdateStatus"]) == ("Active", "Successful")
    assert version["Description"] == "mine"
    latest = configuration(world)
    assert (latest["Version"], latest["FunctionArn"]) == ("$LATEST", f"{ARN}f")
    assert len({before["RevisionId"], version["RevisionId"], latest["RevisionId"]}) == 3
    assert world.call("GET", f"{FUNCTIONS}/f?Qualifier=1").json["Tags"] == {"a": "b"}


def test_a_version_is_frozen_while_latest_changes(world: World) -> None:
    world.active(Timeout=5, Environment={"Variables": {"AB": "1"}})
    publish(world)
    world.configure(Timeout=9, Environment={"Variables": {"AB": "2"}}, Role="arn:aws:iam::123456789012:role/other")
    world.settle()
    first = configuration(world, "1")
    assert (first["Timeout"], first["Environment"]["Variables"], first["Role"][-2:]) == (5, {"AB": "1"}, "/r")
    assert publish(world).json["Version"] == "2"
    assert configuration(world, "2")["Timeout"] == 9


def test_publishing_what_has_not_changed_gives_the_last_version_back(world: World) -> None:
    world.active()
    first = publish(world, Description="a").json
    again = publish(world, Description="another").json
    assert again == first
    latest = configuration(world)["RevisionId"]
    publish(world)
    assert configuration(world)["RevisionId"] == latest


def test_a_description_that_was_changed_on_latest_makes_a_new_version(world: World) -> None:
    world.active()
    publish(world)
    described(world, "changed")
    assert publish(world).json["Version"] == "2"
    described(world, "changed")  # to what it was: an update, but no change
    assert publish(world).json["Version"] == "2"


def test_tags_make_no_new_version(world: World) -> None:
    world.active()
    publish(world)
    world.call("POST", f"/2017-03-31/tags/{ARN}f", {"Tags": {"a": "b"}})
    assert publish(world).json["Version"] == "1"


def test_a_number_never_returns_until_the_function_is_made_anew(world: World) -> None:
    world.active()
    publish(world)
    described(world, "2")
    publish(world)
    assert world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=2").status_code == 204
    assert publish(world).json["Version"] == "3"
    assert world.call("DELETE", f"{FUNCTIONS}/f").status_code == 204
    world.active()
    assert publish(world).json["Version"] == "1"


def test_preconditions_of_publishing_are_checked(world: World) -> None:
    active = world.active()
    assert refusal(publish(world, CodeSha256="other")) == (
        f"CodeSHA256 (other) is different from current CodeSHA256 in $LATEST ({active['CodeSha256']}). "
        "Please try again with the CodeSHA256 in $LATEST."
    )
    status, kind, _ = failure(publish(world, RevisionId="old"))
    assert (status, kind) == (412, "PreconditionFailedException")
    assert publish(world, CodeSha256=active["CodeSha256"], RevisionId=active["RevisionId"]).status_code == 201


def test_what_is_being_deployed_cannot_be_published(world: World) -> None:
    world.create()
    status, kind, body = failure(publish(world))
    assert (status, kind) == (409, "ResourceConflictException")
    assert body["message"].endswith("in the following state: Pending")
    world.settle()
    world.configure(Timeout=5)
    text = f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}f"
    assert failure(publish(world))[2]["message"] == text


def test_what_could_not_be_deployed_cannot_be_published(world: World) -> None:
    world.active()
    world.configure(Timeout=5)
    function = world.submitted.pop()
    world.catalog.mark_failed(function.key, function.configuration.configuration_id, "InvalidImage", "it is broken")
    status, kind, body = failure(publish(world))
    assert (status, kind) == (409, "ResourceConflictException")
    assert body["message"].endswith("The last update of the function failed: it is broken")


def test_versions_of_a_function_that_is_not_there(world: World) -> None:
    for answer in (publish(world), world.call("GET", VERSIONS)):
        expected = {"Type": "User", "Message": f"Function not found: {ARN}f"}
        assert failure(answer) == (404, "ResourceNotFoundException", expected)


def test_a_function_created_published_has_version_1_which_settles_with_it(world: World) -> None:
    made = world.create(Publish=True).json
    assert (made["Version"], made["FunctionArn"], made["State"]) == ("1", f"{ARN}f", "Pending")
    assert "LastUpdateStatus" not in made
    listed = world.call("GET", VERSIONS).json["Versions"]
    assert [each["Version"] for each in listed] == ["$LATEST", "1"]
    assert len(world.submitted) == 1
    world.settle()
    for qualifier in ("", "1"):
        found = configuration(world, qualifier)
        assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful")
    assert publish(world).json["Version"] == "1"


def test_code_updated_published_is_pending_while_latest_is_in_progress(world: World) -> None:
    world.active()
    answer = world.call("PUT", f"{FUNCTIONS}/f/code", {"ImageUri": "reg/app:2", "Publish": True}).json
    assert (answer["Version"], answer["FunctionArn"]) == ("1", f"{ARN}f:1")
    assert (answer["State"], answer["StateReasonCode"]) == ("Pending", "Creating")
    assert "LastUpdateStatus" not in answer
    assert configuration(world)["LastUpdateStatus"] == "InProgress"
    world.settle()
    assert configuration(world, "1")["State"] == "Active"
    assert configuration(world)["LastUpdateStatus"] == "Successful"


def test_code_updated_published_to_what_it_was_makes_no_version(world: World) -> None:
    world.active(Publish=True)
    answer = world.call("PUT", f"{FUNCTIONS}/f/code", {"ImageUri": "reg/app:1", "Publish": True}).json
    assert (answer["Version"], answer["State"]) == ("1", "Active")
    world.settle()
    assert configuration(world)["LastUpdateStatus"] == "Successful"
    assert len(world.call("GET", VERSIONS).json["Versions"]) == 2


def test_a_version_whose_code_could_not_be_deployed_failed(world: World) -> None:
    world.create(Publish=True)
    function = world.submitted.pop()
    world.catalog.mark_failed(function.key, function.configuration.configuration_id, "InvalidImage", "broken")
    assert [configuration(world, each)["State"] for each in ("", "1")] == ["Failed", "Failed"]


def test_a_dry_run_publishes_nothing(world: World) -> None:
    world.active()
    body = {"ImageUri": "reg/app:2", "Publish": True, "DryRun": True}
    assert world.call("PUT", f"{FUNCTIONS}/f/code", body).json["Version"] == "$LATEST"
    assert len(world.call("GET", VERSIONS).json["Versions"]) == 1


@pytest.mark.parametrize("qualifier", ["1", "live"])
def test_versions_and_aliases_cannot_be_changed(world: World, qualifier: str) -> None:
    world.active(Publish=True)
    world.call("POST", f"{FUNCTIONS}/f/aliases", {"Name": "live", "FunctionVersion": "1"})
    for method, path, body in (
        ("PUT", "configuration", {"Timeout": 4}),
        ("PUT", "code", {"ImageUri": "reg/app:2"}),
        ("POST", "versions", {}),
    ):
        answer = world.call(method, f"{FUNCTIONS}/f:{qualifier}/{path}", body)
        assert refusal(answer).startswith("This operation is permitted on Lambda functions only.")


def test_deleting_a_version_has_rules(world: World) -> None:
    world.active(Publish=True)
    world.call("POST", f"{FUNCTIONS}/f/aliases", {"Name": "live", "FunctionVersion": "1"})
    text = "$LATEST version cannot be deleted without deleting the function."
    assert refusal(world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=$LATEST")) == text
    text = "Deletion of aliases is not currently supported."
    assert refusal(world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=live")) == text
    status, kind, body = failure(world.call("DELETE", f"{FUNCTIONS}/f:1"))
    assert (status, kind) == (409, "ResourceConflictException")
    assert "live" in body["message"]
    world.call("DELETE", f"{FUNCTIONS}/f/aliases/live")
    for _ in range(2):  # what is not there is deleted already
        assert world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=1").status_code == 204
    expected = {"Type": "User", "Message": f"Function not found: {ARN}f:1"}
    assert failure(world.call("GET", f"{FUNCTIONS}/f?Qualifier=1")) == (404, "ResourceNotFoundException", expected)
    missing = failure(world.call("DELETE", f"{FUNCTIONS}/g?Qualifier=1"))
    assert missing[2]["Message"] == f"Function not found: {ARN}g"


def test_every_form_of_name_and_qualifier_reads_the_version_and_the_arn_echoes_it(world: World) -> None:
    world.active(Publish=True)
    world.call("POST", f"{FUNCTIONS}/f/aliases", {"Name": "live", "FunctionVersion": "1"})
    for name, qualifier, version in (
        ("f", "", "$LATEST"),
        ("f", "$LATEST", "$LATEST"),
        ("f:1", "", "1"),
        ("f:1", "1", "1"),
        ("f", "live", "1"),
        (f"{ARN}f:live", "", "1"),
        ("arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af%3Alive", "live", "1"),
        ("123456789012:function:f:1", "", "1"),
        ("function:f", "%24LATEST", "$LATEST"),
    ):
        query = f"?Qualifier={qualifier}" if qualifier else ""
        found = world.call("GET", f"{FUNCTIONS}/{name}/configuration{query}").json
        asked = qualifier.replace("%24", "$") or (name.rsplit(":", 1)[-1] if ":" in name else "")
        assert found["Version"] == version
        assert found["FunctionArn"] == (f"{ARN}f:{asked}" if asked else f"{ARN}f")
    text = "The derived qualifier from the function name does not match the specified qualifier."
    assert refusal(world.call("GET", f"{FUNCTIONS}/f:1?Qualifier=2")) == text


def test_versions_are_listed_by_number_in_pages(world: World) -> None:
    world.active()
    for number in range(11):
        described(world, str(number))
        publish(world)
    seen: list[str] = []
    marker = ""
    while True:
        page = world.call("GET", f"{VERSIONS}?MaxItems=5{marker}").json
        seen += [each["Version"] for each in page["Versions"]]
        assert all("State" not in each and "LastUpdateStatus" not in each for each in page["Versions"])
        assert [each["FunctionArn"] for each in page["Versions"]] == [
            f"{ARN}f:{n}" for n in seen[-len(page["Versions"]) :]
        ]
        if "NextMarker" not in page:
            break
        marker = f"&Marker={page['NextMarker']}"
    assert seen == ["$LATEST", *map(str, range(1, 12))]


def test_all_versions_of_all_functions_are_listed_grouped_by_function(world: World) -> None:
    for name in ("b", "a"):
        world.active(name, Publish=True)
    seen: list[str] = []
    marker = ""
    while True:
        page = world.call("GET", f"{FUNCTIONS}?FunctionVersion=ALL&MaxItems=3{marker}").json
        seen += [each["FunctionArn"].removeprefix(ARN) for each in page["Functions"]]
        if "NextMarker" not in page:
            break
        marker = f"&Marker={page['NextMarker']}"
    assert seen == ["a:$LATEST", "a:1", "b:$LATEST", "b:1"]
    unqualified = world.call("GET", FUNCTIONS).json["Functions"]
    assert [each["FunctionArn"] for each in unqualified] == [f"{ARN}a", f"{ARN}b"]
    assert "functionVersion" in breach(world.call("GET", f"{FUNCTIONS}?FunctionVersion=SOME"))


def test_the_notices_of_a_publication_are_its_version_and_latest(world: World) -> None:
    world.active()
    world.notices.clear()
    publish(world)
    assert sorted(version for _, version, _ in world.notices) == ["$LATEST", "1"]
    world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=1")
    assert world.notices[-1][1:] == ("1", None)
