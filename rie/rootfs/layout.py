"""Images in an OCI layout: a directory with index.json and blobs by digest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rie.errors import ImageInvalid, ImageNotFound
from rie.rootfs import local, manifest
from rie.rootfs.local import LocalReference
from rie.rootfs.manifest import MAX_CONFIG, MAX_MANIFEST, Contents, Descriptor, Layer
from rie.rootfs.unpackers import Blob

TAG = "org.opencontainers.image.ref.name"  # the annotation that names a manifest in an index


class LayoutSource:
    """One image in a layout."""

    def __init__(self, reference: LocalReference) -> None:
        self._reference = reference

    def contents(self, architecture: str) -> Contents:
        """The image for an architecture, and its layers. Raises ImageNotFound, ImageInvalid."""
        reference = self._reference
        digest = reference.digest or self._named(architecture).digest
        body = self._manifest(digest)
        if "manifests" in body:
            digest = manifest.choose(reference, body, architecture).digest
            body = self._manifest(digest)
            if "manifests" in body:
                raise ImageInvalid(str(reference), "its index points to another index")
        where = manifest.config_of(reference, body)
        config = self._read(where.digest, "configuration", MAX_CONFIG)
        return manifest.contents(reference, digest, body, config, architecture)

    def blob(self, layer: Layer, partial: Path, on_bytes: Callable[[int], None], stop: threading.Event) -> Blob:
        """A layer's blob, verified where it is."""
        path = self._path(layer.blob.digest)
        local.verify_file(self._reference, path, layer.blob.digest, stop)
        on_bytes(layer.blob.size)
        return Blob(path, 0, layer.blob.size)

    def _named(self, architecture: str) -> Descriptor:
        """What index.json has under the reference's tag; without a tag, the only image it has for the platform."""
        reference = self._reference
        index = local.read(reference, reference.path / "index.json", "OCI layout with an index.json", MAX_MANIFEST)
        entries = manifest.parse(reference, "index", index).get("manifests")
        entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        found = [entry for entry in entries if reference.tag in (None, _tag(entry))]
        if not found:
            tags = ", ".join(sorted({_tag(entry) or "without a name" for entry in entries}))
            raise ImageNotFound(
                str(reference), f"the layout has no {reference.tag or 'image'}, only {tags or 'nothing'}"
            )
        if len(found) == 1:
            return manifest.descriptor(reference, "manifest", found[0])
        if reference.tag is None and len({_tag(entry) for entry in found}) > 1:
            names = ", ".join(sorted({_tag(entry) or "one without a name" for entry in found}))
            raise ImageInvalid(str(reference), f"the layout has several images; name one of {names}")
        return manifest.choose(reference, {"manifests": found}, architecture)

    def _manifest(self, digest: str) -> dict[str, Any]:
        return manifest.read(self._reference, self._read(digest, "manifest", MAX_MANIFEST))

    def _read(self, digest: str, what: str, limit: int) -> bytes:
        content = local.read(self._reference, self._path(digest), what, limit)
        manifest.verify(self._reference, what, content, digest)
        return content

    def _path(self, digest: str) -> Path:
        return self._reference.path / "blobs" / "sha256" / digest.partition(":")[2]


def _tag(entry: dict[str, Any]) -> str | None:
    annotations = entry.get("annotations")
    tag = annotations.get(TAG) if isinstance(annotations, dict) else None
    return tag if isinstance(tag, str) else None
