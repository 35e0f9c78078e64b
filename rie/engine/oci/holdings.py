"""Everything that one sandbox takes of the host beside its blank: directory, log, /tmp; made and given back. Blocks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap.wire import LOG_NAME
from rie.engine import inside
from rie.engine.base import SandboxSpec
from rie.engine.instance import Instance
from rie.engine.oci import snapshots
from rie.engine.oci.stock import Blank
from rie.engine.settings import EngineSettings
from rie.errors import DiskFull, SandboxFailed

HOST_RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
PUBLIC_RESOLVER = "nameserver 1.1.1.1\n"  # where the host itself asks a server that only it can reach
START_S = 60.0  # what a blank may take to become a sandbox: milliseconds, or the machine is ill
MAX_LINE = 4_096


@dataclass(slots=True)
class Holdings:
    """One sandbox's directory and descriptors; -1 stands for what is not there (yet)."""

    spec: SandboxSpec
    directory: Path
    blank: Blank
    directory_fd: int = -1
    log_fd: int = -1
    said: bytes = field(default=b"")  # on the channel, after its start

    @property
    def run(self) -> Path:
        """What the sandbox sees at /run/rie."""
        return self.directory / "run"


def acquire(
    spec: SandboxSpec, layers: Sequence[Path], blank: Blank, settings: EngineSettings, instance: Instance
) -> Holdings:
    """Make all that a sandbox needs and start it; on failure, give back what was made, but not the blank.

    Raises SandboxFailed, HostFault, DiskFull.
    """
    held = Holdings(spec, instance.place(spec.sandbox_id), blank)
    try:
        held.directory.mkdir(mode=0o700)
    except OSError as error:  # also when there is one of that name, which must stay as it is
        raise SandboxFailed(f"cannot start sandbox {spec.sandbox_id}: {error}") from error
    try:
        _make_run(held)
        blank.group.limit(spec.memory_mb, spec.pids)
        if spec.snapshot is None:
            _start(held, _message(held, layers, settings))
        else:
            _restore(held, _message(held, layers, settings), spec.snapshot)
    except BaseException as error:
        release(held)
        if isinstance(error, OSError):
            raise SandboxFailed(f"cannot start sandbox {spec.sandbox_id}: {error}") from error
        raise
    return held


def release(held: Holdings) -> None:
    """Remove the directory and close the descriptors; fine if they are gone. The processes have ended before."""
    shutil.rmtree(held.directory, ignore_errors=True)
    for name in ("log_fd", "directory_fd"):
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


def _files(held: Holdings) -> dict[str, str]:
    """Files in /etc that the image's own must not stand for."""
    name = inside.hostname(held.spec.sandbox_id)
    address = held.blank.port.address if held.blank.port else "127.0.0.1"
    return {
        "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{name}\n",
        "hostname": f"{name}\n",
        "resolv.conf": _resolvers() if held.blank.port else "",
        "ld.so.preload": "",  # what the image lists there would be loaded into the bootstrap
    }


def _resolvers() -> str:
    """The host's name servers, without those on its loopback, which no sandbox reaches."""
    for path in HOST_RESOLVERS:
        with contextlib.suppress(OSError):
            lines = path.read_text().splitlines(keepends=True)
            usable = [line for line in lines if not line.startswith(("nameserver 127.", "nameserver ::1"))]
            if any(line.startswith("nameserver") for line in usable):
                return "".join(usable)
    return PUBLIC_RESOLVER


def _message(held: Holdings, layers: Sequence[Path], settings: EngineSettings) -> dict[str, Any]:
    """What launcher.plan.Sandbox reads."""
    spec = held.spec
    return {
        "hostname": inside.hostname(spec.sandbox_id),
        "label": spec.image.digest,
        "layers": [str(layer) for layer in layers],
        "files": _files(held),
        "bundle": str(settings.bundle),
        "run": str(held.run),
        "has_disk": held.blank.tmp_mb > 0,
        "tmp_mb": spec.ephemeral_storage_mb,
        "given": [[str(mount.source), mount.target] for mount in spec.mounts],
        "groups": held.blank.group.shown,
        "open_files": spec.open_files,
        "environment": inside.environment(spec, watches_memory=held.blank.group.memory is None),
        "argv": list(spec.argv),
        "is_kept": spec.is_template or spec.snapshot is not None,
        "pids": spec.pids if held.blank.group.pids is None else 0,
    }


def _start(held: Holdings, message: dict[str, Any]) -> None:
    """Tell the blank what it is, and wait until it is that. Raises SandboxFailed."""
    channel = held.blank.child.channel
    channel.settimeout(START_S)
    body = json.dumps(message).encode()
    try:
        channel.sendall(len(body).to_bytes(4, "big") + body)
        held.said = _expect(channel, b"started", b"")
    except _Refused as error:
        if "No space left" in str(error):
            raise DiskFull(f"cannot start sandbox {held.spec.sandbox_id}: {error}") from None
        raise SandboxFailed(f"cannot start sandbox {held.spec.sandbox_id}: {error}") from None
    except TimeoutError:
        why = f"it is not ready after {START_S:.0f} s"
        raise SandboxFailed(f"cannot start sandbox {held.spec.sandbox_id}: {why}") from None
    channel.setblocking(False)


class _Refused(Exception):
    """The blank says why it can't."""


def _restore(held: Holdings, message: dict[str, Any], snapshot: Path) -> None:
    """The same for one that has criu make the snapshot's processes. Raises SandboxFailed, OSError."""
    criu = snapshots.needed(snapshot)
    address = held.blank.port.address if held.blank.port else ""
    message["keeps"] = snapshots.number_in(snapshot)
    message["restore"] = snapshots.restore(criu, snapshot, held.directory, address)
    memory = held.run / snapshots.MEMORY  # where criu looks for it, and nobody else once it is mapped
    memory.hardlink_to(snapshot / snapshots.MEMORY)
    try:
        _start(held, message)
    except SandboxFailed as error:
        words = snapshots.last_words(held.directory)
        why = f"{error}; criu {criu.version}: {words}"
        raise SandboxFailed(f"cannot restore the snapshot {snapshot}: {why}") from error
    finally:
        memory.unlink(missing_ok=True)


def _expect(channel: socket.socket, word: bytes, data: bytes) -> bytes:
    """Read up to a line that is `word`; what came after it."""
    while b"\n" not in data:
        block = channel.recv(MAX_LINE)
        if not block:
            raise _Refused("its process has ended")
        data += block
    line, _, rest = data.partition(b"\n")
    if line != word:
        raise _Refused(line.decode("utf-8", "replace").removeprefix("error "))
    return rest
