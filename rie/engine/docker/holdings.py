"""Everything that one sandbox takes of the host: made in steps, and given back whole from whichever step it got to."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

from bootstrap.wire import LOG_NAME
from rie.engine.base import SandboxSpec
from rie.engine.docker.client import Client
from rie.engine.docker.container import (
    LABEL_INSTANCE,
    LABEL_OWNER,
    LABEL_SANDBOX,
    Place,
    configuration,
    name_of,
    volumes_of,
)
from rie.engine.instance import Instance
from rie.engine.settings import EngineSettings
from rie.errors import EngineUnavailable, SandboxFailed
from rie.limits import cgroup, storage


@dataclass(slots=True)
class Holdings:
    """One sandbox's directory, descriptors, /tmp and container; -1, "" and None stand for what is not there (yet).

    `pidfd` becomes readable when the container's first process ends; -1 also where the host's processes can't be seen.
    """

    spec: SandboxSpec
    directory: Path
    name: str
    container_id: str = ""
    directory_fd: int = -1
    log_fd: int = -1
    pidfd: int = -1
    tmp: storage.Volume | None = None
    volumes: tuple[str, ...] = ()
    cpu: Path | None = None
    has_ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def run(self) -> Path:
        """What the sandbox sees at /run/rie."""
        return self.directory / "run"


def acquire(
    spec: SandboxSpec, settings: EngineSettings, instance: Instance, client: Client, volumes: tuple[str, ...]
) -> Holdings:
    """Make all that a sandbox needs and start it; on failure, give back what was made. Blocks.

    `volumes` are the paths that the image declares as VOLUME. Raises as `Engine.start` does.
    """
    name = name_of(settings.owner, instance.token, spec.sandbox_id)
    held = Holdings(spec, instance.place(spec.sandbox_id), name)
    try:
        held.directory.mkdir(mode=0o700)
    except OSError as error:  # also when there is one of that name, which must stay as it is
        raise SandboxFailed(f"cannot start sandbox {spec.sandbox_id}: {error}") from error
    try:
        _make_run(held)
        if storage.unavailable() is None:
            held.tmp = storage.create(held.directory, spec.ephemeral_storage_mb, instance.templates)
        labels = {
            LABEL_OWNER: settings.owner,
            LABEL_INSTANCE: str(instance.directory),
            LABEL_SANDBOX: spec.sandbox_id,
        }
        tmp = held.tmp.mount_point if held.tmp else None
        named = volumes_of(name, volumes)
        held.volumes = tuple(named)
        place = Place(settings.bundle, held.run, tmp, settings.network, _user(), named)
        held.container_id = client.create(name, configuration(spec, place, labels))
        client.start(held.container_id, spec.sandbox_id, spec.image.reference)
        _observe(held, client)
    except BaseException as error:
        with contextlib.suppress(Exception):  # the first error says more
            release(held, client)
        close(held)
        if isinstance(error, OSError):
            raise SandboxFailed(f"cannot start sandbox {spec.sandbox_id}: {error}") from error
        raise
    return held


def release(held: Holdings, client: Client) -> None:
    """Remove container, mount and directory; fine if they are gone. Blocks.

    With the daemon down, the processes are killed and the rest is given back all the same; then raises
    EngineUnavailable, since the container's record remains, for a second call or `reconcile`.
    """
    with held.lock:
        failure: EngineUnavailable | None = None
        if held.cpu is not None:
            # Hundreds of processes that die on a small share of CPU take longer than Docker waits for a kill.
            with contextlib.suppress(OSError):
                cgroup.lift_quota(held.cpu)
        _kill(held.pidfd)
        try:
            # By name: when the answer to its making was lost, there is a container whose id nobody knows.
            client.remove(held.container_id or held.name)
            for volume in held.volumes:
                client.remove_volume(volume)
        except EngineUnavailable as error:
            failure = error
        if held.tmp:
            storage.remove(held.tmp)
        shutil.rmtree(held.directory, ignore_errors=True)
        if failure:
            raise failure


def close(held: Holdings) -> None:
    """Close the descriptors; for the event loop's thread once it watches them no more."""
    for name in ("log_fd", "directory_fd", "pidfd"):
        descriptor = getattr(held, name)
        setattr(held, name, -1)
        if descriptor >= 0:
            os.close(descriptor)


def _make_run(held: Holdings) -> None:
    held.run.mkdir(mode=0o700)
    log = held.run / LOG_NAME
    os.mkfifo(log, 0o600)
    # Open for writing too: else each time that the sandbox closes its end, we would read an end of file.
    held.log_fd = os.open(log, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    held.directory_fd = os.open(held.run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _observe(held: Holdings, client: Client) -> None:
    """Take hold of the first process, so that its end and its control group are ours to see without the daemon."""
    facts = client.container(held.container_id)
    if facts is None or facts.pid == 0:
        held.has_ended = True
        return
    try:
        pidfd = os.pidfd_open(facts.pid)
    except OSError:  # already gone, or in a process namespace above ours
        return
    # The number may mean another process by now, or here.
    try:
        is_ours = held.container_id in Path(f"/proc/{facts.pid}/cgroup").read_text()
    except OSError:
        is_ours = False
    if not is_ours:
        os.close(pidfd)
        return
    held.pidfd = pidfd
    held.cpu = cgroup.cpu_directory(facts.pid)


def _kill(pidfd: int) -> None:
    if pidfd >= 0:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _user() -> str:
    return "0:0" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
