"""A little of STS: who am I, and a role's credentials; the query protocol at POST /, answers in XML."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from rie.errors import ServiceError
from rie.iam.caller import Caller
from rie.iam.decision import Call, authorize, refusal
from rie.iam.sessions import Session, Sessions
from rie.iam.sigv4 import Sent
from rie.plane.gate import Gate

VERSION = "2011-06-15"
NAMESPACE = f"https://sts.amazonaws.com/doc/{VERSION}/"
SERVICES = ("sts", "lambda")
DEFAULT_S, MIN_S, MAX_S = 3_600, 900, 43_200  # AWS limits of a role's session
XML = [("Content-Type", "text/xml")]

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/[\w+=,.@/-]+", re.ASCII)
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
# The query protocol's names for what is refused.
_CODES = {
    "AccessDeniedException": ("AccessDenied", 403),
    "ExpiredTokenException": ("ExpiredToken", 403),
    "IncompleteSignatureException": ("IncompleteSignature", 400),
    "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
    "UnrecognizedClientException": ("InvalidClientTokenId", 403),
    "ValidationException": ("ValidationError", 400),
}

Answer = tuple[int, list[tuple[str, str]], bytes]


class Sts:
    """GetCallerIdentity and AssumeRole. Terraform and the aws CLI ask the first before anything else."""

    def __init__(self, gate: Gate, sessions: Sessions) -> None:
        self._gate = gate
        self._sessions = sessions
        self._actions: dict[str, Callable[[Caller, Mapping[str, str]], dict[str, Any]]] = {
            "AssumeRole": self._assume_role,
            "GetCallerIdentity": self._get_caller_identity,
        }

    @staticmethod
    def takes(sent: Sent) -> bool:
        """Whether a request is for STS: no path, and the query protocol's version in its form or its query."""
        if sent.path != "/":
            return False
        is_form = sent.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        return (sent.method == "POST" and is_form) or (sent.method == "GET" and "Action=" in sent.query)

    async def answer(self, sent: Sent, body: bytes) -> Answer:
        """(status, headers, body) of the answer, whatever it is."""
        request_id = str(uuid.uuid4())
        form = dict(parse_qsl(sent.query)) | dict(parse_qsl(body.decode("latin-1")))
        action = form.get("Action", "")
        try:
            identity = await self._gate.identify(sent, body, SERVICES)
            handle = self._actions.get(action)
            if handle is None or form.get("Version") != VERSION:
                raise ServiceError("InvalidAction", f"Could not find operation {action} for version {VERSION}")
            result = handle(self._holder(identity.caller, sent), form)
        except ServiceError as error:
            return _refused(error, request_id)
        text = (
            f'<{action}Response xmlns="{NAMESPACE}">{_xml({f"{action}Result": result})}'
            f"{_xml({'ResponseMetadata': {'RequestId': request_id}})}</{action}Response>"
        )
        return 200, [*XML, ("x-amzn-RequestId", request_id)], text.encode()

    def _holder(self, caller: Caller, sent: Sent) -> Caller:
        """Where no signature is verified, whoever shows a session's token is told whose it is."""
        token = sent.headers.get("x-amz-security-token", "")
        if caller.kind != "local" or not token:
            return caller
        session = self._sessions.recognise(caller.access_key, token)
        if session is None:
            return caller
        user_id = f"{session.role_id}:{session.name}"
        return Caller("role", session.account, session.arn, session.access_key_id, user_id, session.role_arn)

    @staticmethod
    def _get_caller_identity(caller: Caller, form: Mapping[str, str]) -> dict[str, Any]:
        return {"Arn": caller.arn, "UserId": caller.user_id, "Account": caller.account}

    def _assume_role(self, caller: Caller, form: Mapping[str, str]) -> dict[str, Any]:
        role_arn, name = form.get("RoleArn", ""), form.get("RoleSessionName", "")
        found = _ROLE.fullmatch(role_arn)
        if found is None:
            raise ServiceError("ValidationException", f"{role_arn[:128]} is invalid")
        if not _SESSION_NAME.fullmatch(name):
            raise _broken("roleSessionName", name, "Member must satisfy regular expression pattern: [\\w+=,.@-]*")
        duration = form.get("DurationSeconds", str(DEFAULT_S))
        if not (duration.isascii() and duration.isdigit() and MIN_S <= int(duration[:9]) <= MAX_S):
            raise _broken("durationSeconds", duration, f"Member must have value between {MIN_S} and {MAX_S}")
        if any(each.startswith(("Policy", "TransitiveTagKeys", "Tags.")) for each in form):
            raise ServiceError("ValidationException", "Session policies and session tags are not available here.")
        call = Call(caller, "sts:AssumeRole", role_arn, found[1])
        decision = authorize(call)
        if not decision.is_allowed:
            raise refusal(call, decision)
        credentials = self._sessions.issue(role_arn, name, int(duration))
        session = Session(credentials.access_key_id, "", role_arn, name, credentials.expires_at or time.time())
        until = datetime.fromtimestamp(session.expires_at, UTC)
        return {
            "AssumedRoleUser": {"AssumedRoleId": f"{session.role_id}:{name}", "Arn": session.arn},
            "Credentials": {
                "AccessKeyId": credentials.access_key_id,
                "SecretAccessKey": credentials.secret_access_key,
                "SessionToken": credentials.session_token,
                "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}",
            },
            "PackedPolicySize": "0",
        }


def _broken(path: str, value: str, constraint: str) -> ServiceError:
    return ServiceError(
        "ValidationException",
        f"1 validation error detected: Value '{value[:128]}' at '{path}' failed to satisfy constraint: {constraint}",
    )


def _refused(error: ServiceError, request_id: str) -> Answer:
    code, status = _CODES.get(error.code, (error.code, error.status or 400))
    detail = {"Type": "Sender", "Code": code, "Message": error.message or ""}
    text = f'<ErrorResponse xmlns="{NAMESPACE}">{_xml({"Error": detail, "RequestId": request_id})}</ErrorResponse>'
    return status, [*XML, ("x-amzn-RequestId", request_id)], text.encode()


def _xml(members: Mapping[str, Any]) -> str:
    return "".join(
        f"<{name}>{_xml(value) if isinstance(value, Mapping) else escape(value)}</{name}>"
        for name, value in members.items()
    )
