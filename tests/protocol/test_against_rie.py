"""The same scripts against AWS's emulator and ours: what differs stands in one table with its reason, and nothing else.

Where the facts of the two differ, an entry of DIFFERENCES must name both texts exactly; an entry that no longer holds
in its own case fails as well, so that the table can't outlive what it says.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap import compat
from bootstrap.commands import ReportEnd
from bootstrap.events import Invocation, RuntimeExited
from bootstrap.faults import cause_of
from tests.protocol.aws_rie import FRAMING, Rie, ask, facts, running
from tests.protocol.cases import CASES, ERROR, Call, Case
from tests.protocol.differences import ABSENT, AWS, DIFFERENCES, PROFILES, Difference
from tests.protocol.emulator import Start

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
