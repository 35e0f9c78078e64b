"""The registry's side of an image: from what a user typed to a verified, pinned image; the only importer of oras."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from rie.errors import ImageAccessDenied, ImageInvalid, ImageNotFound, RegistryUnavailable
from rie.model.image import Image
from rie.rootfs import credentials, manifest
from rie.rootfs.manifest import CONFIGS, INDEXES, MANIFESTS, MAX_CONFIG, MAX_MANIFEST
from rie.rootfs.reference import Reference, is_digest, parse

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0  # between two reads
ANSWER_TIMEOUT_S = 60.0  # for a whole answer, against servers that trickle
CHUNK = 64 * 1024
MAX_REASON = 300  # characters of a registry's own words that we repeat

ACCEPT_MANIFEST = ", ".join(sorted(INDEXES | MANIFESTS))
ACCEPT_CONFIG = ", ".join(sorted(CONFIGS)) + ", application/octet-stream"


def resolve(
    reference: str, architecture: str, *, insecure: Collection[str] = (), environ: Mapping[str, str] | None = None
) -> Image:
    """Ask the registry what a reference means now, for an architecture ("x86_64" or "arm64").

    The image is pinned by the digest of its platform's manifest, never by an index's: it is what runs, what
    `docker pull` takes on any machine, and what the service shows as CodeSha256 and ResolvedImageUri. An index and a
    manifest are both verified against the digests that led to them.
    `insecure` names hosts ("registry:5000") to reach by plain HTTP besides this machine's own; `environ` is where
    credentials are looked for (os.environ).
    Blocks; at most some seconds when the registry is down. Raises ImageNotFound, ImageAccessDenied, ImageInvalid,
    RegistryUnavailable.
    """
    target = parse(reference)
    if architecture not in manifest.PLATFORMS:
        raise ImageInvalid(reference, f"the architecture must be x86_64 or arm64, not {architecture!r}")
    door = _Door(target, is_plain(target, insecure), os.environ if environ is None else environ)
    try:
        digest, body = door.manifest(target.selector, target.digest)
        if "manifests" in body:
            found = manifest.choose(target, body, architecture)
            digest, body = door.manifest(found.digest, found.digest)
            if "manifests" in body:
                raise ImageInvalid(reference, "its index points to another index")
        where = manifest.config_of(target, body)
        content, _ = door.get(f"blobs/{where.digest}", ACCEPT_CONFIG, "configuration", MAX_CONFIG)
        manifest.verify(target, "configuration", content, where.digest)
        config = manifest.parse(target, "configuration", content)
        return manifest.to_image(target, digest, config, len(body["layers"]), architecture)
    finally:
        door.close()


def is_plain(reference: Reference, insecure: Collection[str]) -> bool:
    """Whether the registry is spoken to by HTTP rather than HTTPS."""
    return reference.is_local or reference.host in insecure


class _Door:
    """One registry for as long as one reference takes to resolve.

    oras brings the session and the ways to authenticate. Its own requests are not used: they have no timeouts, try
    five times with growing pauses whatever went wrong, and its token way hangs on registries with passwords.
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

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def manifest(self, selector: str, digest: str | None) -> tuple[str, dict[str, Any]]:
        """A manifest or index by tag or digest, as its verified digest and its body."""
        content, answer_headers = self.get(f"manifests/{selector}", ACCEPT_MANIFEST, "manifest", MAX_MANIFEST)
        stated = answer_headers.get("Docker-Content-Digest") or ""
        expected = digest or (stated if is_digest(stated) else manifest.digest_of(content))
        manifest.verify(self._reference, "manifest", content, expected)
        body = manifest.parse(self._reference, "manifest", content)
        media_type = manifest.kind(self._reference, answer_headers.get("Content-Type") or "", body)
        if (media_type in INDEXES) != ("manifests" in body):
            raise ImageInvalid(str(self._reference), f"its manifest of type {media_type} has not that type's members")
        return expected, body

    def get(self, path: str, accept: str, what: str, limit: int) -> tuple[bytes, Mapping[str, str]]:
        """Fetch at most `limit` bytes, authenticating when asked to; answers body and headers."""
        import requests

        try:
            answer = self._request(path, accept)
            if answer.status_code == requests.codes.unauthorized:
                self._authenticate(answer)
                answer = self._request(path, accept)
            with answer:
                content = self._read(answer, what, limit)
                if answer.status_code != requests.codes.ok:
                    self._refuse(answer.status_code, content)
                return content, answer.headers
        except (requests.RequestException, OSError) as error:
            raise RegistryUnavailable(f"cannot reach registry {self._reference.host}: {_reason(error)}") from error

    def _request(self, path: str, accept: str) -> Any:
        headers = {**self._headers, "Accept": accept, "Accept-Encoding": "identity"}
        return self._session.get(f"{self._base}/{path}", headers=headers, stream=True)

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

    def _authenticate(self, answer: Any) -> None:
        """Prepare what a 401 asks for: basic credentials, or a token from where it points to."""
        import oras.auth

        challenge = answer.headers.get("WWW-Authenticate") or ""
        answer.close()
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
        self._headers = dict(headers)

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
