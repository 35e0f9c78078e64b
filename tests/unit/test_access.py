"""Who may invoke, at the invocation's doors: policies of the mirror, function URLs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_iam_sigv4 import ACCOUNT, KEY, NOW, SECRET, SESSIONS, signed

from rie.clock import ManualClock
from rie.errors import ServiceError
from rie.functions.policies import Grant, added, render
from rie.iam.authentication import Authentication
from rie.iam.caller import Caller, local, service
from rie.iam.keys import Keys, from_environment
from rie.invoke.access import Access
from rie.invoke.mirror import Mirror
from rie.model.function import FunctionKey
from rie.model.policy import POLICIES
from rie.model.record import place_of
from rie.model.scope import Scope
from rie.plane.gate import Gate
from rie.plane.url_gate import UrlGate

F = FunctionKey(ACCOUNT, "us-east-1", "f")
AWAY = Caller("user", "210987654321", "arn:aws:iam::210987654321:user/eve")
PUBLIC = {"action": "lambda:InvokeFunctionUrl", "principal": "*", "url_auth_type": "NONE"}


def mirror_with(qualifier: str | None, **members: Any) -> Mirror:
    """A mirror with one statement for a function, or for a qualifier of it."""
    mirror = Mirror()
    arn = f"{F.arn}:{qualifier}" if qualifier else F.arn
    grant = Grant(**{"statement_id": "s", "action": "lambda:InvokeFunction", "principal": AWAY.account, **members})
    mirror.update(POLICIES, place_of(F, qualifier or "$LATEST"), added(None, render(grant, arn), None))
    return mirror


def may(mirror: Mirror, caller: Caller, qualifier: str | None, **more: str) -> bool:
    try:
        Access(mirror).check(caller, F, qualifier, **more)
    except ServiceError as error:
        assert error.code == "AccessDeniedException"
        return False
    return True


def test_a_grant_covers_what_it_was_given_for_and_nothing_beside_it() -> None:
    on_function, on_alias = mirror_with(None), mirror_with("live")
    asked = (None, "$LATEST", "live", "1")
    assert [may(on_function, AWAY, qualifier) for qualifier in asked] == [True, True, False, False]
    assert [may(on_alias, AWAY, qualifier) for qualifier in asked] == [False, False, True, False]


def test_a_grant_ends_with_its_policy() -> None:
    mirror = mirror_with(None)
    mirror.update(POLICIES, place_of(F, "$LATEST"), None)
    assert not may(mirror, AWAY, None)


def test_services_are_let_in_by_their_source() -> None:
    mirror = mirror_with(None, principal="s3.amazonaws.com", source_arn="arn:aws:s3:::in*")
    s3, sns = service("s3.amazonaws.com"), service("sns.amazonaws.com")
    assert may(mirror, s3, None, source_arn="arn:aws:s3:::inbox")
    assert not may(mirror, s3, None, source_arn="arn:aws:s3:::out")
    assert not may(mirror, s3, None)
    assert not may(mirror, sns, None, source_arn="arn:aws:s3:::inbox")
    assert may(mirror, local(ACCOUNT), None)
    assert not may(mirror, local(ACCOUNT), None, source_arn="arn:aws:s3:::out"), "it speaks for the bucket"


@dataclass
class UrlRequest:
    """As the data plane has it."""

    method: str = "POST"
    path: str = "/"
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = b"{}"
    peer: str = "127.0.0.1"


def target(auth_type: str, qualifier: str | None = None) -> Any:
    return SimpleNamespace(key=F, qualifier=qualifier, url=SimpleNamespace(auth_type=auth_type))


def gate_of(mirror: Mirror, *, asks: bool, url_needs_invoke: bool = False) -> UrlGate:
    extra = from_environment({"RIE_ACCESS_KEY_ID": KEY, "RIE_SECRET_ACCESS_KEY": SECRET}, ACCOUNT)
    keys = Keys(Path("/nonexistent/keys.json"), ACCOUNT, extra)
    authentication = Authentication(keys, SESSIONS, ManualClock(NOW))
    access = Access(mirror, url_needs_invoke=url_needs_invoke)
    return UrlGate(Gate(authentication if asks else None, Scope(ACCOUNT, "us-east-1")), access)


def request(**parts: Any) -> UrlRequest:
    sent = signed("http://h/", **parts)
    return UrlRequest(sent.method, sent.path, sent.query, dict(sent.headers))


@pytest.mark.parametrize("asks", [True, False])
def test_an_open_url_needs_its_policy_all_the_same(asks: bool) -> None:
    with pytest.raises(ServiceError, match=r"Forbidden\. For troubleshooting Function URL") as caught:
        gate_of(Mirror(), asks=asks).admit(UrlRequest(), target("NONE"))
    assert caught.value.code == "AccessDeniedException"
    assert gate_of(mirror_with(None, **PUBLIC), asks=asks).admit(UrlRequest(), target("NONE")) is None
    for other in (mirror_with("live", **PUBLIC), mirror_with(None, principal="*")):
        with pytest.raises(ServiceError):
            gate_of(other, asks=asks).admit(UrlRequest(), target("NONE"))
    assert gate_of(mirror_with("live", **PUBLIC), asks=asks).admit(UrlRequest(), target("NONE", "live")) is None


def test_a_url_can_be_made_to_need_the_permission_to_invoke_besides() -> None:
    mirror = mirror_with(None, **PUBLIC)
    gate = gate_of(mirror, asks=True, url_needs_invoke=True)
    with pytest.raises(ServiceError, match="Forbidden"):
        gate.admit(UrlRequest(), target("NONE"))
    besides = render(Grant("besides", "lambda:InvokeFunction", "*", via_url=True), F.arn)
    place = place_of(F, "$LATEST")
    mirror.update(POLICIES, place, added(mirror.find(POLICIES, place), besides, None))
    assert gate.admit(UrlRequest(), target("NONE")) is None
    assert not may(mirror, AWAY, None), "it opens the URL alone"
    assert gate.admit(request(), target("AWS_IAM")) is not None


def test_a_url_with_aws_iam_wants_a_signature_and_tells_the_function_whose() -> None:
    gate = gate_of(Mirror(), asks=True)
    seen = gate.admit(request(), target("AWS_IAM"))
    assert seen is not None
    assert (seen["accessKey"], seen["accountId"], seen["userArn"]) == (KEY, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")
    json.dumps(seen)
    with pytest.raises(ServiceError, match="Forbidden"):
        gate.admit(UrlRequest(), target("AWS_IAM"))
    with pytest.raises(ServiceError, match="InvalidSignatureException"):
        gate.admit(request(secret="x" * 40), target("AWS_IAM"))
    other = request()
    other.body = b"changed"
    with pytest.raises(ServiceError, match="InvalidSignatureException"):
        gate.admit(other, target("AWS_IAM"))


def test_without_auth_a_url_with_aws_iam_still_wants_a_signature_and_believes_it() -> None:
    gate = gate_of(Mirror(), asks=False)
    with pytest.raises(ServiceError, match="Forbidden"):
        gate.admit(UrlRequest(), target("AWS_IAM"))
    seen = gate.admit(request(key="AKIAANY", secret="whatever"), target("AWS_IAM"))
    assert seen is not None
    assert seen["accessKey"] == "AKIAANY"


def test_a_public_policy_is_no_key_to_a_url_that_asks_for_signatures() -> None:
    gate = gate_of(mirror_with(None, **PUBLIC), asks=True)
    with pytest.raises(ServiceError):
        gate.admit(UrlRequest(), target("AWS_IAM"))
    presigned = signed("http://h/", method="GET", body=b"", expires=60)
    got = UrlRequest("GET", presigned.path, presigned.query, dict(presigned.headers), b"")
    assert gate.admit(got, target("AWS_IAM")) is not None
