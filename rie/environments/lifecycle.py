"""The states of an environment and the moves between them; what the table does not list is a mistake of ours.

    STARTING ──► INITIALISING ──► BUSY ⇄ IDLE
        └──────────────┴────────────┴─────┴──► STOPPING ──► GONE

An environment is started for an invocation that waits for it, so it goes to BUSY first.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where an environment stands."""

    STARTING = "starting"  # the engine makes the sandbox
    INITIALISING = "initialising"  # the runtime starts and the function's own init runs
    BUSY = "busy"
    IDLE = "idle"
    STOPPING = "stopping"
    GONE = "gone"


MOVES: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.INITIALISING, State.STOPPING}),
    State.INITIALISING: frozenset({State.BUSY, State.STOPPING}),
    State.BUSY: frozenset({State.IDLE, State.STOPPING}),
    State.IDLE: frozenset({State.BUSY, State.STOPPING}),
    State.STOPPING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


class IllegalMove(RuntimeError):
    """A move that the table does not list; nothing has changed."""


def move(current: State, to: State) -> State:
    """`to`, if the table allows it from `current`. Raises IllegalMove."""
    if to not in MOVES[current]:
        raise IllegalMove(f"cannot move an environment from {current.value} to {to.value}")
    return to
