"""Images on this machine: resolved, pulled, unpacked, held while they run, and collected when nobody wants them."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rie.errors import DiskFull, HostFault, ImageNotFound
from rie.model.image import Image
from rie.rootfs import progress, sources
from rie.rootfs.collect import Spared, collect
from rie.rootfs.layers import PRIVATE, Layers, lock
from rie.rootfs.progress import Watch
from rie.rootfs.pull import Source, pull
from rie.rootfs.records import Record, Records

NONE_SPARED = Spared()


@dataclass(frozen=True, slots=True)
class Kept:
    """An image on this machine: how many layers it has, the bytes in them, and those that other images have too."""

    image: Image
    layers: int
    data_bytes: int
    shared_bytes: int


class Images:
    """The images kept below `root`, for any number of processes at a time.

        images = Images(Path("/var/lib/rie/images"))
        image = images.resolve("127.0.0.1:5000/hello:1", "x86_64")
        images.hold(image)                      # from here on `collect` leaves it alone
        images.prepare(image, print)            # blocks; a no-op when it is there
        lowers = images.layers(image)           # for rie.rootfs.overlay
        images.release(image)

    `insecure` names registries ("registry:5000") that are spoken to by plain HTTP.
    """

    def __init__(self, root: Path, *, insecure: tuple[str, ...] = ()) -> None:
        self._root = root
        self._insecure = insecure
        try:
            root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            root.chmod(PRIVATE)
            self._layers = Layers(root)
            self._records = Records(root)
        except OSError as error:
            raise HostFault(f"cannot keep images in {root}: {error}") from error
        self._holds: dict[str, tuple[int, int]] = {}  # digest → descriptor of its lock, how often it is held
        self._holding = threading.Lock()

    def resolve(self, reference: str, architecture: str) -> Image:
        """Turn what a user typed into a pinned image, for an architecture ("x86_64" or "arm64").

        What is pinned and here already is not asked for again, so that functions start while their registry is away.
        Raises ImageNotFound, ImageAccessDenied, ImageInvalid, RegistryUnavailable.
        """
        known = self._records.find_reference(reference)
        if known is not None and known.image.architecture == architecture:
            return known.image
        with self._opened(reference) as source:
            return source.contents(architecture).image

    def prepare(
        self, image: Image, on_progress: Callable[[str], None] | None = None, *, watch: Watch | None = None
    ) -> None:
        """Have the image's layers here, verified and unpacked. Blocks; idempotent; safe in many processes at a time.

        `on_progress` is told in lines of text, `watch` in steps; both from other threads.
        Raises as `resolve` does, DiskFull, and HostFault for other failures of this machine.
        """
        if self._is_ready(image):
            self._records.touch(image.digest)
            return
        if watch is None:
            watch = progress.as_lines(on_progress or _nobody)
        try:
            with lock(self._root / "lock", fcntl.LOCK_SH), self._opened(image.reference) as source:
                contents = source.contents(image.architecture)
                pull(source, contents, self._layers, watch)
                self._records.write(Record(image, tuple(layer.diff_id for layer in contents.layers)))
        except OSError as error:
            kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else HostFault
            raise kind(f"cannot keep image {image.reference}: {error}") from error
        threading.Thread(target=self.settle, name="settle", daemon=True).start()

    def layers(self, image: Image) -> tuple[Path, ...]:
        """The directories of the image's layers, lowest first, each once, as overlayfs can stack them.

        Raises ImageNotFound if the image is not prepared.
        """
        record = self._records.find(image.digest)
        if record is None:
            raise ImageNotFound(image.reference, "it is not on this machine")
        stack: list[str] = []
        for diff_id in record.layers:
            unpacked = self._layers.find(diff_id)
            if unpacked is None:
                raise ImageNotFound(image.reference, f"its layer {diff_id} is not on this machine")
            # A layer that comes again brings all it had: the lower one has nothing to add, and overlayfs refuses it.
            # One that hides everything below would be stacked over it all the same: a root directory is never opaque.
            stack = [] if unpacked.is_opaque else [lower for lower in stack if lower != diff_id]
            stack.append(diff_id)
        empties = self._layers.empties[len(stack) :]  # overlayfs takes two directories at least
        return (*empties, *(self._layers.directory(diff_id) for diff_id in stack))

    def list(self) -> list[Kept]:
        """The images that are here, whole, by reference."""
        found = [record for record in self._records.all() if self._is_whole(record)]
        users = Counter(diff_id for record in found for diff_id in set(record.layers))
        kept = []
        for record in found:
            sizes = {diff_id: one.data_bytes for diff_id in record.layers if (one := self._layers.find(diff_id))}
            shared = sum(size for diff_id, size in sizes.items() if users[diff_id] > 1)
            kept.append(Kept(record.image, len(record.layers), sum(sizes.values()), shared))
        return sorted(kept, key=lambda one: one.image.reference)

    def hold(self, image: Image) -> None:
        """Keep `collect`, of this process and others, from removing the image until as many `release`."""
        with self._holding:
            descriptor, count = self._holds.get(image.digest, (-1, 0))
            if not count:
                descriptor = self._records.hold(image.digest)
            self._holds[image.digest] = descriptor, count + 1

    def release(self, image: Image) -> None:
        """Take back one `hold`; those of a process end with it."""
        with self._holding:
            descriptor, count = self._holds.pop(image.digest, (-1, 0))
            if count > 1:
                self._holds[image.digest] = descriptor, count - 1
            elif count == 1:
                os.utime(descriptor)  # see `Spared`
                os.close(descriptor)

    def collect(self, keep: Iterable[str], spared: Spared = NONE_SPARED) -> int:
        """Remove all images but those in `keep` (pinned references or digests), those that are spared, and those in use
        anywhere on this machine: held by a process, or mounted under their digest (see overlay.mount). Answers the
        bytes freed.

        Waits for pulls in any process, ten seconds at most; then it frees nothing. Raises HostFault.
        """
        digests = {name.rpartition("@")[2] for name in keep}
        try:
            return collect(self._root, self._layers, self._records, digests, spared)
        except OSError as error:
            raise HostFault(f"cannot collect images in {self._root}: {error}") from error

    def settle(self) -> None:
        """Have all layers survive a power cut from now on. `prepare` has it done in the background."""
        self._layers.settle()

    def _is_ready(self, image: Image) -> bool:
        record = self._records.find(image.digest)
        return record is not None and self._is_whole(record)

    def _is_whole(self, record: Record) -> bool:
        return all(self._layers.find(diff_id) for diff_id in record.layers)

    def _opened(self, reference: str) -> AbstractContextManager[Source]:
        return sources.opened(reference, insecure=self._insecure)


def _nobody(line: str) -> None:
    """Hear a line and say nothing."""
