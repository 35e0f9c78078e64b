"""The same scripts against AWS's emulator and ours: what differs stands in one table with its reason, and nothing else.

Where the facts of the two differ, an entry of DIFFERENCES must name both texts exactly; an entry that no longer holds
in its own case fails as well, so that the table can't outlive what it says.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from bootstrap import compat
from bootstrap.commands import ReportEnd
from bootstrap.events import Invocation, RuntimeExited
from bootstrap.faults import cause_of
from tests.protocol.aws_rie import CASES, ERROR, FRAMING, INVOKE, Call, Case, Rie, ask, facts, running
from tests.protocol.emulator import Start

# -- differences ------------------------------------------------------------------------------------------------------

AWS, COMPAT = "aws", "compat"
BOTH = (AWS, COMPAT)
PROFILES = BOTH
ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Difference:
    """`fact` is a pattern, `case` where it must hold; `everywhere` lets it explain what other cases show, too."""

    case: str
    fact: str
    rie: str
    ours: str
    why: str
    everywhere: bool = False
    profiles: tuple[str, ...] = (AWS,)

    def explains(self, case: str, fact: str, rie: str, ours: str) -> bool:
        return (
            (self.everywhere or case == self.case)
            and fnmatchcase(fact, self.fact)
            and (rie, ours) == (self.rie, self.ours)
        )


def report(*fields: str) -> str:
    return "\t".join(("REPORT RequestId: <id>", *fields)) + "\t"


INIT, SPENT = "Init Duration: <ms>", ("Duration: <ms>", "Billed Duration: <ms>")
RIES, OURS = "Memory Size: 3008 MB\tMax Memory Used: <size>", "Memory Size: 128 MB\tMax Memory Used: <mb>"
RIES_0, RIES_1 = report(INIT, *SPENT, RIES), report(*SPENT, RIES)
OURS_0, OURS_1 = report(*SPENT, OURS, INIT), report(*SPENT, OURS)
TIMED_OUT = ("Duration: 2000.00 ms", "Billed Duration: <ms>", OURS, INIT, "Status: timeout")
EXITED = "Status: error\tError Type: Runtime.ExitError"
NO_ENTRY = "Status: error\tError Type: Runtime.InvalidEntrypoint"
NO_IMPORT = "Status: error\tError Type: Runtime.Import"
INIT_REPORT = f"INIT_REPORT {INIT}\tPhase: "
INIT_START = "INIT_START Runtime Version: <version>\tRuntime Version ARN: "
START, END = "START RequestId: <id> Version: $LATEST", "END RequestId: <id>"
NO_PROGRAM = "RequestId: <id> Error: fork/exec /no/such/program: no such file or directory"
EXIT_3 = "RequestId: <id> Error: Runtime exited with error: exit status 3"
NOT_FOUND = "404 page not found\n"
HINT = "rie: check ENTRYPOINT and CMD: the image has no /no/such/program"
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
TOO_LARGE = '{"message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation"}'
NO_JSON = "Could not parse request body into json: Could not parse payload into json: Expecting value: line 1 column 1"
SENT = "RuntimeResponseSentState"
NO_OPERATION = "no operation at POST {}; functions are invoked at POST /2015-03-31/functions/<name>/invocations"
INVALID_ID = '{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}'
THEIR_ARN = "arn:aws:lambda:us-east-1:012345678912:function:"
OUR_ARN = "arn:aws:lambda:us-east-1:123456789012:function:function"


def user_error(message: str) -> str:
    return f'{{"Type":"User","message":"{message}"}}'


def service_error(kind: str, message: str) -> str:
    return f'{{"errorType":"{kind}","errorMessage":"{message}"}}'


def refusal(state: str, wanted: str) -> str:
    message = f"State transition from {state} to {wanted} failed for runtime. Error: State transition is not allowed"
    return f'{{"errorMessage":"{message}","errorType":"InvalidStateTransition"}}'


D = Difference
DIFFERENCES = (
    # What every answer carries.
    D("a call", "call * content-type", TEXT, JSON, "the service's", True),
    D("content types", "call * content-type", ABSENT, JSON, "the service's, also without a body", True),
    D("content types", "call * content-type", "text/html; charset=utf-8", JSON, "the service's"),
    D("a call", "call * x-amzn-requestid", ABSENT, "<id>", "the service's; SDKs show it", True),
    D("a call", "call * x-amzn-remapped-content-length", ABSENT, "0", "the service's", True),
    D("a call", "call * x-amz-executed-version", ABSENT, "$LATEST", "the service's; SDKs return it", True),
    D("a call", "call * x-amzn-trace-id", ABSENT, "<trace>", "the service's", True),
    D("an error", "call * x-amz-function-error", ABSENT, "Unhandled", "the service's; how clients tell an error", True),
    # What every event carries.
    D("a call", "step * Lambda-Runtime-Trace-Id", ABSENT, "<trace>", "tracing works; no caller sees it", True, BOTH),
    D("a call", "step * Lambda-Runtime-Invocation-Id", ABSENT, "<id>", "newer clients echo it", True, BOTH),
    D("a call", "step 0 Lambda-Runtime-Deadline-Ms", "in 300 s", "in 3 s", "the service's default", True),
    D("a call", "step * *-Function-Arn", THEIR_ARN + "test_function", OUR_ARN, "as the caller named it", True),
    D("variables of the function", "step 0 *-Function-Arn", THEIR_ARN + "mine", OUR_ARN, "as the caller named it"),
    D("variables of the function", "call 0 x-amz-executed-version", ABSENT, "7", "the service's"),
    # The log.
    D("a call", "log INIT_START 0", ABSENT, INIT_START, "the service's", True),
    D("a call", "log REPORT 0", RIES_0, OURS_0, "the service's order; memory as it was used", True),
    D("a call", "log REPORT 1", RIES_1, OURS_1, "memory as it was used", True),
    D(
        "variables of the function",
        "log REPORT 0",
        RIES_0.replace("3008", "512"),
        OURS_0.replace("128", "512"),
        "the service's order; memory as it was used",
    ),
    # Failures: an error of the function is a success of the service, and ends with END and REPORT as any other.
    D("exit 0", "call * status", "502", "200", "the service's", True),
    D("exit 0", "log END *", ABSENT, END, "the service's", True),
    D("exit 0", "log REPORT 0", ABSENT, report(*SPENT, OURS, INIT, EXITED)[:-1], "the service's", True),
    D("exit 0", "log REPORT 1", ABSENT, report(*SPENT, OURS, EXITED)[:-1], "the service's", True),
    D("exit 0", "log other *", ABSENT, "Runtime.ExitError", "the service's", True),
    D(
        "exit 0",
        "log other *",
        ABSENT,
        EXIT_3.replace("with error: exit status 3", "without providing a reason"),
        "as above",
    ),
    D("exit 3", "log other *", ABSENT, EXIT_3, "the service's", True),
    D("killed", "log other 0", ABSENT, EXIT_3.replace("exit status 3", "signal: killed"), "as above"),
    D(
        "segmentation fault",
        "log other 0",
        ABSENT,
        EXIT_3.replace("exit status 3", "signal: segmentation fault"),
        "as above",
    ),
    D(
        "a timeout",
        "call 0 body",
        "Task timed out after 2.00 seconds",
        service_error("Sandbox.Timedout", "RequestId: <id> Error: Task timed out after 2.00 seconds"),
        "the service's; JSON like any other answer",
    ),
    D(
        "a timeout",
        "log REPORT 0",
        report(INIT, "Duration: 2000.00 ms", "Billed Duration: 2000 ms", RIES),
        report(*TIMED_OUT)[:-1],
        "the service's; init is billed and does not count against the timeout",
    ),
    D("a timeout", "log other 0", ABSENT, "<instant> <id> Task timed out after 2.00 seconds", "the service's"),
    D("exit after the answer", "log REPORT 0", ABSENT, OURS_0, "it has answered: that is a success"),
    D("exit after the answer", "log REPORT 1", ABSENT, OURS_1, "it has answered: that is a success"),
    D("exit after the answer", "call * status", "502", "200", "answered when the answer is whole", profiles=(COMPAT,)),
    D("exit after the answer", "log END *", ABSENT, END, "as above", profiles=(COMPAT,)),
    D("exit after the answer", "log REPORT 0", ABSENT, RIES_0, "as above", profiles=(COMPAT,)),
    D("exit after the answer", "log REPORT 1", ABSENT, RIES_1, "as above", profiles=(COMPAT,)),
    # Failures of init: told, where theirs leaves the caller with an empty body and the log with nothing.
    D("exit in init", "call * body", "", service_error("Runtime.ExitError", EXIT_3), "the reason is told"),
    D("exit in init", "log other 0", ABSENT, EXIT_3.removeprefix("RequestId: <id> "), "the reason is told"),
    D("exit in init", "log INIT_REPORT 0", ABSENT, f"{INIT_REPORT}init\t{EXITED}", "the service's"),
    D("exit in init", "log INIT_REPORT *", ABSENT, f"{INIT_REPORT}invoke\t{EXITED}", "the service's"),
    D("exit in init", "log REPORT 0", ABSENT, report(*SPENT, OURS, EXITED)[:-1], "init failed: it has no duration"),
    D("a missing program", "log other 2", ABSENT, HINT, "one line says what to check"),
    D("a missing program", "call * body", "", service_error("Runtime.InvalidEntrypoint", NO_PROGRAM), "as above"),
    D("a missing program", "log other 0", ABSENT, NO_PROGRAM.removeprefix("RequestId: <id> "), "as above"),
    D("a missing program", "log other *", ABSENT, NO_PROGRAM, "as above"),
    D("a missing program", "log other *", ABSENT, "Runtime.InvalidEntrypoint", "as above"),
    D("a missing program", "log INIT_REPORT 0", ABSENT, f"{INIT_REPORT}init\t{NO_ENTRY}", "as above"),
    D("a missing program", "log INIT_REPORT *", ABSENT, f"{INIT_REPORT}invoke\t{NO_ENTRY}", "as above"),
    D("a missing program", "log REPORT *", ABSENT, report(*SPENT, OURS, NO_ENTRY)[:-1], "as above"),
    D("an init error", "log INIT_REPORT 0", ABSENT, f"{INIT_REPORT}init\t{NO_IMPORT}", "as above", True),
    D("an init error", "log INIT_REPORT *", ABSENT, f"{INIT_REPORT}invoke\t{NO_IMPORT}", "as above", True),
    D("an init error", "log REPORT *", ABSENT, report(*SPENT, OURS, NO_IMPORT)[:-1], "as above", True),
    # Requests that the service refuses, or does not run.
    D("a dry run", "call 0 status", "200", "204", "the service's"),
    D("a dry run", "call 0 body", "{}", "", "the service's", True),
    D("a dry run", "call 0 content-type", TEXT, ABSENT, "the service's", True),
    D("a dry run", "log START *", START, ABSENT, "it has not run", True),
    D("a dry run", "log END *", END, ABSENT, "it has not run", True),
    D("a dry run", "log REPORT 0", RIES_0, ABSENT, "it has not run", True),
    D("methods", "log REPORT 1", RIES_1, ABSENT, "it has not run"),
    D("an event of type Event", "call 0 status", "200", "202", "the service's"),
    D("the log's tail", "call 0 x-amz-log-result", ABSENT, "<base64>", "the service's"),
    D("methods", "call * status", "200", "405", "a browser's or a scanner's GET runs no function"),
    D("methods", "call * body", "{}", user_error("Invoke is a POST request"), "as above"),
    D("methods", "call * x-amzn-errortype", ABSENT, "MethodNotAllowedException", "as above"),
    D("methods", "call * allow", ABSENT, "POST", "as above"),
    D("another name", "call 0 status", "404", "200", "SDKs put the function's name there"),
    D("another name", "call 0 body", NOT_FOUND, "{}", "as above"),
    D("another name", "log START 0", ABSENT, START, "as above"),
    D("another name", "log REPORT 0", ABSENT, OURS_0, "as above"),
    D("paths", "call 0 body", NOT_FOUND, user_error(NO_OPERATION.format("/")), "SDKs parse JSON"),
    D("paths", "call 1 body", NOT_FOUND, user_error(NO_OPERATION.format(INVOKE + "/")), "SDKs parse JSON"),
    D("paths", "call * x-amzn-errortype", ABSENT, "UnknownOperationException", "as above"),
    D("paths", "call * x-content-type-options", "nosniff", ABSENT, "ours is said, not guessed", True),
    D("an event too large", "call 0 status", "200", "413", "an event that was cut is no event", profiles=BOTH),
    D("an event too large", "call 0 body", "<6291556 bytes>", TOO_LARGE, "as above", profiles=BOTH),
    D(
        "an event too large",
        "call 0 x-amzn-errortype",
        ABSENT,
        "RequestEntityTooLargeException",
        "as above",
        profiles=BOTH,
    ),
    D("an event too large", "call 0 content-type", TEXT, JSON, "as above", profiles=(COMPAT,)),
    D("an event too large", "call 0 x-amzn-requestid", ABSENT, "<id>", "as above", profiles=(COMPAT,)),
    D("an event too large", "log START 0", START, ABSENT, "as above", profiles=(COMPAT,)),
    D("an event too large", "log END 0", END, ABSENT, "as above", profiles=(COMPAT,)),
    D("an event too large", "log REPORT 0", RIES_0, ABSENT, "as above", profiles=(COMPAT,)),
    D("events that are no JSON", "step 0 body", "", "{}", "the service's: runtimes parse it"),
    D("text for an event", "call 0 status", "200", "400", "the service's: events are JSON"),
    D("text for an event", "call 0 body", "text", user_error(f"{NO_JSON} (char 0)"), "as above"),
    D("text for an event", "call 0 x-amzn-errortype", ABSENT, "InvalidRequestContentException", "as above"),
    D("client context", "call 0 status", "500", "400", "the caller's mistake, and told"),
    D("client context", "call 0 body", "", user_error("Client context must be valid Base64-encoded JSON."), "as above"),
    D("client context", "call 0 x-amzn-errortype", ABSENT, "InvalidRequestContentException", "as above"),
    # The Runtime API; it is the same in both profiles, since no caller sees it.
    D("a chunked response that ends in an error", "call 0 body", "par", '{"errorType":"E"}', "told", profiles=BOTH),
    D("next asked again", "step 1 status", "200", "403", "the service's: an event is delivered once", profiles=BOTH),
    D("next asked again", "step 1 body", "{}", refusal("Running", "InvocationNext"), "as above", profiles=BOTH),
    D("next asked again", "step 1 *-Request-Id", "<id>", ABSENT, "as above", profiles=BOTH),
    D("next asked again", "step 1 *-Function-Arn", THEIR_ARN + "test_function", ABSENT, "as above", profiles=BOTH),
    D("refusals before the first event", "step * body", "", "Method Not Allowed\n", "in words, too", profiles=BOTH),
    D("refusals before the first event", "step * Content-Type", ABSENT, TEXT, "as above", profiles=BOTH),
    D("refusals before the first event", "step * X-Content-Type-Options", "nosniff", ABSENT, "as above", profiles=BOTH),
    D("refusals after it", "step [45] status", "403", "400", "the service's for an answered id", profiles=BOTH),
    D("refusals after it", "step 4 body", refusal(SENT, "InvocationResponse"), INVALID_ID, "as above", profiles=BOTH),
    D(
        *("refusals after it", "step 5 body", refusal(SENT, "InvocationErrorResponse"), INVALID_ID, "as above"),
        profiles=BOTH,
    ),
    D(
        *("refusals after an init error", "step 2 body", refusal("InitError", "Ready")),
        *(refusal("InitError", "InvocationNext"), "every request is named by itself"),
        profiles=BOTH,
    ),
)


RECORDED: dict[str, dict[str, str]] = {}  # case → facts of AWS's emulator, which are the same for every profile


@pytest.fixture
def rie(tmp_path: Path) -> Iterator[Callable[..., Rie]]:
    """Start AWS's emulator, with the arguments of `emulate`."""
    with ExitStack() as stack:
        yield lambda *arguments, **variables: stack.enter_context(running(tmp_path, *arguments, **variables))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_what_the_table_says_differs(emulate: Start, rie: Callable[..., Rie], case: Case, profile: str) -> None:
    theirs = RECORDED.get(case.name) or RECORDED.setdefault(case.name, facts(case.start(rie), case))
    ours = facts(case.start(emulate, **({"RIE_PROFILE": profile} if profile != AWS else {})), case)
    entries = [entry for entry in DIFFERENCES if profile in entry.profiles]
    used: set[Difference] = set()
    unexplained = {}
    for fact in sorted({*theirs, *ours}):
        pair = theirs.get(fact, ABSENT), ours.get(fact, ABSENT)
        if pair[0] != pair[1]:
            explaining = {entry for entry in entries if entry.explains(case.name, fact, *pair)}
            used |= explaining
            if not explaining:
                unexplained[fact] = pair
    assert unexplained == {}, "it differs, and no entry of the table says so"
    stale = [entry for entry in entries if entry.case == case.name and entry not in used]
    assert stale == [], "the table says so, and it does not differ like that"


def test_every_entry_of_the_table_belongs_to_a_case() -> None:
    assert {entry.case for entry in DIFFERENCES} <= {case.name for case in CASES}


# -- the profile `compat`, as it is rendered --------------------------------------------------------------------------

# Case → the outcomes of its calls, each with the body that the runtime, or the machine, gives to it.
OUTCOMES: dict[str, list[tuple[str, str]]] = {
    "a call": [(compat.SUCCESS, '{"a": 1}'), (compat.SUCCESS, "[1, 2]")],
    "content types": [(compat.SUCCESS, ""), (compat.SUCCESS, "<html>")],
    "an error": [(compat.ERROR, ERROR), (compat.ERROR, "")],
    "a timeout": [(compat.TIMEOUT, "what the machine says")],
    "exit 0": [(compat.EXIT, "exit 0")] * 2,
    "exit 3": [(compat.EXIT, "exit 3")],
    "killed": [(compat.EXIT, "signal 9")],
    "segmentation fault": [(compat.EXIT, "signal 11")],
    "exit in init": [(compat.INIT_FAILURE, "what the machine says")] * 2,
    "a missing program": [(compat.INIT_FAILURE, "what the machine says")] * 2,
    "an init error": [(compat.INIT_ERROR, ERROR)] * 2,
    "exit after the answer": [(compat.LATE_EXIT, '"good"')] * 2,
    "client context": [(compat.BAD_CONTEXT, ""), (compat.SUCCESS, "1")],
    "paths": [(compat.NOT_FOUND, "")] * 2,
    "another name": [(compat.NOT_FOUND, "")],
    "an event of type Event": [(compat.SUCCESS, "{}")],
    "a dry run": [(compat.SUCCESS, "{}")],
    "methods": [(compat.SUCCESS, "{}")] * 2,
}
REQUEST_ID = "11111111-2222-4333-8444-555555555555"
END_LINES = re.compile(
    r"END RequestId: \S+\nREPORT RequestId: \S+\t(?:Init Duration: (\S+) ms\t)?Duration: (\S+) ms\t"
    r"Billed Duration: \d+ ms\tMemory Size: (\d+) MB\t.*\n"
)
# A runtime that answers with the client context, else with the event, without reading either as text.
ECHO = """
import http.client, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    event = api.getresponse()
    body, request_id = event.read(), event.getheader("Lambda-Runtime-Aws-Request-Id")
    context = event.getheader("Lambda-Runtime-Client-Context", "").encode("latin-1")
    api.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", context or body)
    api.getresponse().read()
"""
MP4 = b"\0\0\0\x18ftypisom\0\0\0\0mp42isom"
BODIES = (
    *(b'{"a": 1}', b"text", b" \n\t<html><p>", b"<HTML lang=x>", b"<htmlx>", b"<!-- c -->", b"<a>", b"<!doctype html>"),
    *(b"<B >", b"<?xml v", b" <?xml", b"<?XML", b"%PDF-1", b" %PDF-1", b"%!PS-Adobe-3", b"\xfe\xffab", b"\xff\xfeab"),
    *(b"\xef\xbb\xbfa\0", b"\xef\xbb\xbf", b"\0\0\1\0", b"\0\0\2\0", b"BMx", b"GIF87a", b"GIF89a", b"GIF88a"),
    *(b"RIFFxxxxWEBPVP8", b"RIFFxxxxWEBP", b"RIFFxxxxAVI ", b"RIFFxxxxWAVE", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"),
    *(b"FORMxxxxAIFF", b"ID3\x04", b"OggS\0", b"MThd\0\0\0\6", b"\x1a\x45\xdf\xa3", MP4, MP4[:20], b"\0\1\0\0x"),
    *(bytes(34) + b"LP", b"OTTO", b"ttcf", b"wOFF", b"wOF2", b"\x1f\x8b\x08", b"PK\3\4", b"Rar!\x1a\7\0", b"\0asm"),
    *(b"Rar!\x1a\7\1\0", b"a\x0bb", b"a\x1bb", b"a\x7f\xff", b"a" * 512 + b"\0", b"\0", b" \0", bytes(range(256))),
)
CONTEXTS = ("e30=", "e31=", "/w==", "eyJuIjogIuKCrCJ9", "Cg0=", "e30", "_w==", "e3 0", "=", "====", "e3=0", "e===", "")


def machine_body(told: str) -> bytes:
    """What the machine gives for a runtime that ended by "exit <status>" or "signal <number>"."""
    kind, _, number = told.partition(" ")
    exited = RuntimeExited(int(number)) if kind == "exit" else RuntimeExited(None, int(number))
    return cause_of(exited).body_for(REQUEST_ID)


@pytest.mark.parametrize("name", OUTCOMES)
def test_compat_renders_each_outcome_as_rie_answers_it(rie: Callable[..., Rie], name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    emulator = case.start(rie)
    for call, (kind, told) in zip(case.calls, OUTCOMES[name], strict=False):
        theirs = ask(emulator, replace(call, headers=(*call.headers, ("X-Amzn-RequestId", REQUEST_ID))))
        body = machine_body(told) if kind == compat.EXIT else told.encode()
        ours = compat.answer(kind, body, 2.0)
        assert (ours.status, ours.body) == (theirs.status, theirs.body)
        assert {k.lower(): v for k, v in ours.headers} == {
            k: v for k, v in theirs.headers.items() if k not in FRAMING | {"date"}
        }


@pytest.mark.parametrize("name", ["a call", "a timeout", "exit 3", "variables of the function"])
def test_compat_ends_a_log_as_rie_does(rie: Callable[..., Rie], name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    emulator = case.start(rie)
    for call in case.calls:
        ask(emulator, replace(call, headers=(*call.headers, ("X-Amzn-RequestId", REQUEST_ID))))
    reports = list(END_LINES.finditer(emulator.log))
    assert len(reports) == (0 if name == "exit 3" else len(case.calls))
    for found in reports:
        init_ms, duration_ms, memory_mb = found.groups()
        end = ReportEnd(Invocation(REQUEST_ID, b""), "timeout", float(duration_ms), init_ms and float(init_ms))
        assert compat.end_lines(end, int(memory_mb)) == found[0]
    assert compat.end_lines(ReportEnd(Invocation(REQUEST_ID, b""), "failure", 1.0), 128) == ""


def test_compat_guesses_content_types_as_rie_does(rie: Callable[..., Rie]) -> None:
    emulator = rie(command=[sys.executable, "-c", ECHO])
    theirs = {body: ask(emulator, Call(body)).headers["content-type"] for body in BODIES}
    assert {body: compat.content_type(body) for body in BODIES} == theirs


def test_compat_reads_client_contexts_as_rie_does(rie: Callable[..., Rie]) -> None:
    emulator = rie(command=[sys.executable, "-c", ECHO])
    for text in CONTEXTS:
        answer = ask(emulator, Call(b"", headers=(("X-Amz-Client-Context", text),)))
        context = compat.client_context(text)
        assert answer.status == (500 if context is None else 200), text
        assert answer.body.strip() == (context or "").strip().encode("latin-1")


def test_compat_has_ries_defaults(rie: Callable[..., Rie]) -> None:
    emulator = rie(command=["/usr/bin/env"])
    emulator.invoke({})
    for name, value in compat.VARIABLES.items():
        emulator.wait_for(f"\n{name}={value}\n")
    entries = {entry.fact: entry.rie for entry in DIFFERENCES if entry.case == "a call"}
    assert entries["step * *-Function-Arn"] == compat.function_arn("test_function")
    assert entries["step 0 Lambda-Runtime-Deadline-Ms"] == f"in {compat.TIMEOUT_S:.0f} s"
