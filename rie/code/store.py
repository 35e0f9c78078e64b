"""Archives and what was unpacked of them, by digest, in the data directory.

    <directory>/zip/<sha256>         the bytes as they were uploaded, for downloads
    <directory>/tree/<sha256>/       the same, unpacked: /var/task of functions
    <directory>/merged/<sha256>/     layers in one order, merged: /opt; named by the digest of their digests
    <directory>/tmp/                 what is being made; nothing of it survives a start

Everything is made in tmp and renamed, so that what has its name is whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rie.code.archive import unpack
from rie.code.merge import merge
from rie.errors import ArchiveInvalid, DiskFull, HostFault
from rie.model.code import Archive

BLOCK = 1 << 20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class CodeStore:
    """Every method blocks and may be called from any thread. Raises HostFault, DiskFull."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: Counter[str] = Counter()
        self._unused: frozenset[Path] = frozenset()  # as the last sweep found it
        # Held while names appear and disappear, so that a sweep never takes what is just being found again.
        self._naming = threading.Lock()
        try:
            shutil.rmtree(directory / "tmp", ignore_errors=True)
            for name in ("zip", "tree", "merged", "tmp"):
                (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._forget_after_boot()
        except OSError as error:
            raise HostFault(f"cannot keep code in {directory}: {error}") from error

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory that is gone at the end, on the same file system: for what is fetched before it is kept."""
        path = Path(tempfile.mkdtemp(dir=self._directory / "tmp"))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def keeping(self, uploaded: Path) -> Iterator[Archive]:
        """Move an archive in and unpack it; until the end of the block no sweep removes it, whoever uses it or not.

        Raises ArchiveInvalid, and then nothing is left of it.
        """
        with _wrapped(f"keep an archive in {self._directory}"):
            sha256, size = _digest(uploaded)
        self._hold(sha256, 1)
        try:
            with _wrapped(f"keep archive {sha256}"):
                self._unpack(sha256, uploaded)
                self._name(uploaded, self._zip(sha256), sync=True)
                unpacked_size = _size(self._tree(sha256))
            yield Archive(sha256, size, unpacked_size)
        finally:
            self._hold(sha256, -1)

    def ready(self, archives: Sequence[Archive]) -> None:
        """Make sure that each is unpacked. Raises HostFault if one is not there at all."""
        for archive in archives:
            if self._tree(archive.sha256).is_dir():
                continue
            with _wrapped(f"unpack archive {archive.sha256}"):
                try:
                    self._unpack(archive.sha256, self._zip(archive.sha256))
                except ArchiveInvalid as error:  # it was valid when it came
                    raise HostFault(f"cannot unpack archive {archive.sha256}: it is damaged ({error.why})") from error

    def merged(self, layers: Sequence[Archive]) -> Path:
        """The directory with all of these in it, a later one over an earlier one; made if it is not there yet."""
        place = self.merged_place(layers)
        if not place.is_dir():
            with _wrapped(f"merge layers into {place}"):
                self._make(lambda target: merge((self._tree(layer.sha256) for layer in layers), target), place)
        return place

    def merged_place(self, layers: Sequence[Archive]) -> Path:
        """Where `merged` puts them."""
        name = hashlib.sha256("\n".join(layer.sha256 for layer in layers).encode()).hexdigest()
        return self._directory / "merged" / name

    def tree(self, archive: Archive) -> Path:
        """Where an archive lies unpacked once it is `ready`."""
        return self._tree(archive.sha256)

    def find(self, sha256: str) -> Path | None:
        """The bytes of an archive, None if there is none of that digest (64 hex digits)."""
        path = self._zip(sha256)
        return path if path.is_file() else None

    def sweep(self, used: Iterable[tuple[tuple[Archive, ...], tuple[Archive, ...]]], *, at_once: bool = False) -> int:
        """Remove what nobody uses: neither this time nor the last; with `at_once`, this time. How much it was.

        `used` has of every configuration (all its archives, its layers). Twice, because a configuration may be read
        just before another replaces it in the records, and be started from for a moment longer.
        """
        wanted = set()
        for archives, layers in used:
            for archive in archives:
                wanted |= {self._zip(archive.sha256), self._tree(archive.sha256)}
            wanted.add(self.merged_place(layers))
        gone = []
        with self._naming:
            held = {place(sha256) for sha256 in self._held for place in (self._zip, self._tree)}
            unused = frozenset(path for path in self._kept() if path not in wanted and path not in held)
            for path in unused if at_once else unused & self._unused:
                gone.append(self._discard(path))
            self._unused = unused
        for path in gone:  # what takes time comes after the lock
            shutil.rmtree(path, ignore_errors=True)
        return len(gone)

    def _forget_after_boot(self) -> None:
        """Trees are not synced one file at a time: after a power cut some may have holes. The zips have none."""
        noted, boot = self._directory / "boot", _BOOT_ID.read_text() if _BOOT_ID.exists() else ""
        if noted.exists() and noted.read_text() == boot:
            return
        for name in ("tree", "merged"):
            shutil.rmtree(self._directory / name)
            (self._directory / name).mkdir(mode=0o700)
        noted.write_text(boot)

    def _kept(self) -> Iterator[Path]:
        for name in ("zip", "tree", "merged"):
            yield from (self._directory / name).iterdir()

    def _discard(self, path: Path) -> Path:
        """Take its name away; the directory that it is in now."""
        grave = Path(tempfile.mkdtemp(dir=self._directory / "tmp"))
        with contextlib.suppress(FileNotFoundError):
            path.rename(grave / path.name)
        return grave

    def _zip(self, sha256: str) -> Path:
        return self._directory / "zip" / sha256

    def _tree(self, sha256: str) -> Path:
        return self._directory / "tree" / sha256

    def _hold(self, sha256: str, by: int) -> None:
        with self._naming:
            self._held[sha256] += by
            if not self._held[sha256]:
                del self._held[sha256]

    def _unpack(self, sha256: str, source: Path) -> None:
        if self._tree(sha256).is_dir():
            return

        def fill(target: Path) -> None:
            with source.open("rb") as file:
                unpack(file, target)

        self._make(fill, self._tree(sha256))

    def _make(self, fill: Callable[[Path], None], place: Path) -> None:
        with self.scratch() as scratch:
            made = scratch / "made"
            made.mkdir()
            made.chmod(0o755)  # whatever the umask: the function is another user
            fill(made)
            self._name(made, place)

    def _name(self, made: Path, place: Path, *, sync: bool = False) -> None:
        """Give something its name, unless another was faster."""
        if sync:
            _sync(made)
        with self._naming:
            if not place.exists():
                made.rename(place)
        if sync:
            _sync(place.parent)


def write(source: IO[bytes], path: Path, limit: int) -> bool:
    """Write a stream to a new file; False as soon as it is longer than `limit` bytes."""
    size = 0
    with path.open("xb") as file:
        while block := source.read(BLOCK):
            size += len(block)
            if size > limit:
                return False
            file.write(block)
    return True


@contextmanager
def _wrapped(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in _NO_SPACE else HostFault
        raise kind(f"cannot {what}: {error}") from error


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size


def _size(directory: str | Path) -> int:
    """The bytes of all files below."""
    with os.scandir(directory) as entries:
        return sum(_size(entry.path) if entry.is_dir(follow_symlinks=False) else _file_size(entry) for entry in entries)


def _file_size(entry: os.DirEntry[str]) -> int:
    return 0 if entry.is_symlink() else entry.stat(follow_symlinks=False).st_size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
