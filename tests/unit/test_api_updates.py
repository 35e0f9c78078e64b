"""Updates of functions through the API (lambda.md §1.4, §1.5, §1.9)."""

from __future__ import annotations

from typing import Any

import pytest
from test_api_world import ARN, FUNCTIONS, World, failure, refusal


@pytest.fixture
def world() -> World:
    return World()


def test_an_update_shows_the_new_values_in_progress_and_then_successful(world: World) -> None:
    before = world.active()
    world.clock.advance(60)
    during = world.configure(Description="new").json
    assert (during["State"], during["Description"]) == ("Active", "new")
    assert during["LastUpdateStatus"] == "InProgress"
    assert during["LastUpdateStatusReason"] == "The function is being created."
    assert during["LastUpdateStatusReasonCode"] == "Creating"
    assert during["LastModified"] == "2025-11-25T02:27:54.123+0000"
    world.settle()
    after = world.call("GET", f"{FUNCTIONS}/f/configuration").json
    assert after["LastUpdateStatus"] == "Successful"
    assert "LastUpdateStatusReason" not in after
    assert len({before["RevisionId"], during["RevisionId"], after["RevisionId"]}) == 3


def test_an_update_that_changes_nothing_is_deployed_all_the_same(world: World) -> None:
    before = world.active()
    during = world.configure().json
    assert during["LastUpdateStatus"] == "InProgress"
    assert during["RevisionId"] != before["RevisionId"]
    assert len(world.submitted) == 1


def test_while_an_update_is_in_progress_another_is_a_conflict(world: World) -> None:
    world.active()
    world.configure(Timeout=5)
    text = f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}f"
    expected = (409, "ResourceConflictException", {"Type": "User", "message": text})
    assert failure(world.configure(Timeout=6)) == expected
    assert failure(world.call("PUT", f"{FUNCTIONS}/f/code", {"ImageUri": "reg/app:2"})) == expected


def test_while_a_function_is_pending_an_update_is_a_conflict_and_a_delete_is_not(world: World) -> None:
    world.create()
    text = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
    expected = (409, "ResourceConflictException", {"Type": "User", "message": text})
    assert failure(world.configure(Timeout=6)) == expected
    assert failure(world.call("PUT", f"{FUNCTIONS}/f/code", {"ImageUri": "reg/app:2"})) == expected
    assert world.call("DELETE", f"{FUNCTIONS}/f").status_code == 204


def test_a_stale_revision_is_a_failed_precondition(world: World) -> None:
    revision = world.active()["RevisionId"]
    assert world.configure(RevisionId=revision, Timeout=4).status_code == 200
    world.settle()
    text = (
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )
    expected = (412, "PreconditionFailedException", {"Type": "User", "message": text})
    assert failure(world.configure(RevisionId=revision)) == expected
    code = {"ImageUri": "reg/app:2", "RevisionId": revision}
    assert failure(world.call("PUT", f"{FUNCTIONS}/f/code", code)) == expected
    assert failure(world.call("PUT", f"{FUNCTIONS}/f/code", {**code, "DryRun": True})) == expected


def test_members_that_an_update_leaves_out_stay_and_empty_ones_are_taken_away(world: World) -> None:
    given = {
        "Environment": {"Variables": {"AB": "c"}},
        "ImageConfig": {"Command": ["a.b"], "WorkingDirectory": "/w"},
        "DeadLetterConfig": {"TargetArn": "arn:aws:sns:us-east-1:123456789012:t"},
        "KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k",
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    }
    world.active(**given)
    left = world.configure(DeadLetterConfig={}, TracingConfig={}).json
    assert [left["Environment"], left["DeadLetterConfig"]] == [given["Environment"], given["DeadLetterConfig"]]
    assert left["ImageConfigResponse"] == {"ImageConfig": given["ImageConfig"]}
    world.settle()
    gone = world.configure(
        Environment={"Variables": {}},
        ImageConfig={},
        DeadLetterConfig={"TargetArn": ""},
        KMSKeyArn="",
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
    ).json
    assert not {"Environment", "ImageConfigResponse", "DeadLetterConfig", "KMSKeyArn"} & set(gone)
    empty = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False}
    assert gone["VpcConfig"] == empty


def test_an_update_replaces_image_config_as_a_whole(world: World) -> None:
    world.active(ImageConfig={"EntryPoint": ["/e"], "WorkingDirectory": "/w"})
    after = world.configure(ImageConfig={"Command": ["a.b"]}).json
    assert after["ImageConfigResponse"] == {"ImageConfig": {"Command": ["a.b"]}}


def test_logging_is_merged_member_by_member(world: World) -> None:
    def logging_after(**members: Any) -> Any:
        answer = world.configure(LoggingConfig=members).json["LoggingConfig"]
        world.settle()
        return answer

    world.active()
    group = {"LogGroup": "/aws/lambda/f"}
    json_info = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    assert logging_after(LogFormat="JSON") == {**json_info, **group}
    assert logging_after(ApplicationLogLevel="DEBUG") == {**json_info, **group, "ApplicationLogLevel": "DEBUG"}
    assert logging_after(LogGroup="g")["LogFormat"] == "JSON"
    assert logging_after(LogFormat="Text") == {"LogFormat": "Text", "LogGroup": "g"}
    text = "ApplicationLogLevel and SystemLogLevel can only be set when LogFormat is JSON."
    assert refusal(world.configure(LoggingConfig={"SystemLogLevel": "WARN"})) == text
    assert refusal(world.create("g", LoggingConfig={"SystemLogLevel": "WARN"})) == text


def test_update_code_pins_the_new_image_and_may_change_the_architecture(world: World) -> None:
    world.active(Timeout=7)
    body = {"ImageUri": "reg/app:2", "Architectures": ["arm64"]}
    answer = world.call("PUT", f"{FUNCTIONS}/f/code", body).json
    assert (answer["LastUpdateStatus"], answer["Architectures"], answer["Timeout"]) == ("InProgress", ["arm64"], 7)
    assert world.call("GET", f"{FUNCTIONS}/f").json["Code"]["ImageUri"] == "reg/app:2"


def test_update_code_of_an_image_function_needs_an_image(world: World) -> None:
    world.active()
    text = "Please provide ImageUri when updating a function with packageType Image."
    for body in ({"ZipFile": "UEs="}, {"S3Bucket": "bucket", "S3Key": "k"}, {}):
        assert refusal(world.call("PUT", f"{FUNCTIONS}/f/code", body)) == text


def test_a_dry_run_shows_what_would_be_and_stores_nothing(world: World) -> None:
    before = world.active()
    body = {"ImageUri": "reg/app:2", "Architectures": ["arm64"], "DryRun": True}
    would_be = world.call("PUT", f"{FUNCTIONS}/f/code", body)
    assert (would_be.status_code, would_be.json["Architectures"]) == (200, ["arm64"])
    assert world.call("GET", f"{FUNCTIONS}/f/configuration").json == before
    assert not world.submitted
    assert "does not exist" in refusal(world.call("PUT", f"{FUNCTIONS}/f/code", {**body, "ImageUri": "missing"}))


def test_only_latest_can_be_changed(world: World) -> None:
    world.active()
    assert world.configure("f:$LATEST", Timeout=4).status_code == 200
    assert refusal(world.configure("f:1", Timeout=4)) == (
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN."
    )
