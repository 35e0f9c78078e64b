"""A blob from a registry into a file: resumed where an earlier attempt ended, and verified as a whole."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from rie.errors import ImageInvalid, RegistryUnavailable
from rie.rootfs.layers import Interrupted
from rie.rootfs.manifest import Descriptor

ATTEMPTS = 5  # in a row that bring nothing
PAUSE_S = 0.2  # before the second; twice as long before each further one
WINDOW_S, WINDOW_BYTES = 60.0, 64 * 1024  # a server that sends less in such a time is as good as down
CHUNK = 1 << 20


class Blobs(Protocol):
    """Where blobs come from."""

    def open_blob(self, digest: str, offset: int) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        """A blob from `offset` on, or from where the source begins: that place, and the bytes in pieces."""


class Fetch:
    """The download of one blob to `path`; `on_bytes` is told how many bytes are there."""

    def __init__(
        self, reference: str, blob: Descriptor, path: Path, on_bytes: Callable[[int], None], stop: threading.Event
    ) -> None:
        self._reference = reference
        self._blob = blob
        self._path = path
        self._on_bytes = on_bytes
        self._stop = stop
        self._hash = hashlib.sha256()
        self._have = 0

    def run(self, blobs: Blobs) -> None:
        """Make the file the blob. Raises ImageInvalid, RegistryUnavailable and as `blobs`; OSError from the disk.

        What an earlier attempt left is gone on with; if the whole is not the blob then, it is fetched anew once.
        """
        with self._path.open("a+b") as file:
            self._read_beginning(file)
            was_resumed = self._have > 0
            if not self._complete(file, blobs) and (not was_resumed or not self._anew(file, blobs)):
                self._path.unlink()
                raise ImageInvalid(
                    self._reference,
                    f"its layer has digest sha256:{self._hash.hexdigest()}, not {self._blob.digest}",
                )

    def _anew(self, file: BinaryIO, blobs: Blobs) -> bool:
        self._restart(file)
        return self._complete(file, blobs)

    def _read_beginning(self, file: BinaryIO) -> None:
        file.seek(0)
        while chunk := file.read(CHUNK):
            self._hash.update(chunk)
            self._have += len(chunk)
        if self._have > self._blob.size:
            self._restart(file)

    def _restart(self, file: BinaryIO) -> None:
        file.truncate(0)
        self._hash = hashlib.sha256()
        self._have = 0

    def _complete(self, file: BinaryIO, blobs: Blobs) -> bool:
        """Fetch what is missing, in as many attempts as bring something; whether the whole has the right digest."""
        failures = 0
        while self._have < self._blob.size:
            before = self._have
            try:
                with blobs.open_blob(self._blob.digest, self._have) as (begins_at, pieces):
                    if begins_at != self._have:
                        self._restart(file)
                    self._append(file, pieces)
                if self._have < self._blob.size:
                    raise RegistryUnavailable(
                        f"cannot fetch layer {self._blob.digest} of {self._reference}: "
                        f"{self._have} bytes came of {self._blob.size}"
                    )
            except RegistryUnavailable:
                failures = 0 if self._have > before else failures + 1
                if failures == ATTEMPTS:
                    raise
                if self._stop.wait(PAUSE_S * 2**failures):
                    raise Interrupted from None
        return f"sha256:{self._hash.hexdigest()}" == self._blob.digest

    def _append(self, file: BinaryIO, pieces: Iterator[bytes]) -> None:
        window_ends_at, window_bytes = time.monotonic() + WINDOW_S, 0
        for piece in pieces:
            if self._stop.is_set():
                raise Interrupted
            if self._have + len(piece) > self._blob.size:
                raise ImageInvalid(self._reference, f"its layer {self._blob.digest} is longer than its manifest says")
            file.write(piece)
            self._hash.update(piece)
            self._have += len(piece)
            self._on_bytes(self._have)
            window_bytes += len(piece)
            if (now := time.monotonic()) > window_ends_at:
                if window_bytes < WINDOW_BYTES:
                    raise RegistryUnavailable(
                        f"cannot fetch layer {self._blob.digest} of {self._reference}: "
                        f"{window_bytes} bytes came in {WINDOW_S:.0f} s"
                    )
                window_ends_at, window_bytes = now + WINDOW_S, 0
        file.flush()
