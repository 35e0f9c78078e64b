"""Where a request stands: the account and the region that its names are completed with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """`account` has twelve digits; `region` is like "us-east-1"."""

    account: str
    region: str
