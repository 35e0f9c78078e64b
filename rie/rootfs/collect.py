"""Garbage collection: images that nobody wants, holds or has mounted, and what unfinished pulls left."""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

from rie.rootfs.layers import Layers, lock
from rie.rootfs.records import Records

WAIT_S = 10.0  # for pulls to end


def collect(root: Path, layers: Layers, records: Records, keep: Collection[str]) -> int:
    """Remove all images but those in `keep` (digests) and those in use; the bytes that this has freed.

    What a pull is about to use is not touched: collecting waits until no process pulls, and frees nothing if they
    do not end in time.
    """
    with ExitStack() as held:
        try:
            held.enter_context(lock(root / "lock", fcntl.LOCK_EX, wait_s=WAIT_S))
        except TimeoutError:
            return 0
        mounted = mounted_labels()
        wanted: set[str] = set()
        for record in records.all():
            digest = record.image.digest
            # The claim stays until all is done: who wants to hold the image meanwhile finds it gone, and pulls it.
            if digest in keep or digest in mounted or not records.claim(digest, held):
                wanted.update(record.layers)
            else:
                records.remove(digest)
        return layers.retain(wanted)


def mounted_labels() -> set[str]:
    """What the mounts of all processes are called (see overlay.mount), in whichever namespace they are."""
    labels: set[str] = set()
    seen: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            namespace = str((process / "ns/mnt").readlink())
            if namespace not in seen:
                seen.add(namespace)
                labels.update(_labels((process / "mountinfo").read_text()))
        except OSError:  # it has ended
            continue
    return labels


def _labels(mountinfo: str) -> Iterator[str]:
    """The sources of overlay mounts: after the separator come type, source, options."""
    for line in mountinfo.splitlines():
        kind, _, rest = line.partition(" - ")[2].partition(" ")
        if kind == "overlay":
            yield rest.partition(" ")[0]
