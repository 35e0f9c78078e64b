"""What becomes of a function that calls itself without end."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.record import Kind

TERMINATE, ALLOW = "Terminate", "Allow"


@dataclass(frozen=True, slots=True)
class Recursion:
    """Of a function, at the place "$LATEST"; without one it is "Terminate"."""

    mode: str


RECURSION = Kind("recursion-config", Recursion)
