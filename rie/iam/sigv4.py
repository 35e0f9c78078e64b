"""Signature Version 4: what a request says about its signature, and whether the signature is right (lambda.md §8.6).

Pure: bytes and instants in, ServiceError out. The request is taken as it was sent, since that is what was signed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote, unquote, unquote_to_bytes

from botocore.utils import normalize_url_path

from rie.errors import ServiceError

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
UNSIGNED = "UNSIGNED-PAYLOAD"
SKEW = timedelta(minutes=5)
MAX_EXPIRES_S = 604_800  # AWS limit: a week
DERIVED_KEYS = 1_024  # kept: one for each key, day, region and service
REMEMBERED = 1_024  # credentials and dates that were read before

# What steers a call must be signed where it is sent, or whoever relays a request could steer it.
STEERING = frozenset(
    (
        *("x-amz-date", "x-amz-content-sha256", "x-amz-source-arn", "x-amz-source-account", "x-amz-invocation-type"),
        *("x-amz-log-type", "x-amz-client-context", "x-amz-tenant-id", "x-amz-durable-execution-name"),
    )
)
_STAMP = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
_IN_QUERY = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it was sent: path and query still percent-encoded, all text bytes read as Latin-1.

    Header names are in lower case; the values of repeated ones are joined with commas.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Signed:
    """What a request says about its signature, well formed but not verified. `expires_at` of a presigned URL."""

    access_key: str
    date: str
    region: str
    service: str
    at: datetime
    stamp: str
    signed_headers: tuple[str, ...]
    signature: str
    token: str | None = None
    expires_s: int | None = None


def read_signature(sent: Sent) -> Signed | None:
    """The signature of a request, from its header or its query; None if it has none.

    Raises ServiceError IncompleteSignatureException, InvalidSignatureException.
    """
    header = sent.headers.get("authorization")
    if header is not None:
        return _from_header(sent, header)
    if "X-Amz-Signature=" in sent.query or "X-Amz-Credential=" in sent.query:
        return _from_query(sent)
    return None


def check_time(signed: Signed, now: datetime) -> None:
    """Raises ServiceError InvalidSignatureException for a signature that is too old, or not valid yet."""
    if signed.at - SKEW > now:
        latest = _stamp(now + SKEW)
        raise invalid(
            f"Signature not yet current: {signed.stamp} is still later than {latest} ({_stamp(now)} + 5 min.)"
        )
    if signed.expires_s is None:
        if signed.at + SKEW < now:
            raise invalid(
                f"Signature expired: {signed.stamp} is now earlier than {_stamp(now - SKEW)} ({_stamp(now)} - 5 min.)"
            )
    elif signed.at + timedelta(seconds=signed.expires_s) < now:
        until = _stamp(signed.at + timedelta(seconds=signed.expires_s))
        raise invalid(f"Signature expired: {until} is now earlier than {_stamp(now)}")


def check_signature(sent: Sent, signed: Signed, secret: str, body_sha256: str) -> None:
    """Raises ServiceError InvalidSignatureException unless the request was signed with this secret.

    `body_sha256` is the hex digest of the body as it was received.
    """
    declared = sent.headers.get("x-amz-content-sha256")
    if declared is not None and declared not in (UNSIGNED, body_sha256):
        raise invalid("The provided 'x-amz-content-sha256' header does not match what was computed.")
    key = _signing_key(secret, signed.date, signed.region, signed.service)
    for query in _canonical_queries(sent.query, is_presigned=signed.expires_s is not None):
        request = _canonical_request(sent, signed, query, declared or body_sha256)
        scope = f"{signed.date}/{signed.region}/{signed.service}/{TERMINATOR}"
        text = f"{ALGORITHM}\n{signed.stamp}\n{scope}\n{hashlib.sha256(request).hexdigest()}"
        wanted = hmac.digest(key, text.encode("latin-1"), "sha256").hex()
        if hmac.compare_digest(wanted, signed.signature):
            return
    raise invalid(_MISMATCH)


def invalid(message: str) -> ServiceError:
    """The signature is not the request's (403)."""
    return ServiceError("InvalidSignatureException", message)


def incomplete(message: str) -> ServiceError:
    """What should be a signature is none (403)."""
    return ServiceError("IncompleteSignatureException", message)


# -- reading ----------------------------------------------------------------------------------------------------------


def _from_header(sent: Sent, header: str) -> Signed:
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise incomplete(f"Unsupported AWS 'algorithm': '{algorithm[:64]}'. Only {ALGORITHM} is supported.")
    fields: dict[str, str] = {}
    for piece in rest.split(","):
        name, equals, value = piece.strip().partition("=")
        if name and equals:
            if name in fields:
                raise incomplete(f"Authorization header has more than one '{name[:64]}' parameter.")
            fields[name] = value
    stamp = sent.headers.get("x-amz-date", "")
    lacking = [
        f"Authorization header requires '{name}' parameter."
        for name in ("Credential", "Signature", "SignedHeaders")
        if not fields.get(name)
    ]
    if not stamp:
        lacking.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if lacking:
        raise incomplete(" ".join(lacking) + f" Authorization={ALGORITHM}")
    token = sent.headers.get("x-amz-security-token")
    return _checked(sent, fields["Credential"], stamp, fields["SignedHeaders"], fields["Signature"], token, None)


def _from_query(sent: Sent) -> Signed:
    values: dict[str, str] = {}
    for name, value in _pairs(sent.query):
        if name in values and name.startswith("X-Amz-"):
            raise incomplete(f"AWS query-string parameters must not repeat {name[:64]}.")
        values[name] = value
    lacking = [name for name in (*_IN_QUERY, "X-Amz-Expires") if not values.get(name)]
    if lacking:
        required = ", ".join(lacking)
        raise incomplete(
            f"AWS query-string parameters must include {required}. Re-examine the query-string parameters."
        )
    if values["X-Amz-Algorithm"] != ALGORITHM:
        raise incomplete(f"Unsupported AWS 'algorithm': '{values['X-Amz-Algorithm'][:64]}'.")
    expires = values["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdigit() and len(expires) < 8 and 0 < int(expires) <= MAX_EXPIRES_S):
        raise incomplete(f"X-Amz-Expires must be between 1 and {MAX_EXPIRES_S} seconds.")
    credential, stamp, names, signature = (
        values[name] for name in ("X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")
    )
    return _checked(sent, credential, stamp, names, signature, values.get("X-Amz-Security-Token"), int(expires))


def _checked(
    sent: Sent, credential: str, stamp: str, names: str, signature: str, token: str | None, expires_s: int | None
) -> Signed:
    access_key, date, region, service = _scope(credential)
    at = _instant(stamp)
    if date != stamp[:8]:
        raise invalid(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{date[:64]}' != '{stamp[:8]}', from '{stamp}'."
        )
    signed_headers = tuple(names.split(";"))
    if "host" not in signed_headers:
        raise invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    if not _HEX.fullmatch(signature):
        raise invalid(_MISMATCH)
    _check_covered(sent, signed_headers)
    return Signed(access_key, date, region, service, at, stamp, signed_headers, signature, token, expires_s)


@lru_cache(maxsize=REMEMBERED)
def _scope(credential: str) -> tuple[str, str, str, str]:
    """(access key, date, region, service)."""
    parts = credential.split("/")
    if len(parts) != 5:
        raise incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential[:128]}'."
        )
    access_key, date, region, service, terminator = parts
    if terminator != TERMINATOR:
        raise invalid(f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator[:64]}'.")
    if not _REGION.fullmatch(region):
        raise invalid("Credential should be scoped to a valid region.")
    return access_key, date, region, service


@lru_cache(maxsize=REMEMBERED)
def _instant(stamp: str) -> datetime:
    try:
        if not _STAMP.fullmatch(stamp):
            raise ValueError(stamp)
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise incomplete(
            f"Date must be in ISO-8601 'basic format'. Got '{stamp[:64]}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ) from None


def _check_covered(sent: Sent, signed_headers: tuple[str, ...]) -> None:
    covered = frozenset(signed_headers)
    present = sent.headers.keys()
    unsigned = sorted((STEERING & present) - covered)
    if unsigned:
        raise invalid(f"There were headers present in the request which were not signed: {', '.join(unsigned)}")
    if len(covered) != len(signed_headers) or not covered <= present:
        raise invalid(_MISMATCH)


# -- the canonical request --------------------------------------------------------------------------------------------


def _canonical_request(sent: Sent, signed: Signed, query: str, payload_hash: str) -> bytes:
    headers = "".join(f"{name}:{' '.join(sent.headers[name].split())}\n" for name in signed.signed_headers)
    lines = (
        sent.method,
        _canonical_path(sent.path),
        query,
        headers,
        ";".join(signed.signed_headers),
        payload_hash,
    )
    return "\n".join(lines).encode("latin-1")  # back to the bytes that were sent


@lru_cache(maxsize=1_024)
def _canonical_path(path: str) -> str:
    """The path encoded once more than it was sent, as every service but S3 has it."""
    return quote(normalize_url_path(path).encode("latin-1"), safe="/~")


def _canonical_queries(query: str, *, is_presigned: bool) -> Iterable[str]:
    """The query as it is signed: every name and value encoded; and as some clients do, who sign it as they send it."""
    if not query:
        return ("",)
    pieces = [piece.partition("=") for piece in query.split("&")]
    as_sent = sorted((name, value) for name, _, value in pieces)
    encoded = sorted((_reencoded(name), _reencoded(value)) for name, value in as_sent)
    return dict.fromkeys(
        "&".join(f"{name}={value}" for name, value in pairs if not (is_presigned and name == "X-Amz-Signature"))
        for pairs in (encoded, as_sent)
    )


def _reencoded(text: str) -> str:
    return quote(unquote_to_bytes(text.encode("latin-1")), safe="-_.~")


def _pairs(query: str) -> Iterable[tuple[str, str]]:
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        yield unquote(name, "latin-1"), unquote(value, "latin-1")


@lru_cache(maxsize=DERIVED_KEYS)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, TERMINATOR):
        key = hmac.digest(key, part.encode("latin-1"), "sha256")
    return key


def _stamp(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y%m%dT%H%M%SZ}"
