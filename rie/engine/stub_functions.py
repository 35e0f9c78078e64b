"""The functions that the stub engine's images hold: chosen by the last part of an image's repository."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from bootstrap.http_mode import INTEGRATION, SEPARATOR
from rie.engine import stub_durable

DEFAULT_INIT_S = 1.0
INIT_SECONDS = "INIT_SECONDS"  # variable of slow-init: how long its init takes


class Crashed(Exception):
    """The function took its sandbox with it."""


class Failed(Exception):
    """The function ended with an error; the text is JSON, the error document."""


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation: the event's bytes, the environment's variables, which sandbox this is, and its log."""

    event: bytes
    environment: Mapping[str, str]
    sandbox_id: str
    print: Callable[[str], None]

    def seconds(self) -> float:
        """`seconds` of the event, 0 if it says none."""
        try:
            return float(json.loads(self.event)["seconds"])
        except (ValueError, KeyError, TypeError):
            return 0.0


Function = Callable[[Call], Awaitable[bytes]] | Callable[[Call], AsyncIterator[bytes]]
"""One that yields gives its answer in pieces, to callers who want them."""


async def echo(call: Call) -> bytes:
    """Answer the event."""
    return call.event or b"{}"


async def sleep(call: Call) -> bytes:
    """Answer the event after event["seconds"]."""
    await asyncio.sleep(call.seconds())
    return call.event


async def linger(call: Call) -> bytes:
    """Answer the event; its sandbox then works on for event["seconds"], as runtimes and extensions may."""
    return call.event


async def stream(call: Call) -> AsyncIterator[bytes]:
    """Answer event["pieces"] one by one, event["seconds"] after each; then fail, if event["fails"].

    `times` has them all repeated, `prelude` is a JSON object that comes first, as function URLs have it.
    """
    event = json.loads(call.event)
    event = json.loads(event["body"]) if "body" in event else event
    if "prelude" in event:
        yield json.dumps(event["prelude"]).encode() + SEPARATOR
    for _ in range(event.get("times", 1)):
        for piece in event["pieces"]:
            yield piece.encode()
            await asyncio.sleep(event.get("seconds", 0))
    if event.get("fails"):
        raise Failed(json.dumps({"errorType": "Error", "errorMessage": "told to fail"}))


async def http(call: Call) -> bytes:
    """Answer what the request's body says, or {"event": …} without one."""
    event = json.loads(call.event)
    return event["body"].encode() if event.get("body") else call.event


async def fail(call: Call) -> bytes:
    """Raise, as a handler does."""
    raise Failed(json.dumps({"errorType": "ValueError", "errorMessage": "told to fail", "stackTrace": []}))


async def crash(call: Call) -> bytes:
    """End the sandbox in the middle of the invocation."""
    raise Crashed


async def environment(call: Call) -> bytes:
    """Answer {"environment": {…}, "sandboxId": …}."""
    answer: dict[str, Any] = {"environment": dict(call.environment), "sandboxId": call.sandbox_id}
    return json.dumps(answer).encode()


async def record(call: Call) -> bytes:
    """Log the event, one line that begins with EVENT; answer null."""
    call.print(f"EVENT {call.event.decode()}\n")
    return b"null"


async def partial(call: Call) -> bytes:
    """Log the event; report the messages whose body is "bad" as failed."""
    call.print(f"EVENT {call.event.decode()}\n")
    records = json.loads(call.event)["Records"]
    failures = [{"itemIdentifier": each["messageId"]} for each in records if each["body"] == "bad"]
    return json.dumps({"batchItemFailures": failures}).encode()


async def choosy(call: Call) -> bytes:
    """Fail if the data of any record is "bad"."""
    if any(base64.b64decode(each["kinesis"]["data"]) == b"bad" for each in json.loads(call.event)["Records"]):
        await fail(call)
    return b"null"


async def proxy(call: Call) -> bytes:
    """Answer an HTTP event with its body, as the whole answer; without one, or for `?event`, with the event."""
    event = json.loads(call.event)
    if event.get("body") and "event" not in (event.get("queryStringParameters") or {}):
        body = str(event["body"]).encode()
        return base64.b64decode(body) if event["isBase64Encoded"] else body
    return json.dumps({"statusCode": 200, "headers": {"X-Stub": "proxy"}, "body": call.event.decode()}).encode()


async def durable(call: Call) -> bytes:
    """What `rie.engine.stub_durable` does, over the API at AWS_ENDPOINT_URL_LAMBDA."""
    return await asyncio.to_thread(
        stub_durable.answer, json.loads(call.event), call.environment["AWS_ENDPOINT_URL_LAMBDA"]
    )


FUNCTIONS: Mapping[str, Function] = {
    "echo": echo,
    "http": http,
    "stream": stream,
    "sleep": sleep,
    "linger": linger,
    "fail": fail,
    "crash": crash,
    "environment": environment,
    "record": record,
    "partial": partial,
    "choosy": choosy,
    "proxy": proxy,
    "durable": durable,
    "slow-init": echo,
    "fail-init": fail,
}


def content_type(call: Call) -> str:
    """That of an answer in pieces."""
    return INTEGRATION if b"prelude" in call.event else "application/octet-stream"


async def pieces_of(function: Function, call: Call) -> AsyncIterator[bytes]:
    """What a function answers, in as many pieces as it makes."""
    if inspect.isasyncgenfunction(function):
        async for piece in cast("Callable[[Call], AsyncIterator[bytes]]", function)(call):
            yield piece
    else:
        yield await cast("Callable[[Call], Awaitable[bytes]]", function)(call)


async def whole(function: Function, call: Call) -> bytes:
    """What a function answers, in one."""
    return b"".join([piece async for piece in pieces_of(function, call)])


def choose(repository: str) -> Function:
    """The function in an image of that repository ("team/sleep"); echo unless one is named."""
    return FUNCTIONS.get(repository.rpartition("/")[2], echo)


def init_s(repository: str, environment: Mapping[str, str]) -> float:
    """How long the init phase of such an image takes."""
    if repository.rpartition("/")[2] != "slow-init":
        return 0.0
    return float(environment.get(INIT_SECONDS) or DEFAULT_INIT_S)
