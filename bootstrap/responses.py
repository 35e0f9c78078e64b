"""HTTP/1.1 responses as bytes: whole ones, and those in chunks (RFC 9112). No I/O."""

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


def chunked_head(status: int, headers: "list[tuple[str, str]]", keep_alive: bool) -> bytes:
    """The head of a response whose body comes in chunks."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append("Transfer-Encoding: chunked")
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


def response_head(status: int, headers: "list[tuple[str, str]]", length: int, keep_alive: bool = True) -> bytes:
    """All of a response before its body of `length` bytes."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if status not in (204, 304):
        lines.append(f"Content-Length: {length}")
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def response(status: int, headers: "list[tuple[str, str]]", body: bytes, keep_alive: bool = True) -> bytes:
    """A whole response in one piece, so that it leaves in one segment."""
    return response_head(status, headers, len(body), keep_alive) + body
