"""Sans-I/O HTTP/1.1 for servers: bytes in, requests out; `responses` has the other direction.

Why not a library: runtime clients send single header lines of up to 1 MiB, chunked bodies and trailers; the standard
library's and h11's limits are lower, and both cost more at start-up than this whole module. Framing is strict where
laxness would let two readers see two requests: no Content-Length beside Transfer-Encoding, no repeated lengths that
differ, no folded header lines, no control characters. Source: RFC 9112.
"""

from .errors import ProtocolError
from .quoting import TOKEN
from .wire import MAX_HEADERS, RESPONSE_MODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, TypeVar

    T = TypeVar("T")

METHODS = ("GET", "POST")  # those that nearly all have
# A body past its limit is read to its end, unstored, so that the connection stays usable; past this one it is cut.
MAX_DRAINED = 1 << 30
MAX_CHUNK_LINE = 4_096
LONG = 65_536  # what is missing of a body; copying it once less is worth a special case
# Clients send the same header lines again and again. Those that were read are kept as long as they are few and short.
MAX_KEPT = 64
MAX_KEPT_LENGTH = 2_048

MAX_DIGITS = 15  # of a length
NOT_PLAIN = frozenset(("connection", "expect", "transfer-encoding", RESPONSE_MODE))

HEAD, SIZED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILERS = range(6)


class Request:
    """One request: `path` and `query` as sent (still percent-encoded), header names in lower case.

    `headers` may be shared with other requests: nobody changes it.

    `too_large` says that the body passed `max_body`; `body` is then empty.
    """

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query", "too_large", "trailers")

    def __init__(self, method: str, path: str, query: str, keep_alive: bool) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers: dict[str, str] = {}
        self.keep_alive = keep_alive
        self.body = b""
        self.trailers: dict[str, str] = {}
        self.too_large = False


class RequestParser:
    """Cuts a stream of bytes into requests; one parser for one connection."""

    def __init__(self, max_body: int, wants_pieces: "Callable[[Request], bool] | None" = None) -> None:
        """`wants_pieces` is asked for each request with a body whether its body shall come in `pieces` as it comes."""
        self.max_body = max_body
        self.pieces: list[bytes] = []
        self._wants_pieces = wants_pieces
        self.is_in_pieces = False
        self.wants_continue = False
        self._buffer = bytearray()
        self._searched = 0
        self._state = HEAD
        self._request: Request | None = None
        self._chunks: list[bytes] = []
        self._long: bytearray | None = None
        self._remaining = 0
        self._stored = 0
        self._drained = 0

    @property
    def is_between_requests(self) -> bool:
        """Whether no byte of a further request has come."""
        return self._state == HEAD and not self._buffer

    @property
    def is_in_body(self) -> bool:
        """Whether the head of a request has come, and not all of its body."""
        return self._request is not None

    def forget_asker(self) -> None:
        """Nobody is asked about pieces any more: who was would be kept by a reference to itself."""
        self._wants_pieces = None

    def feed(self, data: bytes) -> None:
        """Take what was read from the connection."""
        self._buffer += data

    def whole(self, data: bytes) -> "Request | None":
        """The request that `data` is, as nearly always: all of one, with header lines that have been read before.

        None if it is not that simple; then nothing has happened, and the usual way is to `feed` it.
        """
        if self._state != HEAD or self._buffer:
            return None
        same = _kept_requests.get(data)
        if same is not None:
            request = Request(*same[0])
            request.headers = same[1]
            return request
        end = data.find(b"\r\n\r\n")
        begin = data.find(b"\r\n") + 2
        known = _kept.get(data[begin:end]) if end >= begin else None
        if known is None:
            return None
        headers, length = known
        if not 0 <= length <= self.max_body or len(data) != end + 4 + length:
            return None
        line = data[: begin - 2]
        try:
            request = Request(*(_kept_lines.get(line) or _parse_request_line(line.decode("latin-1"))))
        except ProtocolError:
            return None  # the usual way tells why
        request.headers = headers
        if length:
            if self._wants_pieces is not None:
                self._wants_pieces(request)  # the answer is no, yet who is asked may want to know of it
            request.body = data[end + 4 :]
        else:
            _keep(_kept_requests, data, ((request.method, request.path, request.query, request.keep_alive), headers))
        return request

    def space(self) -> "memoryview | None":
        """Where the rest of a long body may be read to without a copy, then `fill`; None: `feed` what is read."""
        if (
            self._remaining < (LONG if self._long is None else 1)
            or self._state != SIZED
            or self._buffer
            or self._request is None
        ):
            return None
        whole = self._stored + self._remaining
        if whole > self.max_body or self.is_in_pieces:
            return None
        if self._long is None:
            self._long = bytearray(whole)
            self._long[: self._stored] = b"".join(self._chunks)
            self._chunks = []
        return memoryview(self._long)[self._stored :]

    def fill(self, count: int) -> None:
        """So many bytes have been read to the space."""
        self._stored += count
        self._remaining -= count

    def next_request(self) -> "Request | None":
        """The next whole request, or None until more bytes come. Raises ProtocolError, after which: close."""
        if self._state == HEAD and not self._read_head():
            return None
        if not self._read_body():
            return None
        request, self._request = self._request, None
        assert request is not None
        if not request.too_large:
            if self._long is not None:
                # No copy: nobody else has it, and nobody changes a body.
                self._chunks.append(self._long)  # type: ignore[arg-type]
            request.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        self._long = None
        self._stored = self._drained = 0
        self._state = HEAD
        self.wants_continue = self.is_in_pieces = False
        return request

    def _read_head(self) -> bool:
        buffer = self._buffer
        if not buffer:
            return False
        while buffer[:2] == b"\r\n":  # RFC 9112 §2.2: an empty line before a request is ignored
            del buffer[:2]
            self._searched = 0
        end = buffer.find(b"\r\n\r\n", self._searched)
        if end < 0:
            if len(buffer) > MAX_HEADERS:
                raise ProtocolError(431, f"the header is longer than {MAX_HEADERS} bytes")
            self._searched = max(0, len(buffer) - 3)
            return False
        if end > MAX_HEADERS:
            raise ProtocolError(431, f"the header is longer than {MAX_HEADERS} bytes")
        line, _, rest = bytes(buffer[:end]).partition(b"\r\n")
        del buffer[: end + 4]
        self._searched = 0
        parts = _kept_lines.get(line)
        if parts is None:
            parts = _parse_request_line(line.decode("latin-1"))
            _keep(_kept_lines, line, parts)
        self._request = request = Request(*parts)
        known = _kept.get(rest)
        if known is None:
            headers = parse_headers(rest.decode("latin-1").split("\r\n") if rest else [], 0)
            known = headers, _plain_length(headers)
            _keep(_kept, rest, known)
        request.headers = headers = known[0]
        connection = headers.get("connection")
        if connection is not None:
            tokens = [token.strip() for token in connection.lower().split(",")]
            request.keep_alive = "close" not in tokens and (request.keep_alive or "keep-alive" in tokens)
        self._frame(headers)
        has_body = self._state != SIZED or self._remaining > 0
        self.is_in_pieces = has_body and self._wants_pieces is not None and self._wants_pieces(request)
        return True

    def _frame(self, headers: "dict[str, str]") -> None:
        """Decide how the body is delimited (RFC 9112 §6.3)."""
        coding = headers.get("transfer-encoding")
        length = headers.get("content-length")
        if coding is not None:
            if length is not None:
                raise ProtocolError(400, "both Content-Length and Transfer-Encoding were sent")
            if coding.lower() != "chunked":
                raise ProtocolError(501, f"the transfer coding {coding!r} is not supported")
            self._state = CHUNK_SIZE
        elif length is not None:
            self._remaining = _parse_length(length)
            self._state = SIZED
        else:
            self._remaining = 0
            self._state = SIZED
            return
        expectation = headers.get("expect")
        if expectation is not None:
            if expectation.lower() != "100-continue":
                raise ProtocolError(417, f"the expectation {expectation!r} is not supported")
            self.wants_continue = not self._buffer

    def _read_body(self) -> bool:
        """Consume what is here of the body; True when it is whole."""
        while True:
            if self._state == SIZED:
                return self._take()
            if self._state == CHUNK_DATA:
                if not self._take():
                    return False
                self._state = CHUNK_END
            if self._state == CHUNK_END:
                if len(self._buffer) < 2:
                    return False
                if self._buffer[:2] != b"\r\n":
                    raise ProtocolError(400, "a chunk does not end where its size says")
                del self._buffer[:2]
                self._state = CHUNK_SIZE
            if self._state == CHUNK_SIZE and not self._read_chunk_size():
                return False
            if self._state == TRAILERS:
                return self._read_trailers()

    def _take(self) -> bool:
        if self._remaining == 0:
            return True
        buffer = self._buffer
        if not buffer:
            return False
        if len(buffer) <= self._remaining:
            data = bytes(buffer)
            buffer.clear()
        else:
            data = bytes(buffer[: self._remaining])
            del buffer[: self._remaining]
        self._remaining -= len(data)
        self._stored += len(data)
        assert self._request is not None
        if self.is_in_pieces:
            self.pieces.append(data)
        elif self._stored > self.max_body:
            self._request.too_large = True
            self._chunks = []
            if self._stored > MAX_DRAINED:
                raise ProtocolError(413, f"the body is longer than {MAX_DRAINED} bytes")
        else:
            self._chunks.append(data)
        return self._remaining == 0

    def _read_chunk_size(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_CHUNK_LINE:
                raise ProtocolError(400, "a chunk's size line is too long")
            return False
        size = bytes(self._buffer[:end]).split(b";", 1)[0].strip(b" \t")
        del self._buffer[: end + 2]
        if not size or len(size) > 16 or size.strip(b"0123456789abcdefABCDEF"):
            raise ProtocolError(400, "a chunk's size is not a hexadecimal number")
        self._remaining = int(size, 16)
        self._state = CHUNK_DATA if self._remaining else TRAILERS
        return True

    def _read_trailers(self) -> bool:
        if self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
            return True
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEADERS:
                raise ProtocolError(431, f"the trailers are longer than {MAX_HEADERS} bytes")
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        assert self._request is not None
        self._request.trailers = parse_headers(lines, 0)
        return True


# Request lines and header lines as they came → what they say, which is a function of their bytes alone.
_kept_lines: "dict[bytes, tuple[str, str, str, bool]]" = {}
_kept_requests: "dict[bytes, tuple[tuple[str, str, str, bool], dict[str, str]]]" = {}  # whole ones without a body
_kept: "dict[bytes, tuple[dict[str, str], int]]" = {}  # and the length of the body, as `_plain_length`


def _plain_length(headers: "dict[str, str]") -> int:
    """How long the body is; -1 where anything else has to be looked at to know what to do with it."""
    if not NOT_PLAIN.isdisjoint(headers):
        return -1
    length = headers.get("content-length", "0")
    return int(length) if length.isdigit() and length.isascii() and len(length) <= MAX_DIGITS else -1


def _keep(kept: "dict[bytes, T]", lines: bytes, meaning: "T") -> None:
    if len(lines) <= MAX_KEPT_LENGTH:
        if len(kept) >= MAX_KEPT:
            kept.clear()
        kept[lines] = meaning


def _parse_request_line(line: str) -> "tuple[str, str, str, bool]":
    """Method, path, query, and whether the connection is kept unless the header says otherwise."""
    parts = line.split(" ")
    if len(parts) != 3 or (parts[0] not in METHODS and not (parts[0] and TOKEN.issuperset(parts[0]))):
        raise ProtocolError(400, "the request line is not 'METHOD target HTTP/1.1'")
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        status = 505 if version.startswith("HTTP/") else 400
        raise ProtocolError(status, "the protocol is not HTTP/1.1")
    if target[:1] != "/" and target.startswith(("http://", "https://")):
        target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
    if not target.startswith("/") or not target.isprintable():
        raise ProtocolError(400, "the request target is not a path")
    path, _, query = target.partition("?")
    return method, path, query, version == "HTTP/1.1"


def parse_headers(lines: "list[str]", first: int) -> "dict[str, str]":
    """Header lines → values by lower-case name; repeated ones are joined with "," (RFC 9110 §5.3), cookies with ";"."""
    headers: dict[str, str] = {}
    for index in range(first, len(lines)):
        name, colon, value = lines[index].partition(":")
        if not colon or not name or not TOKEN.issuperset(name):
            raise ProtocolError(400, "a header line is not 'Name: value'")
        value = value.strip(" \t")
        if "\0" in value or "\r" in value or "\n" in value:
            raise ProtocolError(400, f"the header {name} has a control character in it")
        name = name.lower()
        if name in headers:
            if name == "content-length" and headers[name] == value:
                continue
            value = f"{headers[name]}{'; ' if name == 'cookie' else ','}{value}"
        headers[name] = value
    return headers


def _parse_length(text: str) -> int:
    if not text.isdigit() or not text.isascii() or len(text) > MAX_DIGITS:
        raise ProtocolError(400, "Content-Length is not a number")
    return int(text)
