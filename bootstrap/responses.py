"""HTTP/1.1 responses as bytes: whole ones, and those in chunks (RFC 9112). No I/O.

A `date` is a whole line, or empty.
"""

import time

REASONS = {
    100: "Continue",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


_line, _until = "", 0.0  # and the instant at which it is no longer true


def date_line() -> str:
    """The line that says when this is, to the second (RFC 9110 §6.6.1); it is made once in each."""
    global _line, _until
    now = time.time()
    if not _until - 1 <= now < _until:
        _line, _until = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)), int(now) + 1.0
    return _line


def chunked_head(status: int, headers: "list[tuple[str, str]]", keep_alive: bool, date: str = "") -> bytes:
    """The head of a response whose body comes in chunks."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"{date}Transfer-Encoding: chunked")
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def last_chunk(trailers: "tuple[tuple[str, str], ...]") -> bytes:
    """The end of a body in chunks, with what was known only then."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
    return f"0\r\n{lines}\r\n".encode("latin-1", "replace")


def chunk(data: bytes) -> bytes:
    """One chunk of a body; never empty, which would end it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def response_head(
    status: int, headers: "list[tuple[str, str]]", length: int, keep_alive: bool = True, date: str = ""
) -> bytes:
    """All of a response before its body of `length` bytes."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\n{date}"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    if status not in (204, 304):
        lines.append(f"Content-Length: {length}\r\n")
    if not keep_alive:
        lines.append("Connection: close\r\n")
    return ("".join(lines) + "\r\n").encode("latin-1", "replace")


def response(status: int, headers: "list[tuple[str, str]]", body: bytes, date: str = "") -> bytes:
    """A whole response in one piece, so that it leaves in one segment."""
    return response_head(status, headers, len(body), date=date) + body
