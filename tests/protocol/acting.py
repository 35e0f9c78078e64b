"""The test itself as the runtime, or as an extension, of an emulator whose process does nothing."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from tests.protocol.emulator import Answer, Emulator, Start

API = "/2018-06-01/runtime/invocation"
EXTENSION_API = "/2020-01-01/extension"


class Runtime:
    """The test itself as the runtime of an emulator whose process does nothing."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._connection = http.client.HTTPConnection("127.0.0.1", emulator.runtime_port, timeout=10)
        self._callers = ThreadPoolExecutor(4)

    def close(self) -> None:
        self._connection.close()
        self._callers.shutdown()

    def invoke(self, event: object = None, **headers: str) -> Future[Answer]:
        """Call the function, in the background."""
        return self._callers.submit(self.emulator.invoke, event, **headers)

    def next(self) -> str:
        """Take the next event; its request id."""
        self._connection.request("GET", f"{API}/next")
        response = self._connection.getresponse()
        response.read()
        return response.headers["Lambda-Runtime-Aws-Request-Id"]

    def post(self, path: str, body: bytes, **headers: str) -> int:
        """Post to the Runtime API; the status."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("POST", f"{API}/{path}", body, names)
        response = self._connection.getresponse()
        response.read()
        return response.status


class Extension:
    """The test itself as an internal extension: registers before the runtime first polls."""

    def __init__(self, runtime: Runtime, events: list[str], name: str = "internal") -> None:
        self.port = runtime.emulator.runtime_port
        self._waiting: list[http.client.HTTPConnection] = []
        _, headers, _ = self.ask("POST", "/register", {"events": events}, {"Lambda-Extension-Name": name})
        self.headers = {"Lambda-Extension-Identifier": headers["lambda-extension-identifier"]}

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        headers: Any = None,
        api: str = EXTENSION_API,
        raw: bytes | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = json.dumps(document).encode() if document else raw
        connection.request(method, api + path, body, headers or self.headers)
        response = connection.getresponse()
        found = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        connection.close()
        return found

    def wait(self) -> None:
        """Ask for the next event, and leave it at that."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", f"{EXTENSION_API}/event/next", headers=self.headers)
        self._waiting.append(connection)

    def keep_up(self) -> None:
        """Ask for one event after the other, until there is nobody to ask."""
        with suppress(OSError, http.client.HTTPException):
            while True:
                self.ask("GET", "/event/next")

    def next(self) -> dict[str, Any]:
        return dict(json.loads(self.ask("GET", "/event/next")[2]))


@contextmanager
def acting_as_runtime(emulate: Start) -> Iterator[Runtime]:
    emulator = emulate(command=["/bin/sleep", "300"], AWS_LAMBDA_FUNCTION_TIMEOUT="20")
    runtime = Runtime(emulator)
    try:
        yield runtime
    finally:
        emulator.stop()
        runtime.close()
