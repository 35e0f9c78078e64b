"""References to images in files, and what their two kinds of sources have in common.

    oci:PATH[:TAG][@DIGEST]               a directory with an OCI layout (`skopeo copy`, `docker buildx`, `crane`);
                                          also written oci-layout://PATH
    docker-archive:PATH[:NAME][@DIGEST]   what `docker save` writes

As with other tools that read these, a path can't contain a colon.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

from rie.errors import ImageInvalid, ImageNotFound
from rie.rootfs.layers import Interrupted
from rie.rootfs.reference import is_digest

OCI, ARCHIVE = "oci", "docker-archive"
PREFIXES = {"oci-layout://": OCI, "oci-layout:": OCI, "oci:": OCI, "docker-archive:": ARCHIVE}
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class LocalReference:
    """An image in a file or directory; `tag` is the name of one of several in there; a digest outdoes it."""

    scheme: str
    path: Path
    tag: str | None = None
    digest: str | None = None

    def pinned(self, digest: str) -> str:
        """The reference of exactly that manifest: "oci:/path@sha256:…"."""
        return f"{self.scheme}:{self.path}@{digest}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.scheme}:{self.path}{tag}{digest}"


def parse(text: str) -> LocalReference | None:
    """Read a reference to a file; None if it is one to a registry. Raises ImageInvalid for half a reference."""
    prefix = next((prefix for prefix in PREFIXES if text.startswith(prefix)), None)
    if prefix is None:
        return None
    rest, at, digest = text.removeprefix(prefix).partition("@")
    if at and not is_digest(digest):
        raise ImageInvalid(text, f"its digest must be sha256: and 64 lower-case hex digits, not {digest!r}")
    path, _, tag = rest.partition(":")
    if not path or "\0" in path:
        raise ImageInvalid(text, f"it names no path; write {prefix}/path/to/it")
    return LocalReference(PREFIXES[prefix], Path.cwd() / path, tag or None, digest or None)


def read(reference: LocalReference, path: Path, what: str, limit: int) -> bytes:
    """A file of at most `limit` bytes. Raises ImageNotFound, ImageInvalid."""
    try:
        if path.exists() and not path.is_file():
            raise ImageInvalid(str(reference), f"{path} is not a file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageNotFound(str(reference), f"there is no {what} at {path}") from None
    except OSError as error:
        raise ImageInvalid(str(reference), f"its {what} cannot be read: {error}") from error
    if len(content) > limit:
        raise ImageInvalid(str(reference), f"its {what} has more than {limit} bytes")
    return content


def verify_file(reference: LocalReference, path: Path, digest: str, stop: threading.Event) -> None:
    """Raise ImageInvalid unless the file has that digest, ImageNotFound if there is none."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
                if stop.is_set():
                    raise Interrupted
    except FileNotFoundError:
        raise ImageNotFound(str(reference), f"its layer {digest} is not at {path}") from None
    if f"sha256:{found.hexdigest()}" != digest:
        raise ImageInvalid(str(reference), f"its layer has digest sha256:{found.hexdigest()}, not {digest}")
