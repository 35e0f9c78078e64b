"""The machine, told stories: each test is a sequence diagram of events in and commands out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bootstrap import lifecycle, serving, waiting
from bootstrap.commands import (
    Accept,
    Answer,
    CancelTimer,
    Deliver,
    DeliverInvoke,
    DeliverShutdown,
    Exit,
    KillExtension,
    KillRuntime,
    LaunchExtension,
    LetIn,
    Refuse,
    ReportEnd,
    ReportExtension,
    ReportFault,
    ReportIdle,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportRestore,
    ReportRestoreStart,
    ReportRuntimeDone,
    ReportStart,
    Restore,
    SetTimer,
    SpawnRuntime,
    Subscribe,
    TerminateRuntime,
    TurnAway,
)
from bootstrap.errors import IllegalEvent
from bootstrap.events import (
    Booted,
    CodeChanged,
    ErrorPosted,
    ExtensionErrorPosted,
    ExtensionExited,
    ExtensionPolled,
    ExtensionRegistered,
    InitErrorPosted,
    Invocation,
    InvokeReceived,
    LaunchFailed,
    NextPolled,
    PollLost,
    ResponsePosted,
    RestorePolled,
    RuntimeExited,
    ShutdownRequested,
    SpawnFailed,
    SubscriptionPosted,
    TimerFired,
)
from bootstrap.lifecycle import Machine

ONE = Invocation("id-1", b"1", caller="caller-1")
TWO = Invocation("id-2", b"2", caller="caller-2")


class Story:
    """A machine with a timeout of 3 s, and a clock that the test moves."""

    def __init__(self, timeout_s: float = 3.0) -> None:
        self.machine = Machine(timeout_s)
        self.at = 100.0

    def tell(self, event: Any, after: float = 0.0) -> list[Any]:
        self.at += after
        return self.machine.accept(event, self.at)

    def warm(self) -> Story:
        """Booted, with a runtime that waits for an event."""
        self.tell(Booted())
        self.tell(NextPolled("poll-0"), after=0.2)
        return self

    def running(self) -> Story:
        """And it has got ONE, the REPORT of which has told the init."""
        self.warm()
        self.tell(InvokeReceived(ONE))
        return self


def of(kind: type, commands: list[Any]) -> Any:
    """The only command of a kind."""
    found = [command for command in commands if type(command) is kind]
    assert len(found) == 1, f"{kind.__name__}: {found} in {commands}"
    return found[0]


def kinds(commands: list[Any]) -> list[str]:
    """What is done, less what only tidies up or tells those who listen in."""
    quiet = (CancelTimer, ReportInitStart, ReportInitRuntimeDone, ReportRuntimeDone, ReportIdle)
    return [type(command).__name__ for command in commands if type(command) not in quiet]


def test_boot_spawns_the_runtime_and_bounds_init_at_ten_seconds() -> None:
    story = Story()
    assert story.tell(Booted()) == [SetTimer("init", 110.0), ReportInitStart("init"), SpawnRuntime()]


def test_the_first_poll_ends_init_and_is_measured() -> None:
    story = Story()
    story.tell(Booted())
    commands = story.tell(NextPolled("p"), after=0.25)
    assert commands == [
        ReportInitRuntimeDone("init", "success"),
        CancelTimer("init"),
        ReportInit("init", "success", pytest.approx(250.0)),
        ReportIdle(),
    ]


def test_an_invocation_is_delivered_answered_and_closed_by_the_next_poll() -> None:
    story = Story().warm()
    assert story.tell(InvokeReceived(ONE), after=1.0) == [
        ReportStart(ONE),
        SetTimer("invoke", story.at + 3.0),
        Deliver("poll-0", ONE, story.at + 3.0),
    ]
    commands = story.tell(ResponsePosted("post", "id-1", b"yes"), after=0.004)
    assert kinds(commands) == ["ReportEnd", "Answer", "Accept"]
    assert of(ReportEnd, commands) == ReportEnd(ONE, "success", pytest.approx(4.0), pytest.approx(200.0))
    assert of(Answer, commands) == Answer(ONE, b"yes")
    assert story.tell(NextPolled("poll-1")) == [CancelTimer("invoke"), ReportIdle()]


def test_init_is_reported_with_the_first_invocation_only() -> None:
    story = Story().running()
    story.tell(ResponsePosted("post", "id-1", b""))
    story.tell(NextPolled("poll-1"))
    story.tell(InvokeReceived(TWO))
    assert of(ReportEnd, story.tell(ResponsePosted("post", "id-2", b""))).init_ms is None


def test_a_second_caller_waits_for_its_turn() -> None:
    story = Story().running()
    assert story.tell(InvokeReceived(TWO)) == []
    assert kinds(story.tell(ResponsePosted("post", "id-1", b""))) == ["ReportEnd", "Accept", "Answer"]
    commands = story.tell(NextPolled("poll-1"), after=1.0)
    assert of(Deliver, commands) == Deliver("poll-1", TWO, story.at + 3.0)


def test_an_invocation_that_comes_during_init_waits_and_its_time_starts_with_delivery() -> None:
    story = Story()
    story.tell(Booted())
    assert story.tell(InvokeReceived(ONE), after=1.0) == []
    assert of(Deliver, story.tell(NextPolled("p"), after=5.0)).deadline_at == story.at + 3.0


def test_a_handlers_error_reaches_the_caller_as_it_is() -> None:
    story = Story().running()
    commands = story.tell(ErrorPosted("post", "id-1", b'{"errorMessage":"x"}', "ValueError"))
    assert of(Answer, commands) == Answer(ONE, b'{"errorMessage":"x"}', is_error=True, kind="error")
    assert of(ReportEnd, commands).status == "error"
    assert of(Accept, commands).exchange == "post"


def test_a_response_past_the_limit_is_a_function_error_and_413() -> None:
    story = Story().running()
    commands = story.tell(ResponsePosted("post", "id-1", b"", too_large=True))
    assert of(Answer, commands).body == (
        b'{"errorType":"Function.ResponseSizeTooLarge",'
        b'"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}'
    )
    assert of(Refuse, commands).status == 413
    assert story.tell(NextPolled("poll-1")) == [CancelTimer("invoke"), ReportIdle()]


def test_the_timeout_answers_kills_and_the_next_invocation_starts_anew() -> None:
    story = Story().running()
    commands = story.tell(TimerFired("invoke"), after=3.01)
    assert of(Answer, commands).body == (
        b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: id-1 Error: Task timed out after 3.00 seconds"}'
    )
    assert of(ReportEnd, commands).status == "timeout"
    assert of(ReportEnd, commands).duration_ms == pytest.approx(3000.0)
    assert of(ReportFault, commands) == ReportFault("id-1", "Task timed out after 3.00 seconds\n")
    of(KillRuntime, commands)
    assert story.tell(InvokeReceived(TWO)) == []
    commands = story.tell(RuntimeExited(None, 9))
    assert kinds(commands) == ["ReportStart", "SetTimer", "SpawnRuntime"]
    commands = story.tell(NextPolled("poll-1"), after=0.5)
    assert of(ReportInit, commands).phase == "invoke"
    assert of(Deliver, commands).deadline_at == story.at + 2.5


@pytest.mark.parametrize(
    ("exited", "message", "error_type"),
    [
        (RuntimeExited(0), "Runtime exited without providing a reason", "Runtime.ExitError"),
        (RuntimeExited(3), "Runtime exited with error: exit status 3", "Runtime.ExitError"),
        (RuntimeExited(None, 9), "Runtime exited with error: signal: killed", "Runtime.ExitError"),
        (RuntimeExited(None, 11), "Runtime exited with error: signal: segmentation fault", "Runtime.ExitError"),
        (RuntimeExited(None, 9, was_oom=True), "Runtime exited with error: signal: killed", "Runtime.OutOfMemory"),
    ],
)
def test_an_exit_in_the_invocation_tells_caller_and_log(exited: Any, message: str, error_type: str) -> None:
    story = Story().running()
    commands = story.tell(exited)
    body = f'{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: id-1 Error: {message}"}}'
    assert of(Answer, commands) == Answer(ONE, body.encode(), is_error=True, kind="exit")
    assert of(ReportEnd, commands).status == "failure"
    assert of(ReportEnd, commands).error_type == error_type
    assert of(ReportFault, commands).text == f"RequestId: id-1 Error: {message}\nRuntime.ExitError"
    assert of(SpawnRuntime, story.tell(InvokeReceived(TWO)))


def test_an_exit_after_the_answer_fails_nobody() -> None:
    story = Story().running()
    story.tell(ResponsePosted("post", "id-1", b"yes"))
    commands = story.tell(RuntimeExited(1))
    assert kinds(commands) == []
    of(SpawnRuntime, story.tell(InvokeReceived(TWO)))


def test_an_exit_between_invocations_is_mended_by_the_next() -> None:
    story = Story().warm()
    assert kinds(story.tell(RuntimeExited(0))) == []
    of(SpawnRuntime, story.tell(InvokeReceived(ONE)))


def test_a_failed_init_is_repeated_inside_the_first_invocation_and_its_error_given_to_the_caller() -> None:
    story = Story()
    story.tell(Booted())
    of(Accept, story.tell(InitErrorPosted("post", b'{"errorType":"E"}', "Runtime.ImportModuleError")))
    commands = story.tell(RuntimeExited(1), after=0.1)
    assert of(ReportInit, commands) == ReportInit("init", "error", pytest.approx(100.0), "Runtime.ImportModuleError")
    of(SpawnRuntime, story.tell(InvokeReceived(ONE)))
    story.tell(InitErrorPosted("post", b'{"errorType":"E"}', "Runtime.ImportModuleError"))
    commands = story.tell(RuntimeExited(1))
    assert of(ReportInit, commands).phase == "invoke"
    assert of(Answer, commands) == Answer(ONE, b'{"errorType":"E"}', is_error=True, kind="init-error")
    assert of(ReportEnd, commands).init_ms is None


def test_a_runtime_that_reports_an_init_error_and_lingers_is_killed_and_its_error_kept() -> None:
    story = Story()
    story.tell(Booted())
    story.tell(InvokeReceived(ONE))
    story.tell(InitErrorPosted("post", b"E", "Runtime.X"))
    of(KillRuntime, story.tell(TimerFired("exit"), after=0.5))
    story.tell(RuntimeExited(None, 9))
    story.tell(InitErrorPosted("post", b"E2", "Runtime.X"))
    of(KillRuntime, story.tell(TimerFired("exit"), after=0.5))
    assert of(Answer, story.tell(RuntimeExited(None, 9))).body == b"E2"


def test_an_init_of_ten_seconds_is_given_up_and_repeated_under_the_functions_timeout() -> None:
    story = Story(timeout_s=20.0)
    story.tell(Booted())
    story.tell(InvokeReceived(ONE))
    commands = story.tell(TimerFired("init"), after=10.0)
    assert of(ReportInit, commands) == ReportInit("init", "timeout", pytest.approx(10_000.0), "Sandbox.Timedout")
    of(KillRuntime, commands)
    commands = story.tell(RuntimeExited(None, 9))
    of(SpawnRuntime, commands)
    assert of(SetTimer, commands) == SetTimer("invoke", story.at + 20.0)
    assert of(Deliver, story.tell(NextPolled("p"), after=11.0)).deadline_at == story.at + 9.0


def test_a_program_that_cannot_be_started_is_reported_by_its_error() -> None:
    story = Story()
    story.tell(Booted())
    commands = story.tell(SpawnFailed("Runtime.InvalidEntrypoint", "fork/exec /x: no such file or directory"))
    assert of(ReportInit, commands).error_type == "Runtime.InvalidEntrypoint"
    story.tell(InvokeReceived(ONE))
    commands = story.tell(SpawnFailed("Runtime.InvalidEntrypoint", "fork/exec /x: no such file or directory"))
    assert of(Answer, commands).body == (
        b'{"errorType":"Runtime.InvalidEntrypoint",'
        b'"errorMessage":"RequestId: id-1 Error: fork/exec /x: no such file or directory"}'
    )


@pytest.mark.parametrize("request_id", ["id-2", "", "../id-1"])
def test_an_answer_to_another_id_is_refused_and_the_right_one_still_counts(request_id: str) -> None:
    story = Story().running()
    refusal = Refuse("post", 400, "InvalidRequestID", "Invalid request ID")
    assert story.tell(ResponsePosted("post", request_id, b"")) == [refusal]
    of(Answer, story.tell(ResponsePosted("post", "id-1", b"")))
    assert story.tell(ResponsePosted("post", "id-1", b"")) == [refusal]


def test_a_poll_while_an_answer_is_due_is_refused() -> None:
    story = Story().running()
    assert of(Refuse, story.tell(NextPolled("poll-1"))).status == 403


def test_an_init_error_after_init_is_refused() -> None:
    story = Story().warm()
    assert of(Refuse, story.tell(InitErrorPosted("post", b"", ""))).error_type == "InvalidStateTransition"


def test_a_lost_poll_is_not_delivered_to_and_the_timeout_still_ends_the_invocation() -> None:
    story = Story().warm()
    story.tell(PollLost("poll-0"))
    assert kinds(story.tell(InvokeReceived(ONE))) == ["ReportStart", "SetTimer"]
    of(Answer, story.tell(TimerFired("invoke"), after=3.0))


def test_a_runtime_that_polls_again_after_losing_its_connection_gets_the_event() -> None:
    story = Story().warm()
    story.tell(PollLost("poll-0"))
    story.tell(InvokeReceived(ONE))
    assert of(Deliver, story.tell(NextPolled("poll-1"))).exchange == "poll-1"


def test_shutdown_turns_everyone_away_and_ends_with_the_runtime() -> None:
    story = Story().running()
    story.tell(InvokeReceived(TWO))
    commands = story.tell(ShutdownRequested())
    assert [c.invocation.request_id for c in commands if type(c) is TurnAway] == ["id-1", "id-2"]
    of(TerminateRuntime, commands)
    of(KillRuntime, story.tell(TimerFired("exit"), after=0.5))
    of(Exit, story.tell(RuntimeExited(None, 9)))
    of(TurnAway, story.tell(InvokeReceived(ONE)))


def test_the_line_of_callers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 2)
    story = Story().running()
    for _ in range(2):
        assert story.tell(InvokeReceived(TWO)) == []
    of(TurnAway, story.tell(InvokeReceived(TWO)))


def test_an_invocation_that_may_not_wait_is_turned_away_and_one_that_waited_enough_runs() -> None:
    impatient = Invocation("id-3", b"3", caller="c", patience_s=0.05)
    story = Story().running()
    assert story.tell(InvokeReceived(impatient)) == [SetTimer("patience id-3", pytest.approx(story.at + 0.05))]
    assert story.tell(TimerFired("patience id-3")) == [TurnAway(impatient, TurnAway.BUSY)]
    story.tell(InvokeReceived(impatient))
    story.tell(ResponsePosted("post", "id-1", b""))
    commands = story.tell(NextPolled("poll-1"))
    assert CancelTimer("patience id-3") in commands
    of(Deliver, commands)
    assert story.tell(TimerFired("patience id-3")) == []


def test_an_asynchronous_invocation_has_no_caller_to_answer_but_runs() -> None:
    story = Story().warm()
    nobody = Invocation("id-9", b"{}")
    of(Deliver, story.tell(InvokeReceived(nobody)))
    assert of(Answer, story.tell(ResponsePosted("post", "id-9", b""))).invocation.caller is None


def test_a_lazy_environment_begins_with_the_first_invocation_and_its_init_is_no_part_of_the_timeout() -> None:
    story = Story()
    story.machine = Machine(3.0, is_lazy=True)
    assert story.tell(Booted()) == []
    assert kinds(story.tell(InvokeReceived(ONE))) == ["SetTimer", "SpawnRuntime"]
    assert of(Deliver, story.tell(NextPolled("p"), after=5.0)).deadline_at == story.at + 3.0
    assert of(ReportEnd, story.tell(ResponsePosted("x", "id-1", b""))).init_ms == pytest.approx(5_000.0)


def test_a_lazy_environment_that_was_never_asked_just_ends() -> None:
    story = Story()
    story.machine = Machine(3.0, is_lazy=True)
    story.tell(Booted())
    of(Exit, story.tell(ShutdownRequested()))


def test_a_provisioned_environment_has_longer_to_initialise_and_no_invocation_pays_for_it() -> None:
    story = Story()
    story.machine = Machine(3.0, is_provisioned=True)
    assert of(SetTimer, story.tell(Booted())).at == story.at + 130.0
    assert of(ReportInit, story.tell(NextPolled("p"), after=20.0)).status == "success"
    story.tell(InvokeReceived(ONE))
    assert of(ReportEnd, story.tell(ResponsePosted("x", "id-1", b""))).init_ms is None
    story.machine = Machine(900.0, is_provisioned=True)
    assert of(SetTimer, story.tell(Booted())).at == story.at + 900.0


EVENTS: list[Any] = [
    InvokeReceived(TWO),
    NextPolled("p"),
    PollLost("p"),
    ResponsePosted("x", "id-1", b""),
    ErrorPosted("x", "id-1", b""),
    InitErrorPosted("x", b""),
    RestorePolled("x"),
    RuntimeExited(1),
    SpawnFailed("Runtime.InvalidEntrypoint", "no"),
    TimerFired("init"),
    TimerFired("invoke"),
    TimerFired("exit"),
    CodeChanged(),
    ShutdownRequested(),
]


def _settle(story: Story) -> list[Any]:
    """Act as a well-behaved shell and runtime until nothing more happens; all commands on the way."""
    seen: list[Any] = []
    for step in range(20):
        machine = story.machine
        if machine.phase in (lifecycle.SHUTDOWN, lifecycle.RESET):
            event: Any = RuntimeExited(None, 9) if machine.runtime != serving.ABSENT else None
        elif machine.runtime == serving.FAILED:
            event = RuntimeExited(1)
        elif machine.runtime == serving.RUNNING:
            assert machine._current is not None
            event = ResponsePosted("x", machine._current.request_id, b"")
        elif machine.runtime in (serving.STARTED, serving.RESPONDED) or (
            machine.runtime == serving.READY and not machine._polls and machine.phase == lifecycle.INVOKE
        ):
            event = NextPolled(f"poll-{step}")
        else:
            event = None
        if event is None:
            return seen
        seen += story.tell(event, after=0.01)
    raise AssertionError(f"it never settles: {story.machine!r}")


@pytest.mark.parametrize("first", EVENTS, ids=lambda event: type(event).__name__)
def test_after_any_three_events_every_invocation_is_answered_once_and_the_next_is_served(first: Any) -> None:
    for beginning in range(len(BEGINNING) + 1):
        for rest in itertools.product(EVENTS, repeat=2):
            _survives((*BEGINNING[:beginning], first, *rest))


# The way to every state of a runtime that behaves: started, ready, running, responded.
BEGINNING: list[Any] = [NextPolled("poll"), InvokeReceived(ONE), ResponsePosted("x", "id-1", b"")]


def _survives(story_so_far: tuple[Any, ...]) -> None:
    story = Story()
    commands = story.tell(Booted())
    for event in story_so_far:
        before = (story.machine.phase, story.machine.runtime, story.machine.waiting)
        try:
            commands += story.tell(event, after=0.01)
        except IllegalEvent:
            assert before == (story.machine.phase, story.machine.runtime, story.machine.waiting)
            continue
    commands += _settle(story)
    sent = sum(type(event) is InvokeReceived for event in story_so_far)
    answered = sum(type(command) in (Answer, TurnAway) for command in commands)
    assert answered == sent
    if story.machine.phase != lifecycle.SHUTDOWN:
        commands = story.tell(InvokeReceived(ONE)) + _settle(story)
        assert of(Answer, commands) == Answer(ONE, b"")


def test_new_code_retires_an_idle_runtime_and_the_next_invocation_starts_a_new_one() -> None:
    story = Story().warm()
    assert kinds(story.tell(CodeChanged())) == ["KillRuntime"]
    assert story.machine.phase == lifecycle.RESET
    assert kinds(story.tell(RuntimeExited(None, 9))) == []
    commands = story.tell(InvokeReceived(ONE))
    assert kinds(commands) == ["ReportStart", "SetTimer", "SpawnRuntime"]
    commands = story.tell(NextPolled("poll-1"))
    assert of(Deliver, commands).exchange == "poll-1"
    assert of(ReportInit, commands).status == "success"


def test_new_code_lets_a_running_invocation_end_and_those_in_line_get_the_new_runtime() -> None:
    story = Story().running()
    story.tell(InvokeReceived(TWO))
    assert story.tell(CodeChanged()) == []
    assert of(Answer, story.tell(ResponsePosted("post", "id-1", b"old"))).body == b"old"
    assert kinds(story.tell(NextPolled("poll-1"))) == ["KillRuntime"]
    assert kinds(story.tell(RuntimeExited(None, 9))) == ["ReportStart", "SetTimer", "SpawnRuntime"]
    assert of(Deliver, story.tell(NextPolled("poll-2"))).invocation == TWO


def test_new_code_begins_an_init_again_and_with_it_its_ten_seconds() -> None:
    story = Story()
    story.tell(Booted())
    assert kinds(story.tell(CodeChanged(), after=9)) == ["KillRuntime"]
    assert of(SetTimer, commands := story.tell(RuntimeExited(None, 9))) == SetTimer("init", story.at + 10)
    assert kinds(commands) == ["SetTimer", "SpawnRuntime"]
    report = of(ReportInit, story.tell(NextPolled("poll"), after=0.5))
    assert (report.status, round(report.duration_ms)) == ("success", 500)


def test_new_code_while_a_failed_environment_closes_changes_nothing() -> None:
    story = Story().running()
    story.tell(TimerFired("invoke"), after=3)
    assert story.tell(CodeChanged()) == []
    story.tell(RuntimeExited(None, 9))
    assert story.tell(CodeChanged()) == []
    assert story.machine.is_free


def test_new_code_in_an_invocation_that_fails_restarts_once() -> None:
    story = Story().running()
    story.tell(CodeChanged())
    story.tell(RuntimeExited(1))
    story.tell(InvokeReceived(TWO))
    story.tell(NextPolled("poll"))
    story.tell(ResponsePosted("post", "id-2", b""))
    assert kinds(story.tell(NextPolled("poll"))) == []
    assert story.machine.is_free


def test_the_end_of_the_environment_comes_before_a_new_init() -> None:
    story = Story()
    story.tell(Booted())
    story.tell(CodeChanged())
    story.tell(ShutdownRequested())
    assert kinds(story.tell(RuntimeExited(None, 9))) == ["Exit"]


def test_an_unknown_event_is_illegal() -> None:
    with pytest.raises(IllegalEvent):
        Machine(3.0).accept("nonsense", 0.0)  # type: ignore[arg-type]


# -- extensions --------------------------------------------------------------------------------------------------------

EXT = "00000000-0000-4000-8000-000000000001"


class Extended(Story):
    """With one external extension, `ext`, subscribed to both events."""

    def __init__(self, events: tuple[str, ...] = ("INVOKE", "SHUTDOWN"), timeout_s: float = 3.0) -> None:
        super().__init__(timeout_s)
        self.events = events
        self.polls = 0

    def registered(self) -> Extended:
        self.tell(Booted(("ext",)))
        self.tell(ExtensionRegistered("reg", "ext", self.events, EXT))
        return self

    def warm(self) -> Extended:
        self.registered()
        self.tell(NextPolled("poll-0"), after=0.1)
        self.poll()
        return self

    def poll(self) -> list[Any]:
        self.polls += 1
        return self.tell(ExtensionPolled(f"ext-poll-{self.polls}", EXT), after=0.1)


def test_the_runtime_starts_when_every_extension_has_registered() -> None:
    story = Extended()
    assert kinds(story.tell(Booted(("ext", "two")))) == ["SetTimer", "LaunchExtension", "LaunchExtension"]
    assert kinds(story.tell(ExtensionRegistered("reg", "ext", (), EXT))) == ["LetIn"]
    commands = story.tell(ExtensionRegistered("reg", "two", (), EXT.replace("1", "2")))
    assert kinds(commands) == ["LetIn", "SpawnRuntime"]


def test_init_ends_when_the_runtime_and_every_extension_wait() -> None:
    story = Extended().registered()
    assert kinds(story.tell(NextPolled("poll"))) == []
    commands = story.poll()
    assert of(ReportExtension, commands) == ReportExtension("ext", "Ready", ("INVOKE", "SHUTDOWN"))
    assert of(ReportInit, commands).status == "success"


def test_the_caller_is_answered_before_a_slow_extension_is_back_and_the_report_counts_it() -> None:
    story = Extended().warm()
    commands = story.tell(InvokeReceived(ONE))
    assert of(DeliverInvoke, commands).deadline_at == story.at + 3.0
    commands = story.tell(ResponsePosted("post", "id-1", b"yes"), after=0.1)
    assert kinds(commands) == ["Answer", "Accept"]
    story.tell(NextPolled("poll-1"))
    assert story.tell(InvokeReceived(TWO)) == []
    commands = story.tell(ExtensionPolled("e", EXT), after=0.7)
    assert of(ReportEnd, commands).duration_ms == pytest.approx(800.0)
    assert of(Deliver, commands).invocation == TWO


def test_an_extension_that_wants_no_invocations_does_not_hold_them_up() -> None:
    story = Extended(("SHUTDOWN",)).warm()
    assert kinds(story.tell(InvokeReceived(ONE))) == ["ReportStart", "SetTimer", "Deliver"]
    assert kinds(story.tell(ResponsePosted("post", "id-1", b""))) == ["ReportEnd", "Answer", "Accept"]
    assert story.tell(NextPolled("poll-1")) == [CancelTimer("invoke"), ReportIdle()]


@pytest.mark.parametrize("late", [False, True])
def test_a_timeout_tells_subscribers_why_and_gives_them_their_time(late: bool) -> None:
    story = Extended().warm()
    story.tell(InvokeReceived(ONE))
    if not late:
        story.tell(ExtensionPolled("e", EXT))
    commands = story.tell(TimerFired("invoke"), after=3.0)
    of(Answer, commands)
    of(TerminateRuntime, commands)
    assert of(SetTimer, commands) == SetTimer("exit", pytest.approx(story.at + 0.6))
    deadline = story.at + 2.0
    of(KillRuntime, story.tell(TimerFired("exit"), after=0.6))
    commands = story.tell(RuntimeExited(None, 9))
    if late:
        assert DeliverShutdown not in [type(command) for command in commands]
        commands = story.tell(ExtensionPolled("e", EXT))
    told = of(DeliverShutdown, commands)
    assert (told.reason, told.deadline_at) == ("timeout", pytest.approx(deadline))
    assert story.tell(InvokeReceived(TWO)) == []
    of(KillExtension, story.tell(TimerFired("grace"), after=2.0))
    commands = story.tell(ExtensionExited("ext", None, 9))
    assert of(LaunchExtension, commands).name == "ext"


def test_the_end_of_the_environment_is_a_spindown() -> None:
    story = Extended().warm()
    of(TerminateRuntime, story.tell(ShutdownRequested()))
    assert of(DeliverShutdown, story.tell(RuntimeExited(0))).reason == "spindown"
    of(Exit, story.tell(ExtensionExited("ext", 0)))


def test_new_code_is_a_spindown_for_extensions() -> None:
    story = Extended().warm()
    assert "TerminateRuntime" in kinds(story.tell(CodeChanged()))
    assert of(DeliverShutdown, story.tell(RuntimeExited(None, 15))).reason == "spindown"


def test_an_extension_that_does_not_want_to_know_is_killed() -> None:
    story = Extended(("INVOKE",)).warm()
    story.tell(ShutdownRequested())
    assert of(KillExtension, story.tell(RuntimeExited(0))).name == "ext"


def test_an_extension_that_crashes_fails_the_invocation_with_its_error_and_init_is_repeated() -> None:
    story = Extended().warm()
    story.tell(InvokeReceived(ONE))
    commands = story.tell(ExtensionExited("ext", 3))
    assert of(Answer, commands).body == (
        b'{"errorType":"Extension.Crash","errorMessage":"RequestId: id-1 Error: exit status 3"}'
    )
    assert of(ReportEnd, commands).error_type == "Extension.Crash"
    story.tell(RuntimeExited(0))
    assert kinds(story.tell(InvokeReceived(TWO))) == ["ReportStart", "SetTimer", "LaunchExtension"]


def test_an_extension_that_crashes_after_the_answer_fails_nobody() -> None:
    story = Extended().warm()
    story.tell(InvokeReceived(ONE))
    story.tell(ResponsePosted("post", "id-1", b""))
    commands = story.tell(ExtensionExited("ext", 3))
    assert of(ReportEnd, commands).status == "success"
    assert Answer not in [type(command) for command in commands]


@pytest.mark.parametrize(("at_init", "kind"), [(True, "Extension.InitError"), (False, "Extension.ExitError")])
def test_an_extension_that_reports_an_error_ends_init(at_init: bool, kind: str) -> None:
    story = Extended().registered()
    commands = story.tell(ExtensionErrorPosted("x", EXT, "Extension.Custom", at_init))
    assert of(Accept, commands).exchange == "x"
    assert of(ReportInit, commands).error_type == kind
    assert kinds(story.tell(ExtensionErrorPosted("x", EXT, "Extension.Custom", at_init))) == ["Accept"]


def test_an_extension_that_cannot_be_launched_fails_init_and_then_the_invocation() -> None:
    story = Extended()
    story.tell(Booted(("ext",)))
    commands = story.tell(LaunchFailed("ext", "fork/exec /opt/extensions/ext: permission denied"))
    assert of(ReportInit, commands).error_type == "Extension.LaunchError"
    story.tell(InvokeReceived(ONE))
    commands = story.tell(LaunchFailed("ext", "fork/exec /opt/extensions/ext: permission denied"))
    assert b'"errorType":"Extension.LaunchError"' in of(Answer, commands).body


@pytest.mark.parametrize(
    ("name", "events", "error_type", "message"),
    [
        ("", (), "Extension.InvalidExtensionName", "Empty extension name"),
        ("new", ("FOO",), "Extension.InvalidEventType", "FOO: ErrorInvalidEventType"),
        (
            "new",
            ("SHUTDOWN",),
            "Extension.InvalidEventType",
            "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
        ),
        (
            "ext",
            (),
            "Extension.InvalidExtensionState",
            "State transition from Registered to Registered failed for extension ext. "
            "Error: State transition is not allowed",
        ),
        ("inner", (), "Extension.InvalidExtensionState", "Extension with this name already registered"),
    ],
)
def test_refusals_of_registration(name: str, events: tuple[str, ...], error_type: str, message: str) -> None:
    story = Extended().registered()
    of(LetIn, story.tell(ExtensionRegistered("reg", "inner", ("INVOKE",), "id-inner")))
    refusal = of(Refuse, story.tell(ExtensionRegistered("reg", name, events, "id")))
    assert (refusal.status, refusal.error_type, refusal.message) == (403, error_type, message)


def test_ten_extensions_are_let_in_and_none_after_init() -> None:
    story = Extended().registered()
    for number in range(9):
        of(LetIn, story.tell(ExtensionRegistered("reg", f"in-{number}", (), f"id-{number}")))
    refusal = of(Refuse, story.tell(ExtensionRegistered("reg", "eleventh", (), "id")))
    assert (refusal.error_type, refusal.message) == ("Extension.TooManyExtensions", "Extension limit (10) reached")
    story.tell(NextPolled("poll"))
    refusal = of(Refuse, story.tell(ExtensionRegistered("reg", "late", (), "id")))
    assert refusal.error_type == "Extension.RegistrationClosed"


def test_an_unknown_extension_is_refused_everywhere() -> None:
    story = Extended().registered()
    for event, message in (
        (ExtensionPolled("x", "nobody"), "Unknown extension nobody"),
        (ExtensionErrorPosted("x", "nobody", "E", True), "Unknown Lambda-Extension-Identifier"),
        (ExtensionErrorPosted("x", "nobody", "E", False), "Unknown Lambda-Extension-Identifier"),
    ):
        refusal = of(Refuse, story.tell(event))
        assert (refusal.error_type, refusal.message) == ("Extension.UnknownExtensionIdentifier", message)


EXTENSION_EVENTS: list[Any] = [
    InvokeReceived(TWO),
    NextPolled("p"),
    ResponsePosted("x", "id-2", b""),
    ErrorPosted("x", "id-2", b""),
    RuntimeExited(1),
    TimerFired("init"),
    TimerFired("invoke"),
    TimerFired("exit"),
    TimerFired("grace"),
    CodeChanged(),
    ShutdownRequested(),
    ExtensionPolled("e", EXT),
    ExtensionErrorPosted("e", EXT, "E", False),
    ExtensionExited("ext", 1),
    ExtensionRegistered("r", "inner", ("INVOKE",), "id-inner"),
    SubscriptionPosted("s", EXT, "Logs", b""),
]


def _settle_with_extension(story: Extended) -> list[Any]:
    seen: list[Any] = []
    for step in range(40):
        machine = story.machine
        extension = machine.roster.named("ext")
        alive = extension is not None and extension.is_alive
        event: Any = None
        if machine.phase in (lifecycle.SHUTDOWN, lifecycle.RESET):
            if machine.runtime != serving.ABSENT:
                event = RuntimeExited(None, 9)
            elif alive:
                event = ExtensionExited("ext", 0)
        elif machine.runtime == serving.FAILED:
            event = RuntimeExited(1)
        elif alive and extension.state == "Launched":  # type: ignore[union-attr]
            event = ExtensionRegistered("reg", "ext", ("INVOKE", "SHUTDOWN"), EXT)
        elif (inner := machine.roster.named("inner")) and inner.state in ("Registered", "Running"):
            event = ExtensionPolled(f"i-{step}", "id-inner")
        elif alive and extension.state in ("Registered", "Running"):  # type: ignore[union-attr]
            event = ExtensionPolled(f"e-{step}", EXT)
        elif machine.runtime == serving.RUNNING:
            event = ResponsePosted("x", machine._current.request_id, b"")  # type: ignore[union-attr]
        elif machine.runtime in (serving.STARTED, serving.RESPONDED):
            event = NextPolled(f"poll-{step}")
        if event is None:
            return seen
        seen += story.tell(event, after=0.01)
    raise AssertionError(f"it never settles: {story.machine!r} {list(story.machine.roster)}")


@pytest.mark.parametrize("first", EXTENSION_EVENTS, ids=lambda event: type(event).__name__)
def test_with_an_extension_too_every_invocation_is_answered_once_and_reported_once(first: Any) -> None:
    beginning = [
        ExtensionRegistered("reg", "ext", ("INVOKE", "SHUTDOWN"), EXT),
        NextPolled("poll"),
        ExtensionPolled("e", EXT),
        InvokeReceived(TWO),
        ResponsePosted("x", "id-2", b""),
    ]
    for length in range(len(beginning) + 1):
        for rest in itertools.product(EXTENSION_EVENTS, repeat=2):
            story = Extended()
            commands = story.tell(Booted(("ext",)))
            sent = 0
            for event in (*beginning[:length], first, *rest):
                try:
                    commands += story.tell(event, after=0.01)
                except IllegalEvent:
                    continue
                sent += type(event) is InvokeReceived
            commands += _settle_with_extension(story)
            told = [type(command) for command in commands]
            assert told.count(Answer) + told.count(TurnAway) == sent
            if story.machine.phase != lifecycle.SHUTDOWN:
                assert told.count(ReportStart) == told.count(ReportEnd)
                commands = story.tell(InvokeReceived(ONE)) + _settle_with_extension(story)
                assert of(Answer, commands) == Answer(ONE, b"")


# -- telemetry --------------------------------------------------------------------------------------------------------

SUBSCRIPTION = SubscriptionPosted("put", "i-1", "Telemetry", b"{}")


def test_an_extension_may_subscribe_from_its_registration_to_the_end_of_init() -> None:
    story = Story()
    story.tell(Booted(("one",)))
    assert of(Refuse, story.tell(SUBSCRIPTION)).error_type == "Extension.UnknownExtensionIdentifier"
    story.tell(ExtensionRegistered("r", "one", ("INVOKE",), "i-1"))
    assert story.tell(SUBSCRIPTION) == [Subscribe("put", "one", "Telemetry", b"{}")]
    story.tell(NextPolled("poll"))
    assert of(Subscribe, story.tell(SUBSCRIPTION)).name == "one"
    story.tell(ExtensionPolled("wait", "i-1"))
    refusal = of(Refuse, story.tell(SUBSCRIPTION))
    assert refusal == Refuse("put", 403, "Telemetry.SubscriptionClosed", "Telemetry API subscription is closed")


def test_an_extension_may_subscribe_again_in_an_init_within_an_invocation() -> None:
    story = Story().warm()
    story.tell(RuntimeExited(1))
    assert of(ReportInitStart, story.tell(InvokeReceived(ONE))) == ReportInitStart("invoke", ONE)
    story.tell(ExtensionRegistered("r", "in", (), "i-1"))
    assert of(Subscribe, story.tell(SUBSCRIPTION)).name == "in"
    story.tell(ExtensionPolled("wait", "i-1"))
    assert of(ReportInitRuntimeDone, story.tell(NextPolled("poll"))) == ReportInitRuntimeDone("invoke", "success")
    assert of(Refuse, story.tell(SUBSCRIPTION)).error_type == "Telemetry.SubscriptionClosed"


@pytest.mark.parametrize(
    ("event", "status", "error_type"),
    [
        (RuntimeExited(3), "error", "Runtime.ExitError"),
        (SpawnFailed("Runtime.InvalidEntrypoint", "none"), "error", "Runtime.InvalidEntrypoint"),
        (TimerFired("init"), "timeout", "Sandbox.Timedout"),
    ],
)
def test_the_runtimes_part_of_init_has_an_end_however_it_ends(event: Any, status: str, error_type: str) -> None:
    story = Story()
    story.tell(Booted())
    assert of(ReportInitRuntimeDone, story.tell(event)) == ReportInitRuntimeDone("init", status, error_type)


def test_a_runtime_that_never_started_has_no_part_in_init() -> None:
    story = Story()
    story.tell(Booted(("one",)))
    commands = story.tell(ExtensionExited("one", 1))
    assert of(ReportInit, commands).status == "error"
    assert not [command for command in commands if isinstance(command, ReportInitRuntimeDone)]


def test_restoring_takes_the_place_of_init_in_the_report() -> None:
    story = Story()
    story.machine = Machine(3.0, is_provisioned=True)
    story.tell(Booted())
    assert story.tell(RestorePolled("restore"), after=0.3) == [
        *(ReportInitRuntimeDone("init", "success"), ReportRestoreStart(), Restore("restore")),
    ]
    commands = story.tell(NextPolled("poll"), after=0.1)
    assert of(ReportRestore, commands) == ReportRestore("success", pytest.approx(100.0))
    assert of(ReportInit, commands).duration_ms == pytest.approx(400.0)
    story.tell(InvokeReceived(ONE))
    report = of(ReportEnd, story.tell(ResponsePosted("post", "id-1", b"")))
    assert (report.init_ms, report.restore_ms) == (None, pytest.approx(100.0))
    assert of(Refuse, story.tell(RestorePolled("again"))).status == 403


def test_hooks_that_fail_are_told_as_a_restore_that_failed() -> None:
    story = Story()
    story.tell(Booted())
    story.tell(RestorePolled("restore"))
    story.tell(InitErrorPosted("post", b"{}", "Runtime.AfterRestoreError"), after=0.1)
    commands = story.tell(RuntimeExited(1))
    restored = of(ReportRestore, commands)
    assert (restored.status, restored.error_type) == ("error", "Runtime.AfterRestoreError")


def test_init_ahead_of_callers_may_take_longer() -> None:
    story = Story()
    story.machine = Machine(3.0, is_provisioned=True)
    assert of(SetTimer, story.tell(Booted())) == SetTimer("init", story.at + 130.0)
