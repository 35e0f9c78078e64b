"""From a source to unpacked layers: several at a time, each downloaded, verified, unpacked and kept, or not there."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rie.errors import DiskFull, HostFault, ImageInvalid
from rie.rootfs.layers import Interrupted, Layers
from rie.rootfs.manifest import Contents, Layer
from rie.rootfs.progress import Phase, Step, Watch
from rie.rootfs.unpackers import Blob, Job, Unpackers

DOWNLOADS = 3  # at a time, as Docker has it
MAX_UNPACKERS = 4
SMALL_BYTES = 8 << 20  # of blobs: less is unpacked before a second process has started
MAX_IMAGE_BYTES = 10 << 30  # unpacked (lambda.md: code of an image, 10 GB)
MAX_IMAGE_ENTRIES = 1_000_000  # files and directories; ten times what large images have


class Source(Protocol):
    """Where an image comes from: a registry, a directory, an archive."""

    def contents(self, architecture: str) -> Contents:
        """The image for an architecture, pinned, and its layers."""

    def blob(self, layer: Layer, partial: Path, on_bytes: Callable[[int], None], stop: threading.Event) -> Blob:
        """A layer's blob, verified, in a file: `partial`, which it may be kept in, or one that it has anyway."""


def pull(source: Source, contents: Contents, layers: Layers, watch: Watch) -> None:
    """Have all layers of an image there. Raises as the source, ImageInvalid, DiskFull, HostFault."""
    missing = {layer.diff_id: layer for layer in contents.layers if layers.find(layer.diff_id) is None}
    for layer in contents.layers:
        if layer.diff_id not in missing:
            watch(Step(layer.blob.digest, Phase.READY, layer.blob.size, layer.blob.size))
    if missing:
        # The largest first: what is unpacked last should be small.
        ordered = sorted(missing.values(), key=lambda layer: -layer.blob.size)
        is_small = sum(layer.blob.size for layer in ordered) < SMALL_BYTES
        count = 1 if is_small else min(len(ordered), max(2, os.cpu_count() or 1), MAX_UNPACKERS)
        try:
            with Unpackers(count) as unpackers:
                _Pull(source, contents, layers, unpackers, watch).run(ordered)
        except BaseException:
            for layer in ordered:
                layers.abandon(layer.diff_id)
            raise
    _check_size(contents, layers)


def _check_size(contents: Contents, layers: Layers) -> None:
    found = [unpacked for layer in contents.layers if (unpacked := layers.find(layer.diff_id))]
    total = sum(unpacked.data_bytes for unpacked in found)
    entries = sum(unpacked.entries for unpacked in found)
    if total > MAX_IMAGE_BYTES or entries > MAX_IMAGE_ENTRIES:
        raise ImageInvalid(
            contents.image.reference,
            f"it unpacks to {total:,} bytes in {entries:,} files, "
            f"more than {MAX_IMAGE_BYTES:,} in {MAX_IMAGE_ENTRIES:,}",
        )


class _Pull:
    """One pull on its way."""

    def __init__(self, source: Source, contents: Contents, layers: Layers, unpackers: Unpackers, watch: Watch) -> None:
        self._source = source
        self._reference = contents.image.reference
        self._layers = layers
        self._unpackers = unpackers
        self._watch = watch
        self._downloads = threading.Semaphore(DOWNLOADS)
        self._stop = threading.Event()
        self._left = threading.Lock()
        self._bytes_left, self._entries_left = MAX_IMAGE_BYTES, MAX_IMAGE_ENTRIES

    def run(self, ordered: list[Layer]) -> None:
        """Have these layers there; the first failure ends the others, and is raised."""
        failure: BaseException | None = None
        with ThreadPoolExecutor(DOWNLOADS + MAX_UNPACKERS, thread_name_prefix="pull") as threads:
            try:
                for done in as_completed([threads.submit(self._bring, layer) for layer in ordered]):
                    found = done.exception()
                    if found is not None:
                        self._stop.set()
                        failure = found if failure is None or isinstance(failure, Interrupted) else failure
            except BaseException:
                self._stop.set()  # Ctrl-C
                raise
        if failure is not None:
            raise failure

    def _bring(self, layer: Layer) -> None:
        """One layer, unless it is there once its lock is ours: then somebody else has brought it."""
        with self._layers.locked(layer.diff_id, self._stop) as lock:
            if self._layers.find(layer.diff_id) is None:
                partial = self._layers.partial(layer)
                try:
                    with self._naming_failures():
                        self._unpack(layer, self._download(layer, partial), lock)
                except DiskFull:
                    partial.unlink(missing_ok=True)  # others need the space more
                    raise
                partial.unlink(missing_ok=True)
        self._watch(Step(layer.blob.digest, Phase.READY, layer.blob.size, layer.blob.size))

    def _download(self, layer: Layer, partial: Path) -> Blob:
        while not self._downloads.acquire(timeout=0.1):
            if self._stop.is_set():
                raise Interrupted
        try:
            size = layer.blob.size

            def on_bytes(done: int) -> None:
                self._watch(Step(layer.blob.digest, Phase.DOWNLOADING, done, size))

            on_bytes(0)
            return self._source.blob(layer, partial, on_bytes, self._stop)
        finally:
            self._downloads.release()

    def _unpack(self, layer: Layer, blob: Blob, lock: int) -> None:
        place = self._layers.begin(layer.diff_id)

        def on_read(done: int) -> None:
            self._watch(Step(layer.blob.digest, Phase.UNPACKING, done, layer.blob.size))

        on_read(0)
        with self._left:
            limits = self._bytes_left, self._entries_left
        job = Job(self._reference, layer.diff_id, blob, place, lock, *limits)
        unpacked = self._unpackers.unpack(job, on_read, self._stop)
        with self._left:
            self._bytes_left = max(0, self._bytes_left - unpacked.data_bytes)
            self._entries_left = max(0, self._entries_left - unpacked.entries)
        self._layers.keep(layer.diff_id, unpacked)

    @contextmanager
    def _naming_failures(self) -> Iterator[None]:
        """What the host refuses in the block has our name."""
        try:
            yield
        except OSError as error:
            kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else HostFault
            raise kind(f"cannot pull image {self._reference}: {error}") from error
