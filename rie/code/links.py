"""Links under which code can be downloaded for ten minutes, by whoever has one: signed, and nothing to guess."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from rie.clock import Clock
from rie.errors import HostFault

PREFIX = "/_rie/code/"
VALID_S = 600  # AWS: ten minutes
KEY_BYTES = 32


class Links:
    """May be used from any thread."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def path(self, sha256: str) -> str:
        """The path and query of an archive's download."""
        expires = str(int(self._clock.now().timestamp()) + VALID_S)
        return f"{PREFIX}{sha256}?{urlencode({'Expires': expires, 'Signature': self._sign(sha256, expires)})}"

    def read(self, path: str, query: str) -> str | None:
        """The digest that a path and a query name, None if they were not made by `path`, or too long ago."""
        given = parse_qs(query)
        sha256 = path.removeprefix(PREFIX)
        expires, signature = given.get("Expires", [""])[-1], given.get("Signature", [""])[-1]
        is_ours = hmac.compare_digest(self._sign(sha256, expires).encode(), signature.encode())
        return sha256 if is_ours and int(expires) > self._clock.now().timestamp() else None

    def _sign(self, sha256: str, expires: str) -> str:
        return hmac.new(self._key, f"{sha256}\n{expires}".encode(), hashlib.sha256).hexdigest()


def key_in(path: Path) -> bytes:
    """The key in a file that only its owner may read, made up once, so that links outlive the process."""
    try:
        if not path.exists():
            made = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            made.rename(path)
        return path.read_bytes()
    except OSError as error:
        raise HostFault(f"cannot keep a key in {path}: {error}") from error
