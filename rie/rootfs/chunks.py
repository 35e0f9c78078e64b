"""A layer's blob as the bytes of its archive: decompressed and digested by a thread while another reads them."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from isal import igzip_lib

from rie.rootfs.tar import TarError

CHUNK = 1 << 20  # bytes that are decompressed at a time
READ = 256 << 10  # compressed bytes that are read at a time
AHEAD = 4  # chunks that may wait to be read
GZIP = b"\x1f\x8b"
ZSTANDARD = b"\x28\xb5\x2f\xfd"
ZSTANDARD_WINDOW = 128 << 20  # bytes of memory that a frame may ask for; what `zstd --ultra` makes
BROKEN = (EOFError, zlib.error, igzip_lib.error)


class Readable(Protocol):
    """As much of a file as is used here."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


class Slice:
    """A part of a file: `size` bytes from `offset` on; `position` says how far it has been read."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._size = size
        self.position = 0

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        left = self._size - self.position
        wanted = left if size < 0 else min(size, left)
        content = os.pread(self._descriptor, wanted, self._offset + self.position) if wanted else b""
        self.position += len(content)
        return content


def decompressed(blob: Slice) -> Iterator[bytes]:
    """The content of a blob in chunks of bounded size, whether gzip, zstd or neither: its first bytes tell.

    What a manifest calls a blob is not always what it is; Docker looks too.
    """
    head = blob.read(4)
    blob.position = 0
    if head.startswith(GZIP):
        return _gunzipped(blob)
    if head == ZSTANDARD:
        return _from_zstandard(blob)
    return iter(lambda: blob.read(CHUNK), b"")


def load(blob: Slice) -> None:
    """Import what decompressing this blob takes: once confined to a layer, a process finds no modules any more."""
    if blob.read(4) == ZSTANDARD:
        import zstandard  # noqa: F401  # few layers need it, and importing it is a third of the process's start
    blob.position = 0


def _from_zstandard(blob: Slice) -> Iterator[bytes]:
    import zstandard

    # Bounded reads: a few bytes can stand for gigabytes.
    unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTANDARD_WINDOW)
    reader = unpacker.stream_reader(blob, read_size=READ, read_across_frames=True)  # type: ignore[arg-type]
    try:
        while chunk := reader.read(CHUNK):
            yield chunk
    except zstandard.ZstdError as error:
        raise TarError(f"it cannot be decompressed: {error}") from error


def _gunzipped(blob: Slice) -> Iterator[bytes]:
    """One member after the other: parallel and seekable compressors write many."""
    content = blob.read(READ)
    while content:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not member.eof:
            if member.needs_input and not content:
                content = blob.read(READ)
                if not content:
                    raise EOFError("it ends within a compressed part")
            chunk = member.decompress(content, CHUNK)
            content = b""
            if chunk:
                yield chunk
        content = member.unused_data or blob.read(READ)
        while content and not content.strip(b"\0"):  # padding after the last member
            content = blob.read(READ)


class Chunks:
    """The bytes of an archive, to be taken in order; `digest` is theirs once all have been."""

    def __init__(self, blob: Slice, max_bytes: int, on_read: Callable[[int], None]) -> None:
        self._blob = blob
        self._max_bytes = max_bytes
        self._on_read = on_read
        self._digest = hashlib.sha256()
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)
        self._current = b""
        self._at = 0
        self._ended = False
        threading.Thread(target=self._fill, daemon=True).start()

    def take(self, size: int) -> bytes:
        """The next bytes; fewer only at the end. For what is small."""
        end = self._at + size
        if end <= len(self._current):
            taken = self._current[self._at : end]
            self._at = end
            return taken
        parts = []
        while size and self._has_more():
            part = self._current[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next bytes without copying them. Raises TarError if there are fewer."""
        while size:
            if not self._has_more():
                raise TarError("it ends within an entry")
            piece = memoryview(self._current)[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        """Leave out the next bytes. Raises TarError if there are fewer."""
        if self._at + size <= len(self._current):
            self._at += size
            return
        for _ in self.pieces(size):
            pass

    def digest(self) -> str:
        """The digest of all bytes, after taking what is left of them: "sha256:…"."""
        while self._has_more():
            self._at = len(self._current)
        return f"sha256:{self._digest.hexdigest()}"

    def _has_more(self) -> bool:
        """Whether a byte is left, which is then in the current chunk."""
        while self._at >= len(self._current):
            if self._ended:
                return False
            found = self._queue.get()
            if isinstance(found, BaseException):
                raise found
            self._current, self._at, self._ended = found, 0, not found
            self._on_read(self._blob.position)
        return True

    def _fill(self) -> None:
        """Decompress and digest; both are done without the interpreter's lock."""
        total = 0
        try:
            for chunk in decompressed(self._blob):
                total += len(chunk)
                if total > self._max_bytes:
                    raise TarError(f"it unpacks to more than {self._max_bytes:,} bytes")
                self._digest.update(chunk)
                self._queue.put(chunk)
            self._queue.put(b"")
        except BROKEN as error:  # type: ignore[misc]  # isal types its error as an instance
            self._queue.put(TarError(f"it cannot be decompressed: {error}"))
        except BaseException as error:  # for the thread that reads
            self._queue.put(error)
