"""What logs may take of the disk, and which files go when they take more."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rie.logs.groups import read_group
from rie.logs.names import function_in
from rie.logs.stream_files import ANY, stream_of

MB = 1 << 20
DAY_S = 86_400
MAX_FILES = 400  # of one function: readers open them all


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of one function's logs, bytes of all, and how many days a stream is kept after its last line (0: ever)."""

    function_bytes: int = 256 * MB
    total_bytes: int = 2_048 * MB
    retention_days: float = 0


@dataclass(frozen=True, slots=True)
class StreamFile:
    """One file of a stream: whose it is, its bytes, when it was last written (epoch s), and how many days it stays."""

    path: Path
    owner: str
    size: int
    written_at: float
    retention_days: float = 0


def superfluous(files: Iterable[StreamFile], bounds: Bounds, now: float) -> list[StreamFile]:
    """The files to remove: those past their time; then, of a function above its bound, its oldest; then, above the
    bound on all, the oldest of whichever function takes the most, so that one that logs much costs others nothing.
    """
    gone: list[StreamFile] = []
    owners: dict[str, list[StreamFile]] = {}
    for file in sorted(files, key=lambda file: (file.written_at, file.path)):
        if file.retention_days and now - file.written_at > file.retention_days * DAY_S:
            gone.append(file)
        else:
            owners.setdefault(file.owner, []).append(file)
    sizes = {owner: sum(file.size for file in kept) for owner, kept in owners.items()}

    def drop_oldest(owner: str) -> None:
        file = owners[owner].pop(0)
        sizes[owner] -= file.size
        gone.append(file)

    for owner, kept in owners.items():
        while kept and (sizes[owner] > bounds.function_bytes or len(kept) > MAX_FILES):
            drop_oldest(owner)
    total = sum(sizes.values())
    largest = [(-size, owner) for owner, size in sizes.items()]
    heapq.heapify(largest)
    while total > bounds.total_bytes:
        _, owner = heapq.heappop(largest)
        total += -sizes[owner]
        drop_oldest(owner)
        total += sizes[owner]
        if owners[owner]:
            heapq.heappush(largest, (-sizes[owner], owner))
    return gone


def sweep(root: Path, bounds: Bounds, now: float) -> int:
    """Remove what is superfluous below `root`; how many files that were. Blocks. Raises nothing."""
    gone = superfluous(_files(root, bounds), bounds, now)
    for file in gone:
        with contextlib.suppress(OSError):
            file.path.unlink(missing_ok=True)
    return len(gone)


def _files(root: Path, bounds: Bounds) -> Iterable[StreamFile]:
    for directory in root.glob("*/"):
        group = read_group(directory)
        days = (group.retention_days if group is not None else 0) or bounds.retention_days
        for path in directory.glob(ANY):
            with contextlib.suppress(OSError):  # rotated meanwhile
                status = path.stat()
                owner = f"{directory.name} {function_in(stream_of(path))}"
                yield StreamFile(path, owner, status.st_size, status.st_mtime, days)
