"""The profile `compat`: what AWS's own emulator answers and logs, byte for byte, for test suites that pin its quirks.

Only the rendering, without I/O and without a clock. Every row is held against the real binary by
tests/protocol/test_against_rie.py. What stays ours in this profile, because no caller can want it back, is listed in
tests/protocol/differences.py: a second call while one runs does not end the process, an event is not cut short, a wild
request id is not used.
"""

from .records import Record
from .wire import INVOKE_PREFIX, INVOKE_SUFFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .commands import ReportEnd

# The only path; any method runs the function, and queries are ignored.
INVOKE_PATH = f"{INVOKE_PREFIX}function{INVOKE_SUFFIX}"
ACCOUNT = "012345678912"
REGION = "us-east-1"  # of the ARN, whatever AWS_REGION says
TIMEOUT_S = 300.0
# What the function sees where the image and the caller set nothing.
VARIABLES = {
    "AWS_LAMBDA_FUNCTION_NAME": "test_function",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/Functions",
    "AWS_LAMBDA_LOG_STREAM_NAME": "$LATEST",
}

# The kinds of outcome, and the status of each. Whose body it is stands beside.
SUCCESS = "success"  # the runtime's response
ERROR = "error"  # the runtime's error, or ours for a response past the limit
TIMEOUT = "timeout"  # a line of text, whatever is passed in
EXIT = "exit"  # ours: Runtime.ExitError
LATE_EXIT = "late-exit"  # the runtime's response, posted before it ended without asking for the next event
INIT_ERROR = "init-error"  # the runtime's, from /init/error
INIT_FAILURE = "init-failure"  # none: the runtime ended in init, or could not be started
BAD_CONTEXT = "bad-context"  # none: the client context is not base64; the function has not run
NOT_FOUND = "not-found"  # a line of text: the path is not INVOKE_PATH
STATUS = {
    SUCCESS: 200,
    ERROR: 200,
    TIMEOUT: 200,
    EXIT: 502,
    LATE_EXIT: 502,
    INIT_ERROR: 502,
    INIT_FAILURE: 502,
    BAD_CONTEXT: 500,
    NOT_FOUND: 404,
}
BODILESS = (INIT_FAILURE, BAD_CONTEXT)

BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


class Reply(Record):
    """What the caller gets; Content-Length and Date are the connection's to add."""

    status: int
    headers: "list[tuple[str, str]]"
    body: bytes


def answer(kind: str, body: bytes = b"", timeout_s: float = TIMEOUT_S) -> Reply:
    """The reply to an outcome of one of the kinds above."""
    headers: list[tuple[str, str]] = []
    if kind == TIMEOUT:
        body = f"Task timed out after {timeout_s:.2f} seconds".encode()
    elif kind in BODILESS:
        body = b""
    elif kind == NOT_FOUND:
        body = b"404 page not found\n"
        headers.append(("X-Content-Type-Options", "nosniff"))
    if body:
        headers.append(("Content-Type", content_type(body)))
    return Reply(STATUS[kind], headers, body)


def function_arn(name: str) -> str:
    """The ARN that the function sees; `name` is AWS_LAMBDA_FUNCTION_NAME, not what stands in the path."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def client_context(text: str) -> "str | None":
    """The client context decoded, a character for each byte, on one line; None when it isn't standard base64."""
    import binascii

    if len(text) % 4 or len(text) - len(text.rstrip("=")) > 2 or not BASE64.issuperset(text.rstrip("=")):
        return None
    decoded = binascii.a2b_base64(text).decode("latin-1")
    return "".join(character if ord(character) >= 32 else " " for character in decoded)


def end_lines(report: "ReportEnd", memory_mb: int) -> str:
    """END and REPORT; empty after a runtime that ended. The memory used is the memory there is, init comes first."""
    if report.status == "failure":
        return ""
    request_id = report.invocation.request_id
    init = "" if report.init_ms is None else f"Init Duration: {report.init_ms:.2f} ms\t"
    billed_ms = int(report.duration_ms) + (report.duration_ms > int(report.duration_ms))
    return (
        f"END RequestId: {request_id}\n"
        f"REPORT RequestId: {request_id}\t{init}Duration: {report.duration_ms:.2f} ms\t"
        f"Billed Duration: {billed_ms} ms\tMemory Size: {memory_mb} MB\tMax Memory Used: {memory_mb} MB\t\n"
    )


# -- the content type, guessed from the body as Go's net/http does (its sniff.go, after mimesniff.spec.whatwg.org) -----

SNIFFED = 512  # bytes that are looked at
SPACE = b"\t\n\x0c\r "
TEXT = "text/plain; charset=utf-8"
# Tags, in capitals; case does not matter, and a space or ">" must follow.
HTML = (
    *(b"<!DOCTYPE HTML", b"<HTML", b"<HEAD", b"<SCRIPT", b"<IFRAME", b"<H1", b"<DIV", b"<FONT", b"<TABLE", b"<A"),
    *(b"<STYLE", b"<TITLE", b"<B", b"<BODY", b"<BR", b"<P", b"<!--"),
)
# (what it begins with, what follows at offset 8, type); in order.
SIGNATURES = (
    (b"%PDF-", b"", "application/pdf"),
    (b"%!PS-Adobe-", b"", "application/postscript"),
    (b"\0\0\1\0", b"", "image/x-icon"),
    (b"\0\0\2\0", b"", "image/x-icon"),
    (b"BM", b"", "image/bmp"),
    (b"GIF87a", b"", "image/gif"),
    (b"GIF89a", b"", "image/gif"),
    (b"RIFF", b"WEBPVP", "image/webp"),
    (b"\x89PNG\r\n\x1a\n", b"", "image/png"),
    (b"\xff\xd8\xff", b"", "image/jpeg"),
    (b"FORM", b"AIFF", "audio/aiff"),
    (b"ID3", b"", "audio/mpeg"),
    (b"OggS\0", b"", "application/ogg"),
    (b"MThd\0\0\0\6", b"", "audio/midi"),
    (b"RIFF", b"AVI ", "video/avi"),
    (b"RIFF", b"WAVE", "audio/wave"),
    (b"\x1a\x45\xdf\xa3", b"", "video/webm"),
    (b"\0\1\0\0", b"", "font/ttf"),
    (b"OTTO", b"", "font/otf"),
    (b"ttcf", b"", "font/collection"),
    (b"wOFF", b"", "font/woff"),
    (b"wOF2", b"", "font/woff2"),
    (b"\x1f\x8b\x08", b"", "application/x-gzip"),
    (b"PK\3\4", b"", "application/zip"),
    (b"Rar!\x1a\7\0", b"", "application/x-rar-compressed"),
    (b"Rar!\x1a\7\1\0", b"", "application/x-rar-compressed"),
    (b"\0asm", b"", "application/wasm"),
)
# Byte order marks count from four bytes on.
MARKS = (
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", TEXT),
)
BINARY = frozenset([*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)])


def content_type(body: bytes) -> str:
    """The Content-Type that a body gets when nobody has said one."""
    data = body[:SNIFFED]
    begun = data.lstrip(SPACE)
    capitals = begun.upper()
    if any(capitals.startswith(tag) and begun[len(tag) : len(tag) + 1] in (b" ", b">") for tag in HTML):
        return "text/html; charset=utf-8"
    if begun.startswith(b"<?xml"):
        return "text/xml; charset=utf-8"
    for mark, kind in MARKS:
        if data.startswith(mark) and len(data) >= 4:
            return kind
    for start, at_8, kind in SIGNATURES:
        if data.startswith(start) and data[8 : 8 + len(at_8)] == at_8:
            return kind
    if _is_mp4(data):
        return "video/mp4"
    if data[:34] == bytes(34) and data[34:36] == b"LP":
        return "application/vnd.ms-fontobject"
    return "application/octet-stream" if BINARY.intersection(begun) else TEXT


def _is_mp4(data: bytes) -> bool:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 12 or len(data) < size or size % 4 or data[4:8] != b"ftyp":
        return False
    return any(data[at : at + 3] == b"mp4" for at in range(8, size, 4) if at != 12)
