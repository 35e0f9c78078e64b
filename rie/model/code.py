"""Code of functions and layers as archives: what names one, and where a configuration has it from."""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip as it was uploaded: `sha256` (hex) and `size` (bytes) of it, and the bytes that it holds unpacked."""

    sha256: str
    size: int
    unpacked_size: int

    @property
    def code_sha256(self) -> str:
        """The digest as the API spells it: base64."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode()


@dataclass(frozen=True, slots=True)
class UsedLayer:
    """A layer version that a function names. It keeps the content, because the version may be deleted meanwhile."""

    arn: str
    archive: Archive


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system that was asked for at a path below /mnt."""

    arn: str
    path: str
