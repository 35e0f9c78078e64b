"""Temporary credentials of our own: issued for a role's session, recognised again without being kept anywhere.

The session token carries account, role, session and end, under a MAC; the secret follows from the token. Whoever has
the master key can do both, so it lies in the data directory, readable by its owner alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from rie.errors import SettingsError

KEY_BYTES = 32
MAC_BYTES = 32
MAX_TOKEN = 4_096
UNBOUNDED_S = 86_400.0  # after which SDKs ask again for a key that does not end
REMEMBERED = 1_024  # tokens whose MAC was found right
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key with its secret; `session_token` "" and `expires_at` (epoch seconds) None for one that doesn't end."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    expires_at: float | None = None

    def variables(self) -> dict[str, str]:
        """The environment variables that SDKs look for."""
        found = {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}
        if self.session_token:
            found["AWS_SESSION_TOKEN"] = self.session_token
        return found

    def document(self) -> str:
        """As SDKs fetch them from a container's credentials endpoint: JSON."""
        end = datetime.fromtimestamp(self.expires_at or time.time() + UNBOUNDED_S, UTC)
        return json.dumps(
            {
                "AccessKeyId": self.access_key_id,
                "SecretAccessKey": self.secret_access_key,
                "Token": self.session_token,
                "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )


@dataclass(frozen=True, slots=True)
class Session:
    """What a session token says, once its MAC was found right."""

    access_key_id: str
    secret_access_key: str
    role_arn: str
    name: str
    expires_at: float

    @property
    def account(self) -> str:
        """The role's account."""
        return self.role_arn.split(":")[4]

    @property
    def arn(self) -> str:
        """`arn:aws:sts::<account>:assumed-role/<role>/<session>`."""
        partition = self.role_arn.split(":")[1]
        return f"arn:{partition}:sts::{self.account}:assumed-role/{self.role_arn.rpartition('/')[2]}/{self.name}"

    @property
    def role_id(self) -> str:
        """A role's unique id, always the same for the same ARN."""
        return "AROA" + _letters(hashlib.sha256(self.role_arn.encode()).digest(), 17)


class Sessions:
    """Issues and recognises; any thread."""

    def __init__(self, master_key: bytes) -> None:
        self._issuing = hashlib.sha256(b"rie session token\0" + master_key).digest()
        self._deriving = hashlib.sha256(b"rie session secret\0" + master_key).digest()
        self._recognised = lru_cache(maxsize=REMEMBERED)(self._recognise)

    def issue(self, role_arn: str, name: str, duration_s: float) -> Credentials:
        """New credentials for a session of a role."""
        access_key = "ASIA" + "".join(secrets.choice(ALPHABET) for _ in range(16))
        expires_at = int(time.time() + duration_s)
        fields = {"k": access_key, "r": role_arn, "n": name, "e": expires_at}
        payload = json.dumps(fields, separators=(",", ":")).encode()
        mac = hmac.new(self._issuing, payload, hashlib.sha256).digest()
        token = base64.b64encode(mac + payload).decode()
        return Credentials(access_key, self._secret(payload), token, expires_at)

    def recognise(self, access_key: str, token: str) -> Session | None:
        """The session of a token that we issued with this key; None if we didn't. It may have ended."""
        session = self._recognised(token) if len(token) <= MAX_TOKEN else None
        return session if session is not None and session.access_key_id == access_key else None

    def _recognise(self, token: str) -> Session | None:
        try:
            raw = base64.b64decode(token, validate=True)
        except ValueError:
            return None
        mac, payload = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not hmac.compare_digest(mac, hmac.new(self._issuing, payload, hashlib.sha256).digest()):
            return None
        fields = json.loads(payload)
        return Session(fields["k"], self._secret(payload), fields["r"], fields["n"], fields["e"])

    def _secret(self, payload: bytes) -> str:
        return base64.b64encode(hmac.new(self._deriving, payload, hashlib.sha256).digest()).decode()[:40]


def master_key(data: Path) -> bytes:
    """The key of a data directory, made up once. Raises SettingsError."""
    path = data / "session-key"
    try:
        if not path.exists():
            draft = data / f"session-key.{os.getpid()}"
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        key = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot use {path}: {error.strerror}") from None
    if len(key) != KEY_BYTES:
        raise SettingsError(f"cannot use {path}: it has {len(key)} bytes, not {KEY_BYTES}; remove it to have a new one")
    return key


def _letters(digest: bytes, length: int) -> str:
    return base64.b32encode(digest).decode()[:length]


def session_name(function_name: str) -> str:
    """The name of a function's sessions: its own; STS wants two characters (lambda.md §8.5)."""
    return function_name if len(function_name) > 1 else f"{function_name}@lambda_function"
