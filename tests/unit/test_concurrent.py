"""The machine for many invocations at a time: told anything in any order, it answers each caller once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import concurrent
from bootstrap.commands import Answer, CancelTimer, Deliver, Exit, Refuse, ReportEnd, ReportStart, SetTimer, TurnAway
from bootstrap.concurrent import ConcurrentMachine
from bootstrap.events import (
    Booted,
    ErrorPosted,
    InitErrorPosted,
    Invocation,
    InvokeReceived,
    NextPolled,
    PollLost,
    ResponsePosted,
    RuntimeExited,
    ShutdownRequested,
    TimerFired,
)


def test_who_waits_has_its_turn_with_the_end_of_another_though_nobody_polls_then() -> None:
    """Clients with several threads poll again while they still work."""
    machine = ConcurrentMachine(3.0, 0.5, 1)
    machine.accept(Booted(), 0.0)
    for poll in ("first", "second"):
        machine.accept(NextPolled(poll), 0.1)
    machine.accept(InvokeReceived(Invocation("a", b"", caller="c")), 0.2)
    assert not machine.accept(InvokeReceived(Invocation("b", b"", caller="c")), 0.3)
    commands = machine.accept(ResponsePosted("x", "a", b"1"), 0.4)
    assert [command.exchange for command in commands if isinstance(command, Deliver)] == ["second"]


class World:
    """The machine, a shell that does what it says, and a count of everything."""

    def __init__(self, limit: int) -> None:
        self.machine = ConcurrentMachine(3.0, 0.5, limit)
        self.at = 0.0
        self.commands: list[Any] = []
        self.timers: set[str] = set()
        self.sent = 0
        self.polls = 0
        self.is_alive = False
        self.tell(Booted())
        self.is_alive = True

    def tell(self, event: Any) -> list[Any]:
        self.at += 0.01
        commands = self.machine.accept(event, self.at)
        for command in commands:
            if type(command) is SetTimer:
                self.timers.add(command.name)
            elif type(command) is CancelTimer:
                self.timers.discard(command.name)
            elif type(command).__name__ == "SpawnRuntime":
                self.is_alive = True
        self.commands += commands
        return commands

    def do(self, action: str) -> None:
        running = list(self.machine._running)
        if action == "invoke":
            self.sent += 1
            self.tell(InvokeReceived(Invocation(f"id-{self.sent}", b"", caller="c")))
        elif action == "poll" and self.is_alive:
            self.polls += 1
            self.tell(NextPolled(f"poll-{self.polls}"))
        elif action == "lose" and self.machine._polls:
            self.tell(PollLost(self.machine._polls[0]))
        elif action in ("answer", "large", "fail") and running:
            if action == "fail":
                self.tell(ErrorPosted("x", running[-1], b"{}"))
            else:
                self.tell(ResponsePosted("x", running[-1], b"", too_large=action == "large"))
        elif action == "stray":
            self.tell(ResponsePosted("x", "id-none", b""))
        elif action == "init-error" and self.is_alive:
            self.tell(InitErrorPosted("x", b"{}"))
        elif action == "exit" and self.is_alive:
            self.is_alive = False
            self.tell(RuntimeExited(1))
        elif action == "time" and self.timers:
            name = min(self.timers)
            self.timers.discard(name)
            self.tell(TimerFired(name))
        elif action == "stop":
            self.tell(ShutdownRequested())

    def count(self, kind: type) -> int:
        return sum(type(command) is kind for command in self.commands)


ACTIONS = ["invoke", "poll", "lose", "answer", "large", "fail", "stray", "init-error", "exit", "time", "stop"]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(ACTIONS), max_size=40), st.integers(1, 4))
def test_after_anything_every_caller_is_answered_once_and_nobody_is_left(actions: list[str], limit: int) -> None:
    world = World(limit)
    for action in actions:
        world.do(action)
        assert len(world.machine._running) <= limit
    for _ in range(3 * len(actions) + 3):
        for action in ("poll", "answer"):
            world.do(action)
    if world.machine.state == concurrent.SHUTDOWN:
        world.do("exit")
        assert world.count(Exit) >= 1
    assert world.count(Answer) + world.count(TurnAway) == world.sent
    assert world.machine._running == {}
    assert not [timer for timer in world.timers if timer.startswith("deadline")]
    assert world.count(ReportStart) == world.count(Deliver)
    if "stop" not in actions:
        assert world.count(ReportStart) == world.count(ReportEnd)


def test_an_answer_after_the_timeout_is_gone_and_one_to_nobody_is_invalid() -> None:
    world = World(1)
    world.do("poll")
    world.do("invoke")
    world.tell(TimerFired("deadline id-1"))
    (refusal,) = world.tell(ResponsePosted("x", "id-1", b""))
    assert (refusal.status, refusal.error_type) == (410, "InvokeTimeout")
    (refusal,) = [c for c in world.tell(ResponsePosted("x", "id-7", b"")) if type(c) is Refuse]
    assert (refusal.status, refusal.error_type) == (400, "InvalidRequestID")


def test_an_id_that_is_in_use_is_not_taken_twice() -> None:
    world = World(2)
    world.do("poll")
    world.do("poll")
    world.do("invoke")
    commands = world.tell(InvokeReceived(Invocation("id-1", b"")))
    assert b"Client.DuplicatedInvokeId" in commands[0].body
