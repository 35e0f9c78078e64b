"""Images in an archive that `docker save` has written."""

from __future__ import annotations

import json
import os
import posixpath
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rie.errors import ImageFault, ImageInvalid, ImageNotFound
from rie.rootfs import manifest, tar
from rie.rootfs.local import LocalReference
from rie.rootfs.manifest import CONFIGS, MAX_CONFIG, MAX_MANIFEST, OCI_MANIFEST, Contents, Layer
from rie.rootfs.reference import DEFAULT_TAG
from rie.rootfs.reference import parse as parse_reference
from rie.rootfs.unpackers import Blob

MAX_MEMBERS = 10_000  # of an archive; a layer has three
MAX_LINKS = 10


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a file lies in the archive, or what it is a link to."""

    offset: int
    size: int
    link: str | None = None


class _File:
    """The archive as a source of its own entries."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self.position = 0

    def take(self, size: int) -> bytes:
        """The next bytes; fewer only at the end."""
        content = os.pread(self._descriptor, size, self.position)
        self.position += len(content)
        return content

    def skip(self, size: int) -> None:
        """Leave out the next bytes. Raises TarError if there are fewer."""
        self.position += size
        if self.position > self._size:
            raise tar.TarError("it ends within an entry")


class ArchiveSource:
    """One image in an archive.

    Such an archive has no manifest that could be asked for by digest, so one is written for it: the digest is the
    same wherever the archive lies.
    """

    def __init__(self, reference: LocalReference) -> None:
        self._reference = reference
        self._members: dict[str, _Member] = {}
        self._places: dict[str, _Member] = {}  # diff_id → where that layer lies

    def contents(self, architecture: str) -> Contents:
        """The image for an architecture, and its layers. Raises ImageNotFound, ImageInvalid."""
        self._members = self._read_members()
        images = _images(self._reference, self._read("manifest.json", MAX_MANIFEST))
        names = [name for image in images for name in image.get("RepoTags") or []]
        if self._reference.digest is None:
            images = [image for image in images if _is_named(image, self._reference.tag)]
            if len(images) > 1:
                raise ImageInvalid(str(self._reference), f"the archive has several images; name one of {_list(names)}")
        for image in images:
            found = self._contents(image, architecture)
            if self._reference.digest in (None, found.image.digest):
                return found
        raise ImageNotFound(str(self._reference), f"the archive does not have it, only {_list(names)}")

    def blob(self, layer: Layer, partial: Path, on_bytes: Callable[[int], None], stop: threading.Event) -> Blob:
        """A layer as a part of the archive; what it unpacks to is verified when it is unpacked."""
        place = self._places[layer.diff_id]
        on_bytes(place.size)
        return Blob(self._reference.path, place.offset, place.size)

    def _contents(self, image: Mapping[str, Any], architecture: str) -> Contents:
        config = self._read(str(image.get("Config")), MAX_CONFIG)
        layers = image.get("Layers")
        rootfs = manifest.parse(self._reference, "configuration", config).get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
            raise ImageInvalid(str(self._reference), "its configuration and its manifest have different layers")
        places = [self._find(str(layer)) for layer in layers]
        self._places = dict(zip(map(str, diff_ids), places, strict=True))
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": min(CONFIGS), "digest": manifest.digest_of(config), "size": len(config)},
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id, "size": place.size}
                for diff_id, place in zip(diff_ids, places, strict=True)
            ],
        }
        digest = manifest.digest_of(json.dumps(body).encode())
        return manifest.contents(self._reference, digest, body, config, architecture)

    def _read_members(self) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        try:
            descriptor = os.open(self._reference.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ImageNotFound(str(self._reference), f"the archive cannot be opened: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise tar.TarError("it is no file")
            source = _File(descriptor)
            for entry in tar.entries(source):
                name = os.fsdecode(entry.name).removeprefix("./")
                is_link = entry.kind in (tar.SYMLINK, tar.HARD_LINK)
                members[name] = _Member(source.position, entry.size, os.fsdecode(entry.link) if is_link else None)
                if entry.kind == tar.HARD_LINK:
                    members[name] = members.get(os.fsdecode(entry.link), members[name])
                if len(members) > MAX_MEMBERS:
                    raise tar.TarError(f"it has more than {MAX_MEMBERS:,} members")
                source.skip(entry.size)
        except (tar.TarError, OSError) as error:
            raise ImageInvalid(
                str(self._reference), f"it is not an archive as `docker save` writes it, uncompressed: {error}"
            ) from error
        finally:
            os.close(descriptor)
        return members

    def _find(self, name: str) -> _Member:
        """A member, through the links by which archives share layers."""
        at = name
        for _ in range(MAX_LINKS):
            member = self._members.get(at)
            if member is None:
                break
            if member.link is None:
                return member
            at = posixpath.normpath(posixpath.join(posixpath.dirname(at), member.link))
        raise ImageInvalid(str(self._reference), f"the archive has no {name}")

    def _read(self, name: str, limit: int) -> bytes:
        member = self._find(name)
        if member.size > limit:
            raise ImageInvalid(str(self._reference), f"its {name} has more than {limit} bytes")
        with self._reference.path.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)


def _images(reference: LocalReference, content: bytes) -> list[dict[str, Any]]:
    try:
        images = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ImageInvalid(str(reference), f"its manifest.json is not JSON: {error}") from error
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise ImageInvalid(str(reference), "its manifest.json is not a list of images")
    return images


def _is_named(image: Mapping[str, Any], wanted: str | None) -> bool:
    names = image.get("RepoTags")
    return wanted is None or _whole(wanted) in [_whole(str(name)) for name in names or []]


def _whole(name: str) -> str:
    """A name with all that may be left out: "app" is "docker.io/library/app:latest"."""
    try:
        found = parse_reference(name)
    except ImageFault:
        return name
    return f"{found.name}:{found.tag or DEFAULT_TAG}"


def _list(names: list[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "images without a name"
