"""Event-stream frames, as InvokeWithResponseStream answers with them (service spec §2.7). Sans-I/O."""

from binascii import crc32

MESSAGE_TYPE, EVENT_TYPE, CONTENT_TYPE = ":message-type", ":event-type", ":content-type"
STRING = 7  # the type of a header's value
CONTENT = "application/vnd.amazon.eventstream"


def payload_chunk(data: bytes) -> bytes:
    """A piece of the function's answer."""
    return _frame([(EVENT_TYPE, "PayloadChunk"), (CONTENT_TYPE, "application/octet-stream")], data)


def invoke_complete(document: bytes) -> bytes:
    """The end of the answer: JSON with ErrorCode, ErrorDetails and LogResult, each if there is one."""
    return _frame([(EVENT_TYPE, "InvokeComplete"), (CONTENT_TYPE, "application/json")], document)


def _frame(headers: "list[tuple[str, str]]", payload: bytes) -> bytes:
    """total u32 · headers u32 · crc u32 of the two · headers · payload · crc u32 of all before; big-endian."""
    head = b"".join(_header(name, value) for name, value in [(MESSAGE_TYPE, "event"), *headers])
    prelude = (len(head) + len(payload) + 16).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    message = prelude + crc32(prelude).to_bytes(4, "big") + head + payload
    return message + crc32(message).to_bytes(4, "big")


def _header(name: str, value: str) -> bytes:
    raw_name, raw_value = name.encode(), value.encode()
    return bytes([len(raw_name)]) + raw_name + bytes([STRING]) + len(raw_value).to_bytes(2, "big") + raw_value
