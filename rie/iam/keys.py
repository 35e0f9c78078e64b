"""The access keys that a manager knows: a JSON file that only its owner may read, and the environment.

    {"keys": {"AKIA…": {"secret": "…", "user": "ada", "account": "123456789012", "policies": [{…}, "invoke.json"]}},
     "roles": {"arn:aws:iam::123456789012:role/app": {"policies": [{…}]}}}

Of a key, `secret` alone is needed. `arn` stands for `user` where that is not enough; `service` ("s3.amazonaws.com")
makes it the key of a service that pushes events; `organization` ("o-…") is what aws:PrincipalOrgID is held against.
`policies` are documents, or names of files beside this one; without them the key may do everything in its account, and
a role nothing but call functions and log. `"policies": "full"` gives a role everything.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rie.errors import SettingsError
from rie.iam.caller import Caller
from rie.iam.conditions import PolicyInvalid
from rie.iam.policy import Policy, read_policy
from rie.iam.sessions import ALPHABET, Session

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0  # how soon a changed file is noticed
OTHERS = 0o077
_ACCESS_KEY = re.compile(r"[A-Za-z0-9]{4,128}", re.ASCII)
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9+=,.@_/-]{1,128}", re.ASCII)
_ARN = re.compile(r"arn:[a-z-]+:(iam|sts)::\d{12}:.+")
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com")

# What functions of a manager may do to each other, and to log, unless their role says otherwise.
ROLE_DEFAULT = read_policy(
    {
        "Statement": {
            "Effect": "Allow",
            "Action": [
                *("lambda:InvokeFunction", "lambda:InvokeFunctionUrl", "lambda:CheckpointDurableExecution"),
                *("lambda:GetDurableExecutionState", "lambda:SendDurableExecutionCallback*"),
                *("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
            ],
            "Resource": "*",
        }
    }
)


@dataclass(frozen=True, slots=True)
class Known:
    """A key that may sign: its secret, and whose it is."""

    secret: str
    caller: Caller


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a file says; `roles` by ARN, None for full access."""

    keys: Mapping[str, Known] = field(default_factory=dict)
    roles: Mapping[str, tuple[Policy, ...] | None] = field(default_factory=dict)


class Keys:
    """The keys of a file, read again when it changes, and those of the environment. Owned by one thread."""

    def __init__(self, path: Path, account: str, extra: Mapping[str, Known]) -> None:
        """Raises SettingsError for a file that can't be used; one that isn't there has no keys."""
        self._path = path
        self._account = account
        self._extra = extra
        self._file = KeyFile()
        self._seen: tuple[int, int] | None = None
        self._look_at = 0.0
        self._reload()

    def __len__(self) -> int:
        return len(self._file.keys) + len(self._extra)

    def find(self, access_key: str) -> Known | None:
        """The key of that id."""
        self._refresh()
        return self._file.keys.get(access_key) or self._extra.get(access_key)

    def caller_of(self, session: Session) -> Caller:
        """Who a session's credentials make of their holder."""
        self._refresh()
        policies = self._file.roles.get(session.role_arn, (ROLE_DEFAULT,))
        return Caller(
            "role",
            session.account,
            session.arn,
            session.access_key_id,
            user_id=f"{session.role_id}:{session.name}",
            role_arn=session.role_arn,
            policies=policies,
        )

    def _refresh(self) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            try:
                self._reload()
            except SettingsError as error:
                log.error("%s; the keys that were read before go on counting", error)
            self._look_at = now + LOOK_AGAIN_S

    def _reload(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._file, self._seen = KeyFile(), None
            return
        except OSError as error:
            raise SettingsError(f"cannot read the keys in {self._path}: {error.strerror}") from None
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._seen = seen
            self._file = read_keys(self._path, self._account)


def read_keys(path: Path, account: str) -> KeyFile:
    """A file of keys; `account` holds for keys that name none. Raises SettingsError."""
    document = read_document(path)
    keys = {}
    for access_key, entry in _objects(document, "keys", path).items():
        keys[access_key] = _known(access_key, entry, account, path)
    roles: dict[str, tuple[Policy, ...] | None] = {}
    for arn, entry in _objects(document, "roles", path).items():
        given = entry.get("policies", [])
        roles[arn] = None if given == "full" else _policies(given, f"role {arn}", path)
    return KeyFile(keys, roles)


def read_document(path: Path) -> dict[str, Any]:
    """The JSON of a file of keys. Raises SettingsError, also for one that others may read."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS:
                raise SettingsError(f"cannot use the keys in {path}: others may read it; chmod 600 {path}")
            document = json.loads(file.read())
    except OSError as error:
        raise SettingsError(f"cannot read the keys in {path}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"cannot read the keys in {path}: {error}") from None
    if not isinstance(document, dict):
        raise SettingsError(f"cannot read the keys in {path}: it is not a JSON object")
    return document


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a file of keys, whole or not at all; only its owner may read it. Raises SettingsError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise SettingsError(f"cannot write the keys in {path}: {error.strerror}") from None


def new_key() -> tuple[str, str]:
    """(access key id, secret) that nobody can guess."""
    return "AKIA" + "".join(secrets.choice(ALPHABET) for _ in range(16)), secrets.token_urlsafe(30)


def from_environment(environ: Mapping[str, str], account: str) -> dict[str, Known]:
    """The key in RIE_ACCESS_KEY_ID and RIE_SECRET_ACCESS_KEY, which is the account's root. Raises SettingsError."""
    access_key, secret = environ.get("RIE_ACCESS_KEY_ID"), environ.get("RIE_SECRET_ACCESS_KEY")
    if not access_key and not secret:
        return {}
    if not access_key or not secret or not _ACCESS_KEY.fullmatch(access_key) or len(secret) < 8:
        raise SettingsError(
            "cannot use the key in the environment: set both RIE_ACCESS_KEY_ID (letters and digits) "
            "and RIE_SECRET_ACCESS_KEY (8 characters or more)"
        )
    root = Caller("root", account, f"arn:aws:iam::{account}:root", access_key, user_id=account)
    return {access_key: Known(secret, root)}


def _known(access_key: str, entry: Mapping[str, Any], default_account: str, path: Path) -> Known:
    def need(is_right: bool, what: str) -> None:
        if not is_right:
            raise SettingsError(f"cannot use key {access_key!r} in {path}: {what}")

    need(bool(_ACCESS_KEY.fullmatch(access_key)), "its id is not made of letters and digits")
    unknown = set(entry) - {"secret", "account", "user", "arn", "service", "organization", "policies"}
    need(not unknown, f"nothing is known of {', '.join(sorted(unknown))}")
    need(all(isinstance(value, str) for name, value in entry.items() if name != "policies"), "a member is not a text")
    secret, account = entry.get("secret", ""), entry.get("account", default_account)
    need(len(secret) >= 8, "its secret has less than 8 characters")
    need(bool(_ACCOUNT.fullmatch(account)), f"{account!r} is not 12 digits")
    organization = entry.get("organization", "")
    if "service" in entry:
        name = entry["service"]
        need(bool(_SERVICE.fullmatch(name)), f"{name!r} is not like s3.amazonaws.com")
        return Known(secret, Caller("service", account, name, access_key, user_id=name, policies=()))
    user = entry.get("user", access_key)
    need(bool(_USER.fullmatch(user)), f"{user!r} is no name of a user")
    arn = entry.get("arn", f"arn:aws:iam::{account}:user/{user}")
    need(bool(_ARN.fullmatch(arn)) and arn.split(":")[4] == account, f"{arn!r} is no IAM ARN of account {account}")
    policies = _policies(entry["policies"], f"key {access_key}", path) if "policies" in entry else None
    kind = "root" if arn.endswith(":root") else "role" if ":assumed-role/" in arn or ":role/" in arn else "user"
    user_id = account if kind == "root" else f"AIDA{access_key[-16:]}"
    role_arn = arn if ":role/" in arn else ""
    return Known(secret, Caller(kind, account, arn, access_key, user_id, role_arn, organization, policies))


def _policies(given: object, whose: str, path: Path) -> tuple[Policy, ...]:
    found = []
    for each in given if isinstance(given, list) else [given]:
        try:
            document = (path.parent / each).read_text() if isinstance(each, str) and each[:1] != "{" else each
            found.append(read_policy(document))
        except OSError as error:
            raise SettingsError(f"cannot use {whose} in {path}: policy {each}: {error.strerror}") from None
        except PolicyInvalid as error:
            raise SettingsError(f"cannot use {whose} in {path}: its policy can't be read: {error}") from None
    return tuple(found)


def _objects(document: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Mapping[str, Any]]:
    found = document.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise SettingsError(f"cannot read the keys in {path}: {name} is not an object of objects")
    return found
