"""Unpacked layers on disk: one directory each by diff_id, whole or not there, and the locks that keep it so.

    layers/<hex>/fs          what overlayfs stacks
    layers/<hex>/layer.json  its size, and since which boot it can be relied on
    unpacking/<hex>/         on its way to layers/, by whoever holds locks/<hex>
    downloads/<hex>.<hex>    blobs or beginnings of them (diff_id, then blob), by the same

A directory comes into layers/ by a rename, complete and verified: a process may die at any point. So may the machine,
which can lose what was written without order; nothing is flushed while a function waits for its image. Instead
layer.json names the boot in which it was written, `settle` clears that once the disk has everything, and a layer of
another boot that was not settled is unpacked again.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from rie.errors import HostFault
from rie.rootfs.manifest import Layer

POLL_S = 0.02  # between two looks at a lock that another process has
ABANDON_S = 1.0  # for a process that was killed to let go of its lock
PRIVATE = 0o700  # layers hold programs with set-user bits: no other user may reach them
FOLDERS = ("layers", "unpacking", "downloads", "locks")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What layer.json says. `boot` is None once the layer would survive a power cut."""

    data_bytes: int
    entries: int
    is_opaque: bool
    boot: str | None


class Layers:
    """The layers below a directory, shared by all processes of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._settling = threading.Lock()
        for folder in ("", *FOLDERS):
            (root / folder).mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self.empties = root / "empty" / "0", root / "empty" / "1"
        for empty in self.empties:
            empty.mkdir(mode=0o755, parents=True, exist_ok=True)

    def directory(self, diff_id: str) -> Path:
        """Where the files of a layer are."""
        return self._home(diff_id) / "fs"

    def find(self, diff_id: str) -> Unpacked | None:
        """What is known of a layer, or None if it is not there or can't be relied on."""
        try:
            found = Unpacked(**json.loads((self._home(diff_id) / "layer.json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return found if found.boot in (None, boot_id()) else None

    @contextmanager
    def locked(self, diff_id: str, stop: threading.Event) -> Iterator[int]:
        """Be the only one to work on a layer; answers the lock's descriptor, for those who work on it too."""
        with lock(self._root / "locks" / _hex(diff_id), fcntl.LOCK_EX, stop) as descriptor:
            yield descriptor

    def partial(self, layer: Layer) -> Path:
        """Where the blob of a layer is kept until it is unpacked."""
        return self._root / "downloads" / f"{_hex(layer.diff_id)}.{_hex(layer.blob.digest)}"

    def begin(self, diff_id: str) -> Path:
        """An empty place to unpack a layer into: `fs` and `trash`. Whoever was here before did not end."""
        place = self._root / "unpacking" / _hex(diff_id)
        remove(place)
        place.mkdir(mode=PRIVATE)
        for name, mode in (("fs", 0o755), ("trash", PRIVATE)):
            (place / name).mkdir()
            (place / name).chmod(mode)
        return place

    def keep(self, diff_id: str, unpacked: Unpacked) -> None:
        """Make what was unpacked the layer."""
        place = self._root / "unpacking" / _hex(diff_id)
        remove(place / "trash")
        (place / "layer.json").write_text(json.dumps(asdict(unpacked)))
        home = self._home(diff_id)
        if home.exists():  # of another boot, or without a readable layer.json
            home.rename(self._root / "unpacking" / f"{_hex(diff_id)}.old")
            remove(self._root / "unpacking" / f"{_hex(diff_id)}.old")
        place.rename(home)

    def abandon(self, diff_id: str) -> None:
        """Remove what was unpacked in vain, unless somebody else works on it by now."""
        try:
            with lock(self._root / "locks" / _hex(diff_id), fcntl.LOCK_EX, wait_s=ABANDON_S):
                remove(self._root / "unpacking" / _hex(diff_id))
        except TimeoutError:
            pass

    def settle(self) -> None:
        """Have everything written to the disk, and let the layers know. Blocks while the disk works."""
        with self._settling:
            waiting = [
                (home, found)
                for home in (self._root / "layers").iterdir()
                if (found := self.find(f"sha256:{home.name}")) and found.boot
            ]
            if not waiting:
                return
            _flush(self._root)
            for home, found in waiting:
                try:
                    _write_durably(home / "layer.json", json.dumps(asdict(replace(found, boot=None))))
                except FileNotFoundError:  # collected meanwhile
                    continue

    def sizes(self) -> dict[str, int]:
        """The bytes of data in each layer that is there, by diff_id."""
        return {f"sha256:{home.name}": _data_bytes(home) for home in (self._root / "layers").iterdir()}

    def unfinished_bytes(self) -> int:
        """The bytes of blobs, or beginnings of them, that are kept for pulls to go on with."""
        sizes = 0
        for partial in (self._root / "downloads").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has just been unpacked
                sizes += partial.stat().st_size
        return sizes

    def retain(self, wanted: Collection[str]) -> int:
        """Remove all layers but those, and everything unfinished; the bytes of data that were removed.

        Only for who has seen to it that nobody pulls.
        """
        freed = 0
        for home in (self._root / "layers").iterdir():
            if f"sha256:{home.name}" not in wanted:
                freed += _data_bytes(home)
                home.rename(self._root / "unpacking" / f"{home.name}.old")
        for partial in (self._root / "downloads").iterdir():
            freed += partial.stat().st_size
            partial.unlink()
        for place in (self._root / "unpacking").iterdir():
            remove(place)
        for file in (self._root / "locks").iterdir():
            file.unlink()
        return freed

    def _home(self, diff_id: str) -> Path:
        return self._root / "layers" / _hex(diff_id)


@contextmanager
def lock(path: Path, kind: int, stop: threading.Event | None = None, wait_s: float | None = None) -> Iterator[int]:
    """Hold a file's lock (fcntl.LOCK_SH or LOCK_EX), waiting while others do.

    Raises Interrupted once `stop` is set, TimeoutError after `wait_s`. The lock ends with the last process that has
    the descriptor, however that process ends.
    """
    gives_up_at = None if wait_s is None else time.monotonic() + wait_s
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop is not None and stop.wait(POLL_S):
                    raise Interrupted from None
                if gives_up_at is not None and time.monotonic() > gives_up_at:
                    raise TimeoutError(f"{path} is locked") from None
                if stop is None:
                    time.sleep(POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


class Interrupted(HostFault):
    """Another layer of the image failed first."""

    def __init__(self) -> None:
        super().__init__("cannot go on: it was interrupted")


def remove(path: Path) -> None:
    """Remove a tree, however deep, or nothing; never beyond a mount."""
    if not os.path.lexists(path):
        return
    done = subprocess.run(["rm", "-rf", "--one-file-system", "--", path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostFault(f"cannot remove {path}: {done.stderr.strip()[:300]}")


@cache
def boot_id() -> str:
    """This boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _hex(digest: str) -> str:
    return digest.partition(":")[2]


def _data_bytes(home: Path) -> int:
    try:
        return int(json.loads((home / "layer.json").read_bytes())["data_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _flush(root: Path) -> None:
    """syncfs(2): all that was written to the file system of `root`."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise HostFault(f"cannot write {root} to its disk: {os.strerror(number)}")
    finally:
        os.close(descriptor)


def _write_durably(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
