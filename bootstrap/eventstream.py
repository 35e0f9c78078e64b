"""Event-stream frames, as InvokeWithResponseStream answers with them (service spec §2.7). Sans-I/O."""

from binascii import crc32

MESSAGE_TYPE, EVENT_TYPE, CONTENT_TYPE, EXCEPTION_TYPE = (
    ":message-type",
    ":event-type",
    ":content-type",
    ":exception-type",
)
STRING = 7  # the type of a header's value
CONTENT = "application/vnd.amazon.eventstream"


def payload_chunk(data: bytes) -> bytes:
    """A piece of the function's answer."""
    return _framed(_CHUNK_HEADERS, data)


def invoke_complete(document: bytes) -> bytes:
    """The end of the answer: JSON with ErrorCode, ErrorDetails and LogResult, each if there is one."""
    return _frame("event", [(EVENT_TYPE, "InvokeComplete"), (CONTENT_TYPE, "application/json")], document)


def stream_exception(code: str, document: bytes) -> bytes:
    """The end of an answer that the service, not the function, failed to give: JSON with the message."""
    return _frame("exception", [(EXCEPTION_TYPE, code), (CONTENT_TYPE, "application/json")], document)


def _frame(kind: str, headers: "list[tuple[str, str]]", payload: bytes) -> bytes:
    return _framed(_headers(kind, headers), payload)


def _framed(head: bytes, payload: bytes) -> bytes:
    """total u32 · headers u32 · crc u32 of the two · headers · payload · crc u32 of all before; big-endian."""
    prelude = (len(head) + len(payload) + 16).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    message = prelude + crc32(prelude).to_bytes(4, "big") + head + payload
    return message + crc32(message).to_bytes(4, "big")


def _headers(kind: str, headers: "list[tuple[str, str]]") -> bytes:
    return b"".join(_header(name, value) for name, value in [(MESSAGE_TYPE, kind), *headers])


def _header(name: str, value: str) -> bytes:
    raw_name, raw_value = name.encode(), value.encode()
    return bytes([len(raw_name)]) + raw_name + bytes([STRING]) + len(raw_value).to_bytes(2, "big") + raw_value


_CHUNK_HEADERS = _headers("event", [(EVENT_TYPE, "PayloadChunk"), (CONTENT_TYPE, "application/octet-stream")])
