"""One repository of a registry: authenticated, timed requests for manifests and blobs; the only importer of oras."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from rie.errors import ImageAccessDenied, ImageInvalid, ImageNotFound, RegistryUnavailable
from rie.rootfs import credentials, manifest
from rie.rootfs.manifest import INDEXES, MANIFESTS, MAX_MANIFEST
from rie.rootfs.reference import Reference, is_digest

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0  # between two reads
ANSWER_TIMEOUT_S = 60.0  # for a whole answer, against servers that trickle
CHUNK = 64 * 1024
MAX_REASON = 300  # characters of a registry's own words that we repeat
OK, PARTIAL, UNAUTHORIZED, RANGE_REFUSED = 200, 206, 401, 416  # statuses of HTTP

ACCEPT_MANIFEST = ", ".join(sorted(INDEXES | MANIFESTS))


class Repository:
    """A repository's manifests and blobs; may be used by several threads; `close` it.

    oras brings the session and the ways to authenticate. Its own requests are not used: they have no timeouts, try
    five times with growing pauses whatever went wrong, and its token way hangs on registries with passwords.
    Everything here raises ImageNotFound, ImageAccessDenied, ImageInvalid and RegistryUnavailable.
    """

    def __init__(self, reference: Reference, plain: bool, environ: Mapping[str, str]) -> None:
        import oras.provider  # lazily: it costs 200 ms

        self._reference = reference
        self._environ = environ
        self._plain = plain
        self._session = oras.provider.Registry(reference.api_host, insecure=plain).session
        adapter = _timed_adapter()
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._session.trust_env = not reference.is_local  # no proxy on the way to this machine
        self._session.auth = lambda request: request  # else a ~/.netrc replaces our Authorization
        self._base = f"{'http' if plain else 'https'}://{reference.api_host}/v2/{reference.repository}"
        self._headers: dict[str, str] = {}
        self._authenticating = threading.Lock()

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def manifest(self, selector: str, digest: str | None) -> tuple[str, dict[str, Any]]:
        """A manifest or index by tag or digest, as its verified digest and its body."""
        content, answer_headers = self.get(f"manifests/{selector}", ACCEPT_MANIFEST, "manifest", MAX_MANIFEST)
        stated = answer_headers.get("Docker-Content-Digest") or ""
        expected = digest or (stated if is_digest(stated) else manifest.digest_of(content))
        manifest.verify(self._reference, "manifest", content, expected)
        return expected, manifest.read(self._reference, content, answer_headers.get("Content-Type") or "")

    def get(self, path: str, accept: str, what: str, limit: int) -> tuple[bytes, Mapping[str, str]]:
        """Fetch at most `limit` bytes, authenticating when asked to; answers body and headers."""
        with self._naming_failures(), self._open(path, {"Accept": accept}) as answer:
            self._expect(answer)
            return self._read(answer, what, limit), answer.headers

    @contextmanager
    def open_blob(self, digest: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """A blob from `offset` on, or from where the registry begins: that place, and the bytes in pieces.

        A piece that can't be read is RegistryUnavailable: what came before is good, and the rest can be asked for.
        """
        path, headers = f"blobs/{digest}", {"Accept": "*/*"}
        with self._naming_failures():
            answer = self._open(path, {**headers, "Range": f"bytes={offset}-"} if offset else headers)
            if offset and _is_other_part(answer, offset):
                answer.close()
                answer = self._open(path, headers)
            self._expect(answer)
            if answer.status_code == OK:
                offset = 0
        with answer:
            yield offset, self._pieces(answer)

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        pieces = answer.iter_content(CHUNK * 4)
        while True:
            with self._naming_failures():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def _open(self, path: str, headers: Mapping[str, str]) -> Any:
        """An answer with its body still to be read, after authenticating if it takes that."""
        used = self._headers
        answer = self._request(path, {**used, **headers})
        if answer.status_code == UNAUTHORIZED:
            self._authenticate(answer, used)
            answer = self._request(path, {**self._headers, **headers})
        return answer

    def _request(self, path: str, headers: Mapping[str, str]) -> Any:
        return self._session.get(
            f"{self._base}/{path}", headers={**headers, "Accept-Encoding": "identity"}, stream=True
        )

    def _expect(self, answer: Any) -> None:
        if answer.status_code not in (OK, PARTIAL):
            with answer:
                self._refuse(answer.status_code, self._read(answer, "answer", MAX_MANIFEST))

    @contextmanager
    def _naming_failures(self) -> Iterator[None]:
        """What fails in the block was said to or by the registry."""
        import requests

        try:
            yield
        except (requests.RequestException, OSError) as error:
            raise RegistryUnavailable(f"cannot reach registry {self._reference.host}: {_reason(error)}") from error

    def _read(self, answer: Any, what: str, limit: int) -> bytes:
        content = bytearray()
        ends_at = time.monotonic() + ANSWER_TIMEOUT_S
        for chunk in answer.iter_content(CHUNK):
            content += chunk
            if len(content) > limit:
                raise ImageInvalid(str(self._reference), f"its {what} has more than {limit} bytes")
            if time.monotonic() > ends_at:
                raise TimeoutError(f"its answer took longer than {ANSWER_TIMEOUT_S:.0f} s")
        return bytes(content)

    def _authenticate(self, answer: Any, used: Mapping[str, str]) -> None:
        """Prepare what a 401 asks for, unless another thread did so since the request with `used` headers."""
        challenge = answer.headers.get("WWW-Authenticate") or ""
        answer.close()
        with self._authenticating:
            if self._headers is used:
                self._headers = self._credentials_for(challenge, answer)

    def _credentials_for(self, challenge: str, answer: Any) -> dict[str, str]:
        """Headers with basic credentials, or with a token from where the challenge points to."""
        import oras.auth

        scheme = challenge.partition(" ")[0].lower()
        known = credentials.find(self._reference.host, self._environ)
        if scheme not in ("basic", "bearer"):
            self._deny(f"it asks for authentication of kind {scheme or 'unknown'}")
        if scheme == "basic" and known is None:
            self._deny("it asks for credentials and there are none")
        if known and not self._plain and 'realm="http://' in challenge.lower():
            self._deny("it sends credentials to a server without TLS")
        backend = "basic" if scheme == "basic" else "token"
        auth = oras.auth.get_auth_backend(backend, self._session, insecure=self._plain)
        if known:
            auth.set_basic_auth(known.user, known.password)
        try:
            headers, done = auth.authenticate_request(answer, {})
        except (AttributeError, KeyError, TypeError) as error:  # oras's, on challenges without a realm
            raise RegistryUnavailable(
                f"cannot authenticate at registry {self._reference.host}: it asked with {challenge!r}"
            ) from error
        if not done:
            self._deny("it gave no token")
        return dict(headers)

    def _deny(self, why: str) -> NoReturn:
        raise ImageAccessDenied(str(self._reference), f"registry {self._reference.host} refuses: {why}")

    def _refuse(self, status: int, content: bytes) -> NoReturn:
        """Turn an error answer into the error that says whose fault it is."""
        said = _said(content)
        if status in (401, 403):
            self._deny(said or f"status {status}")
        if status in (404, 410):
            why = f"registry {self._reference.host} does not have it"
            raise ImageNotFound(str(self._reference), f"{why}: {said}" if said else why)
        raise RegistryUnavailable(
            f"cannot resolve image {self._reference}: registry {self._reference.host} answers {status} {said}".rstrip()
        )


def _is_other_part(answer: Any, offset: int) -> bool:
    """Whether the registry can't give what comes from `offset` on, or gives something else."""
    if answer.status_code != PARTIAL:
        return bool(answer.status_code == RANGE_REFUSED)
    return not str(answer.headers.get("Content-Range")).startswith(f"bytes {offset}-")


def _timed_adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class Timed(HTTPAdapter):
        """Gives every request the timeouts that oras leaves out, its requests for tokens included."""

        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            options["timeout"] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            return super().send(request, *args, **options)

    return Timed(max_retries=0)


def _said(content: bytes) -> str:
    """A registry's own words: {"errors": [{"code", "message"}]}, or the beginning of whatever it sent."""
    try:
        errors = json.loads(content)["errors"]
        return "; ".join(f"{error.get('code')}: {error.get('message')}" for error in errors)[:MAX_REASON]
    except (ValueError, KeyError, TypeError, AttributeError):
        return content[:MAX_REASON].decode(errors="replace").strip()


def _reason(error: Exception) -> str:
    """The innermost cause, which is the one that says something ("Connection refused")."""
    seen = error
    while True:
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        if not isinstance(inner, Exception):
            inner = seen.args[1] if len(seen.args) > 1 and isinstance(seen.args[1], Exception) else None
        if inner is None:
            break
        seen = inner
    return (str(seen) or type(seen).__name__)[:MAX_REASON]
