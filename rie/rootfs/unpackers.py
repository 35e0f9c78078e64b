"""The processes that unpack layers, as seen from the one that wants them unpacked."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import rie
from rie.errors import DiskFull, HostFault, ImageInvalid
from rie.rootfs.layers import Interrupted, Unpacked, boot_id

MESSAGE = 1 << 16
LISTEN_S = 0.5  # between two looks at whether to go on
END_S = 5.0
# Without the site module, which costs half of the start; where modules are found is told by who knows it already.
START = "import sys; sys.path[:] = sys.argv.pop().split('\\n'); from rie.rootfs.unpacker import main; main()"


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer's blob as a part of a file: `size` bytes from `offset` on."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Job:
    """A blob to unpack into a place (see Layers.begin), under a lock that whoever works on it must hold."""

    reference: str
    diff_id: str
    blob: Blob
    place: Path
    lock: int
    max_bytes: int
    max_entries: int


class Unpackers:
    """A few processes that unpack, one layer each at a time; use as a context manager.

    They must be started and ended by one thread: the kernel ends them with the thread that started them.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._all: list[_Unpacker] = []
        self._idle: queue.Queue[_Unpacker] = queue.Queue()

    def __enter__(self) -> Unpackers:
        for _ in range(self._count):
            unpacker = _Unpacker()
            self._all.append(unpacker)
            self._idle.put(unpacker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for unpacker in self._all:
            unpacker.end(at_once=kind is not None)

    def unpack(self, job: Job, on_read: Callable[[int], None], stop: threading.Event) -> Unpacked:
        """Unpack, once a process is free; `on_read` is told how much of the blob is done.

        Raises ImageInvalid for what is wrong with the layer, DiskFull, HostFault, and Interrupted once `stop` is set:
        the process may then still be at it.
        """
        while True:
            try:
                unpacker = self._idle.get(timeout=LISTEN_S)
                break
            except queue.Empty:
                if stop.is_set():
                    raise Interrupted from None
        answer = unpacker.ask(job, on_read, stop)
        self._idle.put(unpacker)
        return _result(job, answer)


class _Unpacker:
    """One process and the socket to it."""

    def __init__(self) -> None:
        self._door, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", START, str(os.getpid()), _places_of_modules()],
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
            )
        self._door.settimeout(LISTEN_S)

    def ask(self, job: Job, on_read: Callable[[int], None], stop: threading.Event) -> dict[str, Any]:
        """The last answer to a job. Raises HostFault if the process ended, Interrupted."""
        flags = os.O_RDONLY | os.O_CLOEXEC
        opened = [
            os.open(job.blob.path, flags),
            os.open(job.place / "fs", flags | os.O_DIRECTORY),
            os.open(job.place / "trash", flags | os.O_DIRECTORY),
        ]
        order = {
            "offset": job.blob.offset,
            "size": job.blob.size,
            "max_bytes": job.max_bytes,
            "max_entries": job.max_entries,
        }
        try:
            socket.send_fds(self._door, [json.dumps(order).encode()], [*opened, job.lock])
        except OSError as error:
            raise HostFault(f"cannot unpack image {job.reference}: the unpacking process ended") from error
        finally:
            for descriptor in opened:
                os.close(descriptor)
        while True:
            if stop.is_set():
                raise Interrupted
            try:
                message = self._door.recv(MESSAGE)
            except TimeoutError:
                continue
            except ConnectionError:
                message = b""
            if not message:
                raise HostFault(f"cannot unpack image {job.reference}: the unpacking process ended")
            answer: dict[str, Any] = json.loads(message)
            if "read" not in answer:
                return answer
            on_read(answer["read"])

    def end(self, *, at_once: bool) -> None:
        """End the process, which takes what it forked with it."""
        self._door.close()
        if at_once:
            self._process.kill()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _places_of_modules() -> str:
    """Where this process finds this package and its libraries."""
    package = str(Path(rie.__file__).parent.parent)
    return "\n".join([package, *(place for place in sys.path if place and "\n" not in place)])


def _result(job: Job, answer: dict[str, Any]) -> Unpacked:
    if "invalid" in answer:
        raise ImageInvalid(job.reference, f"its layer {job.diff_id} is broken: {answer['invalid']}")
    if "full" in answer:
        raise DiskFull(f"cannot unpack image {job.reference}: {answer['full']}")
    if "failed" in answer:
        raise HostFault(f"cannot unpack image {job.reference}: {answer['failed']}")
    if answer["diff_id"] != job.diff_id:
        raise ImageInvalid(job.reference, f"its layer {job.diff_id} unpacks to an archive with {answer['diff_id']}")
    return Unpacked(answer["bytes"], answer["entries"], answer["is_opaque"], boot_id())
