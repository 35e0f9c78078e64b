"""What registries store: manifests, indexes and image configurations, read and checked (pure)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rie.errors import ImageInvalid
from rie.model.image import Image
from rie.rootfs.reference import Pinnable, is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"})

MAX_MANIFEST = 4 * 1024 * 1024  # bytes; what registries accept
MAX_CONFIG = 4 * 1024 * 1024  # bytes; as much again: labels and history are all that grows
MAX_LAYERS = 127  # what Docker can stack
PLATFORMS = {"x86_64": "amd64", "arm64": "arm64"}  # the service's architectures → the registries'
OS = "linux"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: its digest and its size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image: the blob it comes as, perhaps compressed, and the digest of the archive in it."""

    blob: Descriptor
    diff_id: str


@dataclass(frozen=True, slots=True)
class Contents:
    """An image with where its layers are, lowest first."""

    image: Image
    layers: tuple[Layer, ...]


def digest_of(content: bytes) -> str:
    """The digest that content must be asked for by."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def verify(reference: Pinnable, what: str, content: bytes, digest: str) -> None:
    """Raise ImageInvalid unless the content has that digest."""
    found = digest_of(content)
    if found != digest:
        raise ImageInvalid(str(reference), f"its {what} has digest {found}, not {digest}")


def parse(reference: Pinnable, what: str, content: bytes) -> dict[str, Any]:
    """A JSON object from bytes; ImageInvalid for anything else."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ImageInvalid(str(reference), f"its {what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ImageInvalid(str(reference), f"its {what} is not a JSON object")
    return value


def kind(reference: Pinnable, content_type: str, body: Mapping[str, Any]) -> str:
    """The media type of a manifest, from what the registry and the manifest itself say.

    Raises ImageInvalid when they contradict each other, or the body could be read both ways: then one digest would
    mean two images (CVE-2021-41190).
    """
    said = content_type.partition(";")[0].strip().lower()
    own = body.get("mediaType")
    media_type = str(own) if own else said or _likely(body)
    known = INDEXES | MANIFESTS
    if own and said in known and said != own:
        raise ImageInvalid(str(reference), f"its registry calls its manifest {said}, the manifest itself {own}")
    if media_type not in known:
        raise ImageInvalid(str(reference), f"its manifest is of type {media_type or 'unknown'}, which is no image")
    if "manifests" in body and ("layers" in body or "config" in body):
        raise ImageInvalid(str(reference), "its manifest is an index and an image at once")
    return media_type


def read(reference: Pinnable, content: bytes, content_type: str = "") -> dict[str, Any]:
    """A manifest or index from its bytes; ImageInvalid for anything that is not clearly one of them."""
    body = parse(reference, "manifest", content)
    media_type = kind(reference, content_type, body)
    if (media_type in INDEXES) != ("manifests" in body):
        raise ImageInvalid(str(reference), f"its manifest of type {media_type} has not that type's members")
    return body


def _likely(body: Mapping[str, Any]) -> str:
    """In a layout a manifest need not say what it is, and nobody else does."""
    return OCI_INDEX if "manifests" in body else OCI_MANIFEST if "config" in body else ""


def platform_of(reference: Pinnable, architecture: str) -> str:
    """The registries' name of an architecture; ImageInvalid for one that the service does not have."""
    if architecture not in PLATFORMS:
        raise ImageInvalid(str(reference), f"the architecture must be x86_64 or arm64, not {architecture!r}")
    return PLATFORMS[architecture]


def choose(reference: Pinnable, index: Mapping[str, Any], architecture: str) -> Descriptor:
    """The manifest for an architecture ("x86_64" or "arm64") in an index; ImageInvalid if it holds none."""
    wanted = platform_of(reference, architecture)
    entries = index.get("manifests")
    there = []
    for entry in entries if isinstance(entries, list) else []:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if not isinstance(platform, dict):
            continue
        if platform.get("os") == OS and platform.get("architecture") == wanted:
            return descriptor(reference, "manifest", entry)
        there.append(f"{platform.get('os')}/{platform.get('architecture')}")
    raise ImageInvalid(str(reference), f"it has no manifest for {OS}/{wanted}, only {', '.join(there) or 'none'}")


def config_of(reference: Pinnable, manifest: Mapping[str, Any]) -> Descriptor:
    """Where the configuration of an image manifest is; ImageInvalid if this is an artifact and no image."""
    entry = manifest.get("config")
    layers = manifest.get("layers")
    if not isinstance(entry, dict) or not isinstance(layers, list):
        raise ImageInvalid(str(reference), "its manifest names no configuration or no layers")
    if entry.get("mediaType") not in CONFIGS:
        raise ImageInvalid(str(reference), f"its configuration is of type {entry.get('mediaType')}, which is no image")
    for layer in layers:
        descriptor(reference, "layer", layer)
    found = descriptor(reference, "configuration", entry)
    if found.size > MAX_CONFIG:
        raise ImageInvalid(str(reference), f"its configuration has {found.size} bytes, more than {MAX_CONFIG}")
    return found


def descriptor(reference: Pinnable, what: str, entry: object) -> Descriptor:
    """Read a descriptor; ImageInvalid for a digest that can't be verified or a size that is none."""
    digest = entry.get("digest") if isinstance(entry, dict) else None
    size = entry.get("size") if isinstance(entry, dict) else None
    if not isinstance(digest, str) or not is_digest(digest):
        raise ImageInvalid(str(reference), f"its {what} has digest {digest!r}, where a sha256 one is needed")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageInvalid(str(reference), f"its {what} has size {size!r}")
    return Descriptor(digest, size)


def to_image(reference: Pinnable, digest: str, config: Mapping[str, Any], layers: int, architecture: str) -> Image:
    """The pinned image that a configuration describes; ImageInvalid for another platform or a malformed one."""
    wanted = f"{OS}/{platform_of(reference, architecture)}"
    found = f"{config.get('os')}/{config.get('architecture')}"
    if found != wanted:
        raise ImageInvalid(str(reference), f"it is for {found}, not {wanted}")
    rootfs = config.get("rootfs")
    diffs = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diffs, list) or len(diffs) != layers:
        raise ImageInvalid(str(reference), "its configuration and its manifest have different layers")
    return _image(reference, digest, config, architecture)


def contents(reference: Pinnable, digest: str, body: Mapping[str, Any], config: bytes, architecture: str) -> Contents:
    """The pinned image of a manifest and its configuration, with its layers. Raises ImageInvalid as `to_image`."""
    said = parse(reference, "configuration", config)
    image = to_image(reference, digest, said, len(body["layers"]), architecture)
    diffs = said["rootfs"]["diff_ids"]
    if len(diffs) > MAX_LAYERS:
        raise ImageInvalid(str(reference), f"it has {len(diffs)} layers, more than {MAX_LAYERS}")
    layers = []
    for entry, diff_id in zip(body["layers"], diffs, strict=True):
        if not isinstance(diff_id, str) or not is_digest(diff_id):
            raise ImageInvalid(str(reference), f"its layer has diff_id {diff_id!r}, where a sha256 one is needed")
        layers.append(Layer(descriptor(reference, "layer", entry), diff_id))
    return Contents(image, tuple(layers))


def _image(reference: Pinnable, digest: str, config: Mapping[str, Any], architecture: str) -> Image:
    runtime = config.get("config")
    runtime = runtime if isinstance(runtime, dict) else {}
    return Image(
        reference=reference.pinned(digest),
        digest=digest,
        architecture=architecture,
        entrypoint=_strings(reference, runtime, "Entrypoint"),
        command=_strings(reference, runtime, "Cmd"),
        working_directory=_text(reference, runtime, "WorkingDir"),
        environment=dict(_pair(line) for line in _strings(reference, runtime, "Env")),
        user=_text(reference, runtime, "User"),
    )


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name, value


def _strings(reference: Pinnable, config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = config.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImageInvalid(str(reference), f"its configuration has {name} {value!r}, where a list of texts is needed")
    return tuple(value)


def _text(reference: Pinnable, config: Mapping[str, Any], name: str) -> str:
    value = config.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ImageInvalid(str(reference), f"its configuration has {name} {value!r}, where a text is needed")
    return value
