"""What is done to AWS's emulator and to ours, so that they can be compared: scripts of a runtime, and calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

INVOKE = "/2015-03-31/functions/function/invocations"


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a caller."""

    body: bytes = b"{}"
    method: str = "POST"
    path: str = INVOKE
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """`steps`: how many of the first runtime are compared. `ends_with`: what the log holds before it is read."""

    name: str
    script: tuple[Any, ...]
    steps: int = 0
    calls: tuple[Call, ...] = (Call(),)
    variables: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] | None = None
    ends_with: str = ""

    def start(self, starter: Any, **variables: str) -> Any:
        """Call a starter with what this case asks for."""
        command = list(self.command) if self.command else None
        return starter(list(self.script), command, **{**dict(self.variables), **variables})


API = "/2018-06-01/runtime"
ERROR = '{"errorMessage": "boom", "errorType": "ValueError"}'
CAUSE = '{"errorMessage":"m","errorType":"t","stackTrace":["s"],"errorCause":{"secret":1}}'
CAUSE_TYPE = "application/vnd.aws.lambda.error.cause+json"
TRAILERS = {
    "Lambda-Runtime-Function-Error-Type": "Runtime.StreamError",
    "Lambda-Runtime-Function-Error-Body": "eyJlcnJvclR5cGUiOiJFIn0=",
}
ONE = ["response", "1"]
NEXT = ["next"]


EXTENSIONS = "/2020-01-01/extension"
HANDLER = (("AWS_LAMBDA_FUNCTION_HANDLER", "app.handler"),)  # which extensions are told
NOBODY = "00000000-0000-4000-8000-000000000000"


def registration(name: str, body: str = '{"events":[]}', feature: str = "") -> list[Any]:
    """A step: the runtime registers an extension of its own."""
    headers = {"Lambda-Extension-Name": name, **({"Lambda-Extension-Accept-Feature": feature} if feature else {})}
    return ["extension", "POST", f"{EXTENSIONS}/register", headers, body]


def extension(method: str, path: str, identifier: str | None = None, error_type: str = "") -> list[Any]:
    """A step: what an extension may ask for, by whoever it is."""
    headers = {} if identifier is None else {"Lambda-Extension-Identifier": identifier}
    if error_type:
        headers["Lambda-Extension-Function-Error-Type"] = error_type
    return ["extension", method, f"{EXTENSIONS}/{path}", headers, "{}"]


def header(name: str, value: str) -> Call:
    return Call(headers=((name, value),))


CASES = (
    Case(
        "a call",
        (NEXT, ["print", "hello"], ["response", '{"a": 1}'], NEXT, ["response", "[1, 2]"], NEXT),
        4,
        (header("X-Amz-Client-Context", "eyJjIjogMX0="), Call(b'{"b": 2}')),
    ),
    Case("content types", (NEXT, ["response", ""], NEXT, ["response", "<html>"], NEXT), 4, (Call(), Call())),
    Case("an error", (NEXT, ["error", ERROR, "Runtime.Boom"], NEXT, ["error", "", "odd"], NEXT), 4, (Call(), Call())),
    Case("an error with a cause", (NEXT, ["error", CAUSE, "Function.X", CAUSE_TYPE], NEXT), 2),
    Case("a cause that is no JSON", (NEXT, ["error", "x", "Function.X", CAUSE_TYPE], NEXT), 2),
    Case("a timeout", (NEXT, ["sleep", 30]), 1, variables=(("AWS_LAMBDA_FUNCTION_TIMEOUT", "2"),)),
    Case("exit 0", (NEXT, ["exit", 0]), 1, (Call(), Call())),
    Case("exit 3", (NEXT, ["exit", 3]), 1),
    Case("killed", (NEXT, ["signal", 9]), 1),
    Case("segmentation fault", (NEXT, ["signal", 11]), 1),
    Case("exit in init", (["exit", 3],), 0, (Call(), Call())),
    Case("a missing program", (), 0, (Call(), Call()), command=("/no/such/program", "app.handler")),
    Case("an init error", (["init-error", ERROR, "Runtime.Import"], ["exit", 1]), 1, (Call(), Call())),
    Case("exit after the answer", (NEXT, ["response", '"good"'], ["exit", 1]), 2, (Call(), Call())),
    Case("a response too large", (NEXT, ["large", 6_291_557], NEXT, ONE, NEXT), 4, (Call(), Call())),
    Case("an event too large", (["loop"],), 0, (Call(b'"' + b"x" * 7_000_000 + b'"'),)),
    Case("events that are no JSON", (NEXT, ONE, NEXT, ONE, NEXT), 4, (Call(b""), Call(b"[1]"))),
    Case("text for an event", (["loop"],), 0, (Call(b"text"),)),
    Case("client context", (NEXT, ONE, NEXT), 2, (header("X-Amz-Client-Context", "e30"), Call())),
    Case("client context in UTF-8", (NEXT, ONE, NEXT), 2, (header("X-Amz-Client-Context", "eyJuIjogIuKCrCJ9"),)),
    Case("paths", (["loop"],), 0, (Call(path="/"), Call(path=INVOKE + "/"), Call(path=INVOKE + "?Qualifier=7"))),
    Case("another name", (["loop"],), 0, (Call(path=INVOKE.replace("functions/function", "functions/other")),)),
    Case("methods", (["loop"],), 0, (Call(method="GET"), Call(method="OPTIONS"))),
    Case("an event of type Event", (["loop"],), 0, (header("X-Amz-Invocation-Type", "Event"),), ends_with="REPORT"),
    Case("a dry run", (["loop"],), 0, (header("X-Amz-Invocation-Type", "DryRun"),)),
    Case("the log's tail", (["loop"],), 0, (header("X-Amz-Log-Type", "Tail"),)),
    Case("a chunked response", (NEXT, ["chunked", ["ab", "cd"], {}], NEXT), 2),
    Case("a chunked response that ends in an error", (NEXT, ["chunked", ["par"], TRAILERS], NEXT), 2),
    Case("next asked again", (NEXT, NEXT, ONE, NEXT), 3),
    Case(
        "refusals before the first event",
        (
            *(["get", path] for path in ("/2018-06-01/ping", "/nowhere", f"{API}/invocation/x/response")),
            *(["post", f"{API}/invocation/{path}", "1"] for path in ("next", "x/error", "x/y/z")),
            ["get", f"{API}/init/error"],
            *(NEXT, ONE, NEXT),
        ),
        9,
    ),
    Case(
        "refusals after it",
        (
            NEXT,
            ["post", f"{API}/init/error", "{}"],
            ["post", f"{API}/invocation/x/response", "1"],
            *(ONE, ["response", "2"], ["error", "{}", "X"]),
            ["post", f"{API}/invocation/x/response", "1"],
            ["post", f"{API}/init/error", "{}"],
            *(NEXT, ONE, NEXT),
        ),
        10,
        (Call(), Call()),
    ),
    Case(
        "refusals after an init error",
        (*[["init-error", ERROR, "Runtime.Import"]] * 2, NEXT, ["exit", 1]),
        3,
    ),
    Case(
        "registrations",
        (
            *(registration("in"), ["extension-waits"]),
            *(registration("nothing", '{"events":null}', "accountId"), ["extension-waits"]),
            *(registration("empty", "{}"), ["extension-waits"]),
            *(registration("in"), registration("")),
            *(registration("x", f'{{"events":["{event}"]}}') for event in ("FOO", "SHUTDOWN", "invoke", "")),
            registration("x", '{"configurationKeys":["a"]}'),
            *(NEXT, registration("late"), ONE, NEXT),
        ),
        12,
        variables=HANDLER,
    ),
    Case(
        "too many registrations",
        (
            *(step for number in range(10) for step in (registration(f"e{number}"), ["extension-waits"])),
            *(registration("e10"), NEXT, ONE, NEXT),
        ),
        13,
        variables=HANDLER,
    ),
    Case(
        "registrations that cannot be read",
        (*(registration("x", body) for body in ("{", "", "[]", '{"events":7}', '{"events":[7]}')), NEXT, ONE, NEXT),
        7,
    ),
    Case(
        "extensions that are none",
        (
            *(extension("GET", "event/next", identifier) for identifier in (None, "", "x", NOBODY)),
            *(extension("POST", "init/error", identifier) for identifier in (None, "x", NOBODY)),
            *(extension("POST", path, NOBODY, "Extension.Mine") for path in ("init/error", "exit/error")),
            *(NEXT, ONE, NEXT),
        ),
        11,
    ),
    Case(
        "variables of the function",
        (NEXT, ONE, NEXT),
        2,
        variables=(
            *(("AWS_LAMBDA_FUNCTION_NAME", "mine"), ("AWS_LAMBDA_FUNCTION_VERSION", "7")),
            *(("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"), ("AWS_LAMBDA_FUNCTION_TIMEOUT", "9")),
        ),
    ),
)
