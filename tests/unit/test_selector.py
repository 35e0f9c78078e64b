"""The bootstrap's selector."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from bootstrap.selector import READ, Selector


@pytest.fixture
def selector() -> Selector:
    quiet: Any = SimpleNamespace(has_backlog=False, is_blocked=False)
    return Selector(quiet)


def test_what_was_seen_of_a_closed_descriptor_is_not_told_to_who_got_its_number(selector: Selector) -> None:
    pipes = [os.pipe() for _ in range(2)]
    told: list[str] = []
    fresh: list[int] = []

    def first_of_both(mask: int) -> None:
        """Both can be read: the other one is closed, and a new one, which can't be read, gets its number."""
        ours, other = (pipes[0], pipes[1]) if not told else (pipes[1], pipes[0])
        told.append("one")
        selector.forget(ours[0])
        selector.forget(other[0])
        os.close(other[0])
        read, write = os.pipe()
        fresh.extend((read, write))
        assert read == other[0]
        selector.watch(read, READ, lambda _: told.append("new"))
        selector.at("end", 0.0, selector.stop)

    def second(mask: int) -> None:
        pipes.reverse()
        first_of_both(mask)

    for (read, write), watcher in zip(pipes, (first_of_both, second), strict=True):
        os.write(write, b"x")
        selector.watch(read, READ, watcher)
    selector.run()
    assert told == ["one"]
    for fd in {*fresh, pipes[0][0], pipes[0][1], pipes[1][1]}:
        os.close(fd)
