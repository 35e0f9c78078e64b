"""Cross-origin requests to function URLs: what pages of other origins may do and read (service specification §9.6)."""

from __future__ import annotations

from collections.abc import Mapping

from rie.model.function_url import Cors

PREFIX = "access-control-"


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks whether it may ask."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def preflight_headers(cors: Cors, asked: Mapping[str, str]) -> list[tuple[str, str]]:
    """The answer to it; nothing for origins that are not let in."""
    headers = _allowed(cors, asked)
    if not headers:
        return []
    if cors.allow_methods:
        headers.append(("Access-Control-Allow-Methods", _listed(cors.allow_methods)))
    if cors.allow_headers:
        headers.append(("Access-Control-Allow-Headers", _listed(cors.allow_headers)))
    if cors.max_age_s is not None:
        headers.append(("Access-Control-Max-Age", str(cors.max_age_s)))
    return headers


def answer_headers(cors: Cors, asked: Mapping[str, str]) -> list[tuple[str, str]]:
    """What is added to an ordinary answer."""
    headers = _allowed(cors, asked)
    if headers and cors.expose_headers:
        headers.append(("Access-Control-Expose-Headers", _listed(cors.expose_headers)))
    return headers


def overridden(headers: list[tuple[str, str]], ours: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A function's headers with ours instead of those of the same name; `Vary` may be there twice."""
    names = {name.lower() for name, _ in ours if name != "Vary"}
    return [header for header in headers if header[0].lower() not in names] + ours


def _allowed(cors: Cors, asked: Mapping[str, str]) -> list[tuple[str, str]]:
    origin = asked.get("origin", "")
    if not origin or not any(_matches(allowed, origin) for allowed in cors.allow_origins or ()):
        return []
    is_any = "*" in (cors.allow_origins or ()) and not cors.allow_credentials
    headers = [("Access-Control-Allow-Origin", "*" if is_any else origin)]
    if cors.allow_credentials:
        headers.append(("Access-Control-Allow-Credentials", "true"))
    return [*headers, ("Vary", "Origin")]


def _matches(allowed: str, origin: str) -> bool:
    """`*`, an origin, or one with a `*` in it: "https://*.example.com"."""
    if "*" not in allowed:
        return allowed.lower() == origin.lower()
    before, _, after = allowed.lower().partition("*")
    text = origin.lower()
    return len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(values)
