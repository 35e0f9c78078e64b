"""Layers: everything that was published under one name, and who else may use it."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.code import Archive
from rie.model.record import Kind, Place


@dataclass(frozen=True, slots=True)
class Grant:
    """One statement of a version's policy; `principal` "*", twelve digits or an account's root ARN as it was given."""

    statement_id: str
    principal: str
    organization: str | None = None


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """One version; lists that were not given are None. `created_at` is as the API spells it.

    `policy_revision_id` is None until somebody was granted something.
    """

    version: int
    archive: Archive
    created_at: str
    description: str = ""
    license_info: str | None = None
    runtimes: tuple[str, ...] | None = None
    architectures: tuple[str, ...] | None = None
    grants: tuple[Grant, ...] = ()
    policy_revision_id: str | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A name's versions that are left, ascending. `last_version` is the highest that ever was: none is used again."""

    last_version: int = 0
    versions: tuple[LayerVersion, ...] = ()

    def find(self, version: int) -> LayerVersion | None:
        """The version of that number."""
        return next((each for each in self.versions if each.version == version), None)


LAYERS = Kind("layer", Layer)


def layer_arn(place: Place) -> str:
    """The ARN of the layer at a place; ":<version>" behind it is that of a version."""
    return f"arn:aws:lambda:{place.region}:{place.account}:layer:{place.name}"
