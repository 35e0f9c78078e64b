"""Capacity providers, and how far functions on them may scale: kept and answered; functions run where all others do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rie.model.record import Kind


@dataclass(frozen=True, slots=True)
class CapacityProvider:
    """At the place of its name, beside functions. `document` is what it was made from, as the API has it (JSON)."""

    document: str
    last_modified: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Of a version, at its number or "$LATEST.PUBLISHED": how many environments; None where nothing is asked."""

    least: int | None = None
    most: int | None = None


CAPACITY_PROVIDERS = Kind("capacity-provider", CapacityProvider)
SCALING = Kind("function-scaling", Scaling)
