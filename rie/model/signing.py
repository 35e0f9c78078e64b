"""Code signing: configurations, and which function has which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rie.model.record import Kind, Place

ENFORCE = "Enforce"
WARN = "Warn"


@dataclass(frozen=True, slots=True)
class SigningConfig:
    """Whose signatures are accepted, and what becomes of other code. `last_modified` is ISO 8601."""

    publishers: tuple[str, ...]
    last_modified: str
    policy: str = WARN
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signing:
    """The configuration that a function's code must meet."""

    config_arn: str


SIGNING_CONFIGS = Kind("code-signing-config", SigningConfig)
SIGNINGS = Kind("code-signing", Signing)


def signing_config_arn(place: Place) -> str:
    """The ARN of the configuration at a place, whose name is its id ("csc-…")."""
    return f"arn:aws:lambda:{place.region}:{place.account}:code-signing-config:{place.name}"
