"""Images on a registry: what their references mean now, and where their content is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rie.errors import ImageInvalid
from rie.model.image import Image
from rie.rootfs import manifest
from rie.rootfs.fetch import Fetch
from rie.rootfs.manifest import CONFIGS, MAX_CONFIG, Contents, Layer
from rie.rootfs.reference import Reference, parse
from rie.rootfs.repository import Repository
from rie.rootfs.unpackers import Blob

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
    with opened(reference, insecure=insecure, environ=environ) as source:
        return source.contents(architecture).image


@contextmanager
def opened(
    reference: str, *, insecure: Collection[str] = (), environ: Mapping[str, str] | None = None
) -> Iterator[RegistrySource]:
    """The image of a reference as a source, for as long as the block lasts. Raises as `resolve`."""
    target = parse(reference)
    repository = Repository(target, is_plain(target, insecure), os.environ if environ is None else environ)
    try:
        yield RegistrySource(target, repository)
    finally:
        repository.close()


def is_plain(reference: Reference, insecure: Collection[str]) -> bool:
    """Whether the registry is spoken to by HTTP rather than HTTPS."""
    return reference.is_local or reference.host in insecure


class RegistrySource:
    """One image on a registry."""

    def __init__(self, reference: Reference, repository: Repository) -> None:
        self._reference = reference
        self._repository = repository

    def contents(self, architecture: str) -> Contents:
        """The image for an architecture, and its layers."""
        target, repository = self._reference, self._repository
        manifest.platform_of(target, architecture)
        digest, body = repository.manifest(target.selector, target.digest)
        if "manifests" in body:
            found = manifest.choose(target, body, architecture)
            digest, body = repository.manifest(found.digest, found.digest)
            if "manifests" in body:
                raise ImageInvalid(str(target), "its index points to another index")
        where = manifest.config_of(target, body)
        content, _ = repository.get(f"blobs/{where.digest}", ACCEPT_CONFIG, "configuration", MAX_CONFIG)
        manifest.verify(target, "configuration", content, where.digest)
        return manifest.contents(target, digest, body, content, architecture)

    def blob(self, layer: Layer, partial: Path, on_bytes: Callable[[int], None], stop: threading.Event) -> Blob:
        """A layer's blob, verified, in the file `partial`."""
        Fetch(str(self._reference), layer.blob, partial, on_bytes, stop).run(self._repository)
        return Blob(partial, 0, layer.blob.size)
