"""The memory that all environments together may be promised, and who holds it: never more; pure."""

from __future__ import annotations


class Room:
    """In MB. `held_mb`: promised to environments that are there, or start, or are not gone yet.

    Who leaves still holds what it had, but others may be promised it: they must wait until it is free.
    """

    def __init__(self, limit_mb: int) -> None:
        self._limit_mb = limit_mb
        self.held_mb = 0
        self._leaving_mb = 0

    @property
    def free_mb(self) -> int:
        """What may be promised: nobody holds it, or it is about to be given back."""
        return self._limit_mb - self.held_mb + self._leaving_mb

    def promise(self, memory_mb: int) -> bool:
        """Promise some of what is free; whether it is there already. If not: not before all who leave now are gone.

        They are enough. What started earlier and does not leave by then was in the sum that is kept below the limit;
        what is promised later waits for its own turn.
        """
        self.held_mb += memory_mb
        return self.held_mb <= self._limit_mb

    def leave(self, memory_mb: int) -> None:
        """Somebody begins to leave."""
        self._leaving_mb += memory_mb

    def give_back(self, memory_mb: int) -> None:
        """Who was leaving is gone."""
        self._leaving_mb -= memory_mb
        self.held_mb -= memory_mb
