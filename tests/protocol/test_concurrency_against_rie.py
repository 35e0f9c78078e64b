"""Several invocations at a time, in AWS's emulator and in ours: what callers and the runtime are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.aws_rie import running_many
from tests.protocol.emulator import Answer, Emulator, Start, wait_until

ID = "11111111-2222-4333-8444-555555555555"
Both = Callable[..., dict[str, Emulator]]


@pytest.fixture
def both(emulate: Start, tmp_path: Path) -> Iterator[Both]:
    """Start both over a script, with room for two invocations and a timeout of a second."""
    with ExitStack() as stack:

        def start(script: list[Any], **more: str) -> dict[str, Emulator]:
            variables = {"AWS_LAMBDA_MAX_CONCURRENCY": "2", "AWS_LAMBDA_FUNCTION_TIMEOUT": "1", **more}
            return {
                "rie": stack.enter_context(running_many(tmp_path, script, **variables)),
                "aws": emulate(script, **variables),
                "compat": emulate(script, RIE_PROFILE="compat", **variables),
            }

        yield start


def named(emulator: Emulator, request_id: str) -> Answer:
    return emulator.invoke({}, name="function", X_Amzn_RequestId=request_id)


def test_a_request_id_that_is_in_use_is_the_callers_mistake(both: Both) -> None:
    refused: dict[str, Answer] = {}
    script = [["next"], ["sleep", 0.6], ["response", "1"], ["loop"]]
    for name, emulator in both(script, AWS_LAMBDA_FUNCTION_TIMEOUT="5").items():
        with ThreadPoolExecutor(1) as caller:
            first = caller.submit(named, emulator, ID)
            emulator.wait_for(f"START RequestId: {ID}")
            refused[name] = named(emulator, ID)
            assert first.result(10).body == b"1"
        # It is free again; theirs has no place for anyone until its runtime asks for the next event.
        wait_until(lambda: named(emulator, ID).status == 200, 10, lambda: emulator.log)  # noqa: B023
    assert {name: answer.status for name, answer in refused.items()} == dict.fromkeys(refused, 400)
    assert refused["compat"].body == refused["rie"].body
    assert refused["compat"].headers["error-type"] == refused["rie"].headers["error-type"]
    assert refused["aws"].headers["x-amzn-errortype"] == refused["rie"].headers["error-type"]


def test_an_answer_after_the_timeout_is_gone(both: Both) -> None:
    steps = {}
    for name, emulator in both([["next"], ["sleep", 1.4], ["response", "late"], ["loop"]]).items():
        timed_out = emulator.invoke({}, name="function")
        assert (timed_out.status, b"Task timed out after 1.00 seconds" in timed_out.body) == (200, True)
        steps[name] = emulator.steps(2)[1]
    assert {(step["status"], step["body"], step["headers"]["Content-Type"]) for step in steps.values()} == {
        (410, '{"errorMessage":"Invoke timeout","errorType":"InvokeTimeout"}\n', "application/json")
    }
