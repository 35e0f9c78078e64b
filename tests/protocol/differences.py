"""What differs between AWS's emulator and ours, by case and fact, with the reason: all of it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.protocol.cases import INVOKE

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


def registered(name: str, account: str = "") -> str:
    told = f'"accountId":"{account}",' if account else ""
    return f'{{{told}"functionName":"{name}","functionVersion":"$LATEST","handler":"app.handler"}}'


def unreadable(message: str) -> str:
    return f'{{"errorMessage":"{message}","errorType":"InvalidRequestFormat"}}'


EXTENSIONS = {
    "registrations": ("in", "nothing", "empty"),
    "too many registrations": tuple(f"e{number}" for number in range(10)),
}
NO_LIST = "json: cannot unmarshal number into Go struct field .RegisterRequest.events of type "
NO_OBJECT = (
    "json: cannot unmarshal array into Go value of type "
    'struct { handler.RegisterRequest; ConfigurationKeys []string \\"json:\\\\\\"configurationKeys\\\\\\"\\" }'
)
UNREADABLE = tuple(
    (f"step {number} body", unreadable(rie), unreadable(ours))
    for number, (rie, ours) in enumerate(
        (
            (
                "unexpected end of JSON input",
                "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            ),
            ("unexpected end of JSON input", "Expecting value: line 1 column 1 (char 0)"),
            (NO_OBJECT, "the body is not an object"),
            (NO_LIST + "[]core.Event", "events is not a list of strings"),
            (NO_LIST + "core.Event", "events is not a list of strings"),
        )
    )
)

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
    # Extensions; what they are told is the same in both profiles.
    D("registrations", "step ? body", registered("test_function"), registered("function"), "as above", True),
    *(
        D(
            *("registrations", "step 1 body", registered("test_function")),
            *(registered(name, account="123456789012"), "who asks for the account is told of it"),
            profiles=(profile,),
        )
        for name, profile in (("function", AWS), ("test_function", COMPAT))
    ),
    *(
        D(case, "log other *", ABSENT, f"EXTENSION\tName: {name}\tState: Ready\tEvents: []", "the service's")
        for case, names in EXTENSIONS.items()
        for name in names
    ),
    *(
        D(
            "registrations that cannot be read",
            fact,
            rie,
            ours,
            "the same in the words of another parser",
            profiles=BOTH,
        )
        for fact, rie, ours in UNREADABLE
    ),
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
