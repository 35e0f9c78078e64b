"""Which images are on this machine and of which layers, and who holds them.

images/<hex>.json  one image, by the digest of its manifest     holds/<hex>  locked by those who hold it
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rie.model.image import Image
from rie.rootfs.layers import PRIVATE

FOLDERS = ("images", "holds")


@dataclass(frozen=True, slots=True)
class Record:
    """An image and the diff_ids of its layers, lowest first."""

    image: Image
    layers: tuple[str, ...]


class Records:
    """The records below a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for folder in FOLDERS:
            (root / folder).mkdir(mode=PRIVATE, exist_ok=True)

    def find(self, digest: str) -> Record | None:
        """The record of an image, or None; one that a power cut has damaged counts as none."""
        try:
            return _read((self._path(digest)).read_bytes())
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def find_reference(self, reference: str) -> Record | None:
        """The record of a pinned reference exactly as it was recorded."""
        record = self.find(reference.partition("@")[2])
        return record if record is not None and record.image.reference == reference else None

    def write(self, record: Record) -> None:
        """Keep a record: all of it or nothing."""
        path = self._path(record.image.digest)
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        new.write_text(json.dumps(asdict(record)))
        new.replace(path)

    def all(self) -> Iterator[Record]:
        """Every record that can be read."""
        for path in sorted((self._root / "images").glob("*.json")):
            record = self.find(f"sha256:{path.stem}")
            if record is not None:
                yield record

    def used_at(self, digest: str) -> float:
        """When it was last held, recorded or touched, as seconds since 1970; 0 if it is not here."""
        times = [0.0]
        for path in (self._path(digest), self._hold(digest)):
            with suppress(FileNotFoundError):
                times.append(path.stat().st_mtime)
        return max(times)

    def touch(self, digest: str) -> None:
        """It is used."""
        with suppress(FileNotFoundError):
            os.utime(self._path(digest))

    def remove(self, digest: str) -> None:
        """Forget an image."""
        self._path(digest).unlink(missing_ok=True)

    def hold(self, digest: str) -> int:
        """Hold an image for as long as the answered descriptor is open; waits while it is being collected."""
        path = self._hold(digest)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            try:
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    os.utime(descriptor)
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)  # the file was collected between our opening and locking it

    def claim(self, digest: str, stack: ExitStack) -> bool:
        """Have nobody hold the image until the stack ends; False if somebody does."""
        path = self._hold(digest)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        stack.callback(os.close, descriptor)
        path.unlink()
        return True

    def _path(self, digest: str) -> Path:
        return self._root / "images" / f"{digest.partition(':')[2]}.json"

    def _hold(self, digest: str) -> Path:
        return self._root / "holds" / digest.partition(":")[2]


def _read(content: bytes) -> Record:
    said = json.loads(content)
    image = said["image"]
    image |= {"entrypoint": tuple(image["entrypoint"]), "command": tuple(image["command"])}
    return Record(Image(**image), tuple(said["layers"]))
