"""PutResourcePolicy and its like: whole documents beside AddPermission's statements."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_api_policies import AWAY, POLICY, Ask, add, allow, ask, caller, document, statement, world
from test_api_world import ACCOUNT, ARN, FUNCTIONS, World, failure, refusal

from rie.triggers.subscriptions import granted

__all__ = ["ask", "world"]  # fixtures


WHOLE = f"/2026-07-09/resource-policy/{ARN}f"
LETS_IN = {
    "Effect": "Allow",
    "Principal": {"AWS": [AWAY]},
    "Action": ["lambda:InvokeFunction", "lambda:GetFunction"],
    "Resource": f"{ARN}f",
}


def whole(*statements: Any, **members: Any) -> dict[str, Any]:
    return {"Policy": json.dumps({"Version": "2012-10-17", "Statement": list(statements), **members})}


def test_a_whole_policy_takes_the_place_of_statements_and_both_are_read_as_one(world: World) -> None:
    statement(world)
    answer = world.call("PUT", WHOLE, whole(LETS_IN))
    assert (answer.status_code, json.loads(answer.json["Policy"])) == (
        200,
        {"Version": "2012-10-17", "Statement": [LETS_IN]},
    )
    assert world.call("GET", WHOLE).json == document(world) == answer.json
    added = add(world)
    assert added.status_code == 201, added.json
    got = world.call("GET", WHOLE).json
    assert [each.get("Sid") for each in json.loads(got["Policy"])["Statement"]] == [None, "s3"]
    assert got["RevisionId"] != answer.json["RevisionId"]
    assert world.call("DELETE", f"{POLICY}/s3").status_code == 204
    assert json.loads(document(world)["Policy"])["Statement"] == [LETS_IN]


def test_a_whole_policy_is_of_one_qualifier_and_goes_as_a_whole(world: World) -> None:
    version = world.call("POST", f"{FUNCTIONS}/f/versions").json["Version"]
    qualified = f"{WHOLE}:{version}"
    assert world.call("PUT", qualified, whole(LETS_IN, Id="mine")).status_code == 200
    assert json.loads(world.call("GET", qualified).json["Policy"])["Id"] == "mine"
    for answer, text in (
        (world.call("GET", WHOLE), "The resource you requested does not exist."),
        (world.call("DELETE", WHOLE), "No policy is associated with the given resource."),
    ):
        assert failure(answer) == (404, "ResourceNotFoundException", {"Type": "User", "Message": text})
    assert world.call("DELETE", qualified).status_code == 204
    assert failure(world.call("GET", qualified))[0] == 404


def test_a_whole_policy_of_another_revision_is_not_touched(world: World) -> None:
    stale = "00000000-0000-0000-0000-000000000000"
    for answer in (
        world.call("PUT", WHOLE, {**whole(LETS_IN), "RevisionId": stale}),
        world.call("PUT", WHOLE, whole(LETS_IN)) and world.call("DELETE", f"{WHOLE}?RevisionId={stale}"),
    ):
        assert failure(answer)[:2] == (412, "PreconditionFailedException")
    revision = world.call("GET", WHOLE).json["RevisionId"]
    assert world.call("PUT", WHOLE, {**whole(LETS_IN), "RevisionId": revision}).status_code == 200
    revision = world.call("GET", WHOLE).json["RevisionId"]
    assert world.call("DELETE", f"{WHOLE}?RevisionId={revision}").status_code == 204


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("{", "is invalid"),
        ("[]", "it is not an object"),
        (json.dumps({"Version": "2012-10-17", "Statement": []}), "it has no Statement"),
        (whole({**LETS_IN, "Principal": "x"})["Policy"], 'Principal is neither "*" nor an object'),
        (whole({k: v for k, v in LETS_IN.items() if k != "Principal"})["Policy"], "a statement has no Principal"),
        (whole({**LETS_IN, "Condition": {"Equal": {"a": "b"}}})["Policy"], "there is no condition operator Equal"),
        (whole({**LETS_IN, "Sid": "a"}, {**LETS_IN, "Sid": "a"})["Policy"], "no two statements have the same"),
        (whole({**LETS_IN, "Sid": 1})["Policy"], "Sid is a text"),
        (whole(LETS_IN, Version="2020-01-01")["Policy"], "Version is none of"),
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(world: World, policy: str, text: str) -> None:
    assert text in refusal(world.call("PUT", WHOLE, {"Policy": policy}))
    assert failure(world.call("GET", WHOLE))[0] == 404


def test_whole_policies_of_what_is_not_there(world: World) -> None:
    for arn in (f"{ARN}nobody", f"{ARN}f:7", "arn:aws:lambda:us-east-1:123456789012:runtime/python"):
        answer = world.call("PUT", f"/2026-07-09/resource-policy/{arn.replace('/', '%2F')}", whole(LETS_IN))
        assert failure(answer)[:2] == (404, "ResourceNotFoundException"), answer.json
    assert failure(world.call("PUT", f"{WHOLE}:$LATEST", whole(LETS_IN)))[1] == "InvalidParameterValueException"


def test_a_whole_policy_lets_in_and_keeps_out(world: World, ask: Ask) -> None:
    world.call("PUT", WHOLE, whole(LETS_IN))
    assert ask(caller(AWAY), "GET", f"{FUNCTIONS}/{ARN}f").status_code == 200
    world.call("PUT", WHOLE, whole(LETS_IN, {**LETS_IN, "Effect": "Deny", "Action": "lambda:GetFunction"}))
    assert ask(caller(AWAY), "GET", f"{FUNCTIONS}/{ARN}f").status_code == 403


def test_who_may_change_whole_policies_is_asked_about_their_function(world: World, ask: Ask) -> None:
    mine = allow(["lambda:PutResourcePolicy", "lambda:GetResourcePolicy"], f"{ARN}f")
    assert ask(caller(ACCOUNT, mine), "PUT", WHOLE, whole(LETS_IN)).status_code == 200
    assert ask(caller(ACCOUNT, mine), "DELETE", WHOLE).status_code == 403
    assert ask(caller(ACCOUNT, mine), "GET", f"{WHOLE}2").status_code == 403


def test_services_that_a_whole_policy_lets_in_are_found_by_their_sources() -> None:
    s3 = {**LETS_IN, "Principal": {"Service": ["s3.amazonaws.com", "sns.amazonaws.com"]}}
    from_one = {**s3, "Condition": {"ArnEquals": {"aws:SourceArn": ["arn:aws:s3:::a", "arn:aws:s3:::b"]}}}
    assert set(granted([json.dumps(from_one)])) == {
        (service, f"arn:aws:s3:::{bucket}") for service in ("s3", "sns") for bucket in "ab"
    }
    assert set(granted([json.dumps(s3)])) == {("s3", "*"), ("sns", "*")}
    assert set(granted([json.dumps({**s3, "Effect": "Deny"}), json.dumps(LETS_IN)])) == set()
