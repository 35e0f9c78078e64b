"""Policies held against calls: every line of the tables is one call and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rie.iam.caller import ANONYMOUS, Caller, local, service, service_of
from rie.iam.conditions import PolicyInvalid
from rie.iam.decision import INVOKE, INVOKE_URL, Call, authorize, refusal
from rie.iam.globs import arn_matches, matches
from rie.iam.policy import read_policy

HOME, AWAY = "123456789012", "210987654321"
F = f"arn:aws:lambda:us-east-1:{HOME}:function:f"
BUCKET = "arn:aws:s3:::bucket"


def user(account: str = HOME, *statements: dict[str, Any], name: str = "ada") -> Caller:
    """A user; without statements one with full access to the account."""
    policies = (read_policy({"Statement": list(statements)}),) if statements else None
    arn = f"arn:aws:iam::{account}:user/{name}"
    return Caller("user", account, arn, "AKIA", "AIDA", organization="o-1", policies=policies)


def role(*statements: dict[str, Any]) -> Caller:
    arn = f"arn:aws:sts::{HOME}:assumed-role/app/f"
    return Caller(
        "role",
        HOME,
        arn,
        role_arn=f"arn:aws:iam::{HOME}:role/app",
        policies=(read_policy({"Statement": [*statements]}),),
    )


def allow(action: object = "lambda:InvokeFunction", resource: object = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(**more: Any) -> dict[str, Any]:
    return {**allow(**more), "Effect": "Deny"}


def granted(principal: object, condition: object = None, resource: str = F, action: str = INVOKE) -> str:
    statement = {"Sid": "s", **allow(action, resource), "Principal": principal}
    return json.dumps(statement if condition is None else {**statement, "Condition": condition})


def allows(caller: Caller, *statements: str, action: str = INVOKE, resource: str = F, **more: Any) -> bool:
    return authorize(Call(caller, action, resource, HOME, tuple(statements), **more)).is_allowed


NOTHING = allow("lambda:ListFunctions")


@pytest.mark.parametrize(
    ("pattern", "text", "is_one"),
    [
        ("*", "", True),
        ("a*c", "abbbc", True),
        ("a*c", "abbbd", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("*a*b*", "xxaxxbxx", True),
        ("a", "A", False),
        ("", "", True),
        ("", "a", False),
        ("[a]", "a", False),
    ],
)
def test_wildcards(pattern: str, text: str, is_one: bool) -> None:
    assert matches(pattern, text) is is_one


def test_a_hostile_pattern_costs_no_more_than_its_length_times_the_texts() -> None:
    assert not matches("*a" * 500 + "b", "a" * 5_000)


@pytest.mark.parametrize(
    ("pattern", "arn", "is_one"),
    [
        ("arn:aws:s3:::bucket", BUCKET, True),
        ("arn:aws:s3:::buck*", BUCKET, True),
        ("arn:aws:s3:::bucke?", BUCKET, True),
        ("arn:*", BUCKET, False),
        ("arn:aws:s3:*", BUCKET, False),
        ("arn:*:s3:*:*:*", BUCKET, True),
        ("arn:aws:sns:us-east-1:*:topic", f"arn:aws:sns:us-east-1:{HOME}:topic", True),
        ("*", BUCKET, True),
    ],
)
def test_arns_are_compared_part_by_part(pattern: str, arn: str, is_one: bool) -> None:
    assert arn_matches(pattern, arn) is is_one


@pytest.mark.parametrize(
    ("caller", "statements", "is_allowed"),
    [
        (local(HOME), [], True),
        (user(), [], True),
        (user(HOME, allow()), [], True),
        (user(HOME, NOTHING), [], False),
        (user(HOME, allow(resource=F)), [], True),
        (user(HOME, allow(resource=f"{F}:*")), [], False),
        (user(HOME, allow("LAMBDA:invoke*")), [], True),
        (user(HOME, allow("lambda:*")), [], True),
        (user(HOME, allow(), deny()), [], False),
        (user(HOME, deny()), [granted("*")], False),
        (user(HOME, NOTHING), [granted({"AWS": f"arn:aws:iam::{HOME}:user/ada"})], True),
        (user(HOME, NOTHING), [granted({"AWS": f"arn:aws:iam::{HOME}:user/bob"})], False),
        (user(HOME, NOTHING), [granted("*")], True),
        # The account as a principal hands the decision to the account's own policies.
        (user(HOME, NOTHING), [granted({"AWS": f"arn:aws:iam::{HOME}:root"})], False),
        (user(HOME, {"Effect": "Allow", "NotAction": "lambda:Delete*", "Resource": "*"}), [], True),
        (user(HOME, {"Effect": "Allow", "NotAction": "lambda:Invoke*", "Resource": "*"}), [], False),
        (user(HOME, {"Effect": "Allow", "Action": "*", "NotResource": F}), [], False),
        (user(HOME, {"Effect": "Allow", "Action": "*", "NotResource": f"{F}x"}), [], True),
        (user(HOME, allow(["lambda:Get*", "lambda:InvokeFunction"], ["x", F])), [], True),
        # Another account needs both sides.
        (user(AWAY), [], False),
        (user(AWAY), [granted({"AWS": f"arn:aws:iam::{AWAY}:root"})], True),
        (user(AWAY), [granted({"AWS": AWAY})], True),
        (user(AWAY), [granted({"AWS": f"arn:aws:iam::{HOME}:root"})], False),
        (user(AWAY), [granted({"AWS": f"arn:aws:iam::{AWAY}:user/bob"})], False),
        (user(AWAY), [granted({"AWS": f"arn:aws:iam::{AWAY}:user/ada"})], True),
        (user(AWAY, NOTHING), [granted({"AWS": f"arn:aws:iam::{AWAY}:user/ada"})], False),
        (user(AWAY, allow()), [granted({"AWS": [f"arn:aws:iam::{HOME}:root", AWAY]})], True),
        (user(AWAY), [granted("*")], True),
        (user(AWAY), [granted({"Service": "s3.amazonaws.com"})], False),
        (user(AWAY), [granted("*", action="lambda:InvokeFunctionUrl")], False),
        (user(AWAY), [granted("*", resource=f"{F}:live")], False),
        (user(AWAY), [granted("*", {"StringEquals": {"aws:PrincipalOrgID": "o-1"}})], True),
        (user(AWAY), [granted("*", {"StringEquals": {"aws:PrincipalOrgID": "o-2"}})], False),
        (role(NOTHING), [granted({"AWS": f"arn:aws:iam::{HOME}:role/app"})], True),
        (role(NOTHING), [granted({"AWS": f"arn:aws:sts::{HOME}:assumed-role/app/f"})], True),
        (role(NOTHING), [granted({"AWS": f"arn:aws:sts::{HOME}:assumed-role/app/g"})], False),
        (role(allow(resource=F)), [], True),
        # Services and strangers: the resource's policy alone.
        (ANONYMOUS, [], False),
        (ANONYMOUS, [granted("*")], True),
        (ANONYMOUS, [granted({"AWS": f"arn:aws:iam::{HOME}:root"})], False),
        (service("s3.amazonaws.com"), [granted({"Service": "s3.amazonaws.com"})], True),
        (service("sns.amazonaws.com"), [granted({"Service": "s3.amazonaws.com"})], False),
        (service("s3.amazonaws.com"), [], False),
    ],
)
def test_who_may_invoke(caller: Caller, statements: list[str], is_allowed: bool) -> None:
    assert allows(caller, *statements) is is_allowed


@pytest.mark.parametrize(
    ("source_arn", "source_account", "is_allowed"),
    [
        (BUCKET, HOME, True),
        (BUCKET, AWAY, False),
        ("arn:aws:s3:::other", HOME, False),
        ("", HOME, False),
        (BUCKET, "", False),
    ],
)
def test_a_service_must_come_from_the_resource_that_was_let_in(
    source_arn: str, source_account: str, is_allowed: bool
) -> None:
    condition = {"StringEquals": {"AWS:SourceAccount": HOME}, "ArnLike": {"AWS:SourceArn": BUCKET}}
    statement = granted({"Service": "s3.amazonaws.com"}, condition)
    call = {"source_arn": source_arn, "source_account": source_account}
    assert allows(service("s3.amazonaws.com"), statement, **call) is is_allowed


@pytest.mark.parametrize(
    ("condition", "is_allowed"),
    [
        ({"StringEquals": {"aws:username": "ada"}}, True),
        ({"StringEquals": {"aws:username": ["bob", "ada"]}}, True),
        ({"StringEquals": {"aws:username": "a*"}}, False),
        ({"StringNotEquals": {"aws:username": "ada"}}, False),
        ({"StringNotEquals": {"aws:username": ["ada", "bob"]}}, False),
        ({"StringEqualsIgnoreCase": {"AWS:UserName": "ADA"}}, True),
        ({"StringLike": {"aws:username": "a?a"}}, True),
        ({"StringNotLike": {"aws:username": "a*"}}, False),
        ({"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{HOME}:user/*"}}, True),
        ({"ArnNotEquals": {"aws:PrincipalArn": f"arn:aws:iam::{HOME}:user/*"}}, False),
        ({"StringEquals": {"no:such": "x"}}, False),
        ({"StringNotEquals": {"no:such": "x"}}, True),
        ({"StringEqualsIfExists": {"no:such": "x"}}, True),
        ({"Null": {"no:such": "true"}}, True),
        ({"Null": {"aws:username": "true"}}, False),
        ({"Bool": {"lambda:InvokedViaFunctionUrl": False}}, True),
        ({"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}, False),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
        ({"IpAddress": {"aws:SourceIp": "nonsense"}}, False),
        ({"NumericLessThan": {"aws:EpochTime": 1}}, False),
        ({"NumericGreaterThan": {"aws:EpochTime": "1"}}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, False),
        ({"ForAnyValue:StringEquals": {"lambda:Layer": ["b"]}}, True),
        ({"ForAllValues:StringEquals": {"lambda:Layer": ["b"]}}, False),
        ({"ForAllValues:StringLike": {"lambda:Layer": ["?"]}}, True),
        ({"ForAllValues:StringLike": {"no:such": ["?"]}}, True),
        ({"ForAnyValue:StringNotEquals": {"no:such": ["x"]}}, False),
        ({"StringEquals": {"aws:username": "${aws:username}"}}, True),
        ({"StringEquals": {"aws:username": "${no:such, 'ada'}"}}, True),
        ({"StringLike": {"aws:username": "ad${*}"}}, False),
        ({"StringEquals": {"aws:username": "ada"}, "Bool": {"lambda:InvokedViaFunctionUrl": "true"}}, False),
    ],
)
def test_conditions(condition: dict[str, Any], is_allowed: bool) -> None:
    caller = user(HOME, allow(Condition=condition))
    assert allows(caller, source_ip="10.1.2.3", keys={"lambda:layer": ("a", "b")}) is is_allowed


def test_policy_variables_in_resources() -> None:
    caller = user(HOME, allow(resource=f"arn:aws:lambda:*:{HOME}:function:${{aws:username}}-*"))
    base = f"arn:aws:lambda:us-east-1:{HOME}:function:"
    assert allows(caller, resource=f"{base}ada-x")
    assert not allows(caller, resource=f"{base}bob-x")
    starred = user(HOME, allow(resource=f"{base}${{aws:username}}"), name="*")
    assert not allows(starred, resource=f"{base}anything"), "a name is no pattern"


def test_the_url_condition_tells_auth_types_apart() -> None:
    public = granted("*", {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}, action=INVOKE_URL)
    assert allows(ANONYMOUS, public, action=INVOKE_URL, url_auth_type="NONE", via_url=True)
    assert not allows(ANONYMOUS, public, action=INVOKE_URL, url_auth_type="AWS_IAM", via_url=True)
    assert not allows(ANONYMOUS, public, action=INVOKE)


def test_a_principal_that_is_excepted_is_not_let_in() -> None:
    but_bob = json.dumps({**allow(), "NotPrincipal": {"AWS": f"arn:aws:iam::{AWAY}:user/bob"}})
    assert allows(user(AWAY), but_bob)
    assert not allows(user(AWAY, name="bob"), but_bob)


def test_a_refusal_says_who_what_where_and_why() -> None:
    call = Call(user(HOME, NOTHING), INVOKE, F, HOME)
    error = refusal(call, authorize(call))
    assert (error.code, error.message) == (
        "AccessDeniedException",
        f"User: arn:aws:iam::{HOME}:user/ada is not authorized to perform: lambda:InvokeFunction on resource: {F} "
        "because no identity-based policy allows the lambda:InvokeFunction action",
    )
    reasons = {
        authorize(Call(caller, INVOKE, F, HOME)).reason for caller in (user(AWAY), user(HOME, deny()), ANONYMOUS)
    }
    assert reasons == {
        "because no resource-based policy allows the lambda:InvokeFunction action",
        "with an explicit deny in an identity-based policy",
    }


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        {},
        {"Statement": []},
        {"Statement": [{"Effect": "allow", "Action": "*", "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": [], "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": [1], "Resource": "*"}]},
        {"Statement": [allow(Condition={"StringNearly": {"a": "b"}})]},
        {"Statement": [allow(Condition={"StringEquals": "b"})]},
        {"Statement": [allow(Condition={"StringEquals": {"a": {}}})]},
        {"Statement": [{**allow(), "Principal": 1}]},
    ],
)
def test_a_document_that_cannot_be_read_is_refused_not_guessed_at(document: object) -> None:
    with pytest.raises(PolicyInvalid):
        read_policy(document)


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        (BUCKET, "s3.amazonaws.com"),
        (f"arn:aws:events:us-east-1:{HOME}:rule/r", "events.amazonaws.com"),
        (f"arn:aws:execute-api:us-east-1:{HOME}:a1/*/GET/", "apigateway.amazonaws.com"),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_service_behind_a_source(arn: str, name: str | None) -> None:
    assert service_of(arn) == name
