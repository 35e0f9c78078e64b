"""A sandbox as the Docker Engine API's container configuration (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.wire import BUNDLE, DIR_IN_SANDBOX, ENTRYPOINT
from rie.engine.base import SandboxSpec
from rie.engine.inside import FUNCTION_USER, environment, hostname

LABEL_OWNER = "rie.owner"
LABEL_INSTANCE = "rie.instance"  # directory of the engine that made it: whoever holds its lock is alive
LABEL_SANDBOX = "rie.sandbox"
MB = 1024 * 1024
# The bootstrap starts as root, gives the function another user, and kills what is left of it. Nothing else.
CAPABILITIES = ("SETUID", "SETGID", "KILL")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sandbox lives on the host: `run` holds its socket and log, `tmp` is its /tmp, None for a tmpfs.

    `volumes` are the paths that the image declares as VOLUME, by the names of the Docker volumes to put there.
    `user` is "0:0" under a manager that is root. Any other manager could not use what root leaves in `run`, so there
    the bootstrap and the function are the manager's own user, without any capability.
    """

    bundle: Path
    run: Path
    tmp: Path | None
    network: str
    user: str
    volumes: Mapping[str, str]


def name_of(owner: str, token: str, sandbox_id: str) -> str:
    """The container's name: nobody else's, thanks to the engine's token, and known before the daemon has answered."""
    return f"rie-{owner}-{token}-{sandbox_id}"


def volumes_of(name: str, paths: Collection[str]) -> dict[str, str]:
    """The volumes of a container, {name: path}, without those where something of ours is mounted anyway."""
    others = (path for path in sorted(paths) if path.rstrip("/") not in (BUNDLE, DIR_IN_SANDBOX, "/tmp"))
    return {f"{name}-{number}": path for number, path in enumerate(others)}


def configuration(spec: SandboxSpec, place: Place, labels: dict[str, str]) -> dict[str, Any]:
    """The body of POST /containers/create (API 1.41)."""
    return {
        "Image": spec.image.reference,
        "Entrypoint": [ENTRYPOINT],
        "Cmd": list(spec.argv),
        "Env": _environment(spec),
        "WorkingDir": "/",  # Docker would make a missing one; the bootstrap reports it as the service does
        "User": place.user,
        "Hostname": hostname(spec.sandbox_id),
        "Labels": {**spec.labels, **labels},
        "Healthcheck": {"Test": ["NONE"]},  # the image's own would run beside the function
        "NetworkDisabled": place.network == "none",
        "HostConfig": {
            **_limits(spec),
            "Mounts": [*_mounts(place, labels), *_given(spec)],
            "Tmpfs": {} if place.tmp else {"/tmp": _tmpfs_options(spec, place.user)},
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES) if place.user == "0:0" else [],
            "SecurityOpt": ["no-new-privileges"],
            "NetworkMode": place.network,
            "IpcMode": "private",
            "RestartPolicy": {"Name": "no"},
            # Lines go through the FIFO; this keeps the last words of a bootstrap that can't begin, and no more.
            "LogConfig": {"Type": "local", "Config": {"max-size": "1m", "max-file": "1", "compress": "false"}},
        },
    }


def _environment(spec: SandboxSpec) -> list[str]:
    """NAME=value for what the sandbox has; NAME alone takes out what the image sets and the sandbox must not have."""
    private = environment(spec)
    absent = [name for name in spec.image.environment if name not in private]
    return [f"{name}={value}" for name, value in private.items()] + absent


def _limits(spec: SandboxSpec) -> dict[str, Any]:
    memory = spec.memory_mb * MB
    return {
        "Memory": memory,
        "MemorySwap": memory,  # memory and swap together: no swap
        "PidsLimit": spec.pids,
        "Ulimits": [
            {"Name": "nofile", "Soft": spec.open_files, "Hard": spec.open_files},
            {"Name": "core", "Soft": 0, "Hard": 0},  # dumps would go where the host's core_pattern says
        ],
    }


def _mounts(place: Place, labels: dict[str, str]) -> list[dict[str, Any]]:
    mounts = [_bind(place.bundle, BUNDLE, read_only=True), _bind(place.run, DIR_IN_SANDBOX, read_only=False)]
    # What the image lists here would be loaded into the bootstrap before its own code runs.
    mounts.append(_bind(Path("/dev/null"), "/etc/ld.so.preload", read_only=True))
    if place.tmp:
        mounts.append(_bind(place.tmp, "/tmp", read_only=False))
    for name, path in place.volumes.items():
        # The service ignores VOLUME; Docker, left alone, mounts a writable volume without bounds. A read-only one shows
        # the image's own content, but only if it has a name, so that it must be removed by name too.
        options = {"Labels": labels}
        mounts.append({"Type": "volume", "Source": name, "Target": path, "ReadOnly": True, "VolumeOptions": options})
    return mounts


def _given(spec: SandboxSpec) -> list[dict[str, Any]]:
    return [_bind(mount.source, mount.target, read_only=True) for mount in spec.mounts]


def _bind(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    options = {"Propagation": "rprivate"}
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": options,
    }


def _tmpfs_options(spec: SandboxSpec, user: str) -> str:
    """Docker's own defaults add noexec, and functions run what they unpack in /tmp.

    The function owns it, because runc gives it the mode of the image's own /tmp, whatever mode we ask for.
    """
    uid, gid = FUNCTION_USER if user == "0:0" else user.split(":")
    return f"size={spec.ephemeral_storage_mb}m,mode=1777,uid={uid},gid={gid},nosuid,nodev,exec"
