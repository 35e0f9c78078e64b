"""A directory per live engine: a lock tells the sandboxes of the living from what `kill -9` left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from rie.errors import HostFault
from rie.limits import storage

PREFIX = "engine-"
LOCK_SUFFIX = ".lock"


class Instance:
    """state_dir/engine-XXXX, with one directory per sandbox, and state_dir/engine-XXXX.lock, held while we live."""

    def __init__(self, state_dir: Path) -> None:
        """Make the directory and take its lock. Raises HostFault."""
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.token = secrets.token_hex(4)
            self.directory = state_dir.resolve() / f"{PREFIX}{self.token}"
            # The lock first: a directory without one is anybody's to remove.
            self._lock = _take(_lock_of(self.directory))
            self.directory.mkdir(mode=0o700)
        except OSError as error:
            raise HostFault(f"cannot keep sandboxes in {state_dir}: {error}") from error

    @property
    def templates(self) -> Path:
        """Where file systems for /tmp are kept ready, for every engine with this state directory."""
        return self.directory.parent / "templates"

    def place(self, sandbox_id: str) -> Path:
        """The directory of a sandbox."""
        return self.directory / sandbox_id

    def is_live(self, directory: Path) -> bool:
        """Whether an engine holds that directory: this one, or one in another process."""
        return directory == self.directory or _is_held(_lock_of(directory))

    def others(self) -> list[Path]:
        """The directories of other engines, live or not, in the same state directory."""
        found = self.directory.parent.glob(f"{PREFIX}*")
        return [path for path in found if path.is_dir() and path != self.directory]

    def close(self) -> None:
        """Remove the directory, if nothing is left in it, and let the lock go."""
        with contextlib.suppress(OSError):
            self.directory.rmdir()
            _lock_of(self.directory).unlink()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep(directory: Path) -> None:
    """Remove a sandbox's or a dead engine's directory and what is mounted in it. Raises HostFault."""
    storage.leftovers(directory)
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise HostFault(f"cannot remove {directory}: {error}") from error
    with contextlib.suppress(FileNotFoundError):
        _lock_of(directory).unlink()


def sandboxes_in(directory: Path) -> Iterator[Path]:
    """The directories of an engine's sandboxes."""
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(path for path in directory.iterdir() if path.is_dir())


def _lock_of(directory: Path) -> Path:
    return directory.with_name(directory.name + LOCK_SUFFIX)


def _take(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # another engine took it for a dead one's and removed it: again


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
