"""What the Docker daemon says when it fails, and which of our errors that is (pure)."""

from __future__ import annotations

from rie.errors import (
    DiskFull,
    HostFault,
    ImageAccessDenied,
    ImageFault,
    ImageInvalid,
    ImageNotFound,
    RegistryUnavailable,
    SandboxFailed,
)

# Read from top to bottom: several of the lower ones occur within sentences of the upper ones.
NO_SPACE = ("no space left on device", "disk quota exceeded")
INVALID = (
    "verification failed",  # "filesystem layer verification failed for digest", "manifest verification failed"
    "unexpected commit digest",  # containerd's image store
    "failed precondition",
    "invalid checksum digest",
    "no matching manifest",
    "does not match the specified platform",
    "unsupported media type",
    "mediatype",
    "media type",
    "archive/tar",
    "invalid tar header",
    "gzip: invalid",
    "flate: corrupt",
    "zstd",
    "unexpected eof",
    "failed to register layer",
    "layers from manifest don't match",
    "invalid reference format",
)
DENIED = ("unauthorized", "denied", "no basic auth credentials", "authentication required", "forbidden")
NOT_FOUND = ("manifest unknown", "not found", "name unknown", "does not exist", "no such image", "unknown blob")
PLAIN_HTTP = "server gave http response to https client"


def of_pull(reference: str, said: str) -> HostFault | ImageFault:
    """The error behind a failed pull."""
    text = said.lower()
    if _has(text, NO_SPACE):
        return DiskFull(f"cannot pull image {reference}: Docker has no space left for its layers: {said}")
    if _has(text, INVALID):
        return ImageInvalid(reference, said)
    if _has(text, DENIED):
        return ImageAccessDenied(reference, said)
    if _has(text, NOT_FOUND):
        return ImageNotFound(reference, said)
    host = reference.partition("/")[0]
    if PLAIN_HTTP in text:
        said = f'{said}; add "insecure-registries": ["{host}"] to /etc/docker/daemon.json and restart Docker'
    return RegistryUnavailable(f"cannot pull image {reference} from registry {host}: {said}")


def of_start(sandbox_id: str, reference: str, status: int, said: str) -> HostFault | ImageFault:
    """The error behind a container that could not be made or started."""
    text = said.lower()
    if _has(text, NO_SPACE):
        return DiskFull(f"cannot start sandbox {sandbox_id}: {said}")
    if status == 404 and "no such image" in text:
        return ImageNotFound(reference, "it has been removed from this machine")
    return SandboxFailed(f"cannot start sandbox {sandbox_id} from {reference}: {said}")


def remedy(host: str, said: str) -> str:
    """What to do about a daemon that does not answer."""
    text = said.lower()
    if "permission denied" in text:
        return "run as root, or join the group that may use it: usermod -aG docker $USER, then log in again"
    if "timed out" in text:
        return "it hangs; restart it: systemctl restart docker"
    if "client version" in text or "no longer supported" in text:
        return "update the docker package of this Python (pip install -U docker) or Docker itself"
    return f"start it: systemctl start docker (or dockerd); set DOCKER_HOST if it listens elsewhere than {host}"


def _has(text: str, fragments: tuple[str, ...]) -> bool:
    return any(fragment in text for fragment in fragments)
