"""The contract of rie.engine.base, held against every engine."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from dataclasses import replace

import pytest

from rie.errors import EngineUnavailable, ImageInvalid, ImageNotFound, SandboxFailed
from tests.contract.conftest import Case, connect, eventually, read_log, run

REQUEST_ID = "01234567-89ab-cdef-0123-456789abcdef"


def test_check_describes_the_engine_in_one_line(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            line = await engine.check()
            assert line and "\n" not in line
            assert engine.name == case.name

    run(test())


def test_resolve_pins_the_image_by_digest(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            image = await engine.resolve(f"{case.host}/echo:1", "x86_64")
            assert image.reference == f"{case.host}/echo@{image.digest}"
            assert image.digest.startswith("sha256:")
            again = await engine.resolve(image.reference, "x86_64")
            assert again == image

    run(test())


@pytest.mark.parametrize(("reference", "error"), [("missing/app:1", ImageNotFound), ("Bad/REF", ImageInvalid)])
def test_resolve_says_what_is_wrong_with_a_reference(case: Case, reference: str, error: type[Exception]) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            with pytest.raises(error):
                await engine.resolve(f"{case.host}/{reference}", "x86_64")

    run(test())


def test_prepare_reports_progress_and_is_idempotent(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            image = await engine.resolve(f"{case.host}/echo:1", "x86_64")
            await engine.prepare(image, lambda line: None)
            lines: list[str] = []
            await engine.prepare(image, lines.append)
            assert lines == []

    run(test())


def test_a_started_sandbox_initialises_and_answers_an_invocation(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            door = await connect(await case.start(engine, "echo"))
            init = await door.init()
            assert (init.status, init.json()["status"]) == (200, "success")
            assert init.json()["durationMs"] > 0
            answer = await door.invoke({"a": 1}, {"X-Amzn-RequestId": REQUEST_ID})
            assert (answer.status, answer.json()) == (200, {"a": 1})
            assert answer.headers["x-amzn-requestid"] == REQUEST_ID
            assert answer.headers["x-amz-executed-version"] == "$LATEST"
            assert "x-amz-function-error" not in answer.headers
            assert len(answer.headers["x-rie-report"].split(";")) == 5

    run(test())


def test_one_connection_carries_many_invocations(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            door = await connect(await case.start(engine, "echo"))
            for number in range(20):
                assert (await door.invoke(number)).json() == number

    run(test())


def test_an_error_of_the_function_is_an_answer_with_a_header(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            door = await connect(await case.start(engine, "fail"))
            answer = await door.invoke({})
            assert (answer.status, answer.headers["x-amz-function-error"]) == (200, "Unhandled")
            assert answer.json()["errorType"] == "ValueError"

    run(test())


def test_the_log_has_the_lines_of_each_invocation(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "echo")
            door = await connect(sandbox)
            answer = await door.invoke({}, {"X-Amzn-RequestId": REQUEST_ID, "X-Amz-Log-Type": "Tail"})
            log = await read_log(sandbox, f"REPORT RequestId: {REQUEST_ID}")
            assert log.startswith("INIT_START ")
            for line in (f"START RequestId: {REQUEST_ID} Version: $LATEST\n", f"END RequestId: {REQUEST_ID}\n"):
                assert line in log
            tail = base64.b64decode(answer.headers["x-amz-log-result"]).decode()
            assert tail.startswith("START ")
            assert f"REPORT RequestId: {REQUEST_ID}\tDuration: " in tail

    run(test())


def test_the_log_descriptor_does_not_block(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "echo")
            assert not os.get_blocking(sandbox.log_fd)

    run(test())


def test_the_function_sees_the_environment_of_the_spec(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            variables = {"AWS_LAMBDA_FUNCTION_NAME": "f", "GREETING": "hello = world"}
            sandbox = await case.start(engine, "environment", environment=variables)
            seen = (await (await connect(sandbox)).invoke({})).json()["environment"]
            assert seen["GREETING"] == "hello = world"
            assert "IMAGE" not in seen  # of the image, but not of the spec

    run(test())


def test_init_is_answered_once_it_has_ended(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "slow-init", environment={"INIT_SECONDS": "0.2"})
            init = await (await connect(sandbox)).init()
            assert init.json()["durationMs"] >= 200

    run(test())


def test_sandboxes_run_side_by_side(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandboxes = [await case.start(engine, "sleep", f"s-{number}") for number in range(2)]
            doors = [await connect(sandbox) for sandbox in sandboxes]
            await asyncio.gather(*(door.init() for door in doors))
            loop = asyncio.get_running_loop()
            began_at = loop.time()
            await asyncio.gather(*(door.invoke({"seconds": 0.5}) for door in doors))
            assert loop.time() - began_at < 0.95

    run(test())


def test_an_id_can_be_used_once_at_a_time(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "echo")
            with pytest.raises(SandboxFailed):
                await case.start(engine, "echo")
            assert (await (await connect(sandbox)).invoke(1)).json() == 1
            await sandbox.destroy()
            again = await case.start(engine, "echo")
            assert (await (await connect(again)).invoke(2)).json() == 2

    run(test())


def test_the_cpu_limit_can_be_applied(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "echo")
            door = await connect(sandbox)
            await door.init()
            await sandbox.limit_cpu()
            assert (await door.invoke(1)).json() == 1

    run(test())


def test_the_end_of_a_sandbox_is_noticed_within_half_a_second(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "sleep")
            calls: list[int] = []
            sandbox.on_exit(lambda: calls.append(1))
            door = await connect(sandbox)
            await door.init()
            invocation = asyncio.ensure_future(door.invoke({"seconds": 30}))
            await read_log(sandbox, "START RequestId")
            case.kill(sandbox)
            assert await eventually(lambda: bool(calls)) < 0.5
            with pytest.raises(ConnectionResetError):
                await invocation
            sandbox.on_exit(lambda: calls.append(2))
            await eventually(lambda: len(calls) == 2)
            assert calls == [1, 2]

    run(test())


def test_connecting_to_a_dead_sandbox_says_so(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "echo")
            case.kill(sandbox)
            with pytest.raises(SandboxFailed, match="it ended with status"):
                await connect(sandbox)

    run(test())


def test_destroying_twice_or_at_once_is_fine(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "echo")
            door = await connect(sandbox)
            calls: list[int] = []
            sandbox.on_exit(lambda: calls.append(1))
            log_fd = sandbox.log_fd
            log = os.fstat(log_fd)
            await asyncio.gather(sandbox.destroy(), sandbox.destroy())
            await sandbox.destroy()
            with contextlib.suppress(OSError):  # closed, or something else that the engine has opened since
                assert not os.path.samestat(os.fstat(log_fd), log)
            with pytest.raises(SandboxFailed, match="destroyed"):
                await connect(sandbox)
            await eventually(lambda: door.transport is None or door.transport.is_closing())
            assert calls == []

    run(test())


def test_destroying_a_dead_sandbox_is_fine(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "echo")
            case.kill(sandbox)
            await sandbox.destroy()

    run(test())


def test_destroying_in_the_middle_of_an_invocation_breaks_it(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            sandbox = await case.start(engine, "sleep")
            door = await connect(sandbox)
            invocation = asyncio.ensure_future(door.invoke({"seconds": 30}))
            await read_log(sandbox, "START RequestId")
            await sandbox.destroy()
            with pytest.raises(ConnectionResetError):
                await invocation

    run(test())


def test_reconcile_leaves_live_sandboxes_alone(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine, case.engine() as other:
            sandbox = await case.start(engine, "echo")
            assert await engine.reconcile() == 0
            assert await other.reconcile() == 0
            assert (await (await connect(sandbox)).invoke(1)).json() == 1

    run(test())


def test_a_cancelled_start_leaves_nothing(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            spec = await case.spec(engine, "echo")
            start = asyncio.ensure_future(engine.start(spec))
            # Far enough for a container to be under way; the stub is done in no time.
            await asyncio.sleep(0.02 if case.name == "docker" else 0)
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start
            assert await engine.reconcile() == 0
        # Whether anything was left behind is asked by the fixture.

    run(test())


def test_closing_destroys_every_sandbox(case: Case) -> None:
    async def test() -> None:
        async with case.engine() as engine:
            spec = await case.spec(engine, "echo")
            sandbox = await engine.start(spec)
            starting = asyncio.ensure_future(engine.start(replace(spec, sandbox_id="s-2")))
            await asyncio.sleep(0)
            await engine.close()
            with pytest.raises(SandboxFailed):
                await connect(sandbox)
            with pytest.raises((EngineUnavailable, SandboxFailed)):
                await connect(await starting)
            with pytest.raises(EngineUnavailable):
                await engine.start(spec)

    run(test())
