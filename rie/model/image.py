"""An image, pinned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Image:
    """An image pinned by digest, with what its configuration says.

    `reference` is "host[:port]/repository@sha256:…"; `digest` that of the manifest for this machine's platform
    ("sha256:…"); `architecture` "x86_64" or "arm64".
    """

    reference: str
    digest: str
    architecture: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
