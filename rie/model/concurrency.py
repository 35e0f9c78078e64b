"""Slots that are set aside: for a function, and for a version or an alias of it."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.record import Kind


@dataclass(frozen=True, slots=True)
class Reserved:
    """Slots of a function, at the place "$LATEST"."""

    slots: int


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Slots of a version or an alias, at its place. Every request makes a new `token`, by which its progress is known.

    `last_modified` is as the API spells it ("2025-11-25T02:42:49+0000"); `ready_version` the version that last had all
    of it.
    """

    slots: int
    token: str
    last_modified: str
    ready_version: str = ""


RESERVED = Kind("reserved-concurrency", Reserved)
PROVISIONED = Kind("provisioned-concurrency", Provisioned)
