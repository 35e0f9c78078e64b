"""The machine for many invocations at a time: told anything in any order, it answers each caller once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import concurrent
from bootstrap.commands import (
    Answer,
    CancelTimer,
    Deliver,
    DeliverShutdown,
    Exit,
    KillExtension,
    LaunchExtension,
    LetIn,
    Refuse,
    ReportEnd,
    ReportIdle,
    ReportInit,
    ReportStart,
    SetTimer,
    SpawnRuntime,
    TerminateRuntime,
    TurnAway,
)
from bootstrap.concurrent import ConcurrentMachine
from bootstrap.events import (
    Booted,
    ErrorPosted,
    ExtensionErrorPosted,
    ExtensionExited,
    ExtensionPolled,
    ExtensionRegistered,
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


def test_it_is_said_once_that_nothing_runs() -> None:
    """Who hands over an invocation on the first word would take the second for that one's end."""
    machine = ConcurrentMachine(3.0, 0.5, 2)
    machine.accept(Booted(), 0.0)
    assert [type(command) for command in machine.accept(NextPolled("first"), 0.1)].count(ReportIdle) == 1
    assert [type(command) for command in machine.accept(NextPolled("second"), 0.2)] == [ReportIdle]


class World:
    """The machine, a shell that does what it says, and a count of everything."""

    def __init__(self, limit: int, names: tuple[str, ...] = ()) -> None:
        self.machine = ConcurrentMachine(3.0, 0.5, limit)
        self.at = 0.0
        self.commands: list[Any] = []
        self.timers: set[str] = set()
        self.sent = 0
        self.polls = 0
        self.is_alive = False
        self.living: dict[str, str] = {}  # extensions, and their identifiers
        self.tell(Booted(names))

    def tell(self, event: Any) -> list[Any]:
        self.at += 0.01
        commands = self.machine.accept(event, self.at)
        for command in commands:
            if type(command) is SetTimer:
                self.timers.add(command.name)
            elif type(command) is CancelTimer:
                self.timers.discard(command.name)
            elif type(command) is SpawnRuntime:
                self.is_alive = True
            elif type(command) is LaunchExtension:
                self.living[command.name] = f"{command.name} {self.at}"
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
        elif action == "register":
            for name, identifier in self.living.items():
                self.tell(ExtensionRegistered("x", name, ("SHUTDOWN",), identifier))
        elif action == "wait":
            for identifier in list(self.living.values()):
                self.tell(ExtensionPolled(f"poll of {identifier}", identifier))
        elif action == "ill" and self.living:
            self.tell(ExtensionErrorPosted("x", min(self.living.values()), "Mine", False))
        elif action == "crash" and self.living:
            name = min(self.living)
            del self.living[name]
            self.tell(ExtensionExited(name, 1))
        elif action == "time" and self.timers:
            name = min(self.timers)
            self.timers.discard(name)
            self.tell(TimerFired(name))
        elif action == "stop":
            self.tell(ShutdownRequested())

    def count(self, kind: type) -> int:
        return sum(type(command) is kind for command in self.commands)


ACTIONS = ["invoke", "poll", "lose", "answer", "large", "fail", "stray", "init-error", "exit", "time", "stop"]
OF_EXTENSIONS = ["register", "wait", "ill", "crash"]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from([*ACTIONS, *OF_EXTENSIONS]), max_size=40),
    st.integers(1, 4),
    st.sampled_from([(), ("one",), ("one", "two")]),
)
def test_after_anything_every_caller_is_answered_once_and_nobody_is_left(
    actions: list[str], limit: int, names: tuple[str, ...]
) -> None:
    world = World(limit, names)
    for action in actions:
        world.do(action)
        assert len(world.machine._running) <= limit
    for _ in range(3 * len(actions) + 3):
        if world.machine.state in (concurrent.CLOSING, concurrent.SHUTDOWN):
            for action in ("exit", "crash", "crash"):
                world.do(action)
        for action in ("register", "wait", "poll", "answer"):
            world.do(action)
    assert world.count(Exit) == ("stop" in actions)
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
    again = Invocation("id-1", b"", caller="again")
    assert world.tell(InvokeReceived(again)) == [TurnAway(again, TurnAway.DUPLICATE)]
    world.do("answer")
    assert Deliver in [type(command) for command in world.tell(InvokeReceived(again))]


def test_an_id_of_one_that_waits_is_not_taken_twice_and_is_free_again_after_an_init_that_failed() -> None:
    machine = ConcurrentMachine(3.0, 0.5, 2)
    machine.accept(Booted(), 0.0)
    first, second = Invocation("a", b"", caller="first"), Invocation("a", b"", caller="second")
    assert machine.accept(InvokeReceived(first), 0.1) == []
    assert machine.accept(InvokeReceived(second), 0.2) == [TurnAway(second, TurnAway.DUPLICATE)]
    answers = [command for command in machine.accept(RuntimeExited(3), 0.3) if isinstance(command, Answer)]
    assert [answer.invocation.caller for answer in answers] == ["first"]
    assert TurnAway not in [type(command) for command in machine.accept(InvokeReceived(second), 0.4)]


def kinds(commands: list[Any]) -> list[str]:
    return [type(command).__name__ for command in commands]


def test_the_runtime_starts_when_the_extensions_have_registered_and_init_ends_when_all_wait() -> None:
    machine = ConcurrentMachine(3.0, 0.5, 2)
    commands = machine.accept(Booted(("one",)), 0.0)
    assert [type(command) for command in commands if type(command) in (LaunchExtension, SpawnRuntime)] == [
        LaunchExtension
    ]
    commands = machine.accept(ExtensionRegistered("r", "one", ("SHUTDOWN",), "i-1"), 0.1)
    assert [type(command) for command in commands] == [LetIn, SpawnRuntime]
    assert machine.accept(InvokeReceived(Invocation("a", b"", caller="c")), 0.2) == []
    assert "Deliver" not in kinds(machine.accept(NextPolled("p"), 0.3))
    commands = machine.accept(ExtensionPolled("e", "i-1"), 0.4)
    assert [c.status for c in commands if type(c) is ReportInit] == ["success"]
    assert kinds(commands)[-1] == "Deliver"


def test_nobody_subscribes_to_invocations_and_internal_extensions_to_nothing() -> None:
    machine = ConcurrentMachine(3.0, 0.5, 2)
    machine.accept(Booted(("one",)), 0.0)
    said = []
    for name, events in (("one", ("INVOKE",)), ("inner", ("SHUTDOWN",)), ("inner", ("INVOKE",))):
        (refusal,) = machine.accept(ExtensionRegistered("r", name, events, "i-1"), 0.1)
        said.append((refusal.status, refusal.error_type, refusal.message))
    assert said == [
        (403, "Extension.InvalidEventType", "INVOKE: ErrorInvalidEventType"),
        (403, "Extension.InvalidEventType", "No events allowed for internal extensions"),
        (403, "Extension.InvalidEventType", "No events allowed for internal extensions"),
    ]
    assert kinds(machine.accept(ExtensionRegistered("r", "inner", (), "i-2"), 0.1)) == ["LetIn"]


def test_at_the_end_the_runtime_goes_first_and_extensions_are_told_why() -> None:
    machine = ConcurrentMachine(3.0, 0.5, 2)
    machine.accept(Booted(("one", "two")), 0.0)
    machine.accept(ExtensionRegistered("r", "one", ("SHUTDOWN",), "i-1"), 0.1)
    machine.accept(ExtensionRegistered("r", "two", (), "i-2"), 0.1)
    for event in (NextPolled("p"), ExtensionPolled("e", "i-1"), ExtensionPolled("f", "i-2")):
        machine.accept(event, 0.2)
    commands = machine.accept(ShutdownRequested(), 1.0)
    assert [c.at for c in commands if type(c) is SetTimer] == [1.6]
    assert TerminateRuntime in map(type, commands)
    commands = machine.accept(RuntimeExited(0), 1.1)
    assert [(c.exchange, c.reason, c.deadline_at) for c in commands if type(c) is DeliverShutdown] == [
        ("e", "spindown", 3.0)
    ]
    assert [c.name for c in commands if type(c) is KillExtension] == ["two"]
    assert Exit not in map(type, machine.accept(ExtensionExited("one", 0), 1.2))
    assert Exit in map(type, machine.accept(ExtensionExited("two", None, 9), 1.3))


def test_an_extension_that_crashes_fails_all_that_run_and_the_next_invocation_begins_anew() -> None:
    machine = ConcurrentMachine(3.0, 0.5, 2)
    machine.accept(Booted(("one",)), 0.0)
    machine.accept(ExtensionRegistered("r", "one", (), "i-1"), 0.1)
    for event in (NextPolled("p"), NextPolled("q"), ExtensionPolled("e", "i-1")):
        machine.accept(event, 0.2)
    for name in ("a", "b"):
        machine.accept(InvokeReceived(Invocation(name, b"", caller="c")), 0.3)
    commands = machine.accept(ExtensionExited("one", 3), 0.4)
    assert [b"Extension.Crash" in c.body for c in commands if type(c) is Answer] == [True, True]
    assert machine.accept(InvokeReceived(Invocation("late", b"", caller="c")), 0.5) == []
    commands = machine.accept(RuntimeExited(None, 15), 0.6)
    assert [c.name for c in commands if type(c) is LaunchExtension] == ["one"]
