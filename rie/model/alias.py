"""An alias: a name of a function that points to one of its versions, or shares its calls between two."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.record import Kind


@dataclass(frozen=True, slots=True)
class Alias:
    """The place that it lies at has its function and its name.

    `additional_version` gets `additional_weight` (0.0 to 1.0) of the calls, `version` the rest; "" shares with nobody.
    """

    version: str
    revision_id: str
    description: str = ""
    additional_version: str = ""
    additional_weight: float = 0.0

    @property
    def versions(self) -> tuple[str, ...]:
        """Those that it sends calls to."""
        return (self.version, self.additional_version) if self.additional_version else (self.version,)


ALIASES = Kind("alias", Alias)
