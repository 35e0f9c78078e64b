"""Signatures, with botocore's own signer as the other side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from rie.clock import ManualClock
from rie.errors import ServiceError
from rie.iam.authentication import Authentication
from rie.iam.caller import Caller
from rie.iam.keys import Keys, from_environment
from rie.iam.sessions import Sessions
from rie.iam.sigv4 import Sent

ACCOUNT = "123456789012"
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime(2025, 11, 25, 2, 26, 54, tzinfo=UTC)
URL = "http://127.0.0.1:9000/2015-03-31/functions/f/invocations"
SESSIONS = Sessions(b"k" * 32)


class Door:
    """What a manager checks, at a time that stands still."""

    def __init__(self, now: datetime = NOW) -> None:
        extra = from_environment({"RIE_ACCESS_KEY_ID": KEY, "RIE_SECRET_ACCESS_KEY": SECRET}, ACCOUNT)
        keys = Keys(Path("/nonexistent/keys.json"), ACCOUNT, extra)
        self._authentication = Authentication(keys, SESSIONS, ManualClock(now))

    def admit(self, sent: Sent, body: bytes = b"") -> Caller:
        claim = self._authentication.claim(sent)
        assert claim is not None
        return self._authentication.confirm(claim, hashlib.sha256(body).hexdigest())

    def refusal(self, sent: Sent, body: bytes = b"") -> tuple[str, str]:
        with pytest.raises(ServiceError) as caught:
            self.admit(sent, body)
        return caught.value.code, str(caught.value.message)


def signed(
    url: str = URL,
    method: str = "POST",
    body: bytes = b"{}",
    headers: Mapping[str, str] | None = None,
    *,
    secret: str = SECRET,
    key: str = KEY,
    token: str | None = None,
    at: datetime = NOW,
    expires: int | None = None,
    region: str = "us-east-1",
    service: str = "lambda",
) -> Sent:
    """A request as botocore signs and sends it; `expires`: presigned."""
    request = AWSRequest(method, url, data=body, headers=dict(headers or {}))
    credentials = Credentials(key, secret, token)
    with patch.object(botocore.auth, "get_current_datetime", lambda **_: at.replace(tzinfo=None)):
        if expires is None:
            SigV4Auth(credentials, service, region).add_auth(request)
        else:
            SigV4QueryAuth(credentials, service, region, expires=expires).add_auth(request)
    return sent_as(request)


def sent_as(request: AWSRequest) -> Sent:
    prepared = request.prepare()
    url = urlsplit(prepared.url)
    lines = {
        "host": url.netloc,
        **{n.lower(): v if isinstance(v, str) else v.decode() for n, v in prepared.headers.items()},
    }
    return Sent(prepared.method, url.path, url.query, lines)


def changed(sent: Sent, **parts: Any) -> Sent:
    fields = {"method": sent.method, "path": sent.path, "query": sent.query, "headers": sent.headers}
    return Sent(**{**fields, **parts})


def with_header(sent: Sent, name: str, value: str) -> Sent:
    return changed(sent, headers={**sent.headers, name: value})


@pytest.mark.parametrize(
    "path",
    [
        "/2015-03-31/functions/f/invocations",
        "/2015-03-31/functions/f/invocations?Qualifier=%24LATEST",
        "/2015-03-31/functions/f/invocations?Qualifier=$LATEST",
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af/invocations",
        "/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:f/invocations",
        "/2025-12-01/durable-executions/a%2Fb%2fc",
        "/2015-03-31/functions/",
        "/%C3%BC/%E2%82%AC%20x",
        "/a//b/../c/./d",
        "/",
        "/?b=2&a=1&a=0&c=",
        "/?c&b=&a",
        "/?tagKeys=b&tagKeys=a&tagKeys=a%20b",
        "/?a=%C3%BC&z=~.-_",
        "/?a-b=1&a=2&aB=3",
    ],
)
@pytest.mark.parametrize("expires", [None, 60])
def test_what_botocore_signs_is_accepted(path: str, expires: int | None) -> None:
    body = b"" if expires else b"{}"  # what botocore presigns has none
    caller = Door().admit(signed(f"http://127.0.0.1:9000{path}", body=body, expires=expires), body)
    assert caller.arn == f"arn:aws:iam::{ACCOUNT}:root"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Amz-Client-Context": "e30=", "Content-Type": "application/json"},
        {"X-Odd": "  a   b  "},
        {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"},
        {"User-Agent": "x", "Expect": "100-continue", "X-Amzn-Trace-Id": "Root=1"},
    ],
)
def test_headers_are_signed_as_botocore_does(headers: dict[str, str]) -> None:
    Door().admit(signed(headers=headers), b"{}")


def test_a_body_that_was_not_signed_may_be_anything_if_the_signer_said_so() -> None:
    sent = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    Door().admit(sent, b"something else")
    sent = with_header(signed(), "x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    assert Door().refusal(sent, b"{}")[0] == "InvalidSignatureException"


def test_another_secret_is_refused_in_the_services_words() -> None:
    assert Door().refusal(signed(secret="x" * 40), b"{}") == (
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details.",
    )


def test_an_unknown_key_is_refused() -> None:
    assert Door().refusal(signed(key="AKIDOTHER"), b"{}") == (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )


@pytest.mark.parametrize("minutes", [-4.9, 0, 4.9])
def test_clocks_may_differ_by_five_minutes(minutes: float) -> None:
    Door().admit(signed(at=NOW + timedelta(minutes=minutes)), b"{}")


def test_a_stale_signature_is_refused_and_one_of_the_future() -> None:
    assert Door().refusal(signed(at=NOW - timedelta(minutes=6)), b"{}") == (
        "InvalidSignatureException",
        "Signature expired: 20251125T022054Z is now earlier than 20251125T022154Z (20251125T022654Z - 5 min.)",
    )
    assert Door().refusal(signed(at=NOW + timedelta(minutes=6)), b"{}") == (
        "InvalidSignatureException",
        "Signature not yet current: 20251125T023254Z is still later than 20251125T023154Z (20251125T022654Z + 5 min.)",
    )


def test_a_request_that_is_sent_again_later_is_refused() -> None:
    sent = signed()
    Door().admit(sent, b"{}")
    assert Door(NOW + timedelta(minutes=5, seconds=1)).refusal(sent, b"{}")[1].startswith("Signature expired")
    fresh = with_header(sent, "x-amz-date", "20251125T023200Z")
    assert Door(NOW + timedelta(minutes=5, seconds=6)).refusal(fresh, b"{}")[0] == "InvalidSignatureException"


def test_a_presigned_url_lasts_as_long_as_it_says() -> None:
    sent = signed(method="GET", body=b"", expires=900)
    Door(NOW + timedelta(seconds=899)).admit(sent)
    assert Door(NOW + timedelta(seconds=901)).refusal(sent) == (
        "InvalidSignatureException",
        "Signature expired: 20251125T024154Z is now earlier than 20251125T024155Z",
    )
    longer = changed(sent, query=sent.query.replace("X-Amz-Expires=900", "X-Amz-Expires=9000"))
    assert Door(NOW + timedelta(seconds=901)).refusal(longer)[0] == "InvalidSignatureException"
    too_long = signed(method="GET", body=b"", expires=604_801)
    assert Door().refusal(too_long)[0] == "IncompleteSignatureException"


def test_region_and_service_are_those_that_were_signed_for() -> None:
    Door().admit(signed(region="eu-central-1"), b"{}")
    sent = signed()
    moved = sent.headers["authorization"].replace("us-east-1", "eu-west-1")
    assert Door().refusal(with_header(sent, "authorization", moved), b"{}")[0] == "InvalidSignatureException"
    assert Door().refusal(signed(service="s3"), b"{}") == (
        "InvalidSignatureException",
        "Credential should be scoped to correct service: 'lambda'.",
    )


AUTH = f"AWS4-HMAC-SHA256 Credential={KEY}/20251125/us-east-1/lambda/aws4_request"
SIGNED_HEADERS, SIGNATURE = "SignedHeaders=host;x-amz-date", f"Signature={'0' * 64}"


@pytest.mark.parametrize(
    ("authorization", "says"),
    [
        (AUTH, "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders'"),
        ("AWS4-HMAC-SHA256", "Authorization header requires 'Credential' parameter."),
        ("Bearer abc", "Unsupported AWS 'algorithm': 'Bearer'."),
        ("", "Unsupported AWS 'algorithm'"),
        (f"AWS4-HMAC-SHA512 x, {SIGNED_HEADERS}, {SIGNATURE}", "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA512'."),
        (f"AWS4-HMAC-SHA256 Credential=a/b, {SIGNED_HEADERS}, {SIGNATURE}", "exactly 5 slash-delimited elements"),
        (f"{AUTH}, {SIGNED_HEADERS}, {SIGNATURE}, {SIGNATURE}", "more than one 'Signature'"),
    ],
)
def test_what_is_no_whole_signature_is_called_incomplete(authorization: str, says: str) -> None:
    sent = Sent("GET", "/", "", {"host": "h", "x-amz-date": "20251125T022654Z", "authorization": authorization})
    code, message = Door().refusal(sent)
    assert code == "IncompleteSignatureException"
    assert says in message


@pytest.mark.parametrize(
    "stamp", ["", "yesterday", "20251399T022654Z", "2025-11-25T02:26:54Z", "\uff120251125T022654Z"]
)
def test_a_date_that_is_none_is_called_incomplete(stamp: str) -> None:
    headers = {"host": "h", "x-amz-date": stamp, "authorization": f"{AUTH}, {SIGNED_HEADERS}, {SIGNATURE}"}
    assert Door().refusal(Sent("GET", "/", "", headers))[0] in (
        "IncompleteSignatureException",
        "InvalidSignatureException",
    )


def test_a_scope_of_another_day_or_an_unsigned_host_is_refused() -> None:
    headers = {"host": "h", "x-amz-date": "20251125T022654Z"}
    for authorization in (
        f"{AUTH.replace('20251125', '20251124')}, {SIGNED_HEADERS}, {SIGNATURE}",
        f"{AUTH}, SignedHeaders=x-amz-date, {SIGNATURE}",
        f"{AUTH.replace('aws4_request', 'aws5_request')}, {SIGNED_HEADERS}, {SIGNATURE}",
        f"{AUTH}, {SIGNED_HEADERS}, Signature=abc",
        f"{AUTH}, {SIGNED_HEADERS};x-not-sent, {SIGNATURE}",
    ):
        sent = Sent("GET", "/", "", {**headers, "authorization": authorization})
        assert Door().refusal(sent)[0] == "InvalidSignatureException"


def test_what_steers_a_call_must_be_signed() -> None:
    for name, value in (("x-amz-source-arn", "arn:aws:s3:::b"), ("x-amz-invocation-type", "Event")):
        code, message = Door().refusal(with_header(signed(), name, value), b"{}")
        assert (code, name in message) == ("InvalidSignatureException", True)


def test_a_session_is_known_by_its_token_until_it_ends() -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/team/app"
    with patch("time.time", lambda: NOW.timestamp()):
        issued = SESSIONS.issue(role, "f", 3_600)
    given_ = {"key": issued.access_key_id, "secret": issued.secret_access_key, "token": issued.session_token}
    caller = Door().admit(signed(**given_), b"{}")
    assert (caller.kind, caller.arn) == ("role", f"arn:aws:sts::{ACCOUNT}:assumed-role/app/f")
    Door().admit(signed(method="GET", body=b"", expires=60, **given_))
    later = NOW + timedelta(seconds=3_601)
    assert Door(later).refusal(signed(at=later, **given_), b"{}") == (
        "ExpiredTokenException",
        "The security token included in the request is expired",
    )
    unknown = "UnrecognizedClientException"
    assert Door().refusal(signed(**{**given_, "token": None}), b"{}")[0] == unknown
    assert Door().refusal(signed(**{**given_, "key": "ASIAOTHER"}), b"{}")[0] == unknown
    assert Door().refusal(signed(**{**given_, "token": "AAAA" + issued.session_token[4:]}), b"{}")[0] == unknown
    assert Door().refusal(signed(token=issued.session_token), b"{}")[0] == unknown
    foreign = Sessions(b"x" * 32).issue(role, "f", 3_600)
    foreign_ = {"key": foreign.access_key_id, "secret": foreign.secret_access_key, "token": foreign.session_token}
    assert Door().refusal(signed(**foreign_), b"{}")[0] == unknown


SAMPLE = signed(f"{URL}?Qualifier=live&x=1", headers={"X-Amz-Client-Context": "e30="}, body=b'{"a":1}')
PRESIGNED = signed(f"{URL}?Qualifier=live", method="GET", body=b"", expires=600)
PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126)


@st.composite
def mutations(draw: st.DrawFn, text: str) -> str:
    """The text with one character put in, taken away or replaced."""
    at = draw(st.integers(0, len(text)))
    character = draw(PRINTABLE)
    how = draw(st.sampled_from(("insert", "remove", "replace")))
    if how == "insert" or at == len(text):
        return text[:at] + character + text[at:]
    return text[:at] + ("" if how == "remove" else character) + text[at + 1 :]


def means_the_same(one: str, other: str) -> bool:
    """Whether two queries are the same pairs in another spelling."""
    from urllib.parse import unquote

    def pairs(query: str) -> list[tuple[str, ...]]:
        return sorted(tuple(map(unquote, piece.partition("=")[::2])) for piece in query.split("&"))

    return pairs(one) == pairs(other)


@given(data=st.data())
def test_a_signed_request_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    sent, body = SAMPLE, b'{"a":1}'
    part = data.draw(
        st.sampled_from(["method", "path", "query", "body", *sorted(sent.headers.keys() - {"content-length"})])
    )
    if part == "body":
        mutated, body = sent, data.draw(st.binary().filter(lambda other: other != body))
    elif part in ("method", "path", "query"):
        before = getattr(sent, part)
        after = data.draw(mutations(before))
        if after == before or (part == "query" and means_the_same(before, after)):
            return
        if part == "path" and botocore.utils.normalize_url_path(after) == before:
            return  # "/a//b" for "/a/b": the same path by the rules of signatures
        mutated = changed(sent, **{part: after})
    else:
        before = sent.headers[part]
        after = data.draw(mutations(before))
        if after.split() == before.split() or _is_same_authorization(part, before, after):
            return
        mutated = with_header(sent, part, after)
    Door().refusal(mutated, body)


def _is_same_authorization(part: str, before: str, after: str) -> bool:
    """Parameters that nobody reads, and separators, are no part of what was signed."""
    if part != "authorization":
        return False

    def fields(text: str) -> dict[str, str]:
        algorithm, _, rest = text.partition(" ")
        pieces = (piece.strip().partition("=") for piece in rest.split(","))
        known = {name: value for name, _, value in pieces if name in ("Credential", "SignedHeaders", "Signature")}
        return {"algorithm": algorithm, **known}

    return fields(before) == fields(after)


@given(data=st.data())
def test_a_presigned_url_that_was_changed_is_refused(data: st.DataObject) -> None:
    after = data.draw(mutations(PRESIGNED.query))
    if means_the_same(PRESIGNED.query, after):
        return
    with pytest.raises((ServiceError, AssertionError)):  # AssertionError: no signature is left in it
        Door().admit(changed(PRESIGNED, query=after))


@given(st.dictionaries(st.text(), st.text()), st.text(), st.text(), st.text())
def test_nothing_that_is_sent_makes_the_check_fail_otherwise(
    headers: dict[str, str], path: str, query: str, authorization: str
) -> None:
    def latin(text: str) -> str:
        return text.encode("utf-8", "surrogatepass").decode("latin-1")

    lines = {latin(name).lower(): latin(value) for name, value in headers.items()}
    authorization = f"{AUTH}, {SIGNED_HEADERS}, {latin(authorization)}"
    lines |= {"host": "h", "x-amz-date": "20251125T022654Z", "authorization": authorization}
    with pytest.raises(ServiceError):
        Door().admit(Sent("GET", "/" + latin(path), latin(query), lines))
