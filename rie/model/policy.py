"""The resource policy of a function, version or alias as it is stored."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.record import Kind


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """`statements` are JSON texts as they were rendered when they were added, oldest first; never empty.

    `version` and `policy_id` are the document's; the service's own unless somebody put a whole one.
    """

    revision_id: str
    statements: tuple[str, ...]
    version: str = "2012-10-17"
    policy_id: str | None = "default"


POLICIES = Kind("policy", ResourcePolicy)
"""At the function's place of its qualifier; "$LATEST" for the unqualified function."""
