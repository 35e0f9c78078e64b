"""From the settings to what knows callers and roles; keys are made where there are none."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rie.clock import Clock
from rie.errors import SettingsError
from rie.iam.authentication import Authentication
from rie.iam.keys import Keys, from_environment, new_key, read_document, write_document
from rie.iam.roles import OwnSource, RoleCredentials, StsSource, static_source, sts_client
from rie.iam.sessions import Sessions
from rie.settings import Settings

ENDPOINTS = ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL")


def authentication_for(
    settings: Settings, sessions: Sessions, clock: Clock, environ: Mapping[str, str]
) -> Authentication | None:
    """What asks for signatures; None where the settings don't want it. Raises SettingsError."""
    if not settings.auth:
        return None
    extra = from_environment(environ, settings.account)
    keys = Keys(settings.keys_path, settings.account, extra)
    if not len(keys):
        access_key = add_key(settings, "admin")
        print(f"rie made the first access key, {access_key}; its secret is in {settings.keys_path}", file=sys.stderr)
        keys = Keys(settings.keys_path, settings.account, extra)
    return Authentication(keys, sessions, clock)


def add_key(settings: Settings, user: str, **members: object) -> str:
    """Add a new key to the file; its id. Raises SettingsError."""
    path = settings.keys_path
    document = read_document(path) if path.exists() else {}
    access_key, secret = new_key()
    entry = {"secret": secret, "account": settings.account, "user": user, **members}
    document["keys"] = {**document.get("keys", {}), access_key: entry}
    write_document(path, document)
    return access_key


def are_roles_known_here(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether functions have credentials that this manager gave out, and asks them for."""
    return settings.auth and static_source(environ) is None and _kind(settings, environ) == "own"


def acts_as_roles(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether what the manager does for a function (polling, telling, logging) is signed as its execution role.

    Not where this manager itself gives the roles' credentials: nobody else could tell them from forged ones.
    """
    return static_source(environ) is not None or _kind(settings, environ) == "sts"


def _kind(settings: Settings, environ: Mapping[str, str]) -> str:
    if settings.role_credentials != "auto":
        return settings.role_credentials
    return "sts" if any(environ.get(name) for name in ENDPOINTS) else "own"


def role_credentials_for(settings: Settings, sessions: Sessions, environ: Mapping[str, str]) -> RoleCredentials | None:
    """What gives functions their roles' credentials; None where they get none. Raises SettingsError."""
    static = static_source(environ)
    if static is not None:
        return RoleCredentials(static)
    kind = _kind(settings, environ)
    if kind == "none":
        return None
    if kind == "own":
        return RoleCredentials(OwnSource(sessions))
    try:
        return RoleCredentials(StsSource(sts_client(settings.region)))
    except Exception as error:  # botocore's, for settings of its own that it can't read
        raise SettingsError(f"cannot reach STS for execution roles: {error}") from None
