"""The data directory: made, held by one manager at a time, with a name for what that manager makes."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from pathlib import Path

from rie.errors import SettingsError

LOCK_WAIT_S = 10.0  # a manager that was told to stop may still be cleaning up


def prepare_data(data: Path) -> None:
    """Make the data directory; only its owner may look inside. Raises SettingsError."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(f"cannot use the data directory {data}: {error.strerror}") from None
    if not os.access(data, os.W_OK | os.X_OK):
        raise SettingsError(f"cannot use the data directory {data}: no permission to write there")


def owner_of(data: Path) -> str:
    """The name that this data directory's sandboxes and queues carry, made up once."""
    path = data / "owner"
    if not path.exists():
        path.write_text(uuid.uuid4().hex)
    return path.read_text().strip()


def hold(data: Path) -> int:
    """A descriptor that holds the data directory; released with the process, however that ends. Blocks.

    Raises SettingsError when another manager holds it.
    """
    fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(fd)
                raise SettingsError(f"cannot use the data directory {data}: another manager holds it") from None
            time.sleep(0.05)
