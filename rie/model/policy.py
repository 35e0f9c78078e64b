"""The resource policy of a function, version or alias as it is stored."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.record import Kind


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """`statements` are JSON texts as they were rendered when they were added, oldest first; never empty."""

    revision_id: str
    statements: tuple[str, ...]


POLICIES = Kind("policy", ResourcePolicy)
"""At the function's place of its qualifier; "$LATEST" for the unqualified function."""
