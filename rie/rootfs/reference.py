"""Image references: the grammar of "host:port/repository:tag@digest", and what its short forms stand for."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Protocol

from rie.errors import ImageInvalid

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
DEFAULT_NAMESPACE = "library"  # Docker Hub's official images have no namespace in what people type
DOCKER_HUB_API = "registry-1.docker.io"
DOCKER_HUB_ALIASES = frozenset({"docker.io", "index.docker.io", DOCKER_HUB_API})
MAX_NAME = 255  # distribution specification: host and repository together
MAX_PORT = 65_535

# Source: the grammar in distribution/reference.
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Pinnable(Protocol):
    """What names an image, wherever it is."""

    def pinned(self, digest: str) -> str:
        """The reference of exactly that manifest."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference: `host` "docker.io" or "127.0.0.1:5000", `repository` "team/app"; a digest outdoes a tag."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Host and repository: "127.0.0.1:5000/team/app"."""
        return f"{self.host}/{self.repository}"

    @property
    def selector(self) -> str:
        """What to ask the registry for: the digest, else the tag, else "latest"."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def api_host(self) -> str:
        """The host (and port) that answers the registry's API."""
        return DOCKER_HUB_API if self.host == DEFAULT_HOST else self.host

    @property
    def is_local(self) -> bool:
        """Whether the registry is on this machine (localhost, 127.0.0.0/8, ::1), where plain HTTP is the custom."""
        name = self.host.rpartition(":")[0] if re.search(r":\d+$", self.host) else self.host
        if name.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False

    def pinned(self, digest: str) -> str:
        """The reference of exactly that manifest: "host/repository@sha256:…"."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def parse(text: str) -> Reference:
    """Read a reference as Docker does ("app" is "docker.io/library/app").

    Raises ImageInvalid, which names the part that breaks the grammar.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise ImageInvalid(text, f"its digest must be sha256: and 64 lower-case hex digits, not {digest!r}")
    host, path = _split_host(rest)
    repository, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ImageInvalid(
            text, f"its tag must be 1 to 128 of A-Z a-z 0-9 _ . - and not begin with . or -, not {tag!r}"
        )
    _check_host(text, host)
    if not _REPOSITORY.fullmatch(repository):
        raise ImageInvalid(
            text, f"its repository must be lower-case letters, digits and single separators, not {repository!r}"
        )
    if host in DOCKER_HUB_ALIASES:
        host = DEFAULT_HOST
        repository = repository if "/" in repository else f"{DEFAULT_NAMESPACE}/{repository}"
    if len(host) + 1 + len(repository) > MAX_NAME:
        raise ImageInvalid(text, f"host and repository must not be longer than {MAX_NAME} characters")
    return Reference(host, repository, tag if colon else None, digest if at else None)


def is_digest(text: str) -> bool:
    """Whether this is a digest that we can verify: "sha256:" and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def _split_host(rest: str) -> tuple[str, str]:
    """Part host from path: the first component is a host if it has a dot, a port or a capital, or is "localhost"."""
    first, slash, path = rest.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    return (first, path) if is_host else (DEFAULT_HOST, rest)


def _check_host(text: str, host: str) -> None:
    found = _HOST.fullmatch(host)
    if found is None:
        raise ImageInvalid(text, f"its host must be a name or an address with an optional port, not {host!r}")
    port = found["port"]
    if port is not None and not 0 < int(port) <= MAX_PORT:
        raise ImageInvalid(text, f"its port must be between 1 and {MAX_PORT}, not {port}")
