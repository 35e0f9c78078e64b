"""Durable functions written with AWS's SDK, against the API and the runs, in this process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import CallbackConfig, Duration, StepConfig
from aws_durable_execution_sdk_python.retries import RetryStrategyConfig, create_retry_strategy
from test_api_boto3 import client_of
from test_api_world import ARN, World

from rie.clock import SystemClock
from rie.invoke.directory import Directory
from rie.invoke.durable import DurableCall, DurableRuns
from rie.model.durable import Execution
from rie.model.function import FunctionKey
from rie.model.invocation import Outcome

KEY = FunctionKey("123456789012", "us-east-1", "f")
DURABLE = {"DurableConfig": {"ExecutionTimeout": 60}}
Handler = Callable[[Any, DurableContext], Any]


class Stage:
    """Functions in this process, by name, over the API; `runs` counts their invocations."""

    def __init__(self, world: World, client: Any, directory: Directory) -> None:
        self.world = world
        self.client = client
        self.directory = directory
        self.handlers: dict[str, Callable[[Any, Any], Any]] = {}
        self.runs = 0
        self.durable = DurableRuns(world.durable, directory, self._run, world.clock, delay_scale=0.01)
        loop = asyncio.get_running_loop()
        world.on_plan = lambda plan: loop.call_soon_threadsafe(self.durable.changed, plan)

    def add(self, handler: Handler, name: str = "f", is_durable: bool = True) -> None:
        self.world.active(name, **(DURABLE if is_durable else {}))
        self.directory.update(self.world.catalog.get(FunctionKey(KEY.account, KEY.region, name)))
        self.handlers[name] = durable_execution(handler, boto3_client=self.client) if is_durable else handler

    async def start(self, event: Any = None, name: str | None = None) -> Execution:
        return (await self.durable.start(self._called(event, name)))[0]

    async def invoke(self, event: Any = None, name: str | None = None) -> Outcome:
        return await self.durable.invoke(self._called(event, name))

    async def history(self, arn: str) -> list[str]:
        page = await asyncio.to_thread(self.client.get_durable_execution_history, DurableExecutionArn=arn)
        assert [each["EventId"] for each in page["Events"]] == list(range(1, len(page["Events"]) + 1))
        return [each["EventType"] for each in page["Events"]]

    async def operation(self, execution: Execution, kind: str) -> Any:
        """The first operation of a kind, once there is one."""
        while True:
            state = await asyncio.to_thread(self.world.durable._of, execution.arn)
            found = [each for each in state.operations.values() if each.type == kind]
            if found:
                return found[0]
            await asyncio.sleep(0.01)

    def _called(self, event: Any, name: str | None) -> DurableCall:
        function = self.directory.find(KEY, "$LATEST")
        return DurableCall(function, "$LATEST", json.dumps(event).encode(), "", name=name)

    async def _run(self, key: FunctionKey, qualifier: str | None, event: bytes, trace: str, tenant: str) -> Outcome:
        self.runs += 1
        context = SimpleNamespace(
            aws_request_id="r", log_group_name="", log_stream_name="", tenant_id=None,
            invoked_function_arn=key.arn, function_name=key.name, function_version="$LATEST", memory_limit_in_mb="128",
            get_remaining_time_in_millis=lambda: 60_000,
        )  # fmt: skip
        try:
            answer = await asyncio.to_thread(self.handlers[key.name], json.loads(event), context)
        except Exception as error:
            fault = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return Outcome(json.dumps(fault).encode(), "$LATEST", "Unhandled")
        return Outcome(json.dumps(answer).encode(), "$LATEST")


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    world = World(clock=SystemClock())
    with world.served() as url:
        stage = Stage(world, client_of(url), Directory())
        await stage.durable.open()
        try:
            yield stage
        finally:
            await stage.durable.close()


def test_a_step_a_wait_and_a_callback_complete_and_the_history_lists_them_in_order() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        first = context.step(lambda _: event["n"] + 1, name="add")
        context.wait(Duration.from_seconds(1), name="pause")
        callback = context.create_callback(name="approval")
        return {"first": first, "approval": callback.result()}

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            execution = await stage.start({"n": 1}, "order-1")
            callback = await stage.operation(execution, "CALLBACK")
            client = stage.client
            await asyncio.to_thread(
                client.send_durable_execution_callback_success, CallbackId=callback.callback_id, Result=b"yes"
            )
            outcome = await stage.invoke({"n": 1}, "order-1")
            assert json.loads(outcome.payload) == {"first": 2, "approval": "yes"}
            assert outcome.durable_execution_arn == execution.arn
            assert stage.runs == 3
            events = [each for each in await stage.history(execution.arn) if each != "InvocationCompleted"]
            assert events == [
                "ExecutionStarted", "StepStarted", "StepSucceeded", "WaitStarted", "WaitSucceeded",
                "CallbackStarted", "CallbackSucceeded", "ExecutionSucceeded",
            ]  # fmt: skip
            shown = await asyncio.to_thread(client.get_durable_execution, DurableExecutionArn=execution.arn)
            assert (shown["Status"], shown["DurableExecutionName"]) == ("SUCCEEDED", "order-1")
            assert shown["FunctionArn"] == f"{ARN}f:$LATEST"
            assert json.loads(shown["Result"]) == {"first": 2, "approval": "yes"}

    asyncio.run(main())


def test_a_step_that_fails_is_tried_again_after_its_delay() -> None:
    tries: list[int] = []

    def flaky(_: Any) -> int:
        tries.append(1)
        if len(tries) < 2:
            raise RuntimeError("not yet")
        return len(tries)

    def handler(event: Any, context: DurableContext) -> Any:
        strategy = create_retry_strategy(RetryStrategyConfig(max_attempts=3, initial_delay=Duration.from_seconds(1)))
        return context.step(flaky, name="flaky", config=StepConfig(retry_strategy=strategy))

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            outcome = await stage.invoke()
            assert (outcome.payload, outcome.function_error) == (b"2", None)
            events = await stage.history(outcome.durable_execution_arn)
            assert [each for each in events if each.startswith("Step")] == [
                "StepStarted", "StepFailed", "StepStarted", "StepSucceeded",
            ]  # fmt: skip

    asyncio.run(main())


def test_a_handler_that_raises_fails_the_execution_with_its_error() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        raise ValueError("no such order")

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            outcome = await stage.invoke()
            error = json.loads(outcome.payload)
            assert outcome.function_error == "Unhandled"
            assert (error["ErrorType"], error["ErrorMessage"]) == ("ValueError", "no such order")

    asyncio.run(main())


def test_a_callback_that_nobody_answers_times_out() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            return context.create_callback(config=CallbackConfig(timeout=Duration.from_seconds(1))).result()
        except Exception as error:
            return f"late: {error}"

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            outcome = await stage.invoke()
            assert json.loads(outcome.payload).startswith("late: ")
            assert "CallbackTimedOut" in await stage.history(outcome.durable_execution_arn)

    asyncio.run(main())


def test_other_functions_are_invoked_plain_ones_and_durable_ones() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        plain = context.invoke("plain", {"n": 1})
        child = context.invoke("child:$LATEST", {"n": 2})
        try:
            context.invoke("missing", {})
        except Exception as error:
            return [plain, child, "missing" in str(error)]

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            stage.add(lambda event, context: event["n"] * 10, "plain", is_durable=False)
            stage.add(lambda event, context: context.step(lambda _: event["n"] * 100), "child")
            outcome = await stage.invoke()
            assert json.loads(outcome.payload) == [10, 200, True]

    asyncio.run(main())


def test_branches_run_beside_each_other_and_their_contexts_are_recorded() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        done = context.parallel([lambda c: c.step(lambda _: 1), lambda c: c.step(lambda _: 2)])
        context.wait(Duration.from_seconds(1))
        return done.get_results()

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            outcome = await stage.invoke()
            assert json.loads(outcome.payload) == [1, 2]
            events = await stage.history(outcome.durable_execution_arn)
            assert events.count("ContextSucceeded") == 3

    asyncio.run(main())


def test_a_stopped_execution_runs_no_further_and_its_callers_are_told() -> None:
    stepped = threading.Event()

    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: stepped.set())
        context.wait(Duration.from_seconds(50))

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            waiting = asyncio.create_task(stage.invoke(None, "long"))
            await asyncio.to_thread(stepped.wait)
            execution = await stage.start(None, "long")
            await stage.operation(execution, "WAIT")
            stop = stage.client.stop_durable_execution
            error = {"ErrorType": "Enough", "ErrorMessage": "enough"}
            first = await asyncio.to_thread(stop, DurableExecutionArn=execution.arn, Error=error)
            outcome = await waiting
            assert (outcome.function_error, json.loads(outcome.payload)) == ("Unhandled", error)
            assert await asyncio.to_thread(stop, DurableExecutionArn=execution.arn) | {"ResponseMetadata": 0} == (
                first | {"ResponseMetadata": 0}
            )

    asyncio.run(main())


def held(is_so: Callable[[], bool]) -> None:
    """Wait for it, on a thread."""
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_execution_that_is_held_in_a_step_goes_on_after_it() -> None:
    begun, go, steps = threading.Event(), threading.Event(), []

    def work(_: Any) -> str:
        steps.append("run")
        begun.set()
        go.wait(30)
        return "done"

    def handler(event: Any, context: DurableContext) -> Any:
        return [context.step(work), context.step(lambda _: "more")]

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            waiting = asyncio.create_task(stage.invoke(None, "held"))
            await asyncio.to_thread(begun.wait)
            execution = await stage.start(None, "held")
            arn = {"DurableExecutionArn": execution.arn}
            await stage.operation(execution, "STEP")  # its start is checkpointed beside it
            await asyncio.to_thread(stage.client.pause_durable_execution, **arn, Reason="looking")
            go.set()
            await asyncio.to_thread(held, lambda: stage.client.get_durable_execution(**arn)["Status"] == "PAUSED")
            await asyncio.to_thread(stage.client.resume_durable_execution, **arn)
            outcome = await waiting
            assert (outcome.function_error, json.loads(outcome.payload)) == (None, ["done", "more"])
            assert (stage.runs, steps) == (2, ["run"]), "what its checkpoint had is not run again"
            kinds = await stage.history(execution.arn)
            assert [kind for kind in kinds if kind in ("ExecutionPaused", "ExecutionResumed")] == [
                "ExecutionPaused",
                "ExecutionResumed",
            ]
            await asyncio.to_thread(stage.client.delete_durable_execution, **arn)
            listed = stage.client.list_durable_executions_by_function
            assert (await asyncio.to_thread(listed, FunctionName="f"))["DurableExecutions"] == []

    asyncio.run(main())


def test_a_function_that_never_answers_properly_fails_its_execution_after_five_tries() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.add(lambda event, context: None)
            stage.handlers["f"] = lambda event, context: {"Status": "PENDING"}
            outcome = await stage.invoke()
            assert json.loads(outcome.payload) == {
                "ErrorType": "InvalidParameterValueException",
                "ErrorMessage": "Cannot return PENDING status with no pending operations.",
            }
            assert stage.runs == 5

    asyncio.run(main())


def test_an_execution_goes_on_in_the_next_process() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        return context.create_callback().result()

    async def main() -> None:
        async with staged() as stage:
            stage.add(handler)
            execution = await stage.start()
            callback = await stage.operation(execution, "CALLBACK")
            await stage.durable.close()
            world = stage.world
            answer = stage.client.send_durable_execution_callback_success
            await asyncio.to_thread(answer, CallbackId=callback.callback_id, Result=b"3")
            successor = DurableRuns(world.durable, stage.directory, stage._run, world.clock)
            loop = asyncio.get_running_loop()
            world.on_plan = lambda plan: loop.call_soon_threadsafe(successor.changed, plan)
            await successor.open()
            call = stage._called(None, execution.name)
            assert (await successor.invoke(call)).payload == b'"3"'
            await successor.close()

    asyncio.run(main())
