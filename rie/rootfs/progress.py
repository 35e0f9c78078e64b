"""How far a pull has come, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

MB = 1_000_000
SHORT = 12  # hex digits of a digest that people read


class Phase(StrEnum):
    """What is happening to a layer."""

    DOWNLOADING = "downloading"
    UNPACKING = "unpacking"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Step:
    """A layer, by the digest of its blob, and the bytes of the blob that a phase is through with."""

    digest: str
    phase: Phase
    done_bytes: int
    total_bytes: int


Watch = Callable[[Step], None]
"""Called as a pull goes on; from any thread, but not from two at a time for one layer."""


def short(digest: str) -> str:
    """The digits of a digest that people tell it by."""
    return digest.partition(":")[2][:SHORT]


def as_lines(tell: Callable[[str], None]) -> Watch:
    """Say in one line of plain text when a layer comes to another phase."""
    seen: dict[str, Phase] = {}

    def watch(step: Step) -> None:
        if seen.get(step.digest) != step.phase:
            seen[step.digest] = step.phase
            tell(f"layer {short(step.digest)}: {step.phase} ({step.total_bytes / MB:.1f} MB)")

    return watch
