"""The sink of one environment: bytes cut anywhere in, whole lines with their time out, to a file and to listeners."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from rie.logs.rate import Rate

log = logging.getLogger(__name__)

MAX_STREAM_BYTES = 8_388_608  # for each of a stream's two files: the current and the one before
MAX_LINE = 262_144

OnLines = Callable[[int, bytes], None]
"""Told of whole lines: when they were received (epoch ms), and the lines without the last newline."""


class StreamWriter:
    """Keeps what it is given, and tells `on_lines`. A full disk loses lines, never an invocation."""

    def __init__(self, path: Path, prepare: Callable[[], None], on_lines: OnLines, rate: Rate) -> None:
        """`prepare` makes the directory; raises OSError."""
        self._path = path
        self._prepare = prepare
        self._on_lines = on_lines
        self._rate = rate
        self._fd = -1
        self._size = 0
        self._partial = b""

    def write(self, data: bytes) -> float:
        """Take what was read from the sandbox; how many seconds nothing more should be read, 0 as a rule."""
        pause_s = self._rate.spend(len(data))
        data = self._partial + data
        end = data.rfind(b"\n") + 1
        if not end and len(data) > MAX_LINE:
            data, end = data + b"\n", len(data) + 1
        self._partial = data[end:]
        if end:
            self._keep(data[: end - 1])
        return pause_s

    def close(self) -> None:
        """Keep the last line even if it has no end."""
        if self._partial:
            self._keep(self._partial)
            self._partial = b""
        self._close_file()

    def _keep(self, lines: bytes) -> None:
        at_ms = int(time.time() * 1e3)
        prefix = b"%d " % at_ms
        block = b"%s%s\n" % (prefix, lines.replace(b"\n", b"\n" + prefix))
        try:
            self._rotate_for(len(block))
            os.write(self._fd, block)
            self._size += len(block)
        except OSError as error:
            log.error("cannot write the log %s: %s", self._path, error)
        self._on_lines(at_ms, lines)

    def _rotate_for(self, octets: int) -> None:
        """Have a file open that has room; it may have been removed to keep within the bounds on disk."""
        if self._fd >= 0 and os.fstat(self._fd).st_nlink == 0:
            self._close_file()
        if self._fd >= 0 and self._size + octets > MAX_STREAM_BYTES:
            self._close_file()
            self._path.rename(self._path.with_suffix(".log.1"))
        if self._fd < 0:
            self._prepare()
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
