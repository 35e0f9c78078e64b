"""AddPermission, GetPolicy, RemovePermission (lambda.md §8.1, §8.2), and who may call which operation (§8.4)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from test_api_world import ACCOUNT, ARN, FUNCTIONS, ROLE, World, breach, failure, refusal
from werkzeug.test import TestResponse

from rie.api.context import RequestContext
from rie.api.handlers import handlers
from rie.api.permissions import Permissions
from rie.api.service import create_app
from rie.errors import ServiceError
from rie.functions.domain import Domain
from rie.iam.caller import Caller, Identity
from rie.iam.policy import read_policy
from rie.model.function import FunctionKey
from rie.model.policy import POLICIES
from rie.model.record import place_of
from rie.model.scope import Scope

POLICY = f"{FUNCTIONS}/f/policy"
S3 = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
KEY = FunctionKey(ACCOUNT, "us-east-1", "f")
AWAY = "210987654321"


@pytest.fixture
def world() -> World:
    world = World()
    world.active("f")
    return world


def add(world: World, **members: Any) -> TestResponse:
    return world.call("POST", POLICY, {**S3, **members})


def statement(world: World, **members: Any) -> str:
    answer = add(world, **members)
    assert answer.status_code == 201, answer.json
    return str(answer.json["Statement"])


def document(world: World, query: str = "") -> Any:
    return world.call("GET", f"{POLICY}{query}").json


def test_a_statement_is_rendered_byte_for_byte(world: World) -> None:
    assert statement(world, SourceArn="arn:aws:s3:::b") == (
        '{"Sid":"s3","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction",'
        f'"Resource":"{ARN}f","Condition":{{"ArnLike":{{"AWS:SourceArn":"arn:aws:s3:::b"}}}}}}'
    )


@pytest.mark.parametrize(
    ("members", "condition"),
    [
        ({}, None),
        ({"SourceAccount": ACCOUNT}, {"StringEquals": {"AWS:SourceAccount": ACCOUNT}}),
        ({"PrincipalOrgID": "o-1234567890"}, {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}),
        ({"EventSourceToken": "t"}, {"StringEquals": {"lambda:EventSourceToken": "t"}}),
        (
            {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
            {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
        ),
        ({"InvokedViaFunctionUrl": True}, {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
        ({"InvokedViaFunctionUrl": False}, None),
        (
            {"SourceArn": "arn:aws:s3:::b", "SourceAccount": ACCOUNT, "EventSourceToken": "t"},
            {
                "StringEquals": {"AWS:SourceAccount": ACCOUNT, "lambda:EventSourceToken": "t"},
                "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
            },
        ),
    ],
)
def test_conditions_are_rendered_in_the_services_order(world: World, members: dict[str, Any], condition: Any) -> None:
    rendered = json.loads(statement(world, **members))
    assert json.dumps(rendered.get("Condition")) == json.dumps(condition)
    assert list(rendered)[:5] == ["Sid", "Effect", "Principal", "Action", "Resource"]


@pytest.mark.parametrize(
    ("given", "rendered"),
    [
        ("*", "*"),
        ("events.amazonaws.com", {"Service": "events.amazonaws.com"}),
        ("alexa-appkit.amazon.com", {"Service": "alexa-appkit.amazon.com"}),
        (AWAY, {"AWS": f"arn:aws:iam::{AWAY}:root"}),
        (f"arn:aws:iam::{AWAY}:user/a/b", {"AWS": f"arn:aws:iam::{AWAY}:user/a/b"}),
        (f"arn:aws:sts::{AWAY}:assumed-role/r/s", {"AWS": f"arn:aws:sts::{AWAY}:assumed-role/r/s"}),
    ],
)
def test_principals(world: World, given: str, rendered: object) -> None:
    assert json.loads(statement(world, Principal=given))["Principal"] == rendered


@pytest.mark.parametrize(
    "given", ["nobody", "12345", "arn:aws:s3:::b", "arn:aws:iam::1:user/a", "s3.amazonaws.com.evil"]
)
def test_a_principal_that_is_none_is_refused(world: World, given: str) -> None:
    text = "The provided principal was invalid. Please check the principal and try again."
    assert refusal(add(world, Principal=given)) == text


def test_the_policy_is_its_statements_in_the_order_of_their_coming(world: World) -> None:
    first, second = statement(world), statement(world, StatementId="a")
    found = document(world)
    assert found["Policy"] == f'{{"Version":"2012-10-17","Id":"default","Statement":[{first},{second}]}}'
    assert found["RevisionId"] != world.call("GET", f"{FUNCTIONS}/f/configuration").json["RevisionId"]


def test_a_statement_id_is_taken_once(world: World) -> None:
    statement(world)
    assert failure(add(world, Principal="*")) == (
        409,
        "ResourceConflictException",
        {
            "Type": "User",
            "message": "The statement id (s3) provided already exists. "
            "Please provide a new statement id, or remove the existing statement.",
        },
    )


def test_the_revision_guards_adding_and_removing(world: World) -> None:
    stale = {
        "Type": "User",
        "message": "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetPolicy API to retrieve the latest Revision Id",
    }
    statement(world)
    old = document(world)["RevisionId"]
    statement(world, StatementId="b", RevisionId=old)
    new = document(world)["RevisionId"]
    assert new != old
    assert failure(add(world, StatementId="c", RevisionId=old)) == (412, "PreconditionFailedException", stale)
    assert failure(world.call("DELETE", f"{POLICY}/b?RevisionId={old}"))[2] == stale
    assert world.call("DELETE", f"{POLICY}/b?RevisionId={new}").status_code == 204


def test_removal(world: World) -> None:
    assert failure(world.call("DELETE", f"{POLICY}/s3")) == (
        404,
        "ResourceNotFoundException",
        {"Type": "User", "Message": "No policy is associated with the given resource."},
    )
    statement(world)
    assert failure(world.call("DELETE", f"{POLICY}/other"))[2]["Message"] == (
        "Statement other is not found in resource policy."
    )
    assert world.call("DELETE", f"{POLICY}/s3").status_code == 204
    nothing = {"Type": "User", "Message": "The resource you requested does not exist."}
    assert failure(world.call("GET", POLICY)) == (404, "ResourceNotFoundException", nothing)


def test_what_is_not_there(world: World) -> None:
    def message(answer: TestResponse) -> str:
        status, kind, body = failure(answer)
        assert (status, kind) == (404, "ResourceNotFoundException")
        return str(body["Message"])

    call = world.call
    assert message(call("POST", f"{FUNCTIONS}/g/policy", S3)) == f"Function not found: {ARN}g"
    assert message(call("POST", f"{POLICY}?Qualifier=7", S3)) == f"Function not found: {ARN}f:7"
    assert message(call("POST", f"{POLICY}?Qualifier=live", S3)) == f"Cannot find alias arn: {ARN}f:live"
    assert message(call("GET", f"{FUNCTIONS}/g/policy")) == "The resource you requested does not exist."
    assert message(call("DELETE", f"{FUNCTIONS}/g/policy/s")) == f"No policy found for: {ARN}g"
    text = "We currently do not support adding policies for $LATEST."
    assert refusal(call("POST", f"{POLICY}?Qualifier=%24LATEST", S3)) == text


def test_members_are_validated(world: World) -> None:
    assert "at 'statementId' failed to satisfy constraint" in breach(add(world, StatementId="a b"))
    assert "at 'action' failed to satisfy constraint" in breach(add(world, Action="s3:GetObject"))
    assert "FunctionUrlAuthType" in refusal(add(world, FunctionUrlAuthType="NONE"))


def test_a_policy_has_20_kilobytes(world: World) -> None:
    number = 0
    while (answer := add(world, StatementId=f"s{number}", SourceArn="arn:aws:s3:::" + "b" * 100)).status_code == 201:
        number += 1
    status, kind, _ = failure(answer)
    assert (status, kind) == (400, "PolicyLengthExceededException")
    policy = document(world)["Policy"]
    assert len(policy) <= 20_480 < len(policy) + 300


def test_versions_and_aliases_have_policies_of_their_own(world: World) -> None:
    statement(world)
    assert world.call("POST", f"{FUNCTIONS}/f/versions", {}).status_code == 201
    alias = {"Name": "live", "FunctionVersion": "1"}
    assert world.call("POST", f"{FUNCTIONS}/f/aliases", alias).status_code == 201
    for qualifier in ("1", "live"):
        query = f"?Qualifier={qualifier}"
        assert world.call("GET", f"{POLICY}{query}").status_code == 404, "publishing copies nothing"
        added = world.call("POST", f"{POLICY}{query}", S3)
        assert json.loads(added.json["Statement"])["Resource"] == f"{ARN}f:{qualifier}"
    assert world.call("DELETE", f"{FUNCTIONS}/f/aliases/live").status_code == 204
    world.call("POST", f"{FUNCTIONS}/f/aliases", alias)
    assert world.call("GET", f"{POLICY}?Qualifier=live").status_code == 404, "it went with its alias"
    assert world.call("DELETE", f"{FUNCTIONS}/f/policy/s3?Qualifier=1").status_code == 204
    assert world.call("GET", POLICY).status_code == 200


def test_a_policy_goes_with_its_function(world: World) -> None:
    statement(world)
    assert world.ledger.find(POLICIES, place_of(KEY, "$LATEST")) is not None
    world.call("DELETE", f"{FUNCTIONS}/f")
    world.active("f")
    assert failure(world.call("GET", POLICY))[0] == 404


# -- who may call which operation -------------------------------------------------------------------------------------


def caller(account: str, *statements: dict[str, Any]) -> Caller:
    policies = (read_policy({"Statement": list(statements)}),) if statements else None
    return Caller("user", account, f"arn:aws:iam::{account}:user/ada", "AKIA", policies=policies)


def allow(action: object, resource: object = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


Ask = Callable[..., TestResponse]


@pytest.fixture
def ask(world: World) -> Ask:
    """Send a request as somebody."""
    who: list[Caller] = []
    permissions = Permissions(lambda key, qualifier: _statements(world.domain, key, qualifier))
    app = create_app(
        handlers(world.domain),
        identify=lambda request: Identity(who[0], Scope(who[0].account, "us-east-1")),
        permit=permissions.permit,
    )

    def send(sender: Caller, method: str, path: str, body: object = None) -> TestResponse:
        who[:] = [sender]
        return app.test_client().open(path, method=method, data=None if body is None else json.dumps(body))

    return send


def _statements(domain: Domain, key: FunctionKey, qualifier: str | None) -> tuple[str, ...]:
    policy = domain.ledger.find(POLICIES, place_of(key, qualifier or "$LATEST"))
    return () if policy is None else policy.statements


def test_without_policies_a_caller_may_everything_in_his_account_and_nothing_elsewhere(world: World, ask: Ask) -> None:
    assert ask(caller(ACCOUNT), "GET", f"{FUNCTIONS}/f").status_code == 200
    assert ask(caller(AWAY), "GET", f"{FUNCTIONS}/f").status_code == 404, "a name is one of the caller's own account"
    assert ask(caller(AWAY), "GET", FUNCTIONS).json == {"Functions": []}
    status, kind, body = failure(ask(caller(AWAY), "GET", f"{FUNCTIONS}/{ARN}f"))
    assert (status, kind) == (403, "AccessDeniedException")
    assert body["Message"] == (
        f"User: arn:aws:iam::{AWAY}:user/ada is not authorized to perform: lambda:GetFunction on resource: {ARN}f "
        "because no resource-based policy allows the lambda:GetFunction action"
    )


def test_another_account_may_what_it_was_let_in_for(world: World, ask: Ask) -> None:
    statement(world, Principal=AWAY, Action="lambda:GetFunction")
    assert ask(caller(AWAY), "GET", f"{FUNCTIONS}/{ARN}f").json["Configuration"]["FunctionArn"] == f"{ARN}f"
    assert ask(caller(AWAY), "DELETE", f"{FUNCTIONS}/{ARN}f").status_code == 403
    assert ask(caller("3" * 12), "GET", f"{FUNCTIONS}/{ARN}f").status_code == 403
    limited = caller(AWAY, allow("lambda:ListFunctions"))
    assert ask(limited, "GET", f"{FUNCTIONS}/{ARN}f").status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "action", "resource"),
    [
        ("GET", FUNCTIONS, None, "lambda:ListFunctions", "*"),
        ("GET", f"{FUNCTIONS}/f", None, "lambda:GetFunction", f"{ARN}f"),
        ("GET", f"{FUNCTIONS}/f/configuration", None, "lambda:GetFunctionConfiguration", f"{ARN}f"),
        ("PUT", f"{FUNCTIONS}/f/configuration", {"Timeout": 5}, "lambda:UpdateFunctionConfiguration", f"{ARN}f"),
        ("POST", POLICY, S3, "lambda:AddPermission", f"{ARN}f"),
        ("GET", f"/2017-03-31/tags/{ARN}f", None, "lambda:ListTags", f"{ARN}f"),
        ("DELETE", f"{FUNCTIONS}/f", None, "lambda:DeleteFunction", f"{ARN}f"),
    ],
)
def test_an_operation_needs_its_action_on_its_resource(
    world: World, ask: Ask, method: str, path: str, body: object, action: str, resource: str
) -> None:
    others = caller(ACCOUNT, {"Effect": "Allow", "NotAction": action, "Resource": "*"})
    status, kind, answer = failure(ask(others, method, path, body))
    assert (status, kind) == (403, "AccessDeniedException")
    assert f"to perform: {action} on resource: {resource} because" in answer["Message"]
    assert ask(caller(ACCOUNT, allow(action, resource)), method, path, body).status_code < 300


def test_a_role_is_handed_over_only_by_who_may_and_never_across_accounts(world: World, ask: Ask) -> None:
    new = {"FunctionName": "g", "Role": ROLE, "PackageType": "Image", "Code": {"ImageUri": "reg/app:1"}}
    creates = allow("lambda:CreateFunction")
    answer = failure(ask(caller(ACCOUNT, creates), "POST", FUNCTIONS, new))
    assert f"iam:PassRole on resource: {ROLE}" in answer[2]["Message"]
    foreign = {**new, "Role": f"arn:aws:iam::{AWAY}:role/r"}
    assert failure(ask(caller(ACCOUNT), "POST", FUNCTIONS, foreign))[2] == {
        "Message": "Cross-account pass role is not allowed."
    }
    assert ask(caller(ACCOUNT, creates, allow("iam:PassRole", ROLE)), "POST", FUNCTIONS, new).status_code == 201


def test_conditions_see_what_a_request_grants(world: World, ask: Ask) -> None:
    services = {"StringLike": {"lambda:Principal": "*.amazonaws.com"}}
    limited = caller(ACCOUNT, {**allow("lambda:AddPermission"), "Condition": services})
    assert ask(limited, "POST", POLICY, S3).status_code == 201
    assert ask(limited, "POST", POLICY, {**S3, "StatementId": "x", "Principal": "*"}).status_code == 403


def test_every_operation_of_the_model_has_a_target() -> None:
    from rie.api.model import operation_model
    from rie.api.permissions import target
    from rie.api.routes import operations

    context = RequestContext(ACCOUNT, "us-east-1", "id", caller(ACCOUNT))
    values = {
        "FunctionName": "f",
        "Resource": f"{ARN}f",
        "LayerName": "l",
        "Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:l:1",
        "DurableExecutionArn": f"{ARN}f:1/durable-execution/a/b",
        "CodeSigningConfigArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:code-signing-config:csc-1",
    }
    for operation in operations():
        shape = operation_model(operation).input_shape
        params = {name: values.get(name, "x") for name in (shape.required_members if shape else ())}
        assert target(context, operation, params).account == ACCOUNT, operation


def test_a_role_that_cannot_be_assumed_makes_no_function() -> None:
    world = World()

    def check(role: str, name: str) -> None:
        raise ServiceError(
            "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."
        )

    world.client = create_app(handlers(replace(world.domain, check_role=check))).test_client()
    assert refusal(world.create()) == "The role defined for the function cannot be assumed by Lambda."
    assert world.call("GET", FUNCTIONS).json == {"Functions": []}
