"""Garbage collection: images that nobody wants, holds or has mounted, and what unfinished pulls left."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rie.rootfs.layers import Layers, lock
from rie.rootfs.records import Record, Records

WAIT_S = 10.0  # for pulls to end


@dataclass(frozen=True, slots=True)
class Spared:
    """What may stay of what nobody wants: so many bytes, of the images used last; and what was in use so lately."""

    most_bytes: int = 0
    recent_s: float = 0.0


def collect(root: Path, layers: Layers, records: Records, keep: Collection[str], spared: Spared) -> int:
    """Remove all images but those in `keep` (digests), those in use and those spared; the bytes that this has freed.

    What a pull is about to use is not touched: collecting waits until no process pulls, and frees nothing if they
    do not end in time. It does not begin where all is spared.
    """
    if spared.most_bytes and not _exceeds(layers, records, keep, spared):
        return 0
    with ExitStack() as held:
        try:
            held.enter_context(lock(root / "lock", fcntl.LOCK_EX, wait_s=WAIT_S))
        except TimeoutError:
            return 0
        kept = {*keep, *mounted_labels()}
        gone = _unwanted(layers, records, kept, spared)[0]
        wanted: set[str] = set()
        for record in list(records.all()):
            digest = record.image.digest
            # The claim stays until all is done: who wants to hold the image meanwhile finds it gone, and pulls it.
            if digest not in gone or not records.claim(digest, held):
                wanted.update(record.layers)
            else:
                records.remove(digest)
        return layers.retain(wanted)


def _exceeds(layers: Layers, records: Records, keep: Collection[str], spared: Spared) -> bool:
    gone, octets = _unwanted(layers, records, keep, spared)
    return bool(gone) or octets > spared.most_bytes


def _unwanted(layers: Layers, records: Records, keep: Collection[str], spared: Spared) -> tuple[set[str], int]:
    """The images that are to go, and the bytes of all that nobody wants, leftovers of pulls included."""
    sizes = layers.sizes()
    found = list(records.all())
    wanted = {diff_id for record in found if record.image.digest in keep for diff_id in record.layers}
    known = set(wanted)
    octets, gone = 0, set()
    for used_at, record in sorted(_by_use(records, found, keep), key=lambda each: -each[0]):
        octets += sum(sizes.get(diff_id, 0) for diff_id in {*record.layers} - known)
        known.update(record.layers)
        if (octets > spared.most_bytes or not spared.most_bytes) and used_at < time.time() - spared.recent_s:
            gone.add(record.image.digest)
    octets += sum(size for diff_id, size in sizes.items() if diff_id not in known) + layers.unfinished_bytes()
    return gone, octets


def _by_use(records: Records, found: list[Record], keep: Collection[str]) -> Iterator[tuple[float, Record]]:
    for record in found:
        if record.image.digest not in keep:
            yield records.used_at(record.image.digest), record


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
